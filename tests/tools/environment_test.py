"""Environments that `make` makes, with a pip that only tells how it is called."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

from tools import environment

ROOT = pathlib.Path(environment.__file__).parents[1]
FILES = sorted(path for path, *_ in environment.STEPS.values())


@pytest.fixture(name="pip")
def _pip(monkeypatch):
  """Records pip's calls in a list; `fails` holds the requirements files that it cannot install."""
  calls = []
  calls_of = subprocess.call

  def call(command, **kwargs):
    if "install" not in command:
      return calls_of(command, **kwargs)
    calls.append(command)
    return int(os.path.basename(command[-1]) in pip_fails)

  pip_fails = set()
  monkeypatch.setattr(environment.subprocess, "call", call)
  calls_and_fails = type("Pip", (), {"calls": calls, "fails": pip_fails})
  return calls_and_fails


@pytest.fixture(name="works")
def _works(monkeypatch):
  """An environment counts as working when it has a bin/python; making one makes that."""

  def make(venv, python):
    os.makedirs(os.path.dirname(python), exist_ok=True)
    pathlib.Path(python).touch()

  monkeypatch.setattr(environment, "_make", make)


def installed(pip):
  return [os.path.basename(command[-1]) for command in pip.calls]


def test_steps_are_installed_in_order_and_once(tmp_path, pip, works, capsys):
  venv = str(tmp_path / "some where" / "it's (here)")
  environment.main(venv, ["quickstart"])
  names = ["requirements.txt", "requirements-plots.txt", "requirements-quickstart.txt"]
  assert installed(pip) == names
  assert {"--no-deps", "--require-hashes"} < set(pip.calls[-1])
  assert capsys.readouterr().out.count("Installing ") == 3  # a line for each
  environment.main(venv, ["quickstart"])
  assert installed(pip) == names and not capsys.readouterr().out
  environment.main(venv, ["test", "quickstart"])
  assert installed(pip)[3:] == ["requirements-vocab.txt", "requirements-test.txt"]


def test_a_stopped_installation_goes_on(tmp_path, pip, works):
  pip.fails.add("requirements-plots.txt")
  with pytest.raises(SystemExit, match=r"requirements-plots\.txt: not installed; the same command"):
    environment.main(str(tmp_path), ["quickstart"])
  pip.fails.clear()
  environment.main(str(tmp_path), ["quickstart"])
  assert installed(pip)[1:] == ["requirements-plots.txt"] * 2 + ["requirements-quickstart.txt"]


@pytest.mark.parametrize("damage", ["", "{", "[1]"])
def test_unreadable_notes_mean_a_new_installation(tmp_path, pip, works, damage):
  environment.main(str(tmp_path), ["run"])
  (tmp_path / environment.STAMPS).write_text(damage)
  environment.main(str(tmp_path), ["run"])
  assert len(pip.calls) == 2


def test_changed_requirements_are_installed_anew(tmp_path, pip, works, monkeypatch):
  root = tmp_path / "checkout"
  (root / "benchmarks").mkdir(parents=True)
  for path in FILES:
    (root / path).write_text("six==1.0\n")
  (root / "requirements-test.txt").write_text("-r requirements.txt\n")
  monkeypatch.setattr(environment, "ROOT", str(root))
  environment.main(str(tmp_path), ["test"])
  (root / "requirements.txt").write_text("six==1.0  # a comment, which changes nothing\n\n")
  environment.main(str(tmp_path), ["test"])
  assert len(pip.calls) == 4
  (root / "requirements.txt").write_text("six==2.0\n")
  environment.main(str(tmp_path), ["test"])
  assert installed(pip)[4:] == ["requirements.txt", "requirements-test.txt"]


def test_each_requirements_file_is_a_step():
  there = {str(path.relative_to(ROOT)) for path in ROOT.glob("**/requirements*.txt")}
  assert there == set(FILES)
  steps = {name for step in environment.STEPS.values() for name in step[2]}
  assert steps <= set(environment.STEPS)


# ---- Making an environment ----------------------------------------------------------------------


def test_an_environment_in_a_path_with_spaces_is_made_and_made_again(tmp_path, pip, capsys):
  venv = tmp_path / "some where"
  environment.main(str(venv), ["vocab"])
  python = venv / "bin" / "python"
  prefix = subprocess.check_output([python, "-c", "import sys; print(sys.prefix)"], text=True)
  assert pathlib.Path(prefix.strip()) == venv
  first = "Making an environment for Python {}.{} in ".format(*sys.version_info[:2])
  assert capsys.readouterr().out.startswith(first)
  assert json.loads((venv / environment.STAMPS).read_text())
  python.unlink()  # its Python is gone
  python.symlink_to(tmp_path / "gone")
  environment.main(str(venv), ["vocab"])
  assert subprocess.call([python, "-c", ""]) == 0
  assert installed(pip) == ["requirements.txt", "requirements-vocab.txt"] * 2


def refusal(venv, capsys):
  with pytest.raises(SystemExit) as error:
    environment.main(str(venv), ["run"])
  assert "\n" not in str(error.value)
  return str(error.value)


def test_a_directory_of_other_files_is_left_alone(tmp_path, pip, capsys):
  (tmp_path / "letters.txt").touch()
  assert "has files, and is no virtual environment" in refusal(tmp_path, capsys)
  assert os.listdir(tmp_path) == ["letters.txt"] and not pip.calls


def test_a_python_without_venv(tmp_path, pip, monkeypatch, capsys):
  runs = environment._runs
  monkeypatch.setattr(environment, "_runs", lambda c: "import venv" not in c[-1] and runs(c))
  assert "apt install python3-venv" in refusal(tmp_path / "venv", capsys)


def test_a_path_in_which_no_environment_can_be(tmp_path, pip, capsys):
  message = refusal(tmp_path / "a:b", capsys)
  assert message.startswith(f"{tmp_path}/a:b: the environment cannot be made: ")


@pytest.mark.parametrize("version", ["2 7", "3 8", "3 14"])
def test_a_python_without_a_tested_tensorflow(tmp_path, pip, monkeypatch, capsys, version):
  monkeypatch.setattr(environment.subprocess, "check_output", lambda command: version)
  message = refusal(tmp_path / "venv", capsys)
  assert f"this is {version.replace(' ', '.')}; try: make PYTHON=python3.11" in message
