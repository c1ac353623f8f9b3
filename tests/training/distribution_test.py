"""Trainings on two replicas, in one process and in two, against the same training on one."""

import json
import logging
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import SPECIAL, checkpoint_steps, keep_all, save_model, start_flags, weights

import modeling
import run_classifier
import run_multiple_choice
import run_ner
import run_pretraining
from toolkit.records import tf_records
from toolkit.support import command_line, files
from toolkit.tasks import pretraining, pretraining_head
from toolkit.training import distribution, estimators, report

ROOT = pathlib.Path(__file__).parents[2]
VOCAB = [*SPECIAL, "good", "bad", "film", "play", ".", "so", "##s"]
NUM_STEPS, LENGTH = 6, 16


@pytest.fixture(name="log")
def _log(caplog):
  caplog.set_level(logging.INFO, logger="absl")
  return caplog


# ---- TF_CONFIG ----------------------------------------------------------------------------------


def tf_config(cluster=None, task=None, **more):
  cluster = {"worker": ["a:1", "b:2"]} if cluster is None else cluster
  task = {"type": "worker", "index": 1} if task is None else task
  return json.dumps({"cluster": cluster, "task": task, **more})


@pytest.mark.parametrize(
  ("cluster", "job", "index", "addresses", "number"),
  [
    ({"worker": ["a:1", "b:2"]}, "worker", 1, ["a:1", "b:2"], 1),
    ({"worker": ["a:1", "b:2"], "chief": ["c:3"]}, "worker", 0, ["c:3", "a:1", "b:2"], 1),
    ({"worker": ["a:1", "b:2"], "chief": ["c:3"]}, "chief", 0, ["c:3", "a:1", "b:2"], 0),
    ({"worker": ["[::1]:2222"]}, "worker", 0, ["[::1]:2222"], 0),
  ],
)
def test_the_chief_is_the_first_of_all(cluster, job, index, addresses, number):
  task = distribution.parse_task(tf_config(cluster, {"type": job, "index": index}, rpc_layer="x"))
  assert (task.addresses(), task.number()) == (addresses, number)
  workers = distribution.Workers(task)
  assert workers.is_chief == (number == 0) and workers.num_replicas == len(addresses)


@pytest.mark.parametrize(
  ("text", "match"),
  [
    (None, r"multi_worker needs the environment variable TF_CONFIG, .*\"worker\": \[\"host1:2222"),
    ("", r"needs the environment variable TF_CONFIG"),
    ("{cluster", r"TF_CONFIG is no JSON \(.*\); it looks like TF_CONFIG='{"),
    ("[1]", r'TF_CONFIG has no "cluster"'),
    ('{"cluster": {"worker": ["a:1"]}}', r'TF_CONFIG has no "task"; it looks like'),
    (tf_config({}), r'has no "cluster"'),
    (tf_config({"worker": ["a:1"], "ps": ["b:2"]}), r"found ps in the cluster; only worker, and"),
    (tf_config({"worker": "a:1"}), r"worker must be a list of addresses, host:port"),
    (tf_config({"worker": ["a"]}), r"found 'a', and not an address, host:port"),
    (tf_config({"worker": [7]}), r"found 7, and not an address"),
    (tf_config({"worker": ["a:1", "a:1"]}), r"a:1 is in the cluster twice"),
    (tf_config({"worker": ["a:1"], "chief": ["b:1", "c:1"]}), r"found 2 chiefs; there can be one"),
    (tf_config(task={"type": "chief", "index": 0}), r"type is 'chief', and the cluster has worker"),
    (tf_config(task={"type": "worker", "index": 2}), r"index is 2, .* 2 of type worker, numbered"),
    (tf_config(task={"type": "worker", "index": "1"}), r"index is '1'"),
    (tf_config(task={"type": "worker"}), r"index is None"),
  ],
)
def test_mistakes_in_tf_config(text, match):
  with pytest.raises(files.InputError, match=match) as caught:
    distribution.parse_task(text)
  assert "\n" not in str(caught.value)


