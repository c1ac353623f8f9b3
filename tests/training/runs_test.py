"""The start of a run: which files the model comes from."""

import json
import os
import re
import shutil

import pytest
from tiny_runs import SPECIAL, config_of, save_encoder, save_model, start_flags

import run_classifier
import run_pretraining
from toolkit.formats import checkpoint_files
from toolkit.support import command_line, files
from toolkit.training import runs

VOCAB = [*SPECIAL, "good", "bad"]
FILES = ("bert_config_file", "vocab_file", "init_checkpoint")


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with bert_config.json, vocab.txt and bert_model.ckpt."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB)
  return directory


@pytest.fixture(name="begin")
def _begin(tmp_path):
  """Function of switches and flags to the runs.Run of a classifier, or of another script."""

  def begin(*switches, script=run_classifier, **flags):
    flags = {"output_dir": tmp_path / "out", "max_seq_length": 16, **flags}
    named = [f"--{name}={value}" for name, value in flags.items() if value is not None]
    command_line.parse(script.flags, ["--do_train", *switches, *named])
    return runs.begin(script.flags, script.SCRIPT, needs_vocab=script is run_classifier)

  yield begin
  for script in (run_classifier, run_pretraining):
    command_line.parse(script.flags, [])


def paths(run):
  return {name: run.settings[name] for name in FILES}


def as_text(flags):
  return {name: str(value) for name, value in flags.items()}


def test_a_directory_stands_for_three_flags(begin, model):
  one, three = begin(model=model), begin(**start_flags(model))
  assert paths(one) == paths(three) == as_text(start_flags(model))
  assert one.start == (str(model / "bert_model.ckpt"), "model")
  assert three.start == (str(model / "bert_model.ckpt"), "init_checkpoint")
  # The rest of a run, and run.json, know nothing of the directory.
  assert one.settings.as_dict() == three.settings.as_dict() and "model" not in one.settings
  relative = os.path.relpath(model)
  assert paths(begin(model=relative))["vocab_file"] == os.path.join(relative, "vocab.txt")


@pytest.mark.parametrize("name", FILES)
def test_each_flag_overrides_its_part(begin, model, tmp_path, name):
  other = tmp_path / "other"
  shutil.copytree(model, other)
  own = start_flags(other)[name]
  run = begin(model=model, **{name: own})
  assert paths(run) == as_text({**start_flags(model), name: own})
  # The part that is overridden may be missing.
  lacking = tmp_path / "lacking"
  shutil.copytree(model, lacking)
  for path in lacking.glob(f"{start_flags(model)[name].name}*"):
    path.unlink()
  run = begin(model=lacking, **{name: own})
  assert paths(run) == as_text({**start_flags(lacking), name: own})
  assert run.start[1] == ("init_checkpoint" if name == "init_checkpoint" else "model")


@pytest.mark.parametrize("name", ["bert_config.json", "vocab.txt", "bert_model.ckpt"])
def test_a_missing_file_is_named(begin, model, tmp_path, name):
  lacking = tmp_path / "lacking"
  shutil.copytree(model, lacking)
  for path in lacking.glob(f"{name}*"):
    path.unlink()
  message = rf"^--model: the directory {re.escape(str(lacking))} has no .*{re.escape(name)}"
  with pytest.raises(files.InputError, match=message) as caught:
    begin(model=lacking)
  assert "\n" not in str(caught.value)
  assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_another_name(begin, model, tmp_path):
  other = tmp_path / "other"
  other.mkdir()
  for name in ("bert_config.json", "vocab.txt"):
    shutil.copy(model / name, other)
  save_encoder(other / "model.ckpt-1000000", config_of(VOCAB))
  assert begin(model=other).start[0] == str(other / "model.ckpt-1000000")
  save_encoder(other / "bert_model.ckpt", config_of(VOCAB))
  assert begin(model=other).start[0] == str(other / "model.ckpt-1000000")  # that of a training
  for path in other.glob("model.ckpt-*"):
    path.rename(other / path.name.replace("model.ckpt-1000000", "again.ckpt"))
  assert begin(model=other).start[0] == str(other / "bert_model.ckpt")


def test_the_best_checkpoint_of_a_finished_directory(begin, model, tmp_path):
  finished = tmp_path / "finished"
  (finished / "best").mkdir(parents=True)
  for name in ("bert_config.json", "vocab.txt"):
    shutil.copy(model / name, finished)
  save_encoder(finished / "model.ckpt-9", config_of(VOCAB))
  assert begin(model=finished).start[0] == str(finished / "model.ckpt-9")
  save_encoder(finished / "best" / "model.ckpt-3", config_of(VOCAB))
  checkpoint_files.write_state(str(finished / "best"), ["model.ckpt-3"])
  assert begin(model=finished).start[0] == str(finished / "best" / "model.ckpt-3")


