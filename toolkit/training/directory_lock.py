"""One training at a time in an output directory.

  OUTPUT/training.lock   {"host": "gpu1", "process": 4711, "since": "2024-05-01 12:30:00"}

On a local disk the file is locked by flock, which ends with the process, however it ends. Where no
lock can be had, as in a bucket, the file's content gives a warning.
"""

import json
import os
import socket
import time

from absl import logging

from toolkit.support import files

try:
  import fcntl
except ImportError:  # Windows
  fcntl = None  # type: ignore[assignment]

LOCK_FILE = "training.lock"

_held = {}  # real path of a directory -> descriptor of its locked file, or None without a lock


def acquire(directory: str) -> None:
  """Locks an existing directory for a training of this process, which may hold it already.

  Raises:
    files.InputError: another process trains there; names host, process and start.
  """
  key = directory if files.is_remote(directory) else os.path.realpath(directory)
  if key in _held:
    return
  path = os.path.join(directory, LOCK_FILE)
  descriptor = None if files.is_remote(directory) or fcntl is None else _lock(directory, path)
  _warn_of_others(directory, path)
  own = {
    "host": socket.gethostname(),
    "process": os.getpid(),
    "since": time.strftime("%Y-%m-%d %H:%M:%S"),
  }
  content = (json.dumps(own) + "\n").encode()
  if descriptor is None:
    files.write_bytes(path, content)
  else:
    with files.converted_write_errors(path):
      os.ftruncate(descriptor, 0)
      os.pwrite(descriptor, content, 0)
  _held[key] = descriptor


def release(directory: str) -> None:
  """Ends the lock of this process, if it has one; the file is deleted."""
  key = directory if files.is_remote(directory) else os.path.realpath(directory)
  if key not in _held:
    return
  descriptor = _held.pop(key)
  path = os.path.join(directory, LOCK_FILE)
  if files.exists(path):
    files.remove(path)
  if descriptor is not None:
    os.close(descriptor)


def _lock(directory, path):
  """Opens and locks the file; returns its descriptor, or None where there are no locks."""
  while True:
    with files.converted_write_errors(path):
      descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      os.close(descriptor)
      raise files.InputError(
        f"--output_dir: {_describe(directory, path)}; wait for its end, or choose another directory"
      ) from None
    except OSError:  # a file system without locks
      os.close(descriptor)
      return None
    if _is_same_file(descriptor, path):
      return descriptor
    os.close(descriptor)  # the process before has just deleted it


def _is_same_file(descriptor, path):
  try:
    return os.path.samestat(os.fstat(descriptor), os.stat(path))
  except FileNotFoundError:
    return False


def _warn_of_others(directory, path):
  """Warns if the file is of another host, whose locks may not reach here."""
  other = _read(path)
  if other and other.get("host") != socket.gethostname():
    logging.warning(
      "%s, or was killed there; two trainings in one directory overwrite each other's files",
      _describe(directory, path),
    )


def _read(path):
  """Returns the content of the file, an empty dict where there is none yet."""
  try:
    found = json.loads(files.read_bytes(path)) if files.exists(path) else {}
  except (ValueError, files.InputError):
    return {}
  return found if isinstance(found, dict) else {}


def _describe(directory, path):
  other = _read(path)
  return (
    f"process {other.get('process', '?')} on {other.get('host', 'this machine')} trains in "
    f"{directory} since {other.get('since', 'just now')}"
  )
