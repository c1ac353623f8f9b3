"""Settings and errors of a script's process: TensorFlow's mode, threads, memory."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

import tensorflow.compat.v1 as tf

from toolkit.support import files, log_output, tensorflow_versions

# Read once by TensorFlow. Each session then has threads of its own, as many as its configuration
# sets, in place of those of the first session of the process.
OWN_THREADS = "TF_OVERRIDE_GLOBAL_THREADPOOL"

# Numbers of malloc.h: M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_THRESHOLD (32 MiB is its maximum).
_MALLOC_OPTIONS = {-1: 2**31 - 1, -2: 2**26, -3: 2**25}


def prepare_process() -> None:
  """Sets up the process of a script: graph mode, TensorFlow's log, reuse of memory.

  Raises:
    files.InputError: see tensorflow_versions.check.
  """
  tensorflow_versions.check()
  os.environ.setdefault(OWN_THREADS, "1")
  tf.disable_eager_execution()
  if not log_output.is_started():
    tf.logging.set_verbosity(tf.logging.ERROR)
  _keep_freed_memory()


def _keep_freed_memory():
  """Configures the C library to reuse the memory that a step frees in the next step.

  By default each step returns some gigabytes to the system and requests them again, zeroed page by
  page: 15 % of a training step. Does nothing without glibc, or where the user tuned malloc.
  """
  if any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ:
    return
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # not Linux, or another C library
    return
  for option, value in _MALLOC_OPTIONS.items():
    mallopt(option, value)


@contextlib.contextmanager
def converted_memory_errors(remedy: str) -> Iterator[None]:
  """Converts an out-of-memory error to a files.InputError that names the flags to lower."""
  try:
    yield
  except (MemoryError, tf.errors.ResourceExhaustedError) as error:
    raise files.InputError(f"out of memory; lower {remedy}") from error
