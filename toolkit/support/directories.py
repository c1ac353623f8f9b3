"""Directories of results that appear when they are complete."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator

from toolkit.support import files


def check_new(path: str, flag: str, overwrite: bool, replaced: Collection[str]) -> None:
  """Checks that a directory can be made, or be replaced.

  Args:
    path: the directory.
    flag: the flag that gave it, for messages.
    overwrite: whether a directory with content may be replaced.
    replaced: the names that it may have then; one with other content is not replaced.

  Raises:
    files.InputError: it is a file, has content without `overwrite`, or has other content.
  """
  files.check_name(path, flag)
  if files.exists(path) and not files.is_directory(path):
    raise files.InputError(f"--{flag}: {path} is a file; give the name of a new directory")
  names = files.list_names(path)
  others = [name for name in names if name not in replaced]
  if others and overwrite:
    raise files.InputError(
      f"--{flag}: {path} has {others[0]}, which --overwrite does not replace; give another "
      "directory, or empty this one"
    )
  if names and not overwrite:
    raise files.InputError(
      f"--{flag}: {path} is not empty; give another directory, or --overwrite to replace it"
    )


@contextlib.contextmanager
def new_directory(path: str, flag: str) -> Iterator[str]:
  """Gives an empty local directory to write in, whose content becomes that of `path` at the end.

  with new_directory("/tmp/export", "export_dir") as made:
    files.write_text(os.path.join(made, "a.txt"), "a")

  A directory at `path` is replaced. After an exception it is as before. Remote files are copied one
  by one, those of the top level last.

  Args:
    path: the directory.
    flag: the flag that gave it, for messages.

  Raises:
    files.InputError: the directory cannot be written.
  """
  if files.is_remote(path):
    with tempfile.TemporaryDirectory() as made:
      yield made
      _upload(made, path, flag)
    return
  path = os.path.realpath(path)
  made = f"{path}.tmp{os.getpid()}"
  try:
    with files.converted_write_errors(f"--{flag}: {path}"):
      os.makedirs(made)
    yield made
    with files.converted_write_errors(f"--{flag}: {path}"):
      _move(made, path)
  except BaseException:
    shutil.rmtree(made, ignore_errors=True)
    raise


def _move(made, path):
  """Gives a directory its name; one that has it already is deleted when that is done."""
  old = f"{path}.old{os.getpid()}"
  is_replaced = os.path.isdir(path)
  if is_replaced:
    os.rename(path, old)
  try:
    os.rename(made, path)
  except OSError:
    if is_replaced:
      os.rename(old, path)
    raise
  if is_replaced:
    shutil.rmtree(old)


def _upload(made, path, flag):
  """Copies the files of a local directory to a remote one, in place of its content."""
  if files.exists(path):
    files.remove_tree(path)
  for directory, _, names in os.walk(made, topdown=False):
    inner = os.path.relpath(directory, made)
    target = path if inner == os.curdir else os.path.join(path, inner)
    files.make_directory(target, flag)
    for name in names:
      copied = os.path.join(target, name)
      with open(os.path.join(directory, name), "rb") as source, files.new_file(copied) as f:
        shutil.copyfileobj(source, f)
