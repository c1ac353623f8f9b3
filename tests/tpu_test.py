"""Requirements of a TPU on the models, as far as they can be tested without one.

XLA compiles each step for the CPU, with fixed shapes and to the same numbers; and each estimator's
whole graph is built for a declared TPU, up to the point where it would run.
"""

import functools
import json
import os
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorflow.python.tpu import tpu_system_metadata
from tiny_runs import SPECIAL, config_of, save_model, start_flags

import extract_features
import modeling
import optimization
import run_classifier
import run_multiple_choice
import run_ner
import run_pretraining
import run_squad
from toolkit.records import tf_records
from toolkit.support import command_line, files
from toolkit.tasks import classification, pretraining
from toolkit.training import estimators, micro_batches

# Code that runs three times need not be fast. XLA reads this when it is first used.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

TRAIN, EVAL, PREDICT = (getattr(tf.estimator.ModeKeys, m) for m in ("TRAIN", "EVAL", "PREDICT"))
VOCAB = [*SPECIAL, *"abcdefghijk"]
SMALL = {"hidden_size": 4, "intermediate_size": 8, "num_hidden_layers": 1}
CONFIG = modeling.BertConfig.from_dict(config_of(VOCAB, **SMALL))
B, S, P = 4, 8, 2  # examples, word pieces, masked ones
RNG = np.random.default_rng(1)
MASK = (np.arange(S) < [[8], [5], [3], [6]]).astype(np.int32)  # [B, S]
TRAINING = {"learning_rate": 0.01, "num_train_steps": 10, "num_warmup_steps": 2}


def ids(count, *shape):
  return RNG.integers(count, size=shape).astype(np.int32)


TEXT = {"input_ids": ids(len(VOCAB), B, S), "input_mask": MASK, "segment_ids": ids(2, B, S)}
LABELLED = {**TEXT, "is_real_example": np.array([1, 1, 1, 0], np.int32)}

classifier = functools.partial(run_classifier.model_fn_builder, num_labels=3, **TRAINING)
HEADS = {
  "classes": (classifier, {**LABELLED, "label_ids": ids(3, B)}),
  "weighted classes": (
    functools.partial(classifier, class_weights=[1.0, 2.0, 0.5]),
    {**LABELLED, "label_ids": ids(3, B)},
  ),
  "labels": (
    functools.partial(classifier, kind=classification.LABELS),
    {**LABELLED, "label_ids": ids(2, B, 3).astype(np.float32)},
  ),
  "number": (
    functools.partial(classifier, kind=classification.NUMBER, num_labels=1),
    {**LABELLED, "label_ids": RNG.random(B).astype(np.float32)},
  ),
  "squad": (
    functools.partial(run_squad.model_fn_builder, **TRAINING),
    {
      **TEXT,
      "unique_ids": np.arange(B, dtype=np.int32),
      "start_positions": ids(S, B),
      "end_positions": ids(S, B),
    },
  ),
  "ner": (
    functools.partial(run_ner.model_fn_builder, num_labels=3, **TRAINING),
    {**TEXT, "label_ids": ids(3, B, S), "label_mask": MASK},
  ),
  "choice": (
    functools.partial(run_multiple_choice.model_fn_builder, **TRAINING),
    {
      **{name: np.stack([values, values[::-1]], axis=2) for name, values in TEXT.items()},
      "choice_mask": np.array([[1, 1], [1, 0], [1, 1], [0, 0]], np.int32),
      "label_ids": np.array([1, 0, 0, 0], np.int32),
    },
  ),
  "pretraining": (
    functools.partial(run_pretraining.model_fn_builder, **TRAINING),
    {
      **TEXT,
      "masked_lm_positions": ids(S, B, P),
      "masked_lm_ids": ids(len(VOCAB), B, P),
      "masked_lm_weights": np.array([[1, 1], [1, 0], [1, 1], [0, 0]], np.float32),
      "next_sentence_labels": ids(2, B, 1),
    },
  ),
}
EXTRACTED = {
  "unique_ids": np.arange(B, dtype=np.int32),
  "input_ids": TEXT["input_ids"],
  "input_mask": MASK,
  "input_type_ids": TEXT["segment_ids"],
}
for pooling in ("none", "mean_max"):
  HEADS[f"pooling {pooling}"] = (
    functools.partial(extract_features.model_fn_builder, layer_indexes=[-1, 0], pooling=pooling),
    EXTRACTED,
  )

