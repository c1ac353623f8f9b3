"""The start of a script as the program: its name, wrong Pythons, missing packages."""

import ast
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from toolkit.support import quiet_start

ROOT = pathlib.Path(quiet_start.__file__).parents[2]
NOT_SCRIPTS = ("setup", "modeling", "optimization", "tokenization")
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py") if path.stem not in NOT_SCRIPTS)


def python(*arguments, cwd=ROOT, **environment):
  """Runs Python; returns status, stdout and stderr."""
  done = subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=cwd,
    env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  return done.returncode, done.stdout, done.stderr


# ---- Closed streams -----------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["2>&-", "1>&-", "0<&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_become_the_null_device(tmp_path, closed):
  program = tmp_path / "program.py"
  program.write_text(
    "import sys\n"
    "from toolkit.support import quiet_start\n"
    "quiet_start.open_standard_streams()\n"
    "with open(sys.argv[1], 'w') as f:\n"
    "  streams = (sys.stdin, sys.stdout, sys.stderr)\n"
    "  print(f.fileno() > 2, *(stream.fileno() for stream in streams), file=f)\n"
    "for stream in (sys.stdout, sys.stderr):\n"
    "  print('\u00e4', stream.isatty(), file=stream, flush=True)\n"
  )
  command = f'"$0" "$1" "$2" {closed}'
  arguments = [sys.executable, program, tmp_path / "found"]
  done = subprocess.run(
    ["sh", "-c", command, *map(str, arguments)],
    env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
    check=False,
  )
  assert done.returncode == 0
  assert (tmp_path / "found").read_text() == "True 0 1 2\n"


@pytest.mark.parametrize(("closed", "status"), [("1>&-", 0), ("2>&-", 1)])
def test_a_script_with_a_closed_stream(closed, status):
  flag = "--nothing" if status else "--help"
  command = f'"$0" learn_vocab.py {flag} {closed}'
  done = subprocess.run(
    ["sh", "-c", command, sys.executable], cwd=ROOT, capture_output=True, text=True, check=False
  )
  assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


# ---- Missing packages ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_names_a_missing_package_in_one_line(name):
  """-S leaves out all installed packages."""
  status, stdout, stderr = python("-S", f"{name}.py", "--help")
  assert (status, stdout) == (1, "")
  (line,) = stderr.splitlines()
  assert re.fullmatch(
    rf"{name}\.py: error: the package [\w-]+ is not installed: pip install -r requirements\.txt, "
    r"or activate the environment in which it is installed( \(\. \.venv/bin/activate\))?",
    line,
  )


# Runs a script without some modules, as if these were not installed.
WITHOUT = """
import runpy, sys
name, script, *modules = sys.argv[1:]
sys.modules.update(dict.fromkeys(modules))
sys.argv = [script, "--help"]
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize(
  ("module", "package"),
  [
    ("absl", "absl-py"),
    ("tensorflow", "tensorflow"),
    ("tensorflow.compat", "tensorflow"),
    ("google_crc32c", "google-crc32c"),
    ("tqdm", "tqdm"),
  ],
)
def test_packages_by_the_names_that_pip_knows(tmp_path, module, package):
  (tmp_path / "without.py").write_text(WITHOUT)
  path = tmp_path / "without.py"
  status, stdout, stderr = python(path, "x", "run_ner.py", module, PYTHONPATH=str(ROOT))
  assert (status, stdout) == (1, "")
  assert f"run_ner.py: error: the package {package} is not installed: " in stderr
  assert len(stderr.splitlines()) == 1, stderr


def test_an_import_by_another_program_keeps_its_error(tmp_path):
  status, _, stderr = python("-S", "-c", "import learn_vocab", PYTHONPATH=str(ROOT), cwd=tmp_path)
  assert status == 1 and "Traceback" in stderr and "ModuleNotFoundError" in stderr


def missing(name):
  return ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_the_remedy_is_that_of_the_place(tmp_path, monkeypatch):
  """A checkout has requirements.txt, and maybe an environment; an installed package has not."""
  monkeypatch.setattr(quiet_start, "_TOP", str(tmp_path))
  problem = quiet_start.package_problem(missing("absl.flags"))
  assert problem == (
    "the package absl-py is not installed: pip install absl-py, or activate the environment in "
    "which it is installed"
  )
  (tmp_path / "requirements.txt").write_text("numpy==1\nabsl-py==2\n")
  requirements = tmp_path / "requirements.txt"
  problem = quiet_start.package_problem(missing("absl"))
  assert f"not installed: pip install -r {requirements}, or" in problem
  assert "not installed: pip install wrapt, or" in quiet_start.package_problem(missing("wrapt"))
  (tmp_path / ".venv" / "bin").mkdir(parents=True)
  (tmp_path / ".venv" / "bin" / "activate").write_text("")
  monkeypatch.chdir(tmp_path)
  assert quiet_start.package_problem(missing("absl")) == (
    "the package absl-py is not installed: pip install -r requirements.txt, or activate the "
    "environment in which it is installed (. .venv/bin/activate)"
  )


@pytest.mark.parametrize(
  "error",
  [
    missing("toolkit.nothing"),
    missing("modeling"),
    missing("_bz2"),
    ModuleNotFoundError("by hand"),
    ImportError("cannot import name 'x' from 'absl'", name="absl"),
    ValueError("absl"),
  ],
)
def test_other_errors_keep_their_stack_trace(error):
  assert quiet_start.package_problem(error) is None


# ---- Wrong Pythons ------------------------------------------------------------------------------


def test_versions_are_those_of_the_package():
  (needed,) = re.findall(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text())
  oldest, newest = quiet_start.OLDEST, quiet_start.NEWEST
  assert needed == f">={oldest[0]}.{oldest[1]},<{newest[0]}.{newest[1] + 1}"
  for version in ((3, 9, 0), (3, 13, 9)):
    assert quiet_start.version_problem(version) is None
  for version in ((3, 8, 18), (3, 14, 0), (4, 0, 0), (2, 7, 18)):
    found = f"Python {version[0]}.{version[1]} cannot be used; use one from 3.9 to 3.13"
    assert quiet_start.version_problem(version).startswith(found)


VERSION = """
import runpy, sys
script, version = sys.argv[1], (3, int(sys.argv[2]), 0, "final", 0)
sys.argv = [script]
sys.version_info = version
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("minor", [8, 14])
@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_refuses_other_pythons(tmp_path, name, minor):
  (tmp_path / "version.py").write_text(VERSION)
  path = tmp_path / "version.py"
  status, stdout, stderr = python("-S", path, f"{name}.py", minor, PYTHONPATH=str(ROOT))
  assert (status, stdout) == (1, "")
  (line,) = stderr.splitlines()
  assert line.startswith(f"{name}.py: error: Python 3.{minor} cannot be used; use one from 3.9 to")


