"""Flags: parsing, adoption from earlier runs, and how a script ends."""

import pathlib
import subprocess
import sys

import pytest
from absl import flags

import optimization
from toolkit.support import files
from toolkit.training import common_flags


@pytest.fixture(name="values")
def _values():
  values = flags.FlagValues()
  common_flags.define_model_flags(values, max_seq_length=77)
  common_flags.define_training_flags(values)
  common_flags.define_device_flags(values)
  common_flags.finish(values)
  return values


def test_defaults_can_be_read_without_a_command_line(values):
  assert values.max_seq_length == 77
  assert values.output_dir is None and values.do_lower_case is True
  assert (values.train_batch_size, values.learning_rate, values.num_train_epochs) == (32, 5e-5, 3.0)
  assert (values.warmup_proportion, values.save_checkpoints_steps) == (0.1, 1000)
  assert (values.use_tpu, values.num_tpu_cores, values.iterations_per_loop) == (False, 8, 1000)
  assert optimization.Options(**common_flags.step_settings(values)) == optimization.DEFAULTS
  assert values["lr_schedule"].parser.enum_values == list(optimization.SCHEDULES)


def test_a_parse_forgets_the_one_before(values):
  common_flags.parse(values, ["--learning_rate=0.5", "--nodo_lower_case", "--output_dir", "x"])
  assert (values.learning_rate, values.do_lower_case, values.output_dir) == (0.5, False, "x")
  assert values["learning_rate"].present
  common_flags.parse(values, ["--train_batch_size=4"])
  assert (values.learning_rate, values.do_lower_case, values.output_dir) == (5e-5, True, None)
  assert values.train_batch_size == 4 and not values["learning_rate"].present


@pytest.mark.parametrize(
  ("argument", "match"),
  [
    ("--do_lower=False", r"Unknown command line flag 'do_lower'.*do_lower_case"),
    ("--train_batch_size=0", r"train_batch_size"),
    ("--train_batch_size=many", r"train_batch_size=many"),
    ("--learning_rate=-1", r"learning_rate.* must be positive"),
    ("--learning_rate=nan", r"learning_rate.* must be positive"),
    ("--num_train_epochs=0", r"num_train_epochs.* must be positive"),
    ("--warmup_proportion=1.1", r"warmup_proportion"),
    ("--num_warmup_steps=-1", r"num_warmup_steps=-1"),
    ("--lr_schedule=poly", r"lr_schedule=poly: value should be one of <linear\|constant\|cosine>"),
    ("--gradient_clip_norm=0", r"gradient_clip_norm=0.*: must be positive"),
    ("--gradient_clip_norm=inf", r"gradient_clip_norm=inf: must be positive and finite"),
    ("--gradient_clip_norm=nan", r"gradient_clip_norm=nan"),
    ("--layerwise_lr_decay=0", r"layerwise_lr_decay=0.*: must be above 0 and at most 1"),
    ("--layerwise_lr_decay=1.01", r"layerwise_lr_decay=1.01: must be above 0 and at most 1"),
    ("--freeze_layers=-1", r"freeze_layers=-1"),
    ("--max_seq_length=2", r"max_seq_length"),
    ("--save_checkpoints_steps=0", r"save_checkpoints_steps"),
    ("output_dir=x", r"'output_dir=x' is not a flag; flags are written --name=value"),
  ],
)
def test_mistakes_are_one_line(values, argument, match):
  with pytest.raises(files.InputError, match=match) as caught:
    common_flags.parse(values, [argument])
  assert "\n" not in str(caught.value)
  common_flags.parse(values, [])  # and the flags can be used again
  assert values.train_batch_size == 32


def test_scripts_do_not_share_values(values):
  others = flags.FlagValues()
  common_flags.define_model_flags(others, max_seq_length=5)
  common_flags.finish(others)
  common_flags.parse(values, ["--max_seq_length=9"])
  assert (values.max_seq_length, others.max_seq_length) == (9, 5)
  assert "max_seq_length" not in flags.FLAGS


def test_adopted_values_give_way_to_the_command_line(values):
  common_flags.parse(values, ["--max_seq_length=9"])
  saved = {"max_seq_length": 20, "do_lower_case": False, "learning_rate": 0.5}
  common_flags.adopt(values, saved, ["max_seq_length", "do_lower_case", "vocab_file"])
  assert (values.max_seq_length, values.do_lower_case) == (9, False)
  assert (values.learning_rate, values.vocab_file) == (5e-5, None)


def test_required_flags(values):
  common_flags.parse(values, ["--output_dir=x", "--vocab_file="])
  common_flags.require(values, ["output_dir"], "every run")
  with pytest.raises(files.InputError, match="--vocab_file is missing: a model needs it"):
    common_flags.require(values, ["output_dir", "vocab_file"], "a model")


