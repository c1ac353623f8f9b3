"""Settings that all tests share."""

import logging
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow.compat.v1 as tf
from hypothesis import HealthCheck, settings
from tensorflow.python.framework import ops

# No test may fail because other work slows the machine down.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _graph_mode():
  """The scripts' own mode, and two logical CPUs for the tests with two replicas.

  Devices can be divided only before TensorFlow's runtime starts.
  """
  cpu = tf.config.list_physical_devices("CPU")[0]
  tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
  tf.disable_eager_execution()


@pytest.fixture(autouse=True)
def _no_graphs_are_kept():
  """Frees the graphs of a test's runs, which TensorFlow keeps as long as the process lives.

  Its writers of event files have them, and its table of gradients, by their functions.
  """
  yield
  tf.summary.FileWriterCache.clear()
  gradients = ops.gradient_registry._registry
  for name in [name for name in gradients if name.startswith("CustomGradient-")]:
    del gradients[name]


@pytest.fixture(name="log")
def _log(caplog):
  caplog.set_level(logging.INFO, logger="absl")
  return caplog
