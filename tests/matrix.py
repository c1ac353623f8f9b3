"""Runs the tests on each supported Python that is installed.

  python tests/matrix.py          # all of them
  python tests/matrix.py 3.9 3.13 # these

Each Python gets an environment of its own, .venv-3.9 for example (--venv=DIR: DIR-3.9), which is
used again the next time. Ends with a table, and with exit status 1 unless all tests passed on each.
"""

import argparse
import glob
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
TITLES = ("Python", "TensorFlow", "passed", "failed", "skipped", "minutes")
NOT_FOUND = "not found"


def main(versions, venv=".venv"):
  """Runs the tests on the given versions of Python; returns the exit status."""
  unknown = sorted(set(versions) - set(VERSIONS))
  if unknown:
    return f"no such Python here: {' '.join(unknown)}; known are {' '.join(VERSIONS)}"
  rows = [_row(version, f"{venv}-{version}") for version in versions or VERSIONS]
  print()
  for row in (TITLES, *rows):
    print("  ".join(f"{value:>10}" for value in row))
  tested = [row for row in rows if row[1] != NOT_FOUND]
  return 0 if tested and all(row[3] == 0 for row in tested) else 1


def _row(version, venv):
  """Cells below TITLES for one Python."""
  python = find(version)
  if python is None:
    return version, NOT_FOUND, "", "", "", ""
  results = os.path.join(venv, "tests.xml")
  if os.path.exists(results):
    os.remove(results)
  make = ["make", "--no-print-directory", f"VENV={venv}", f"PYTHON={python}"]
  subprocess.run([*make, "pytest"], check=False)
  if not os.path.exists(results):
    return version, "no result", "", "all", "", ""
  name = "import importlib.metadata as m; print(m.version('tensorflow'))"
  return (version, _output([f"{venv}/bin/python", "-c", name]), *counts(results))


def find(version):
  """Path of a Python of a version such as "3.9", from PATH or of pyenv; None if there is none."""
  home = os.path.expanduser("~/.pyenv/versions")
  for python in (f"python{version}", *sorted(glob.glob(f"{home}/{version}.*/bin/python"))):
    # A pyenv shim is on PATH for each version, and works for some.
    found = _output([python, "-c", "import sys; print(*sys.version_info[:2], sys.executable)"])
    if found and found.split(maxsplit=2)[:2] == version.split("."):
      return found.split(maxsplit=2)[2]
  return None


def _output(command):
  """Output of a command, or None if it fails."""
  try:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
  except (OSError, subprocess.CalledProcessError):
    return None


def counts(results):
  """Numbers in a JUnit file: passed, failed, skipped, and minutes as a str."""
  suite = ElementTree.parse(results).getroot().find("testsuite")
  tests, failures, errors, skipped = (
    int(suite.get(name)) for name in ("tests", "failures", "errors", "skipped")
  )
  failed = failures + errors
  return tests - failed - skipped, failed, skipped, f"{float(suite.get('time')) / 60:.1f}"


if __name__ == "__main__":
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("versions", nargs="*", help="such as 3.9; all of them without any")
  parser.add_argument("--venv", default=".venv", help="path of the environments before -3.9")
  args = parser.parse_args()
  sys.exit(main(args.versions, args.venv))
