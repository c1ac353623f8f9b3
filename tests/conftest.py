"""Settings that all tests share."""

import logging
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import pytest
import tensorflow.compat.v1 as tf
from hypothesis import HealthCheck, settings

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
def _no_writers_are_kept():
  """Frees TensorFlow's writers of event files, which keep the graphs of all runs."""
  yield
  tf.summary.FileWriterCache.clear()


@pytest.fixture(name="log")
def _log(caplog):
  caplog.set_level(logging.INFO, logger="absl")
  return caplog
