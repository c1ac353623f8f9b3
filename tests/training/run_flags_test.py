"""Flags of training scripts: intervals, warm-up and devices."""

import pytest

from toolkit.support import command_line, files
from toolkit.training import estimators, run_flags


@pytest.fixture(name="script")
def _script():
  """command_line.ScriptFlags with the flags of training and devices."""
  script = command_line.ScriptFlags()
  run_flags.define_training_flags(script)
  run_flags.define_device_flags(script)
  return script


@pytest.mark.parametrize(
  ("arguments", "num_examples", "want"),
  [
    ([], 320, (10, 600.0)),  # each epoch of 10 steps
    ([], 10**6, (1000, 600.0)),
    ([], 5, (1, 600.0)),
    (["--save_checkpoints_steps=70"], 320, (70, None)),
  ],
)
def test_checkpoint_interval(script, arguments, num_examples, want):
  command_line.parse(script, arguments)
  assert run_flags.checkpoint_interval(script.settings(), num_examples) == want


@pytest.mark.parametrize(
  ("arguments", "want"),
  [
    ([], 3),  # a tenth, rounded down
    (["--warmup_proportion=0.5"], 15),
    (["--num_warmup_steps=0"], 0),
    (["--num_warmup_steps=31"], 31),
  ],
)
def test_warmup_as_a_share_or_as_steps(script, arguments, want):
  command_line.parse(script, arguments)
  assert run_flags.num_warmup_steps(script.settings(), 31) == want


def test_warmup_that_contradicts(script):
  with pytest.raises(files.InputError, match="num_warmup_steps=2: only one of them may be given"):
    command_line.parse(script, ["--num_warmup_steps=2", "--warmup_proportion=0.1"])
  command_line.parse(script, ["--num_warmup_steps=32"])
  with pytest.raises(files.InputError, match="--num_warmup_steps=32 is more than the 31 steps"):
    run_flags.num_warmup_steps(script.settings(), 31)


def test_devices(script):
  command_line.parse(script, ["--use_tpu", "--tpu_name=local"])
  devices = estimators.Devices.of(script.settings())
  assert (devices.use_tpu, devices.tpu_name, devices.iterations_per_loop) == (True, "local", 1000)
  without_loops = command_line.ScriptFlags()
  run_flags.define_device_flags(without_loops, loops=False)
  assert "iterations_per_loop" not in without_loops.settings()
  assert estimators.Devices.of(without_loops.settings()) == estimators.Devices()
