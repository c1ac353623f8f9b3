"""Directories of results: complete, or not there."""

import os
import signal
import subprocess
import sys

import pytest
from tiny_runs import snapshot

from toolkit.support import directories, files


def write(path, *names):
  """Writes files of these names into a new directory."""
  with directories.new_directory(str(path), "export_dir") as made:
    for name in names:
      inner = os.path.join(made, name)
      os.makedirs(os.path.dirname(inner), exist_ok=True)
      files.write_text(inner, name)


def test_a_directory_appears_at_the_end(tmp_path):
  path = tmp_path / "a" / "b"
  with directories.new_directory(str(path), "export_dir") as made:
    files.write_text(os.path.join(made, "x"), "x")
    assert not path.exists()
  assert {p.name for p in path.iterdir()} == {"x"} and list(path.parent.iterdir()) == [path]


def test_an_earlier_one_is_replaced(tmp_path):
  write(tmp_path / "a", "x", "y/z")
  write(tmp_path / "a", "w")
  assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "w"]


def test_an_earlier_one_survives_an_error(tmp_path):
  write(tmp_path / "a", "x")
  before = snapshot(tmp_path)
  with (
    pytest.raises(RuntimeError),
    directories.new_directory(str(tmp_path / "a"), "export_dir") as made,
  ):
    files.write_text(os.path.join(made, "y"), "y")
    raise RuntimeError
  assert snapshot(tmp_path) == before and list(tmp_path.iterdir()) == [tmp_path / "a"]


KILLED = """
import os, sys, time
from toolkit.support import directories
with directories.new_directory(sys.argv[1], "export_dir") as made:
  open(os.path.join(made, "half"), "w").close()
  print("ready", flush=True)
  time.sleep(600)
"""


def test_a_process_that_is_killed(tmp_path):
  write(tmp_path / "a", "x")
  before = snapshot(tmp_path / "a")
  command = [sys.executable, "-c", KILLED, str(tmp_path / "a")]
  root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
  assert snapshot(tmp_path / "a") == before


def test_the_name_of_a_link(tmp_path):
  write(tmp_path / "a", "x")
  (tmp_path / "link").symlink_to(tmp_path / "a")
  write(tmp_path / "link", "y")
  assert [p.name for p in (tmp_path / "a").iterdir()] == ["y"]
  assert (tmp_path / "link").is_symlink()


def test_a_directory_that_cannot_be_written(tmp_path):
  (tmp_path / "file").write_text("")
  path = str(tmp_path / "file" / "a")
  with pytest.raises(files.InputError, match=r"--export_dir: .*/file/a: cannot be written"):
    write(path, "x")


def test_a_remote_directory():
  path = "ram://bucket/exports/model"
  write(path, "old", "inner/x")
  write(path, "top", "inner/deep/y")
  assert files.read_text(f"{path}/top") == "top"
  assert files.read_text(f"{path}/inner/deep/y") == "inner/deep/y"
  assert not files.exists(f"{path}/old") and not files.exists(f"{path}/inner/x")


def check(path, overwrite=False, replaced=("x", "y")):
  directories.check_new(str(path), "export_dir", overwrite, replaced)


def test_what_may_be_replaced(tmp_path):
  check(tmp_path / "new")
  check(tmp_path)
  (tmp_path / "file").write_text("")
  with pytest.raises(files.InputError, match=r"--export_dir: .*/file is a file"):
    check(tmp_path / "file", overwrite=True)
  (tmp_path / "a").mkdir()
  (tmp_path / "a" / "x").write_text("")
  with pytest.raises(files.InputError, match=r"is not empty; give .* or --overwrite"):
    check(tmp_path / "a")
  check(tmp_path / "a", overwrite=True)
  (tmp_path / "a" / "mine").write_text("")
  with pytest.raises(files.InputError, match="has mine, which --overwrite does not replace"):
    check(tmp_path / "a", overwrite=True)
