"""The start of a script as the program: its Python, its packages, and TensorFlow's lines.

A script imports this before all else. Nothing happens for a notebook or another program that
imports the scripts. Where a script is the program,

- a Python that is too old or too new ends it, with one line;
- a closed standard stream (`2>&-`) becomes one to or from /dev/null, for all that writes to it;
- a package that is not installed ends it with one line that tells how to install it, in place of a
  stack trace;
- TensorFlow's C++ start-up lines are hidden, unless TF_CPP_MIN_LOG_LEVEL is set, which TensorFlow
  reads as it loads. With 0 they are shown, and give the reason why a GPU is not used.

Only the standard library is imported here, in a syntax that older Pythons know.
"""

import errno
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Optional

OLDEST = (3, 9)
NEWEST = (3, 13)

_TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
_REQUIREMENTS = "requirements.txt"
_ACTIVATE = os.path.join(".venv", "bin", "activate")
# Packages whose names differ from those of their modules.
_PACKAGES = {
  "absl": "absl-py",
  "google": "protobuf",
  "google_crc32c": "google-crc32c",
  "sklearn": "scikit-learn",
  "tensorflow_estimator": "tensorflow-estimator",
}


# ---- The program's name -------------------------------------------------------------------------


def program_name() -> str:
  """Returns the program's name in error lines: "run_squad.py", "python -m bert.run_squad"."""
  name = sys.argv[0]
  if _module() or name in ("", "-c"):
    return command()
  return os.path.basename(name)


def command() -> str:
  """Returns the words that start the program: "python path/run_squad.py", for example."""
  name = sys.argv[0]
  if _module():
    return "python -m " + _module()
  if name.endswith(".py") or name == "-c":
    return "python " + shlex.quote(name)
  return shlex.quote(os.path.basename(name)) if name else "python"


def as_called(text: str, script: str) -> str:
  """Replaces "python SCRIPT.py" in a text by the words that start the program.

  Args:
    text: any text.
    script: the script's name with or without .py, or its path.
  """
  name = os.path.splitext(os.path.basename(script))[0]
  return re.sub(r"\bpython %s\.py\b" % re.escape(name), lambda _: command(), text)


def _module():
  """Returns the name in `python -m NAME`; None for a program that was not started so."""
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  origin = getattr(spec, "origin", None)
  if spec is None or not origin or os.path.realpath(origin) != os.path.realpath(sys.argv[0]):
    return None
  return spec.name


# ---- Python and packages ------------------------------------------------------------------------


def version_problem(version: Sequence) -> Optional[str]:
  """Returns a message about a version of Python, a tuple, that cannot be used; None if it can."""
  if OLDEST <= tuple(version[:2]) <= NEWEST:
    return None
  remedy = ", or activate the environment: . " + _in_checkout(_ACTIVATE)
  return "Python %d.%d cannot be used; use one from %d.%d to %d.%d%s" % (
    *version[:2],
    *OLDEST,
    *NEWEST,
    remedy if _exists(_ACTIVATE) else "",
  )


def package_problem(error: BaseException) -> Optional[str]:
  """Returns a message about an import that failed because a package is not installed.

  Args:
    error: the exception.

  Returns:
    The message; None for all other exceptions, and for modules of the project and of Python itself.
  """
  module = (getattr(error, "name", None) or "").partition(".")[0]
  if not isinstance(error, ModuleNotFoundError) or not module or module.startswith("_"):
    return None
  if module == os.path.basename(_TOP) or _exists(module) or _exists(module + ".py"):
    return None
  package = _PACKAGES.get(module, module)
  install = "pip install " + package
  if _is_required(package):
    install = "pip install -r " + _in_checkout(_REQUIREMENTS)
  environment = " (. %s)" % _in_checkout(_ACTIVATE) if _exists(_ACTIVATE) else ""
  return (
    "the package %s is not installed: %s, or activate the environment in which it is installed%s"
  ) % (package, install, environment)


def _exists(name):
  return os.path.exists(os.path.join(_TOP, name))


def _in_checkout(name):
  """Returns a path that the user's shell understands."""
  is_here = os.path.realpath(os.getcwd()) == _TOP
  return name if is_here else shlex.quote(os.path.join(_TOP, name))


def _is_required(package):
  """Returns whether requirements.txt has a package; the installed package has no such file."""
  if not _exists(_REQUIREMENTS):
    return False
  with open(os.path.join(_TOP, _REQUIREMENTS), encoding="utf-8") as f:
    return re.search(r"^%s\b" % re.escape(package), f.read(), re.M) is not None


def open_standard_streams() -> None:
  """Opens the null device in place of each standard stream that is closed.

  Python has None for such a stream, and the next file that is opened would get its descriptor.
  """
  for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
    if getattr(sys, name) is None:
      mode = "w" if descriptor else "r"
      null = os.open(os.devnull, os.O_RDWR)
      if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
      stream = open(descriptor, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
      setattr(sys, name, stream)


def end_without_reader() -> None:
  """Ends the process, when the reader of standard output has ended, such as `head`.

  The status is that of a program which such a write ends by SIGPIPE, 141.
  """
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is not yet written
  sys.exit(141)


def flush_output() -> None:
  """Writes what standard output holds back; see end_without_reader."""
  try:
    sys.stdout.flush()
  except OSError as error:  # others than this one are shown by Python, as it ends
    if error.errno == errno.EPIPE:
      end_without_reader()


def _report_missing_packages():
  """Replaces the stack trace of a missing package by one line, also while the program runs."""
  usual = sys.excepthook

  def report(kind, error, trace):
    problem = package_problem(error)
    if problem is None:
      usual(kind, error, trace)
    else:
      sys.stderr.write("%s: error: %s\n" % (program_name(), problem))

  sys.excepthook = report


def _is_program():
  path = getattr(sys.modules["__main__"], "__file__", None)
  return path is not None and os.path.dirname(os.path.realpath(path)) == _TOP


if _is_program():
  open_standard_streams()
  _problem = version_problem(sys.version_info)
  if _problem:
    sys.exit("%s: error: %s" % (program_name(), _problem))
  _report_missing_packages()
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
