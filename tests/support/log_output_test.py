"""Lines of a script on standard error and in the log file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SCRIPT = """
import sys
import tensorflow.compat.v1 as tf
from absl import logging
from tqdm import tqdm
from toolkit.support import command_line, files, log_output, logs

flags = command_line.ScriptFlags()
flags.DEFINE_string("output_dir", None, "Directory.")

def main(_):
  logging.info("a detail, 20 %%")
  logs.notice("a notice of %d", 7)
  for _ in range(2):
    logging.warning("a warning")
  tf.logging.info("TensorFlow's detail")
  tf.logging.warning("TensorFlow's warning")
  tf.logging.warning("this is deprecated")
  if flags.FLAGS.output_dir:
    log_output.write_to(flags.FLAGS.output_dir)
  logging.info("a later detail")
  if sys.stderr.isatty():
    bar = tqdm(total=2)
    logs.notice("beside the bar")
    bar.close()
  raise files.InputError("--end: is wrong")

if __name__ == "__main__":
  command_line.run(main, flags)
"""

SHOWN = ["a notice of 7", "warning: a warning", "script.py: error: --end: is wrong"]
KEPT = [
  "INFO a detail, 20 %%",
  "INFO a notice of 7",
  "WARNING a warning",
  "WARNING a warning",
  "INFO TensorFlow's detail",
  "WARNING TensorFlow's warning",
  "INFO a later detail",
  "ERROR --end: is wrong",
]


@pytest.fixture(name="run")
def _run(tmp_path):
  """Function of arguments that runs SCRIPT and returns the lines of its stderr."""
  (tmp_path / "script.py").write_text(SCRIPT)

  def run(*arguments, before=()):
    done = subprocess.run(
      [*before, sys.executable, str(tmp_path / "script.py"), *arguments],
      capture_output=True,
      text=True,
      timeout=60,
      env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
      check=False,
    )
    return (done.stdout + done.stderr).splitlines()

  return run


def kept(directory):
  """The lines of a log file without their times."""
  lines = (directory / "log.txt").read_text().splitlines()
  return [line.split(" ", 2)[2] for line in lines]


def test_notices_are_shown_and_everything_is_kept(run, tmp_path):
  assert run(f"--output_dir={tmp_path}")[-3:] == SHOWN
  assert kept(tmp_path) == KEPT
  run(f"--output_dir={tmp_path}")
  assert kept(tmp_path) == KEPT * 2


@pytest.mark.parametrize("flag", ["--verbosity=0", "-v=1", "--alsologtostderr"])
def test_everything_is_shown(run, tmp_path, flag):
  lines = run(f"--output_dir={tmp_path}", flag)
  for text in ("a detail, 20 %%", "a notice of 7", "TensorFlow's detail", "a later detail"):
    assert sum(line.endswith(f"] {text}") for line in lines) == 1
  assert set(KEPT) <= set(kept(tmp_path))


def test_warnings_alone_are_shown(run, tmp_path):
  lines = run(f"--output_dir={tmp_path}", "--verbosity=-1")
  assert any(line.endswith("] a warning") for line in lines)
  assert not any("notice" in line or "detail" in line for line in lines)
  assert kept(tmp_path) == KEPT


def test_without_a_directory_nothing_is_kept(run, tmp_path):
  assert run()[-3:] == SHOWN
  assert not list(tmp_path.glob("*.txt"))


def test_a_directory_that_cannot_be_written(run, tmp_path):
  assert run(f"--output_dir={tmp_path}/none")[-3:] == SHOWN
  (tmp_path / "log.txt").symlink_to("/dev/full")
  assert run(f"--output_dir={tmp_path}")[-3:] == SHOWN


def test_names_that_are_not_utf8_do_not_end_the_file(tmp_path):
  """A path of other bytes has lone surrogates."""
  (tmp_path / "script.py").write_text(
    SCRIPT.replace('"a notice of %d", 7', '"in %s", "a\\udce9"').replace("--end", "\\udce9")
  )
  command = [sys.executable, str(tmp_path / "script.py"), f"--output_dir={tmp_path}"]
  subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
  assert kept(tmp_path)[1] == "INFO in a\\udce9"
  assert kept(tmp_path)[-2:] == ["INFO a later detail", "ERROR \\udce9: is wrong"]


def test_names_of_levels_keep_their_numbers(tmp_path):
  code = "import logging; from toolkit.support import log_output; log_output.start(False, False); "
  code += "assert logging.getLevelName('INFO') == 20 and logging.getLevelName(25) == 'INFO'"
  subprocess.run(
    [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True
  )


def test_lines_stand_above_a_bar(run, tmp_path):
  lines = run(before=[sys.executable, "-c", "import pty, sys; pty.spawn(sys.argv[1:])"])
  (line,) = [line for line in lines if "beside the bar" in line]
  assert line.rpartition("\r")[2] == "beside the bar"


def test_other_programs_keep_their_log(tmp_path):
  program = """
import logging, sys
import tensorflow.compat.v1 as tf
from toolkit.support import log_output, logs
root = logging.getLogger()
before = (root.level, list(root.handlers), tf.get_logger().level)
log_output.write_to(sys.argv[1])
logs.notice("a notice")
assert before == (root.level, list(root.handlers), tf.get_logger().level)
"""
  subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, cwd=ROOT)
  assert not list(tmp_path.iterdir())