def test_tf_config_alone_changes_nothing(tmp_path, monkeypatch):
  monkeypatch.setenv("TF_CONFIG", tf_config())
  estimator = estimators.make_estimator(
    lambda features, labels, mode, params: None,
    str(tmp_path),
    estimators.Devices(),
    seed=1,
    batch_sizes={"train_batch_size": 8},
  )
  assert not estimator.config.cluster_spec and estimator.config.is_chief
  assert os.environ["TF_CONFIG"] == tf_config()


# ---- Flags --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("strategy", "num_gpus", "found", "want"),
  [
    (None, None, 0, None),
    (None, None, 4, None),
    ("off", None, 4, None),
    ("off", 1, 4, None),
    (None, 1, 4, None),
    (None, 2, 4, "2 replicas: GPU:0, GPU:1"),
    ("mirrored", None, 3, "3 replicas: GPU:0, GPU:1, GPU:2"),
    ("mirrored", 1, 3, "1 replica: GPU:0"),
    ("multi_worker", None, 0, "2 replicas: 2 workers with the CPU each, of which this is number 1"),
    ("multi_worker", 2, 3, "4 replicas: 2 workers with GPU:0, GPU:1 each, of which this is numb"),
  ],
)
def test_what_a_training_runs_on(strategy, num_gpus, found, want, monkeypatch):
  monkeypatch.setattr(distribution, "gpus", lambda: [f"GPU:{n}" for n in range(found)])
  monkeypatch.setenv("TF_CONFIG", tf_config())
  cluster = distribution.find(strategy, num_gpus)
  assert (cluster.describe() or "").startswith(want or "")
  assert (cluster.describe() is None) == (want is None)
  assert cluster.num_replicas == int((want or "1")[0])


def test_unused_gpus_are_told_of(monkeypatch, log):
  monkeypatch.setattr(distribution, "gpus", lambda: ["GPU:0", "GPU:1"])
  distribution.find()
  assert log.messages == ["2 GPUs found, 1 is used; --num_gpus=2 trains on all."]


@pytest.mark.parametrize(
  ("arguments", "match"),
  [
    ((None, 3), r"--num_gpus=3: found 1 on this machine"),
    (("multi_worker", 2), r"--num_gpus=2: found 1"),
    (("off", None, True), None),
    (("mirrored", None, True), r"--use_tpu: --distribution_strategy=mirrored is not for a TPU"),
    ((None, 1, True), r"--use_tpu: --num_gpus is not for a TPU; leave it out"),
  ],
)
def test_what_cannot_be_had(arguments, match, monkeypatch):
  monkeypatch.setattr(distribution, "gpus", lambda: ["GPU:0"])
  if match is None:
    assert distribution.find(*arguments).num_replicas == 1
    return
  with pytest.raises(files.InputError, match=match):
    distribution.find(*arguments)


def test_strategies_without_what_they_need(monkeypatch):
  monkeypatch.setattr(distribution, "gpus", list)
  with pytest.raises(files.InputError, match=r"mirrored is for several GPUs: found 0 on this mach"):
    distribution.find("mirrored")
  monkeypatch.setattr(distribution, "gpus", lambda: ["GPU:0", "GPU:1"])
  with pytest.raises(files.InputError, match=r"=off: --num_gpus=2 needs mirrored"):
    distribution.find("off", 2)