@pytest.mark.parametrize(
  ("arguments", "num_examples", "want"),
  [
    ([], 320, (10, 600.0)),  # each epoch of 10 steps
    ([], 10**6, (1000, 600.0)),
    ([], 5, (1, 600.0)),
    (["--save_checkpoints_steps=70"], 320, (70, None)),
  ],
)
def test_checkpoint_interval(values, arguments, num_examples, want):
  common_flags.parse(values, arguments)
  assert common_flags.checkpoint_interval(values, num_examples) == want


@pytest.mark.parametrize(
  ("arguments", "want"),
  [
    ([], 3),  # a tenth, rounded down
    (["--warmup_proportion=0.5"], 15),
    (["--num_warmup_steps=0"], 0),
    (["--num_warmup_steps=31"], 31),
  ],
)
def test_warmup_as_a_share_or_as_steps(values, arguments, want):
  common_flags.parse(values, arguments)
  assert common_flags.num_warmup_steps(values, 31) == want


def test_warmup_that_contradicts(values):
  with pytest.raises(files.InputError, match="num_warmup_steps=2: only one of them may be given"):
    common_flags.parse(values, ["--num_warmup_steps=2", "--warmup_proportion=0.1"])
  common_flags.parse(values, ["--num_warmup_steps=32"])
  with pytest.raises(files.InputError, match="--num_warmup_steps=32 is more than the 31 steps"):
    common_flags.num_warmup_steps(values, 31)


def test_step_settings(values):
  arguments = ["--lr_schedule=cosine", "--gradient_clip_norm=2.5", "--layerwise_lr_decay=0.9"]
  common_flags.parse(values, [*arguments, "--freeze_layers=3", "--freeze_embeddings"])
  options = optimization.Options(**common_flags.step_settings(values))
  assert options == optimization.Options(2.5, "cosine", 0.9, 3, True)


def test_values_and_device_settings(values):
  common_flags.parse(values, ["--use_tpu", "--tpu_name=local"])
  assert common_flags.values(values)["tpu_name"] == "local"
  assert not {"help", "h"} & set(common_flags.values(values))
  settings = common_flags.device_settings(values)
  assert settings["use_tpu"] is True and settings["iterations_per_loop"] == 1000
  without_loops = flags.FlagValues()
  common_flags.define_device_flags(without_loops, loops=False)
  common_flags.finish(without_loops)
  assert "iterations_per_loop" not in common_flags.device_settings(without_loops)


# ---- A script's end -----------------------------------------------------------------------------

SCRIPT = '''"""A script for tests."""
import sys
from absl import flags, logging
from toolkit.support import files
from toolkit.training import common_flags

FLAGS = flags.FlagValues()
flags.DEFINE_string("end", "well", "How to end.", flag_values=FLAGS)
common_flags.define_model_flags(FLAGS, max_seq_length=5)
common_flags.finish(FLAGS)

def main(_):
  logging.info("running to end %s", FLAGS.end)
  if FLAGS.end == "input":
    raise files.InputError("--end: is wrong")
  if FLAGS.end == "interrupt":
    raise KeyboardInterrupt
  if FLAGS.end == "exit":
    raise SystemExit(143)
  if FLAGS.end == "bug":
    raise ZeroDivisionError("a bug")

if __name__ == "__main__":
  common_flags.run(main, FLAGS)
'''


@pytest.fixture(name="run")
def _run(tmp_path):
  """Function of arguments that runs SCRIPT and returns its status, stdout and stderr."""
  (tmp_path / "script.py").write_text(SCRIPT)

  def run(*arguments):
    done = subprocess.run(
      [sys.executable, str(tmp_path / "script.py"), *arguments],
      capture_output=True,
      text=True,
      timeout=60,
      env={"PYTHONPATH": str(pathlib.Path(common_flags.__file__).parents[2])},
      check=False,
    )
    return done.returncode, done.stdout, done.stderr

  return run


def test_a_good_end_with_progress_on_stderr(run):
  status, stdout, stderr = run()
  assert (status, stdout) == (0, "")
  assert "running to end well" in stderr


@pytest.mark.parametrize(("end", "want"), [("interrupt", 130), ("exit", 143)])
def test_statuses(run, end, want):
  status, _, stderr = run(f"--end={end}")
  assert status == want
  assert "Traceback" not in stderr


def test_a_mistake_is_one_line_and_a_bug_is_traced(run):
  status, _, stderr = run("--end=input")
  assert status == 1
  assert stderr.splitlines()[-1] == "script.py: error: --end: is wrong"
  assert "Traceback" not in stderr
  assert run("--edn=x")[::2] == (
    1,
    "script.py: error: Unknown command line flag 'edn'. Did you mean: end ?\n",
  )
  status, _, stderr = run("--end=bug")
  assert status == 1 and "Traceback" in stderr and "ZeroDivisionError: a bug" in stderr


def test_help(run):
  status, stdout, stderr = run("--help")
  assert (status, stderr) == (0, "")
  assert "A script for tests." in stdout
  assert "--end: How to end." in stdout and "--max_seq_length:" in stdout
