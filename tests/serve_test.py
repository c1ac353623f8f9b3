"""serve.py as a program: what it serves, signals, workers that die, and mistakes in its flags."""

import json
import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest
import tiny_exports
from service_program import ROOT, command_of, running, until

import serve
from toolkit.serving import loading
from toolkit.serving.service import server
from toolkit.support import command_line, files

TEXTS = ["a good film", "it was bad", "the film was very good and it was not bad .", "films"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  directory = tmp_path_factory.mktemp("models")
  return {
    "reviews": tiny_exports.save(directory / "reviews", tiny_exports.CLASSIFIER),
    "encoder": tiny_exports.save(directory / "encoder", tiny_exports.ENCODER),
  }


# ---- Answers and signals ------------------------------------------------------------------------


def test_answers_are_those_of_the_predictors(models):
  classifier = loading.load(str(models["reviews"]))
  encoder = loading.load(str(models["encoder"]))
  with running(models) as program:
    body = {"instances": TEXTS}
    _, answer = program.call("POST", "/v1/models/reviews:predict", body)
    for found, expected in zip(answer["predictions"], classifier.classify(TEXTS)):
      assert found["label"] == expected.value
      assert found["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)
      assert found["truncated"] == expected.truncated
    _, answer = program.call("POST", "/v1/models/encoder:predict", body)
    for found, expected in zip(answer["predictions"], encoder.encode(TEXTS)):
      assert found == pytest.approx(expected.tolist(), abs=1e-5)
    ids = {"input_ids": [2, 5, 6, 3, 0], "input_mask": [1, 1, 1, 1, 0]}
    _, answer = program.call("POST", "/v1/models/encoder:predict", {"instances": [ids]})
    (expected,) = encoder.run_ids([([2, 5, 6, 3], [0] * 4)])
    (found,) = answer["predictions"]
    assert found["pooled_output"] == pytest.approx(expected["pooled_output"].tolist(), abs=1e-5)
    assert found["sequence_output"][4] == [0.0] * 16
    assert program.end() == 0
    assert program.lines[-1] == "Stopped\n"


def test_nothing_of_tensorflow_is_loaded(models):
  with running(models, "--engine=onnxruntime") as program:
    maps = pathlib.Path(f"/proc/{program.process.pid}/maps").read_text()
    assert "onnxruntime" in maps and "tensorflow" not in maps
    assert program.end() == 0


def test_ctrl_c(models):
  with running({"reviews": models["reviews"]}) as program:
    assert program.end(signal.SIGINT) == 130
    assert not any("Traceback" in line for line in program.lines)


class Sender(threading.Thread):
  """A client that sends one request after another, until the service says that it closes."""

  def __init__(self, program):
    super().__init__()
    self._program = program
    self.num_answers, self.lost = 0, []

  def run(self):
    connection = self._program.connect()
    body = json.dumps({"instances": TEXTS})
    while True:
      try:
        connection.request("POST", "/v1/models/reviews:predict", body)
        answer = connection.getresponse()
        read = answer.read()
      except OSError as error:
        self.lost.append(repr(error))
        return
      if answer.status != 200 or len(json.loads(read)["predictions"]) != len(TEXTS):
        self.lost.append(read)
      self.num_answers += 1
      if answer.getheader("Connection") == "close":
        return


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_loses_no_request(models, workers):
  with running({"reviews": models["reviews"]}, f"--workers={workers}") as program:
    senders = [Sender(program) for _ in range(8)]
    for sender in senders:
      sender.start()
    until(lambda: all(sender.num_answers > 20 for sender in senders))
    assert program.end() == 0
    for sender in senders:
      sender.join(60)
    assert [sender.lost for sender in senders] == [[]] * 8


# ---- Workers ------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_is_replaced(models):
  with running({"reviews": models["reviews"]}, "--workers=2") as program:
    until(lambda: len(program.children()) == 2)
    first = program.children()
    body = {"instances": TEXTS}
    for victim in first:
      os.kill(victim, signal.SIGKILL)
      until(lambda dead=victim: dead not in program.children() and len(program.children()) == 2)
      for _ in range(10):
        assert program.call("POST", "/v1/models/reviews:predict", body)[0] == 200
    assert not set(first) & set(program.children())
    assert sum("has ended by signal 9, and is replaced" in line for line in program.lines) == 2
    assert program.end() == 0


def test_numbers_of_all_workers_are_added_up(models):
  with running({"reviews": models["reviews"]}, "--workers=2") as program:
    until(lambda: len(program.children()) == 2)
    for _ in range(20):
      program.call("POST", "/v1/models/reviews:predict", {"instances": ["a"]})

    def total():
      connection = program.connect()
      connection.request("GET", "/metrics")
      text = connection.getresponse().read().decode()
      found = re.search(r'^bert_instances_total\{model="reviews"\} (\d+)$', text, re.M)
      return int(found[1]) if found else 0

    until(lambda: total() == 20)
    time.sleep(5 * server._SAVE_SECONDS)  # in which each worker has written its numbers
    os.kill(program.children()[0], signal.SIGKILL)
    until(lambda: any("is replaced" in line for line in program.lines))
    until(lambda: len(program.children()) == 2)
    assert total() == 20
    assert program.end() == 0


def test_workers_end_with_their_parent(models, tmp_path, monkeypatch):
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  with running({"reviews": models["reviews"]}, "--workers=2") as program:
    until(lambda: len(program.children()) == 2)
    workers = program.children()
    program.process.kill()
    until(lambda: not any(b"spawn_main" in command_of(worker) for worker in workers))
    assert not list(tmp_path.glob("bert_metrics_*"))


def test_a_model_that_cannot_be_loaded_ends_all_workers(models, tmp_path):
  broken = tiny_exports.save(tmp_path / "broken", tiny_exports.CLASSIFIER)
  (broken / "model.onnx").write_bytes(b"no model")
  command = [sys.executable, str(ROOT / "serve.py"), "--port=0", f"--model=broken={broken}"]
  for flags in ([], ["--workers=2"]):
    run = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert "model.onnx is damaged" in run.stderr
    assert "Traceback" not in run.stderr


# ---- Flags --------------------------------------------------------------------------------------


def check(*arguments):
  """Runs main up to the loading of models."""
  command_line.parse(serve.flags, arguments)
  serve.main([])


@pytest.fixture
def refused(models, monkeypatch):
  """Function of flags that checks the line about them; nothing is loaded before."""

  def load(*arguments):
    raise AssertionError("a model was loaded")

  monkeypatch.setattr(loading, "load", load)
  model = f"--model=reviews={models['reviews']}"

  def call(match, *arguments, has_model=True):
    with pytest.raises(files.InputError, match=match) as caught:
      check(*([model] if has_model else []), *arguments)
    assert "\n" not in str(caught.value)

  return call


def test_mistakes_in_models(refused, models, tmp_path):
  refused("--model is missing", has_model=False)
  refused("write --model=NAME=DIR", "--model=reviews", has_model=False)
  refused("write --model=NAME=DIR", f"--model={models['reviews']}", has_model=False)
  refused("write --model=NAME=DIR", f"--model=a/b={models['reviews']}", has_model=False)
  refused("write --model=NAME=DIR", "--model=a=", has_model=False)
  refused("the name reviews is given twice", f"--model=reviews={models['encoder']}")
  refused("--model=b=.*there is no directory", f"--model=b={tmp_path / 'none'}")
  (tmp_path / "run.json").write_text('{"script": "tune"}')
  refused("--model=b=.*has no predictor", f"--model=b={tmp_path}")


def test_a_port_that_is_in_use(refused):
  with socket.create_server(("127.0.0.1", 0)) as other:
    port = other.getsockname()[1]
    refused(f"--port={port} cannot be used on 127.0.0.1: Address already in use", f"--port={port}")
  refused("--port", "--port=65536")
  refused("--host: nothing.invalid is no known host", "--host=nothing.invalid", "--insecure")


def test_other_machines_need_a_key(refused, tmp_path):
  for host in ("0.0.0.0", "::", "192.168.1.1", "example.org"):
    refused("give --api_key_file, or --insecure", f"--host={host}")
  keys = tmp_path / "keys.txt"
  refused("--api_key_file: .*keys.txt", f"--api_key_file={keys}")
  keys.write_text(" \n\n")
  refused("keys.txt is empty; write one key per line", f"--api_key_file={keys}")
  keys.write_text("good-key\ntwo words\n")
  refused("keys.txt:2: a key has spaces", f"--api_key_file={keys}")
  keys.write_text("good-key\n")
  refused("--insecure has no effect", f"--api_key_file={keys}", "--insecure")


def test_a_file_of_keys_that_others_can_read(tmp_path, caplog, models, monkeypatch):
  monkeypatch.setattr(serve, "check_packages", _stop)
  keys = tmp_path / "keys.txt"
  keys.write_text("a-key-of-24-characters-1\n")
  for mode, is_warned in ((0o600, False), (0o640, True), (0o604, True)):
    keys.chmod(stat.S_IFREG | mode)
    caplog.clear()
    with pytest.raises(KeyboardInterrupt):
      check(f"--model=reviews={models['reviews']}", f"--api_key_file={keys}")
    assert ("can be read by other users" in caplog.text) == is_warned


def _stop():
  raise KeyboardInterrupt


def test_an_insecure_service_says_so(caplog, models, monkeypatch):
  monkeypatch.setattr(serve, "check_packages", _stop)
  model = f"--model=reviews={models['reviews']}"
  with pytest.raises(KeyboardInterrupt):
    check(model, "--host=0.0.0.0", "--insecure")
  assert "ALL who reach 0.0.0.0 port 8501 can use the models" in caplog.text


def test_keys_of_a_running_service(models, tmp_path):
  keys = tmp_path / "keys.txt"
  keys.write_text("a-key-of-24-characters-1\na-key-of-24-characters-2\n")
  keys.chmod(0o600)
  with running({"reviews": models["reviews"]}, f"--api_key_file={keys}") as program:
    assert program.call("GET", "/v1/models")[0] == 401
    for number in (1, 2):
      headers = {"Authorization": f"Bearer a-key-of-24-characters-{number}"}
      assert program.call("GET", "/v1/models", headers=headers)[0] == 200
    assert program.end() == 0


def test_mistakes_in_ports_of_bert_as_service(refused, models, monkeypatch):
  refused("none of the models gives vectors", "--bert_as_service_port=5555")
  refused("needs --bert_as_service_port", "--bert_as_service_port_out=5556")
  encoder = f"--model=encoder={models['encoder']}"
  for ports in ("--bert_as_service_port=8501", "--bert_as_service_port=8500"):
    refused("give ports that differ", encoder, ports)
  find_spec = serve.importlib.util.find_spec
  monkeypatch.setattr(
    serve.importlib.util, "find_spec", lambda name: None if name == "zmq" else find_spec(name)
  )
  refused("the package pyzmq is not installed", encoder, "--bert_as_service_port=5555")


def test_missing_packages_of_the_service(refused, monkeypatch):
  monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None)
  refused("the package starlette is not installed: .*requirements-serving.txt")
