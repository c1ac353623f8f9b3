"""A training that is killed after each of its operations on files, one run for each.

  python stopped_process.py WORK_DIR EVERY FIRST FLAG...

WORK_DIR/0, WORK_DIR/1 and so on are the output directories of runs that were killed after operation
FIRST, FIRST + EVERY, ..., until a run ends before that. A line of JSON tells what each run did. The
processes are forks of this one, which has loaded TensorFlow and not used it.
"""

import builtins
import functools
import json
import os
import pathlib
import sys

from tensorflow.python.lib.io import file_io

import run_classifier
from toolkit.support import command_line

KILLED = 9


def kill_after(number):
  """Makes the process end, without a word, behind its operation of a number on files."""
  done = 0

  def counted(function):
    def call(*arguments, **named):
      nonlocal done
      result = function(*arguments, **named)
      done += 1
      if done == number:
        os._exit(KILLED)
      return result

    return call

  for module, names in (
    (os, ("replace", "remove", "unlink", "makedirs", "mkdir", "ftruncate", "pwrite")),
    (file_io, ("rename", "rename_v2", "delete_file", "delete_file_v2", "write_string_to_file")),
  ):
    for name in names:
      setattr(module, name, counted(getattr(module, name)))
  opened = builtins.open

  def open_counted(path, mode="r", *arguments, **named):
    nonlocal done
    file = opened(path, mode, *arguments, **named)
    if "w" in mode:
      done += 1
      if done == number:
        os._exit(KILLED)
    return file

  builtins.open = open_counted


def in_a_fork(function):
  """Runs a function in a fork; returns its exit status."""
  child = os.fork()
  if child:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
  try:
    function()
  except BaseException as error:
    print(repr(error), file=sys.stderr)
    os._exit(1)
  os._exit(0)


def run(directory, flags, *switches, number=None):
  if number:
    kill_after(number)
  command_line.parse(run_classifier.flags, [*switches, f"--output_dir={directory}", *flags])
  run_classifier.main([])


def main():
  work_dir, every, first, *flags = sys.argv[1:]
  number, status = int(first), KILLED
  while status == KILLED:
    call = functools.partial(run, pathlib.Path(work_dir, str(number)), flags)
    status = in_a_fork(functools.partial(call, "--do_train", number=number))
    # A prediction beside what is left, and the same training again.
    left = in_a_fork(functools.partial(call, "--do_predict"))
    again = in_a_fork(functools.partial(call, "--do_train", "--do_predict"))
    results = {"number": number, "status": status, "predicts": left, "again": again}
    print(json.dumps(results), flush=True)
    number += int(every)


if __name__ == "__main__":
  main()
