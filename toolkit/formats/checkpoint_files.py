"""Checkpoints as files: where they are, whether they are whole, and how TensorFlow gets at them.

  OUTPUT/checkpoint                           names of a training's checkpoints, the last one first
  OUTPUT/model.ckpt-100.index                 shapes, and the places and checksums of values
  OUTPUT/model.ckpt-100.data-00000-of-00001   values

All uses of TensorFlow's functions for checkpoints go through this module. TensorFlow takes a path
for a pattern of names, finds checkpoints by the file `checkpoint` alone, and does not look whether
they are whole.
"""

import atexit
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from typing import Any, Optional

import tensorflow.compat.v1 as tf
from absl import logging

from toolkit.support import files

STATE_FILE = "checkpoint"
INDEX = ".index"
_PATTERN_CHARACTERS = set("[]*?\\")
_STEP = re.compile(r"model\.ckpt-(\d+)\.index")
_NAMED = re.compile(r'^\s*(all_)?model_checkpoint_paths?:\s*"((?:[^"\\]|\\.)*)"', re.M)
# What TensorFlow raises for damaged files; a truncated data file is an IndexError.
READ_ERRORS = (tf.errors.OpError, RuntimeError, ValueError, IndexError, TypeError)


# ---- Paths --------------------------------------------------------------------------------------


def for_tensorflow(path: str) -> str:
  """Returns a path that TensorFlow does not take for a pattern.

  It is the path itself, or one through a link: /a [1]/out/model.ckpt-5 -> /tmp/x/0/model.ckpt-5,
  where /tmp/x/0 is a link to /a [1]/out.

  Args:
    path: of a directory, or the prefix of a checkpoint.
  """
  if files.is_remote(path) or not _PATTERN_CHARACTERS & set(path):
    return path
  path = os.path.abspath(path)
  directory, name = os.path.split(path)
  if not _PATTERN_CHARACTERS & set(name):
    return os.path.join(_link_to(directory), name)
  return _links_to_checkpoint(path) if exists(path) else _link_to(path)


@functools.cache
def _link_to(directory):
  link = os.path.join(_new_directory(), "0")
  os.symlink(directory, link)
  return link


@functools.cache
def _links_to_checkpoint(prefix):
  """Links each file of a checkpoint; returns the prefix of the links."""
  linked = os.path.join(_new_directory(), "model.ckpt")
  directory, name = os.path.split(prefix)
  for each in files.list_names(directory):
    if each.startswith(name + "."):
      os.symlink(os.path.join(directory, each), linked + each[len(name) :])
  return linked


def _new_directory():
  """Makes a directory for links, which is deleted at the end of the process."""
  usual = tempfile.gettempdir()
  parent = "/tmp" if _PATTERN_CHARACTERS & set(usual) else usual
  directory = tempfile.mkdtemp(prefix="bert_links_", dir=parent)
  atexit.register(shutil.rmtree, directory, ignore_errors=True)
  return directory


# ---- Checkpoints in a directory -----------------------------------------------------------------


def exists(prefix: str) -> bool:
  """Returns whether there is a checkpoint, by its index."""
  return files.exists(prefix + INDEX)


def found(directory: str) -> list[str]:
  """Returns the prefixes of a training's checkpoints, the last one first.

  The order is that of the file `checkpoint`; those that it does not name come behind, by their
  steps.
  """
  if not files.is_directory(directory):
    return []
  by_step = sorted(
    (int(match[1]) for match in map(_STEP.fullmatch, files.list_names(directory)) if match),
    reverse=True,
  )
  others = (os.path.join(directory, f"model.ckpt-{step}") for step in by_step)
  return [prefix for prefix in dict.fromkeys([*named(directory), *others]) if exists(prefix)]


def named(directory: str) -> list[str]:
  """Lists the prefixes in the file `checkpoint`, the current one first.

  A name counts within the directory; an absolute one elsewhere, if it is not there.
  """
  path = os.path.join(directory, STATE_FILE)
  if not files.exists(path):
    return []
  text = files.read_bytes(path).decode("utf-8", "replace")
  prefixes: dict[bool, list[str]] = {True: [], False: []}
  for is_rest, named in _NAMED.findall(text):
    inside = os.path.join(directory, os.path.basename(named))
    is_elsewhere = os.path.isabs(named) and not exists(inside) and exists(named)
    prefixes[bool(is_rest)].append(named if is_elsewhere else inside)
  return [*prefixes[False], *reversed(prefixes[True])]


