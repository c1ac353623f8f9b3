"""Pythons and counts of `make test-matrix`."""

import os
import sys

import matrix
import pytest

THIS = "{}.{}".format(*sys.version_info[:2])


def _write_results(directory, attributes):
  os.makedirs(directory, exist_ok=True)
  path = os.path.join(directory, "tests.xml")
  with open(path, "w") as writer:
    writer.write(f"<testsuites><testsuite {attributes}></testsuite></testsuites>")
  return path


def test_counts(tmp_path):
  """Ten tests, of which one fails, one breaks and three are skipped, in 90 s."""
  attributes = 'tests="10" failures="1" errors="1" skipped="3" time="90.04"'
  assert matrix.counts(_write_results(tmp_path, attributes)) == (5, 2, 3, "1.5")


@pytest.mark.parametrize("works", [True, False])
def test_find_takes_pythons_that_work(tmp_path, monkeypatch, works):
  """On PATH only a shim that ends with an error; the Python itself is pyenv's, if there is one."""
  shim = tmp_path / "bin" / "python3.9"
  shim.parent.mkdir()
  shim.write_text("#!/bin/sh\nexit 127\n")
  real = tmp_path / ".pyenv" / "versions" / "3.9.18" / "bin" / "python"
  real.parent.mkdir(parents=True)
  real.write_text(f"#!/bin/sh\necho 3 {9 if works else 8} {real}\n")
  for path in (shim, real):
    path.chmod(0o755)
  monkeypatch.setenv("PATH", str(shim.parent))
  monkeypatch.setenv("HOME", str(tmp_path))
  assert matrix.find("3.9") == (str(real) if works else None)


@pytest.mark.parametrize("failures, status", [(0, 0), (1, 1), (None, 1)])
def test_table_and_status(tmp_path, monkeypatch, capsys, failures, status):
  """One Python with results, or none as its installation failed; the others are not there."""
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(matrix, "find", lambda version: sys.executable if version == THIS else None)
  monkeypatch.setattr(matrix, "_output", lambda command: "2.15.1")
  venv = tmp_path / "some where" / f"venv-{THIS}"
  _write_results(venv, "of a run before")

  def run(command, check):
    assert command[2:] == [f"VENV={venv}", f"PYTHON={sys.executable}", "pytest"]
    if failures is not None:
      attributes = f'tests="4" failures="{failures}" errors="0" skipped="0" time="60"'
      _write_results(venv, attributes)

  monkeypatch.setattr(matrix.subprocess, "run", run)
  assert matrix.main([], str(tmp_path / "some where" / "venv")) == status
  rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
  row = next(row for row in rows if row[0] == THIS)
  if failures is None:
    assert row[1:] == ["no", "result", "all"]
  else:
    assert row[1:] == ["2.15.1", str(4 - failures), str(failures), "0", "1.0"]
  assert sum(row[1:] == ["not", "found"] for row in rows) == 4


def test_nothing_to_test(monkeypatch, capsys):
  monkeypatch.setattr(matrix, "find", lambda version: None)
  assert matrix.main(["3.9"]) == 1
  assert "not found" in capsys.readouterr().out
  assert "no such Python here: 3.7" in matrix.main(["3.7"])