MODES = {
  **dict.fromkeys(("classes", "labels", "number"), (TRAIN, EVAL, PREDICT)),
  "weighted classes": (TRAIN,),
  **dict.fromkeys(("squad", "ner", "choice"), (TRAIN, PREDICT)),
  "pretraining": (TRAIN, EVAL),
  **dict.fromkeys(("pooling none", "pooling mean_max"), (PREDICT,)),
}
VARIANTS = ("weighted classes", "labels", "number", "pooling mean_max")
STEPS = [
  pytest.param(head, mode, marks=[pytest.mark.slow] if head in VARIANTS else [])
  for head, modes in MODES.items()
  for mode in modes
]


def model_fn_of(head, **changes):
  """The model_fn of one of HEADS for a TPU, and its features."""
  build, features = HEADS[head]
  settings = {"init_checkpoint": None, "use_tpu": True, "use_one_hot_embeddings": True, **changes}
  return build(bert_config=CONFIG, **settings), features


# ---- Compiled by XLA ----------------------------------------------------------------------------


def step_outputs(spec):
  """Dict of name -> output tensor of a step."""
  if spec.mode == TRAIN:
    with tf.control_dependencies([spec.train_op]):
      return {"loss": tf.identity(spec.loss)}
  if spec.mode == EVAL:
    return {"loss": spec.loss, **{str(n): t for n, t in enumerate(spec.eval_metrics[1])}}
  return dict(spec.predictions)


def run_steps(head, mode, start=None, compiled=True, **changes):
  """Runs a step of a model three times.

  Args:
    head: key of HEADS.
    mode: a tf.estimator.ModeKeys.
    start: dict of name -> value of the variables; None for random ones.
    compiled: bool, whether XLA compiles the step.
    **changes: arguments of the model_fn_builder.

  Returns:
    A tuple: start, list of the outputs of the steps, dict of the variables in the end.
  """
  model_fn, features = model_fn_of(head, **changes)
  names = []

  def step(*tensors):
    outputs = step_outputs(model_fn(dict(zip(features, tensors)), None, mode, {}))
    names[:] = outputs
    return list(outputs.values())

  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(1)
    tf.train.get_or_create_global_step()
    inputs = [tf.constant(values) for values in features.values()]
    outputs = tf.xla.experimental.compile(step, inputs) if compiled else step(*inputs)
    variables = {variable.name: variable for variable in tf.global_variables()}
    begin = {name: variable.initializer for name, variable in variables.items()}
    given = {begin[name].inputs[1]: value for name, value in (start or {}).items()}
    session.run(begin, given)
    start = start or session.run(variables)
    rows = [dict(zip(names, session.run(outputs))) for _ in range(3)]
    return start, rows, session.run(variables)


@pytest.fixture(name="one_core")
def _one_core(monkeypatch):
  """The sum over one core, an operation that XLA has for TPUs alone."""
  monkeypatch.setattr(optimization, "replica_sum", lambda tensors, use_tpu=False: tensors)


@pytest.fixture(name="same_dropout")
def _same_dropout(monkeypatch):
  """Seeds by the number of the dropout in the graph; returns a function that resets the count."""
  places = []

  def get_seed(_):
    places.append(len(places))
    return 1, places[-1]

  monkeypatch.setattr(tf.random, "get_seed", get_seed)
  return places.clear


def assert_close(found, want):
  assert found.keys() == want.keys()
  for name, value in want.items():
    np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def assert_same_when_compiled(same_dropout, head, mode, **changes):
  start, rows, end = run_steps(head, mode, compiled=False, **changes)
  same_dropout()
  _, compiled_rows, compiled_end = run_steps(head, mode, start, **changes)
  for found, want in zip(compiled_rows, rows):
    assert_close(found, want)
  assert_close(compiled_end, end)
  trained = [name for name, value in start.items() if np.any(end[name] != value)]
  assert bool(trained) == (mode == TRAIN)


