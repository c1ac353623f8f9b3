"""Log of a script: short notices on the terminal, every line in a file.

Level    Shown on standard error              In log.txt of the output directory
NOTICE   by default                           yes
INFO     with --verbosity=0 or higher         yes
WARNING  by default; TensorFlow's with INFO   yes

A program that only imports the scripts configures its own log, and nothing here changes it.
"""

import contextlib
import io
import logging
import logging.handlers
import os
import sys

from absl import logging as absl_logging
from tqdm import tqdm

from toolkit.support import files
from toolkit.support.logs import NOTICE

LOG_FILE = "log.txt"

_TENSORFLOW = "tensorflow"  # name of its logger
_FILE_FORMAT = "%(asctime)s %(levelname)s %(message)s"

_is_started = False
_buffer = None  # MemoryHandler of the lines of a script whose log file is not known yet
_file = None  # handler of the log file


def start(shows_all: bool, has_file: bool) -> None:
  """Configures the log of a script that is the program, after absl has set up its own.

  Args:
    shows_all: whether absl's flags alone select what is shown, and not only notices are.
    has_file: whether the lines are kept for the log file of an output directory.
  """
  global _is_started, _buffer
  _is_started = True
  logging.addLevelName(NOTICE, "INFO")  # one of the usual names, for those who read the file
  logging.addLevelName(logging.INFO, "INFO")  # the level that the name stands for
  root, tensorflow = logging.getLogger(), logging.getLogger(_TENSORFLOW)
  for handler in list(tensorflow.handlers):  # absl's handler shows its lines as well
    tensorflow.removeHandler(handler)
  tensorflow.setLevel(logging.INFO)
  absl_handler = absl_logging.get_absl_handler()
  console = _Console(absl_handler)
  root.removeHandler(absl_handler)
  root.addHandler(console)
  if shows_all:
    console.setLevel(root.level)
  else:
    console.setLevel(NOTICE)
    console.addFilter(_ForUsers())
    absl_handler.setFormatter(_BriefFormatter())
  root.setLevel(min(root.level, logging.INFO))
  if has_file:
    _buffer = logging.handlers.MemoryHandler(sys.maxsize, sys.maxsize, flushOnClose=False)
    root.addHandler(_buffer)


def is_started() -> bool:
  """Returns whether `start` has configured the log of this process."""
  return _is_started


def write_to(directory: str) -> None:
  """Adds all lines of this script, from its start on, to the log file of an output directory.

  Does nothing in a program that only imports the scripts, and in a directory that is read-only.

  Args:
    directory: an existing directory.
  """
  global _buffer, _file
  if _buffer is None:
    return
  try:
    handler = _RemoteLogFile if files.is_remote(directory) else _LogFile
    _file = handler(os.path.join(directory, LOG_FILE))
  except OSError:
    pass
  else:
    _file.setFormatter(logging.Formatter(_FILE_FORMAT))
    _file.addFilter(_is_no_deprecation)
    _buffer.setTarget(_file)
    _buffer.flush()
    logging.getLogger().addHandler(_file)
  logging.getLogger().removeHandler(_buffer)
  _buffer = None


def write_error(message: str) -> None:
  """Adds a line to the log file alone, for an error that is shown in another way."""
  if _file is not None:
    _file.handle(logging.LogRecord("absl", logging.ERROR, "", 0, message, None, None))


class _ForUsers(logging.Filter):
  """Leaves out TensorFlow's lines but errors, and warnings that were shown before."""

  def __init__(self):
    super().__init__()
    self._warnings = set()

  def filter(self, record):
    if record.name == _TENSORFLOW:
      return record.levelno >= logging.ERROR
    if record.levelno != logging.WARNING:
      return True
    message = record.getMessage()
    is_new = message not in self._warnings
    self._warnings.add(message)
    return is_new


def _is_no_deprecation(record):
  """Returns whether a record is none of TensorFlow's warnings of its own coming changes."""
  return record.name != _TENSORFLOW or "is deprecated" not in str(record.msg)


class _Console(logging.Handler):
  """Passes lines to absl's handler of standard error, above the progress bars of a terminal."""

  def __init__(self, absl_handler):
    super().__init__()
    self._absl_handler = absl_handler

  def emit(self, record):
    with tqdm.external_write_mode(file=sys.stderr):
      self._absl_handler.handle(record)


class _BriefFormatter(logging.Formatter):
  """Formats a line as its text, after the level of a warning or an error."""

  def format(self, record):
    text = super().format(record)
    is_plain = record.levelno < logging.WARNING
    return text if is_plain else f"{record.levelname.lower()}: {text}"


class _LogFile(logging.FileHandler):
  """A log file that ends at the first line that cannot be written, such as on a full disk."""

  def __init__(self, path):
    super().__init__(path, "a", encoding="utf-8", errors="backslashreplace")

  def handleError(self, record):
    logging.getLogger().removeHandler(self)


class _RemoteLogFile(logging.StreamHandler):
  """A log file on remote storage, which has no appending: it is written when the process ends."""

  def __init__(self, path):
    super().__init__(io.StringIO())
    self._path = path

  def close(self):
    text = self.stream.getvalue()
    with contextlib.suppress(files.InputError):
      earlier = files.read_text(self._path) if files.exists(self._path) else ""
      files.write_text(self._path, earlier + text)
    super().close()