def test_mistakes_name_the_flag_that_was_given(begin, model, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(model, other)
  config = json.dumps({**config_of(VOCAB), "hidden_size": 8})
  (other / "bert_config.json").write_text(config)
  with pytest.raises(files.InputError, match=r"^--model: bert/embeddings/.* has shape \[7, 16\]"):
    begin(model=other)
  with pytest.raises(files.InputError, match=r"^--model: there is no /no/where; give"):
    begin(model="/no/where")
  with pytest.raises(files.InputError, match=r"^--model: .*vocab.txt is a file; give a directory"):
    begin(model=model / "vocab.txt")


def test_the_casing_of_a_released_model(begin, model, tmp_path):
  """As with --init_checkpoint: the directory's name decides."""
  cased = tmp_path / "cased_L-12_H-768_A-12"
  shutil.copytree(model, cased)
  for start in ({"model": cased}, start_flags(cased)):
    with pytest.raises(files.InputError, match=r"cased text; pass --do_lower_case=False"):
      begin(**start)
    assert begin(**start, do_lower_case=False).settings.do_lower_case is False


def test_no_model(begin, tmp_path):
  message = (
    "give a pre-trained model: --bert_config_file, --vocab_file, --init_checkpoint, or --model=DIR"
  )
  for script in (run_classifier, run_pretraining):
    with pytest.raises(files.InputError) as caught:
      begin(script=script)
    assert str(caught.value) == message
  with pytest.raises(files.InputError, match=r"has no checkpoint to evaluate .*, or --model=DIR"):
    begin("--nodo_train", "--do_eval")
  assert not (tmp_path / "out").exists()


def test_random_weights(begin, model, log):
  flags = {**start_flags(model), "init_checkpoint": None}
  assert begin(**flags).start == (None, "init_checkpoint")
  assert "the model starts from random weights" in log.text
  flags["vocab_file"] = None
  assert begin(script=run_pretraining, **flags).tokenizer is None
  with pytest.raises(files.InputError, match=r"^--vocab_file is missing"):
    begin(**flags)


def test_pretraining_needs_no_vocabulary(begin, model, tmp_path):
  other = tmp_path / "other"
  shutil.copytree(model, other)
  assert begin(script=run_pretraining, model=other).settings.vocab_file == str(other / "vocab.txt")
  (other / "vocab.txt").unlink()
  assert begin(script=run_pretraining, model=other).settings.vocab_file is None


def test_labels_beside_weights_in_the_working_directory(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "model.ckpt-7.index").touch()
  (tmp_path / "label_list.txt").write_text("no\nyes\n")
  values = {"do_train": False, "init_checkpoint": "model.ckpt-7", "output_dir": "out"}
  nothing = dict.fromkeys(runs.Run._fields)
  run = runs.Run(**{**nothing, "settings": command_line.Settings(values)})
  assert run.known_labels() == ["no", "yes"]


def test_a_run_that_only_shows_a_result_writes_nothing(begin, model, monkeypatch):
  """So that it may be of a directory that is read-only."""
  training = begin(model=model)
  shows = training._replace(settings=training.settings.replace(do_train=False))
  runs.make_directory(shows)  # it logs to the directory, which then is there

  def refuse(path, flag):
    raise files.InputError(f"--{flag}: cannot write in {path}")

  monkeypatch.setattr(files, "make_directory", refuse)
  runs.make_directory(shows)
  for run in (training, shows._replace(settings=shows.settings.replace(do_predict=True))):
    with pytest.raises(files.InputError, match="--output_dir: cannot write"):
      runs.make_directory(run)


@pytest.mark.parametrize("name", ["output_dir", "model", "init_checkpoint", "teacher_dir"])
def test_a_name_that_is_not_utf8(begin, model, tmp_path, name):
  """Such a byte of the command line is half a character in Python, which TensorFlow refuses."""
  flags = {"model": model, name: f"{tmp_path}/\udce9"}
  with pytest.raises(files.InputError, match=rf"--{name}: .*\\udce9' is not UTF-8") as caught:
    begin(**flags)
  assert str(caught.value).isascii() and not os.path.exists(tmp_path / "out")