@pytest.mark.parametrize(("head", "mode"), STEPS)
def test_xla_computes_the_same(head, mode, one_core, same_dropout):
  assert_same_when_compiled(same_dropout, head, mode)


@pytest.mark.slow
def test_xla_computes_a_batch_in_parts(one_core, same_dropout):
  options = micro_batches.StepOptions(num_parts=2, recompute=True)
  assert_same_when_compiled(same_dropout, "ner", TRAIN, options=options)


# ---- Built for a TPU ----------------------------------------------------------------------------

CORES = 2


@pytest.fixture(name="tpu")
def _tpu(monkeypatch):
  """Declares a TPU with two cores in this machine to TensorFlow."""
  names = ["CPU:0", *(f"TPU:{core}" for core in range(CORES))]
  metadata = tpu_system_metadata.TPUSystemMetadata(
    num_cores=CORES,
    num_hosts=1,
    num_of_cores_per_host=CORES,
    topology=None,
    devices=tuple(f"/job:localhost/replica:0/task:0/device:{name}" for name in names),
  )
  monkeypatch.setattr(tpu_system_metadata, "_query_tpu_system_metadata", lambda *_, **__: metadata)


DEVICES = estimators.Devices(
  use_tpu=True, tpu_name="local", num_tpu_cores=CORES, iterations_per_loop=2
)
# Error of a TensorFlow without TPUs when a complete graph is to run.
NOT_RUN = r"No OpKernel was registered to support Op '\w*TPU"


@pytest.mark.parametrize(("head", "mode"), STEPS)
def test_estimators_are_built_for_a_tpu(head, mode, tpu, tmp_path):
  model_fn, features = model_fn_of(head)
  sizes = {f"{name}_batch_size": B for name in ("train", "eval", "predict")}
  estimator = estimators.make_estimator(model_fn, str(tmp_path), DEVICES, seed=1, batch_sizes=sizes)

  def input_fn(params):
    batches = tf.data.Dataset.from_tensor_slices(features).repeat()
    return batches.batch(params["batch_size"], drop_remainder=True)

  with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_RUN):
    if mode == TRAIN:
      saves = {"save_steps": 2, "save_seconds": None, "log_steps": 1}
      estimators.train(estimator, lambda step: input_fn, 4, batch_size=B, **saves)
    elif mode == EVAL:
      estimators.evaluate(estimator, input_fn, 2, "eval")
    else:
      list(estimators.predict(estimator, input_fn, B, "predict"))


# ---- Found, and its files -----------------------------------------------------------------------


def test_a_tpu_is_named_and_found(tpu):
  DEVICES.find_tpu()
  assert DEVICES.resolver().master() == ""
  remote = DEVICES._replace(tpu_name="grpc://10.0.0.2:8470")
  remote.find_tpu()
  assert remote.resolver().master() == "grpc://10.0.0.2:8470"
  assert DEVICES._replace(tpu_name=None, master="grpc://10.0.0.2:8470").resolver() is None
  assert DEVICES._replace(use_tpu=False).resolver() is None


def test_a_tpu_has_another_number_of_cores(tpu):
  message = "--num_tpu_cores=8: the TPU local has another number; give --num_tpu_cores=2"
  with pytest.raises(files.InputError, match=message):
    DEVICES._replace(num_tpu_cores=8).find_tpu()


def test_there_is_no_tpu():
  with pytest.raises(files.InputError, match=r"finds no TPU there; .* tensorflow-tpu, of the same"):
    DEVICES.find_tpu()


def test_a_tpu_is_not_known(monkeypatch):
  def refuse(name, **_):
    raise RuntimeError("Missing runtime dependency\nmore")

  monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", refuse)
  message = "--tpu_name: the TPU far is not found: Missing runtime dependency$"
  with pytest.raises(files.InputError, match=message):
    DEVICES._replace(tpu_name="far").find_tpu()


