"""Locks of output directories: between processes, after a death, and where there are none."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from toolkit.support import files
from toolkit.training import directory_lock

ROOT = pathlib.Path(__file__).parents[2]
HOLD = """
import sys
from toolkit.training import directory_lock
directory_lock.acquire(sys.argv[1])
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.fixture(name="other")
def _other(tmp_path):
  """Another process that trains in tmp_path."""
  command = [sys.executable, "-c", HOLD, str(tmp_path)]
  pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
  process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
  assert process.stdout.readline() == "locked\n"
  yield process
  process.kill()
  process.wait()


@pytest.fixture(name="directory")
def _directory(tmp_path):
  yield str(tmp_path)
  directory_lock.release(str(tmp_path))


def test_the_second_is_refused_and_the_first_is_named(other, directory):
  match = (
    rf"--output_dir: process {other.pid} on \S+ trains in .* since \d{{4}}-\d\d-\d\d \d\d:\d\d"
  )
  with pytest.raises(files.InputError, match=match):
    directory_lock.acquire(directory)
  link = f"{directory}-link"
  os.symlink(directory, link)
  with pytest.raises(files.InputError, match=match):
    directory_lock.acquire(link)


def test_a_dead_process_is_not_in_the_way(other, directory, log):
  other.kill()
  other.wait()
  directory_lock.acquire(directory)
  assert not log.messages
  assert (
    json.loads((pathlib.Path(directory) / "training.lock").read_text())["process"] == os.getpid()
  )


def test_one_process_may_take_it_again_and_gives_it_back(directory):
  directory_lock.acquire(directory)
  directory_lock.acquire(directory)
  directory_lock.release(directory)
  assert not os.listdir(directory)
  done = subprocess.run([sys.executable, "-c", HOLD, directory], cwd=ROOT, input=b"", check=True)
  assert done.returncode == 0


def test_a_file_of_another_host_is_a_warning(directory, log):
  content = {"host": "elsewhere", "process": 7, "since": "2020-02-02 02:02:02"}
  (pathlib.Path(directory) / "training.lock").write_text(json.dumps(content))
  directory_lock.acquire(directory)
  (message,) = log.messages
  assert message.startswith(f"process 7 on elsewhere trains in {directory} since 2020-02-02 02:02")


@pytest.mark.parametrize("content", ["", "junk", "[1]", "\x00"])
def test_a_file_that_says_nothing(directory, content, log):
  (pathlib.Path(directory) / "training.lock").write_text(content)
  directory_lock.acquire(directory)
  assert not log.messages


def test_a_file_system_without_locks(directory, monkeypatch, log):
  def refuse(*_):
    raise OSError(95, "Operation not supported")

  monkeypatch.setattr(directory_lock.fcntl, "flock", refuse)
  directory_lock.acquire(directory)
  content = json.loads((pathlib.Path(directory) / "training.lock").read_text())
  assert content["process"] == os.getpid()
  directory_lock.release(directory)
  assert not os.listdir(directory)
