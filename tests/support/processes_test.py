"""Out-of-memory errors."""

import pytest
import tensorflow.compat.v1 as tf

from toolkit.support import files, processes


@pytest.mark.parametrize(
  "error", [MemoryError(), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")]
)
def test_memory_that_runs_out(error):
  match = r"^out of memory; lower --train_batch_size$"
  memory = processes.converted_memory_errors("--train_batch_size")
  with pytest.raises(files.InputError, match=match), memory:
    raise error


def test_other_errors_are_not_converted():
  with pytest.raises(ZeroDivisionError), processes.converted_memory_errors("--x"):
    raise ZeroDivisionError