def test_a_remote_tpu_needs_files_in_a_bucket(tmp_path):
  remote = DEVICES._replace(tpu_name="far")
  prefix = tmp_path / "bert_model.ckpt"
  (tmp_path / "bert_model.ckpt.index").touch()
  for path, advice in (
    (prefix, rf"copy it \(gcloud storage cp -r {prefix}\.\* gs://BUCKET/\) and give the gs://"),
    (tmp_path, rf"copy it \(gcloud storage cp -r {tmp_path} gs://BUCKET/\)"),
    (tmp_path / "new", "; give a gs:// path, or use --tpu_name=local"),
  ):
    with pytest.raises(files.InputError, match=rf"--x: the TPU far cannot read .*{advice}"):
      remote.check({"x": str(path)}, {})
    DEVICES.check({"x": str(path)}, {})  # a TPU in this machine can
  remote.check({"x": "gs://bucket/a", "y": None}, {"train_batch_size": 4})
  estimators.Devices().check({"x": str(tmp_path)}, {"train_batch_size": 3})
  with pytest.raises(files.InputError, match="the TPU grpc://1 cannot"):
    estimators.Devices(use_tpu=True, master="grpc://1").check({"x": str(tmp_path)}, {})
  with pytest.raises(files.InputError, match="--use_tpu needs --tpu_name"):
    estimators.Devices(use_tpu=True).check({}, {})


def test_a_batch_is_divided_among_the_cores():
  message = "--eval_batch_size=3 cannot be divided among --num_tpu_cores=2; give a multiple of it"
  with pytest.raises(files.InputError, match=message):
    DEVICES.check({}, {"train_batch_size": 4, "eval_batch_size": 3})


# ---- Whole batches of fixed length --------------------------------------------------------------

LABELS = ["O", "B-X", "I-X"]
QUESTIONS = [
  {"id": str(number), "question": question, "answers": [{"text": "b c", "answer_start": 2}]}
  for number, question in enumerate(("d ?", "e", "f g", "h", "i j"))
]


def write_data(directory):
  """Writes five examples of each kind, of different lengths, where batches have four."""
  texts = ["a b c", "d", "e f g h i", "j k", "b b"]
  rows = "".join(f"{text}\t{LABELS[n % 3]}\n" for n, text in enumerate(texts))
  (directory / "dev.tsv").write_text("text\tlabel\n" + rows)
  (directory / "input.txt").write_text("".join(f"{text}\n" for text in texts))
  letters = [chr(97 + n) for n in range(5)]
  rows = "".join(f"{t},{a},{a}{a},{n % 2}\n" for n, (t, a) in enumerate(zip(texts, letters)))
  (directory / "dev.csv").write_text("question,choice0,choice1,answer\n" + rows)
  tagged = ("".join(f"{word} {LABELS[n % 3]}\n" for word in t.split()) for n, t in enumerate(texts))
  (directory / "dev.txt").write_text("\n".join(tagged))
  paragraphs = [{"context": "a b c d e f", "qas": QUESTIONS}]
  squad = {"version": "1.1", "data": [{"title": "", "paragraphs": paragraphs}]}
  (directory / "dev.json").write_text(json.dumps(squad))
  _, features = HEADS["pretraining"]
  rows = [{name: values[n % B] for name, values in features.items()} for n in (0, 1, 2, 3, 1)]
  tf_records.write_records(str(directory / "records"), rows, pretraining.record_features(S, P))


def save_head(head, directory):
  """Writes a directory with a model, in the form of a trained one, and its labels."""
  directory.mkdir()
  save_model(directory, VOCAB, **SMALL)
  (directory / "label_list.txt").write_text("\n".join(LABELS) + "\n")
  model_fn, features = model_fn_of(head, use_tpu=False)
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(1)
    tf.train.get_or_create_global_step()
    model_fn({n: tf.constant(v) for n, v in features.items()}, None, MODES[head][-1], {})
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, str(directory / "bert_model.ckpt"), write_state=False)