def test_batches_that_cannot_be_divided():
  cluster = distribution.Cluster(["GPU:0", "GPU:1"])
  cluster.check_batch_size(6)
  match = r"--train_batch_size=7 cannot be divided among 2 replicas: GPU:0, GPU:1; give a multiple"
  with pytest.raises(files.InputError, match=match):
    cluster.check_batch_size(7)


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({"num_gpus": 9}, r"--num_gpus=9: found"),
    ({"distribution_strategy": "multi_worker"}, r"needs the environment variable TF_CONFIG"),
    ({"distribution_strategy": "ring"}, r"should be one of <off\|mirrored\|multi_worker>"),
    ({"use_tpu": True, "tpu_name": "local", "num_tpu_cores": 1, "num_gpus": 1}, "TPU"),
    ({"distribution_strategy": "mirrored", "train_batch_size": 5}, r"--train_batch_size=5 cannot"),
  ],
)
def test_scripts_refuse_before_any_work(reviews, tmp_path, monkeypatch, flags, match):
  monkeypatch.delenv("TF_CONFIG", raising=False)
  monkeypatch.setattr(distribution, "gpus", lambda: ["CPU:0", "CPU:1"])
  with pytest.raises(files.InputError, match=match):
    run(run_classifier, tmp_path / "out", **{**reviews, **flags})
  assert not (tmp_path / "out").exists()


# ---- Contact between workers --------------------------------------------------------------------


def free_addresses(count):
  """List of count addresses, "127.0.0.1:port", without a listener."""
  sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
  addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
  for each in sockets:
    each.close()
  return addresses


def together(function, count=2):
  """Results or errors of a function of Workers in each of `count` workers, which are threads."""
  jobs = {"worker": free_addresses(count)}
  found = [None] * count

  def work(number):
    worker = distribution.Workers(distribution.Task(jobs, "worker", number))
    try:
      found[number] = function(worker)
    except files.InputError as error:
      found[number] = error
    worker._left.set()

  threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  return found


def test_workers_hear_the_chief():
  def talk(worker):
    worker.connect("the same")
    return worker.from_chief(7 if worker.is_chief else 5), worker.from_chief(-1)

  assert together(talk) == [(7, -1)] * 2


def test_workers_that_do_not_do_the_same():
  found = together(lambda worker: worker.connect(worker.is_chief))
  assert all("the workers differ in flags or data" in str(error) for error in found)


def test_an_address_that_is_taken():
  with socket.create_server(("0.0.0.0", 0)) as taken:
    task = distribution.Task({"worker": [f"127.0.0.1:{taken.getsockname()[1]}"]}, "worker", 0)
    with pytest.raises(files.InputError, match=r"TF_CONFIG: cannot listen at 127.0.0.1:") as caught:
      distribution.Workers(task).connect("")
  assert "\n" not in str(caught.value)


def test_waiting_names_who_is_missing(log):
  addresses = free_addresses(3)
  worker = distribution.Workers(distribution.Task({"worker": addresses}, "worker", 0))
  servers = [socket.create_server(split_address(addresses[1]))]
  late = threading.Timer(
    1.5, lambda: servers.append(socket.create_server(split_address(addresses[2])))
  )
  late.start()
  worker._wait_for([1, 2])
  for server in servers:
    server.close()
  assert log.messages == [f"Waiting for worker 2 at {addresses[2]} ..."]


def split_address(address):
  host, port = address.rsplit(":", 1)
  return host, int(port)


def test_a_worker_that_is_left_alone_ends(monkeypatch, capsys):
  addresses = free_addresses(2)
  worker = distribution.Workers(distribution.Task({"worker": addresses}, "worker", 1))
  scratch = pathlib.Path(worker.scratch("output"))
  ended = []
  monkeypatch.setattr(distribution, "_SECONDS_BETWEEN_CHECKS", 0.05)
  monkeypatch.setattr(
    distribution.os, "_exit", lambda status: [ended.append(status), worker._left.set()]
  )
  watch = threading.Thread(target=worker._watch, args=([0],))
  with socket.create_server(split_address(addresses[0])):
    watch.start()
    time.sleep(0.5)
    assert not ended and scratch.is_dir()
  watch.join()
  assert ended == [1] and not scratch.exists()
  (line,) = capsys.readouterr().err.splitlines()
  assert re.search(
    rf"error: worker 0 at {addresses[0]} has ended .* from the last checkpoint$", line
  )


