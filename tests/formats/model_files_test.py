"""The files in a pre-trained model's directory, and what is missing there."""

import pathlib
import subprocess
import sys

import pytest

from toolkit.formats import model_files
from toolkit.support import command_line, files


def test_the_files_of_a_directory(tmp_path):
  for name in ("bert_config.json", "vocab.txt"):
    (tmp_path / name).write_text("x")
  config = model_files.path(str(tmp_path), "bert_config_file")
  assert config == str(tmp_path / "bert_config.json")
  assert model_files.path(str(tmp_path), "vocab_file") == str(tmp_path / "vocab.txt")


def refused(match, directory, name="vocab_file", flag="model"):
  with pytest.raises(files.InputError, match=match) as caught:
    model_files.path(str(directory), name, flag)
  assert "\n" not in str(caught.value)


def test_a_file_that_is_missing(tmp_path):
  message = (
    "--model: the directory .* has no vocab.txt; give --vocab_file too, or another directory"
  )
  refused(message, tmp_path)
  refused("--input: .* has no bert_config.json; give", tmp_path, "bert_config_file", "input")


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_directory_that_is_not_converted(tmp_path, weights):
  for name in ("config.json", weights, "vocab.txt"):
    (tmp_path / name).write_text("x")
  message = r"has no bert_config.json; it is a HuggingFace directory: convert it by convert_checkp"
  refused(message, tmp_path, "bert_config_file")


def test_no_directory(tmp_path):
  refused(r"--model: there is no .*/none; give a directory with bert_config\.json, vocab\.txt, "
          r"bert_model\.ckpt$", tmp_path / "none")  # fmt: skip
  (tmp_path / "bert_model.ckpt").write_text("x")
  refused("--model: .*/bert_model.ckpt is a file; give a directory", tmp_path / "bert_model.ckpt")


def test_no_model_at_all():
  flags = {"bert_config_file": None, "vocab_file": "", "init_checkpoint": None}
  message = (
    "give a pre-trained model: --bert_config_file, --vocab_file, --init_checkpoint, or --model=DIR"
  )
  with pytest.raises(files.InputError) as caught:
    model_files.check_given(command_line.Settings(flags))
  assert str(caught.value) == message
  for name in flags:
    model_files.check_given(command_line.Settings({**flags, name: "x"}))


def test_needs_no_tensorflow():
  code = "import sys; sys.modules['tensorflow'] = None; import toolkit.formats.model_files"
  root = pathlib.Path(model_files.__file__).parents[2]
  subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
