"""tensorflow.compat.v1 with tf.estimator, for the versions of TensorFlow from 2.15 to 2.21.

Modules that use tf.estimator contain `from toolkit.support.tensorflow_versions import tf`.
TensorFlow 2.15 has tf.estimator; later versions do not. Its package still works with them, if a few
private modules that it imports exist. They are supplied below, at the first use of tf.estimator.

tf.estimator becomes an attribute of tensorflow.compat.v1 itself. So tf.estimator.tpu.TPUEstimator
works in all versions in a notebook, too, once it has imported one of the scripts.
"""

import contextlib
import functools
import importlib
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import tensorflow.compat.v1 as tf
from absl import logging
from tensorflow.python.framework.ops import gradient_registry

from toolkit.support import files

OLDEST = (2, 15)
NEWEST = (2, 21)  # the newest in which the tests have run
_PACKAGE = "tensorflow-estimator==2.15.0"


def check() -> None:
  """Checks the version of TensorFlow; warns of one newer than NEWEST.

  Raises:
    files.InputError: it is too old, lacks a package, or is too new for the supplied modules.
  """
  version = _version()
  if version < OLDEST:
    raise files.InputError(
      f"TensorFlow {tf.__version__} is too old: pip install -r requirements.txt installs one that "
      "works with this Python"
    )
  if version > NEWEST:
    logging.warning(
      "TensorFlow %s is newer than %d.%d, the last one that this was tested with; requirements.txt "
      "has one that was.",
      tf.__version__,
      *NEWEST,
    )
  _ = tf.estimator.ModeKeys


def _version():
  """Returns for example (2, 21) for "2.21.0-rc1"."""
  return tuple(map(int, re.findall(r"\d+", tf.__version__)[:2]))


@contextlib.contextmanager
def freed_graphs() -> Iterator[None]:
  """Context whose graphs can be freed after it; no gradients can be added to them then.

  TensorFlow keeps the functions of tf.custom_gradient, and with them their graphs, in a table for
  as long as the process lives.
  """
  table = gradient_registry._registry
  known = set(table)
  try:
    yield
  finally:
    for name in set(table) - known:
      if name.startswith("CustomGradient-"):
        del table[name]


class _Estimator(types.ModuleType):
  """tf.estimator where TensorFlow has none; loads its contents when one of them is used."""

  def __getattr__(self, name):
    if name.startswith("__"):  # read by tools that inspect modules, not by users
      raise AttributeError(name)
    return getattr(_load(), name)


@functools.cache
def _load():
  """Returns the module with the contents of tf.estimator."""
  try:
    _supply_export_tables()
    _supply_estimator_training()
    _supply_tpu_modules()
    return importlib.import_module("tensorflow_estimator._api.v1.estimator")
  except (AttributeError, ImportError, TypeError) as error:
    if (getattr(error, "name", None) or "").startswith("tensorflow_estimator"):
      raise files.InputError(
        f"TensorFlow {tf.__version__} has no tf.estimator: pip install {_PACKAGE}"
      ) from error
    raise files.InputError(
      f"TensorFlow {tf.__version__} lacks what tf.estimator needs ({error}): pip install -r "
      "requirements.txt installs one that has it"
    ) from error


# ---- What TensorFlow 2.16 and later lack --------------------------------------------------------


class _Supplied(types.ModuleType):
  """The needed part of a removed private module of TensorFlow.

  Any other name is a class that cannot be instantiated. The package imports such names and calls
  isinstance with them, but instantiates one only for the purpose that the error names.
  """

  def __init__(self, name, purpose, contents=None):
    super().__init__(name)
    self._purpose = purpose
    self.__dict__.update(contents or {})

  def __getattr__(self, name):
    if name.startswith("__"):
      raise AttributeError(name)
    purpose = self._purpose

    def refuse(*_, **__):
      raise files.InputError(
        f"TensorFlow {tf.__version__} has no {purpose} any more; TensorFlow 2.15, which needs "
        "Python 3.9 to 3.11, has"
      )

    return type(name, (), {"__new__": refuse})


def _supply(name, purpose, contents=None):
  """Adds a _Supplied module to TensorFlow, if it has none of this name."""
  name = f"tensorflow.python.{name}"
  try:
    importlib.import_module(name)
  except ModuleNotFoundError:
    sys.modules[name] = _Supplied(name, purpose, contents)
    package, _, leaf = name.rpartition(".")
    setattr(importlib.import_module(package), leaf, sys.modules[name])


def _supply_export_tables():
  """Removed: the rows of "estimator" in the tables of names under which a symbol is public.

  The package's decorators write to them. Only the tool that generated TensorFlow's public modules
  read them.
  """
  tf_export: Any = importlib.import_module("tensorflow.python.util.tf_export")
  if hasattr(tf_export, "ESTIMATOR_API_NAME"):
    return
  tf_export.ESTIMATOR_API_NAME = "estimator"
  for table, suffix in ((tf_export.API_ATTRS, ""), (tf_export.API_ATTRS_V1, "_v1")):
    row = type(table[tf_export.TENSORFLOW_API_NAME])
    table["estimator"] = row(f"_estimator_api_names{suffix}", f"_estimator_api_constants{suffix}")


def _supply_estimator_training():
  """Removed: the distribution of an estimator over several machines, by TF_CONFIG.

  distribution.py does that by a strategy of its own. Left is the part for configurations without a
  cluster.
  """

  def init_run_config(config, tf_config):
    if tf_config.get("cluster"):
      raise files.InputError(
        f"TF_CONFIG: tf.estimator under TensorFlow {tf.__version__} cannot act on it by itself; "
        "run the scripts with --distribution_strategy=multi_worker, or use TensorFlow 2.15"
      )
    config._distribute_coordinator_mode = None
    config._init_distributed_setting_from_environment_var(tf_config)
    config._maybe_overwrite_session_config_for_distributed_training()

  contents = {
    "init_run_config": init_run_config,
    "should_run_distribute_coordinator": lambda config: False,
  }
  _supply("distribute.estimator_training", "distribute coordinator for tf.estimator", contents)


def _supply_tpu_modules():
  """Removed: tables of embeddings in a TPU's host, and the monitor of a TPU's workers.

  The tables are for embeddings far larger than BERT's, and need an embedding_config_spec. The
  monitor saved a checkpoint when a worker of a remote TPU was about to be preempted, and restarted.
  Without it such a training ends, and the same command continues from its last checkpoint, ten
  minutes old at most.
  """

  class GracefulShutdownHook(tf.train.SessionRunHook):
    def __init__(self, **_):
      pass

  for name in ("tpu.tpu_embedding", "tpu.tpu_embedding_gradient"):
    _supply(name, "embedding tables for TPUs")
  contents = {"GracefulShutdownHook": GracefulShutdownHook, "ResetComputation": lambda: None}
  _supply("tpu.session_support", "watch over TPU workers", contents)


if not hasattr(tf, "estimator"):
  tf.estimator = _Estimator("tensorflow.compat.v1.estimator")