def test_a_lost_worker_is_named_though_it_answers_for_a_moment(monkeypatch):
  addresses = free_addresses(2)
  worker = distribution.Workers(distribution.Task({"worker": addresses}, "worker", 0))
  monkeypatch.setattr(distribution, "_SECONDS_BETWEEN_CHECKS", 0.3)
  with socket.create_server(split_address(addresses[1])) as server:
    threading.Timer(0.2, server.close).start()
    assert str(worker.lost()).startswith(f"worker 1 at {addresses[1]} has ended")
  with socket.create_server(split_address(addresses[1])):
    assert str(worker.lost()).startswith("another worker has ended")


def test_only_the_chief_goes_on():
  jobs = {"worker": ["a:1", "b:2"]}
  chief, other = (distribution.Workers(distribution.Task(jobs, "worker", n)) for n in (0, 1))
  assert chief.scratch("output") == "output" != other.scratch("output")
  chief.leave()
  with pytest.raises(distribution.Finished) as caught:
    other.leave()
  assert caught.value.code == 0


# ---- Two replicas in one process ----------------------------------------------------------------


def make_model(tmp_path_factory):
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB, num_hidden_layers=1)
  return directory, {
    **start_flags(directory),
    "max_seq_length": LENGTH,
    "learning_rate": 0.001,
    "train_batch_size": 4,
    "log_every_steps": 1,
    "keep_checkpoint_max": 0,  # the first one, too, from where the compared run starts
    "do_train": True,
  }


