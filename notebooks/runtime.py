"""Shared functions of the notebooks: missing packages, the device, commands of the shell."""

import glob
import importlib
import importlib.metadata
import logging
import os
import re
import signal
import subprocess
import sys

from packaging.requirements import Requirement

# Names of the package tensorflow in its builds for different devices.
_TENSORFLOWS = ("tensorflow", "tensorflow-tpu", "tensorflow-cpu")

# Run in a process of its own, so that the notebook holds no device. Prints, for example, "TPU 8".
_PROBE = """
import sys
import tensorflow as tf
if len(sys.argv) > 1:
  tf.distribute.cluster_resolver.TPUClusterResolver.connect(sys.argv[1])
for kind in ("TPU", "GPU", "CPU"):
  devices = tf.config.list_logical_devices(kind)
  if devices:
    print(kind, len(devices))
    break
"""


def prepare(shell, tpu=None):
  """Installs missing packages, finds the device, and adds the cell magic %%command.

  `%%command` runs its cell in bash with the values of Python's variables in place of $NAME (see
  fill_in), shows its output, and stops the notebook when a command fails.

  Args:
    shell: IPython's InteractiveShell, from get_ipython().
    tpu: str or None, name or grpc:// address of a TPU in another machine.

  Returns:
    str, the flags of the scripts for the device that was found; "" for a GPU or CPU.

  Raises:
    RuntimeError: packages cannot be installed, or the TPU that was named cannot be reached.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  # A filter, as TensorFlow sets the level of its logger anew when it is imported.
  logging.getLogger("tensorflow").addFilter(lambda record: record.levelno >= logging.ERROR)
  os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # notebook and scripts share a GPU
  os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]
  shell.register_magic_function(
    lambda _, cell: run(fill_in(cell, shell.user_ns)), magic_kind="cell", magic_name="command"
  )
  has_tpu = bool(tpu or glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"))
  install("requirements.txt", has_tpu)
  flags, description = find_device(tpu or ("local" if has_tpu else None), is_needed=bool(tpu))
  print(f"Runs on {description}.")
  return flags


def install(requirements_file, for_tpu=False):
  """Installs missing packages of a requirements file, and matplotlib, for the curves.

  Installed packages stay, in any version: a notebook's own kernel depends on it.

  Args:
    requirements_file: str.
    for_tpu: bool, whether TensorFlow must be the build for TPUs.
  """
  with open(requirements_file, encoding="utf-8") as f:
    wanted = missing([*f, "matplotlib"])
  if for_tpu and _version("tensorflow-tpu") is None:
    # The two builds have the same files, so one must go; the version stays if it is known.
    version = _version("tensorflow")
    wanted = [line for line in wanted if Requirement(line).name != "tensorflow"]
    wanted.append(f"tensorflow-tpu=={version}" if version else "tensorflow-tpu")
    run("python -m pip uninstall --quiet --quiet --yes tensorflow")
  if wanted:
    quoted = " ".join(f"'{line}'" for line in wanted)
    run(f"python -m pip install --quiet --quiet --disable-pip-version-check {quoted}")
    importlib.invalidate_caches()


def missing(lines):
  """The lines of a requirements file that are for this Python and not installed in any version.

  Args:
    lines: iterable of str. Comments, blank lines and pip's options are left out.

  Returns:
    List of str.
  """
  found = []
  for line in lines:
    line = line.partition("#")[0].strip()
    if not line or line.startswith("-"):
      continue
    requirement = Requirement(line)
    names = _TENSORFLOWS if requirement.name in _TENSORFLOWS else (requirement.name,)
    is_for_this = requirement.marker is None or requirement.marker.evaluate()
    if is_for_this and not any(map(_version, names)):
      found.append(line)
  return found


def _version(package):
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None


def find_device(tpu, is_needed):
  """Finds the device that TensorFlow can use.

  Args:
    tpu: str or None, a TPU to try first, as --tpu_name takes it.
    is_needed: bool, whether to fail, and not to go on without it, when it cannot be reached.

  Returns:
    A pair of str: flags of the scripts, and a description such as "8 x TPU" or "CPU".

  Raises:
    RuntimeError: TensorFlow does not start, or the TPU that is needed cannot be reached.
  """
  probe = subprocess.run(
    [sys.executable, "-c", _PROBE, *([tpu] if tpu else [])], capture_output=True, text=True
  )
  if probe.returncode:
    reason = probe.stderr.strip().rpartition("\n")[2]
    if tpu and not is_needed:
      print(f"The TPU cannot be used: {reason}")
      return find_device(None, is_needed)
    raise RuntimeError(f"TPU {tpu!r}: {reason}" if tpu else f"TensorFlow does not start: {reason}")
  kind, number = probe.stdout.split()[-2:]
  if kind == "TPU":
    return f"--use_tpu --tpu_name={tpu} --num_tpu_cores={number}", f"{number} x TPU"
  return "", "GPU" if kind == "GPU" else f"CPU ({os.cpu_count()} cores)"


def fill_in(command, values):
  """Puts values in place of names: "ls $WORK/$x" and {"WORK": "w", "x": 1} -> "ls w/$x".

  Args:
    command: str.
    values: dict of name -> value. Names that it lacks, or that begin in lower case, are bash's.

  Returns:
    str.
  """
  return re.sub(r"\$([A-Z]\w*)", lambda match: str(values.get(match[1], match[0])), command)


def run(command):
  """Runs commands in bash, as %%command does; see prepare.

  Args:
    command: str, a line or more.

  Raises:
    RuntimeError: a command failed.
  """
  process = subprocess.Popen(
    ["bash", "-eu", "-o", "pipefail", "-c", command],
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    errors="replace",
    start_new_session=True,  # a group of its own, to be stopped as a whole
  )
  try:
    with process:
      for line in process.stdout:
        print(line, end="", flush=True)
  except KeyboardInterrupt:
    os.killpg(process.pid, signal.SIGINT)  # the scripts then save a checkpoint
    process.wait()
    raise
  if process.returncode:
    raise RuntimeError("The command has failed; its last lines tell why.")