def latest(directory: str) -> Optional[str]:
  """Returns the prefix of the last checkpoint of a training in a directory, or None."""
  return next(iter(found(directory)), None)


def write_state(directory: str, prefixes: Iterable[str]) -> None:
  """Writes the file `checkpoint`; `prefixes` are in the order of `found`."""
  names = [os.path.basename(prefix) for prefix in prefixes]
  lines = [f'model_checkpoint_path: "{names[0]}"']
  lines += [f'all_model_checkpoint_paths: "{name}"' for name in reversed(names)]
  files.write_text(os.path.join(directory, STATE_FILE), "\n".join(lines) + "\n")


def select(directory: str, prefix: str) -> None:
  """Makes a checkpoint in a directory the one that a training goes on from.

  It is the first in the file `checkpoint`, with those behind it in the order of `found`.
  """
  if named(directory)[:1] != [prefix]:
    prefixes = found(directory)
    write_state(directory, prefixes[prefixes.index(prefix) :])


# ---- Damage -------------------------------------------------------------------------------------


def damage(prefix: str, is_needed: Callable[[str], bool] = lambda name: True) -> Optional[str]:
  """Reads a checkpoint with its checksums.

  Args:
    prefix: of the checkpoint.
    is_needed: called with a variable's name; True to read the variable.

  Returns:
    None for a whole checkpoint, else a line with the damaged file and the reason.
  """
  what = f"{prefix}{INDEX} is damaged or no checkpoint"
  try:
    reader = open_reader(prefix)
    names = reader.get_variable_to_shape_map()
    what = f"{prefix}.data is damaged"
    for name in filter(is_needed, names):
      reader.get_tensor(name)
  except READ_ERRORS as error:
    return f"{what}: {files.describe(error)}"
  return None


def newest_whole(directory: str) -> Optional[str]:
  """Returns the last checkpoint in a directory that is whole, or None if there is none at all.

  A warning names those that are damaged.

  Raises:
    files.InputError: all of them are damaged.
  """
  reasons: list[str] = []
  for prefix in found(directory):
    reason = damage(prefix)
    if reason is None:
      if reasons:
        logging.warning("%s; the last whole checkpoint is %s", "; ".join(reasons), prefix)
      return prefix
    reasons.append(reason)
  if not reasons:
    return None
  raise files.InputError(
    f"--output_dir: {reasons[0]}; there is no whole checkpoint in {directory}: start anew with "
    "--overwrite_output_dir, or in another directory"
  )


def check_whole(
  prefix: str, flag: str, is_needed: Callable[[str], bool] = lambda name: True
) -> None:
  """Checks that a checkpoint is not damaged; `is_needed` is that of `damage`.

  Raises:
    files.InputError: it is; names a whole one beside it, or in the directory above.
  """
  reason = damage(prefix, is_needed)
  if reason is None:
    return
  directory = os.path.dirname(prefix)
  others = [*found(directory), *found(os.path.dirname(directory))]
  whole = next(
    (each for each in others if each != prefix and damage(each, is_needed) is None), None
  )
  remedy = f"{whole} is whole, and can be given as --init_checkpoint" if whole else "copy it again"
  raise files.InputError(f"--{flag}: {reason}; {remedy}")


# ---- TensorFlow's functions ---------------------------------------------------------------------


def open_reader(prefix: str) -> Any:
  """Returns TensorFlow's reader of a checkpoint, that of tf.train.load_checkpoint."""
  return tf.train.load_checkpoint(for_tensorflow(prefix))


def restore(saver: tf.train.Saver, session: tf.Session, prefix: str) -> None:
  """Restores the variables of a saver."""
  saver.restore(session, for_tensorflow(prefix))


def init_from(prefix: str, assignment: dict[str, str]) -> None:
  """Initializes variables of the current graph from a checkpoint, see init_from_checkpoint."""
  tf.train.init_from_checkpoint(for_tensorflow(prefix), assignment)


WRITE_ERRORS = (tf.errors.OpError, OSError)  # what TensorFlow raises while it writes a file