@pytest.fixture(name="reviews", scope="module")
def _reviews(tmp_path_factory):
  """The flags of a training of run_classifier."""
  directory, flags = make_model(tmp_path_factory)
  rows = [f"{'so ' * (i % 5)}{VOCAB[5 + i % 2]} {VOCAB[7 + i // 4]} .\t{i % 2}\n" for i in range(8)]
  for name in ("train", "dev"):
    (directory / f"{name}.tsv").write_text("sentence\tlabel\n" + "".join(rows))
  return {**flags, "task_name": "tsv", "data_dir": directory, "num_train_epochs": NUM_STEPS // 2}


@pytest.fixture(name="sentences", scope="module")
def _sentences(tmp_path_factory):
  """The flags of a training of run_ner, on sentences of very different lengths."""
  directory, flags = make_model(tmp_path_factory)
  words = [f"{VOCAB[5 + i % 4]} {'B-X' if i % 3 else 'O'}\n" for i in range(12)]
  text = "\n".join("".join(words[: 1 + i * 5 % 11]) for i in range(8))
  (directory / "train.txt").write_text(text)
  return {**flags, "data_dir": directory, "num_train_epochs": NUM_STEPS // 2}


@pytest.fixture(name="questions", scope="module")
def _questions(tmp_path_factory):
  """The flags of a training of run_multiple_choice, on questions of two or three choices."""
  directory, flags = make_model(tmp_path_factory)
  rows = [
    {
      "question": " ".join(["film", "play", "so", "."][: 1 + i % 4]),
      "choices": [["good", "bad"], ["bad", "good"], ["bad", "good", "so"]][i % 3],
      "answer": "good",
    }
    for i in range(8)
  ]
  (directory / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  epochs = {"num_train_epochs": NUM_STEPS // 2}
  return {**flags, **epochs, "task_name": "jsonl", "data_dir": directory, "pad_choices": True}


@pytest.fixture(name="records_file", scope="module")
def _records_file(tmp_path_factory):
  """The flags of a training of run_pretraining, on records of 1 to 5 masked words."""
  directory, flags = make_model(tmp_path_factory)
  rng = np.random.default_rng(5)
  rows = []
  for number in range(12):
    count, length = 1 + number % 5, 8 + number % 7
    rows.append(
      {
        "input_ids": [2, *rng.integers(4, len(VOCAB), length - 1), *[0] * (LENGTH - length)],
        "input_mask": [1] * length + [0] * (LENGTH - length),
        "segment_ids": [0] * LENGTH,
        "masked_lm_positions": [*range(1, count + 1), *[0] * (5 - count)],
        "masked_lm_ids": [*rng.integers(5, len(VOCAB), count), *[0] * (5 - count)],
        "masked_lm_weights": [1.0] * count + [0.0] * (5 - count),
        "next_sentence_labels": [number % 2],
      }
    )
  path = directory / "records"
  tf_records.write_records(str(path), rows, pretraining.record_features(LENGTH, 5))
  return {
    **flags,
    "input_file": path,
    "max_predictions_per_seq": 5,
    "num_train_steps": NUM_STEPS,
    "num_warmup_steps": 2,
  }


def arguments(output_dir, **flags):
  return [f"--{name}={value}" for name, value in {"output_dir": output_dir, **flags}.items()]


def run(script, output_dir, **flags):
  """Runs a script's main as a command line would; returns the output directory."""
  command_line.parse(script.flags, arguments(output_dir, **flags))
  script.main([])
  return output_dir


@pytest.fixture(name="no_dropout")
def _no_dropout(monkeypatch):
  monkeypatch.setattr(modeling, "_random_uint16", keep_all)


@pytest.fixture(name="two_devices")
def _two_devices(monkeypatch):
  monkeypatch.setattr(distribution, "gpus", lambda: ["CPU:0", "CPU:1"])


def first_checkpoint(directory):
  """Flags that start a run from the same weights, those of the head included."""
  return {"init_checkpoint": directory / "model.ckpt-0"}


def assert_same_training(found, want, names=("loss",)):
  """Checks that two directories' trainings logged the same, and ended in the same weights."""
  curves, wanted = report.read_scalars(str(found)), report.read_scalars(str(want))
  assert len(wanted["loss"]) == NUM_STEPS
  for name in names:
    assert curves[name] == pytest.approx(wanted[name], rel=1e-5), name
  assert_same_weights(found, want)


def assert_same_weights(found, want):
  values, wanted = weights(found), weights(want)
  assert values.keys() == wanted.keys()
  for name, value in wanted.items():
    np.testing.assert_allclose(values[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


def test_two_replicas_classify_like_one(reviews, tmp_path, no_dropout, two_devices, log):
  one = run(run_classifier, tmp_path / "one", **reviews)
  log.clear()
  flags = {**reviews, **first_checkpoint(one), "eval_steps": 4, "keep_best": True, "do_eval": True}
  two = run(run_classifier, tmp_path / "two", **flags, distribution_strategy="mirrored")
  assert_same_training(two, one)
  assert log.messages.count("Running on 2 replicas: CPU:0, CPU:1.") == 1
  # Once in each: the training, two evaluations meanwhile, one in the end.
  assert log.messages.count("*** Features ***") == 4
  assert json.loads((two / "report.json").read_text())["examples_this_run"] == 4 * NUM_STEPS
  assert [entry["step"] for entry in history(two)] == [4, 6]
  assert np.abs(weights(one)["output_weights"] - first_weights(one)).max() > 1e-3


def history(directory):
  lines = (directory / "eval_history.jsonl").read_text().splitlines()
  return [json.loads(line) for line in lines]


def first_weights(directory):
  return tf.train.load_checkpoint(str(directory / "model.ckpt-0")).get_tensor("output_weights")


@pytest.mark.slow
def test_two_replicas_tag_like_one(sentences, tmp_path, no_dropout, two_devices):
  flags = {**sentences, "bucket_by_length": True}
  one = run(run_ner, tmp_path / "one", **flags)
  two = run(run_ner, tmp_path / "two", **{**flags, **first_checkpoint(one)}, num_gpus=2)
  assert_same_training(two, one)


def test_two_replicas_choose_like_one(questions, tmp_path, no_dropout, two_devices):
  flags = {**questions, "bucket_by_length": True, "num_accumulation_steps": 2}
  one = run(run_multiple_choice, tmp_path / "one", **flags)
  two = run(run_multiple_choice, tmp_path / "two", **{**flags, **first_checkpoint(one)}, num_gpus=2)
  assert_same_training(two, one)


@pytest.mark.parametrize(
  ("script", "training", "learning_rate"),
  [
    (run_classifier, "reviews", 0.05),
    pytest.param(run_ner, "sentences", 0.05, marks=pytest.mark.slow),
    pytest.param(run_multiple_choice, "questions", 0.01, marks=pytest.mark.slow),
  ],
)
def test_two_replicas_learn_from_a_teacher_like_one(
  script, training, learning_rate, request, tmp_path, no_dropout, two_devices
):
  flags = request.getfixturevalue(training)
  teacher = run(script, tmp_path / "teacher", **{**flags, "learning_rate": learning_rate})
  flags = {**flags, "teacher_dir": teacher, "teacher_cache_dir": tmp_path / "cache"}
  one = run(script, tmp_path / "one", **flags)
  two = run(script, tmp_path / "two", **{**flags, **first_checkpoint(one)}, num_gpus=2)
  assert_same_training(two, one, ("loss", "label_loss", "teacher_loss"))
  assert min(report.read_scalars(str(one))["teacher_loss"].values()) > 1e-2


def test_two_replicas_guess_words_like_one(records_file, tmp_path, no_dropout, two_devices):
  one = run(run_pretraining, tmp_path / "one", **records_file)
  two = run(
    run_pretraining, tmp_path / "two", **{**records_file, **first_checkpoint(one)}, num_gpus=2
  )
  assert_same_training(two, one, ("loss", *pretraining_head.SCORES))


# ---- Two processes ------------------------------------------------------------------------------

HANGS = 1200  # seconds after which a process hangs, and is not only slow


class Pair:
  """Two processes that train together; `number` 0 is the chief."""

  def __init__(self, script, output_dir, log_dir, **flags):
    jobs = {"worker": free_addresses(2)}
    log_dir.mkdir(exist_ok=True)
    self.output_dir = output_dir
    self._logs = [log_dir / f"{number}.log" for number in range(2)]
    self.processes = []
    flags = arguments(output_dir, **flags, distribution_strategy="multi_worker")
    command = [sys.executable, ROOT / "tests" / "worker_process.py", script.__name__, *flags]
    for number, path in enumerate(self._logs):
      task = {"type": "worker", "index": number}
      environment = {**os.environ, "TF_CONFIG": tf_config(jobs, task), "PYTHONPATH": str(ROOT)}
      with path.open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
      self.processes.append(process)

  def __enter__(self):
    return self

  def __exit__(self, *_):
    for process in self.processes:
      process.kill()
      process.wait()

  def log(self, number):
    return self._logs[number].read_text()

  def statuses(self, seconds=HANGS):
    """The exit statuses of both processes, which must end within some seconds."""
    try:
      return [process.wait(seconds) for process in self.processes]
    except subprocess.TimeoutExpired:
      pytest.fail(f"a worker does not end:\n{self.log(0)}\n{self.log(1)}")

  def wait_for_step(self, step, seconds=HANGS):
    """Waits for a checkpoint of a step or a later one."""
    end = time.monotonic() + seconds
    while max(checkpoint_steps(self.output_dir), default=-1) < step:
      assert time.monotonic() < end, self.log(0) + self.log(1)
      time.sleep(0.1)


def test_two_workers_classify_like_one(reviews, tmp_path, no_dropout):
  one = run(run_classifier, tmp_path / "one", **reviews)
  flags = {**reviews, **first_checkpoint(one), "eval_steps": 4, "do_eval": True}
  with Pair(run_classifier, tmp_path / "two", tmp_path / "logs", **flags) as pair:
    assert pair.statuses() == [0, 0], pair.log(0) + pair.log(1)
  assert_same_training(pair.output_dir, one)
  assert [entry["step"] for entry in history(pair.output_dir)] == [4, 6]
  assert "2 workers with the CPU each, of which this is number 0, the chief." in pair.log(0)
  assert "***** Report *****" in pair.log(0) and "***** Eval results *****" in pair.log(0)
  assert "This worker is done; the chief continues alone." in pair.log(1)
  assert "step 6/6" in pair.log(0) and "step 6/6" not in pair.log(1)
  assert len(list(pair.output_dir.glob("events.out.tfevents.*"))) == 1


def test_a_worker_that_is_done_waits_for_the_chief(reviews, tmp_path, monkeypatch):
  monkeypatch.setenv("CHIEF_SECONDS", "6")  # after three without an answer a worker is lost
  with Pair(run_classifier, tmp_path / "two", tmp_path / "logs", **reviews, do_eval=True) as pair:
    assert pair.statuses() == [0, 0], pair.log(0) + pair.log(1)
  assert "***** Eval results *****" in pair.log(0)


@pytest.mark.slow
def test_two_workers_guess_words_like_one(records_file, tmp_path, no_dropout):
  one = run(run_pretraining, tmp_path / "one", **records_file)
  flags = {**records_file, **first_checkpoint(one)}
  with Pair(run_pretraining, tmp_path / "two", tmp_path / "logs", **flags) as pair:
    assert pair.statuses() == [0, 0], pair.log(0) + pair.log(1)
  assert_same_training(pair.output_dir, one, ("loss", *pretraining_head.SCORES))


MANY = 200  # steps, so many that a signal comes before the last of them


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_worker_ends_the_other_and_all_go_on(reviews, tmp_path, no_dropout, number):
  flags = {**reviews, "num_train_epochs": MANY // 2, "save_checkpoints_steps": 10}
  one = run(run_classifier, tmp_path / "one", **flags, keep_checkpoint_max=0)
  flags.update(first_checkpoint(one))
  with Pair(run_classifier, tmp_path / "two", tmp_path / "logs", **flags) as pair:
    pair.wait_for_step(10)
    pair.processes[number].kill()
    killed = time.monotonic()
    statuses = pair.statuses(seconds=60)
    assert time.monotonic() - killed < 60
    assert statuses[number] == -signal.SIGKILL and statuses[1 - number] == 1
    last = pair.log(1 - number).splitlines()[-1]
    assert re.search(rf"error: worker {number} at \S+ has ended .* from the last checkpoint$", last)
    assert "Traceback" not in pair.log(1 - number)
  assert 10 <= max(checkpoint_steps(pair.output_dir)) < MANY
  with Pair(run_classifier, tmp_path / "two", tmp_path / "logs", **flags) as pair:
    assert pair.statuses() == [0, 0], pair.log(0) + pair.log(1)
  assert "Going on from step" in pair.log(1)
  assert_same_weights(pair.output_dir, one)


@pytest.mark.slow
def test_a_signal_to_one_worker_stops_both_at_the_same_step(reviews, tmp_path):
  flags = {**reviews, "num_train_epochs": MANY // 2, "save_checkpoints_steps": 10}
  with Pair(run_classifier, tmp_path / "two", tmp_path / "logs", **flags) as pair:
    pair.wait_for_step(10)
    pair.processes[1].terminate()
    assert pair.statuses(seconds=60) == [128 + signal.SIGTERM] * 2, pair.log(0) + pair.log(1)
  stops = [re.search(r"Stopped by SIGTERM at step (\d+)", pair.log(n)) for n in (0, 1)]
  assert stops[0][1] == stops[1][1] == str(max(checkpoint_steps(pair.output_dir)))