@pytest.mark.parametrize("name", [*SCRIPTS, "toolkit/__init__", "toolkit/support/__init__"])
def test_older_pythons_can_read_what_refuses_them(name):
  ast.parse((ROOT / f"{name}.py").read_text("utf-8"), feature_version=(3, 8))
  ast.parse(pathlib.Path(quiet_start.__file__).read_text("utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_imports_this_first(name):
  body = ast.parse((ROOT / f"{name}.py").read_text("utf-8")).body
  first = next(node for node in body if isinstance(node, (ast.Import, ast.ImportFrom)))
  assert ast.unparse(first) == "from toolkit.support import quiet_start"


def test_only_the_standard_library_is_imported():
  tree = ast.parse(pathlib.Path(quiet_start.__file__).read_text("utf-8"))
  imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
  modules = {getattr(node, "module", None) or node.names[0].name for node in imports}
  assert modules == {"collections.abc", "errno", "os", "re", "shlex", "sys", "typing"}


# ---- The program's name -------------------------------------------------------------------------


@pytest.fixture(name="package", scope="module")
def _package(tmp_path_factory):
  """A directory with the package bert, of the scripts that need little, as setup.py builds it."""
  top = tmp_path_factory.mktemp("site")
  source = top / "source"
  shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "tests", "docs", "notebooks"))
  setup = ["setup.py", "-q", "build", "--build-lib", top / "lib"]
  status, _, stderr = python(*setup, cwd=source)
  assert status == 0, stderr
  return top / "lib"


def test_a_script_by_its_path(tmp_path):
  status, stdout, stderr = python("learn_vocab.py", "--no_such_flag")
  assert (status, stdout) == (1, "")
  assert stderr.splitlines()[-1].startswith("learn_vocab.py: error: Unknown command line flag")
  _, stdout, _ = python(ROOT / "learn_vocab.py", "--help", cwd=tmp_path)
  assert f"\n  python {ROOT}/learn_vocab.py --input_file=" in stdout


@pytest.mark.parametrize("name", ["learn_vocab", "squad_metrics", "run_squad"])
def test_a_module_of_the_package(package, tmp_path, name):
  run = ("-m", f"bert.{name}")
  status, stdout, stderr = python(*run, "--help", cwd=tmp_path, PYTHONPATH=str(package))
  assert (status, stderr) == (0, "")
  assert f"  python -m bert.{name} " in stdout and f"python {name}.py" not in stdout
  status, stdout, stderr = python(*run, "--bogus", cwd=tmp_path, PYTHONPATH=str(package))
  assert (status, stdout) == (1, "")
  assert stderr.splitlines()[-1].startswith(f"python -m bert.{name}: error: ")


def test_a_missing_package_of_the_package(package, tmp_path):
  run = ("-S", "-m", "bert.learn_vocab")
  status, _, stderr = python(*run, cwd=tmp_path, PYTHONPATH=str(package))
  assert (status, stderr) == (
    1,
    "python -m bert.learn_vocab: error: the package absl-py is not installed: pip install absl-py, "
    "or activate the environment in which it is installed\n",
  )


@pytest.mark.parametrize(
  ("argument", "name", "command"),
  [
    ("run_ner.py", "run_ner.py", "python run_ner.py"),
    ("a b/run_ner.py", "run_ner.py", "python 'a b/run_ner.py'"),
    ("/usr/bin/bert-ner", "bert-ner", "bert-ner"),
    ("-c", "python -c", "python -c"),
    ("", "python", "python"),
  ],
)
def test_names(monkeypatch, argument, name, command):
  monkeypatch.setattr(sys, "argv", [argument])
  assert (quiet_start.program_name(), quiet_start.command()) == (name, command)
  text = "python run_ner.py --x; python my_run_ner.py; python run_ner.pyc"
  want = f"{command} --x; python my_run_ner.py; python run_ner.pyc"
  assert quiet_start.as_called(text, "/x/run_ner.py") == want


def test_other_programs_keep_tensorflows_lines(tmp_path):
  show = "import os; print(os.environ.get('TF_CPP_MIN_LOG_LEVEL'))"
  environment = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": ""}
  code = f"import os; del os.environ['TF_CPP_MIN_LOG_LEVEL']; import learn_vocab; {show}"
  assert python("-c", code, cwd=tmp_path, **environment)[1].strip() == "None"
