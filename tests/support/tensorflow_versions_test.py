"""Supported versions of TensorFlow, and tf.estimator in them."""

import gc
import subprocess
import sys
import types
import weakref

import pytest

from toolkit.support import files, tensorflow_versions
from toolkit.support.tensorflow_versions import tf


@pytest.fixture(name="fresh")
def _fresh():
  """Resets the loaded tf.estimator, before and after."""
  tensorflow_versions._load.cache_clear()
  yield
  tensorflow_versions._load.cache_clear()


def test_estimator_is_there_in_this_version():
  tensorflow_versions.check()
  assert tf.estimator.ModeKeys.TRAIN == "train"
  assert issubclass(tf.estimator.tpu.TPUEstimator, tf.estimator.Estimator)


@pytest.mark.parametrize(
  "version, expected", [("2.15.1", (2, 15)), ("2.21.0-rc1", (2, 21)), ("3.0.0.dev2031", (3, 0))]
)
def test_version_numbers(monkeypatch, version, expected):
  monkeypatch.setattr(tf, "__version__", version)
  assert tensorflow_versions._version() == expected


@pytest.mark.parametrize("version", ["1.15.5", "2.14.1"])
def test_too_old(monkeypatch, version):
  monkeypatch.setattr(tf, "__version__", version)
  with pytest.raises(files.InputError, match=rf"{version} is too old: pip install -r requirements"):
    tensorflow_versions.check()


def test_newer_than_tested_is_named_in_a_warning(monkeypatch, log):
  monkeypatch.setattr(tf, "__version__", "2.22.0")
  tensorflow_versions.check()
  assert "TensorFlow 2.22.0 is newer than 2.21" in log.text
  log.clear()
  monkeypatch.setattr(tf, "__version__", "2.21.3")
  tensorflow_versions.check()
  assert not log.text


def test_package_that_is_not_installed(monkeypatch, fresh):
  monkeypatch.setitem(sys.modules, "tensorflow_estimator._api.v1.estimator", None)
  monkeypatch.setattr(tf, "estimator", tensorflow_versions._Estimator("estimator"))
  with pytest.raises(files.InputError, match=r"pip install tensorflow-estimator==2\.15\.0"):
    tensorflow_versions.check()


def test_version_that_lacks_more(monkeypatch, fresh):
  monkeypatch.setitem(sys.modules, "tensorflow.python.util.tf_export", types.ModuleType("empty"))
  monkeypatch.setattr(tf, "estimator", tensorflow_versions._Estimator("estimator"))
  with pytest.raises(files.InputError, match=r"lacks what tf.estimator needs \(.*API_ATTRS"):
    tensorflow_versions.check()


def test_nothing_is_supplied_before_it_is_needed():
  """Importing scripts and libraries loads no estimator and sets up no mode of TensorFlow."""
  code = (
    "import sys, run_classifier, tensorflow as tf; "
    "print(any(m.startswith('tensorflow_estimator') for m in sys.modules), tf.executing_eagerly())"
  )
  assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False True\n"


def test_supplied_module_refuses_what_is_not_there():
  module = tensorflow_versions._Supplied("tables", "embedding tables for TPUs", {"here": 1})
  assert module.here == 1
  assert not isinstance(1, module.FeatureConfig)
  with pytest.raises(files.InputError, match="no embedding tables for TPUs any more"):
    module.FeatureConfig("id", max_sequence_length=3)
  assert not hasattr(module, "__path__")


needs_stand_ins = pytest.mark.skipif(
  not isinstance(tf.estimator, tensorflow_versions._Estimator),
  reason="this TensorFlow has tf.estimator itself",
)


@needs_stand_ins
def test_tf_config_is_refused_by_estimators(monkeypatch):
  cluster = '{"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}'
  monkeypatch.setenv("TF_CONFIG", cluster)
  strategy = tf.distribute.MirroredStrategy(["/cpu:0"])
  with pytest.raises(files.InputError, match=r"TF_CONFIG: .*--distribution_strategy=multi_worker"):
    tf.estimator.RunConfig(train_distribute=strategy)


@needs_stand_ins
def test_tpu_tables_are_refused_and_the_watch_does_nothing():
  tf.estimator.ModeKeys  # noqa: B018, loads
  from tensorflow.python.tpu import session_support, tpu_embedding

  with pytest.raises(files.InputError, match="embedding tables"):
    tpu_embedding.TableConfig(10, 4)
  hook = session_support.GracefulShutdownHook(
    checkpoint_prefix="model", on_shutdown_hooks=[session_support.ResetComputation()], saver=None
  )
  assert isinstance(hook, tf.train.SessionRunHook)


def test_graphs_with_gradients_of_their_own_are_freed():
  def build():
    with tf.Graph().as_default() as graph:
      offset = tf.constant(1.0)
      result = tf.custom_gradient(lambda x: (x + offset, lambda dy: dy * offset))(offset)
      tf.gradients(result, offset)
    return weakref.ref(graph)

  with tensorflow_versions.freed_graphs():
    freed = build()
  kept = build()
  gc.collect()
  assert freed() is None and kept() is not None