CLASSIFIER_FLAGS = {"task_name": "tsv", "data_dir": ".", "predict_file": "dev.tsv"}
NER_FLAGS = {"data_dir": ".", "predict_file": "dev.txt"}
# Of each script: its head, flags that name files, switches, and files with numbers that it writes.
SCRIPTS = {
  run_classifier: ("classes", CLASSIFIER_FLAGS, ("test_results.tsv", "eval_results.txt")),
  run_squad: ("squad", {"predict_file": "dev.json"}, ("nbest_predictions.json",)),
  run_ner: ("ner", NER_FLAGS, ("predictions.txt", "eval_results.txt")),
  run_multiple_choice: (
    "choice",
    {"task_name": "csv", "data_dir": ".", "predict_file": "dev.csv"},
    ("predictions.tsv", "eval_results.txt"),
  ),
  run_pretraining: ("pretraining", {"input_file": "records"}, ("eval_results.txt",)),
}


def run(script, flags):
  command_line.parse(script.flags, [f"--{name}={value}" for name, value in flags.items()])
  script.main([])


def results(path):
  """Splits a file into its text without numbers, and its numbers."""
  text = path.read_text()
  number = r"-?\d+\.\d+(?:e[-+]\d+)?"
  return re.sub(number, "", text), [float(found) for found in re.findall(number, text)]


@pytest.fixture(name="tpu_is_cpu")
def _tpu_is_cpu(tpu, monkeypatch):
  """Runs all as for a TPU, but the estimator runs the model here."""
  make = estimators.make_estimator
  monkeypatch.setattr(
    estimators,
    "make_estimator",
    lambda model_fn, output_dir, devices, *rest, **named: make(
      model_fn, output_dir, devices._replace(use_tpu=False), *rest, **named
    ),
  )


TPU_FLAGS = {"use_tpu": True, "tpu_name": "local", "num_tpu_cores": CORES}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.SCRIPT)
def test_nothing_is_lost_in_full_batches(script, tpu_is_cpu, tmp_path, monkeypatch):
  head, named, written = SCRIPTS[script]
  write_data(tmp_path)
  save_head(head, tmp_path / "model")
  monkeypatch.chdir(tmp_path)
  flags = {**named, **start_flags(tmp_path / "model"), "max_seq_length": S, "do_eval": True}
  flags.update({name: 4 for name in script.FLAGS if name.endswith("_batch_size")})
  if "max_query_length" in script.FLAGS:
    flags["max_query_length"] = 2
  flags.update(
    {"do_predict": True} if script is not run_pretraining else {"max_predictions_per_seq": P}
  )
  run(script, {**flags, "output_dir": "plain"})
  run(script, {**flags, "output_dir": "tpu", **TPU_FLAGS})
  for name in written:
    text, numbers = results(tmp_path / "plain" / name)
    found_text, found = results(tmp_path / "tpu" / name)
    assert found_text == text
    assert found == pytest.approx(numbers, abs=1e-5), name


def test_no_line_is_lost_in_full_batches(tpu_is_cpu, tmp_path):
  write_data(tmp_path)
  save_head("classes", tmp_path / "model")
  flags = {"model_dir": tmp_path / "model", "max_seq_length": S, "batch_size": 4}
  for name, more in (("plain", {}), ("tpu", TPU_FLAGS)):
    paths = {"input_file": tmp_path / "input.txt", "output_file": tmp_path / name}
    run(extract_features, {**flags, **paths, "layers": "-1", **more})
  text, numbers = results(tmp_path / "plain")
  assert results(tmp_path / "tpu") == (text, pytest.approx(numbers, abs=1e-5))


def test_a_script_trains_on_a_tpu_up_to_the_first_operation(tpu, tmp_path):
  write_data(tmp_path)
  save_model(tmp_path, VOCAB, **SMALL)
  (tmp_path / "dev.tsv").rename(tmp_path / "train.tsv")
  flags = {"task_name": "tsv", "data_dir": tmp_path, "output_dir": tmp_path / "out"}
  flags.update(**start_flags(tmp_path), max_seq_length=S, train_batch_size=4, do_train=True)
  with pytest.raises(tf.errors.InvalidArgumentError, match=NOT_RUN):
    run(run_classifier, {**flags, **TPU_FLAGS})
