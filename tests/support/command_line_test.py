"""Flags: parsing, adoption from earlier runs, and how a script ends."""

import importlib
import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import absl.flags
import pytest

from toolkit.support import command_line, files
from toolkit.training import run_flags

ROOT = pathlib.Path(command_line.__file__).parents[2]


@pytest.fixture(name="script")
def _script():
  """command_line.ScriptFlags with the flags of a training script."""
  script = command_line.ScriptFlags()
  run_flags.define_model_flags(script, max_seq_length=77)
  run_flags.define_training_flags(script)
  run_flags.define_device_flags(script)
  return script


def test_defaults_can_be_read_without_a_command_line(script):
  values = script.FLAGS
  assert values.max_seq_length == 77
  assert values.output_dir is None and values.do_lower_case is True
  assert (values.train_batch_size, values.learning_rate, values.num_train_epochs) == (32, 5e-5, 3.0)
  assert (values.warmup_proportion, values.save_checkpoints_steps) == (0.1, 1000)
  assert (values.use_tpu, values.num_tpu_cores, values.iterations_per_loop) == (False, 8, 1000)


def test_a_parse_forgets_the_one_before(script):
  values = script.FLAGS
  command_line.parse(script, ["--learning_rate=0.5", "--nodo_lower_case", "--output_dir", "x"])
  assert (values.learning_rate, values.do_lower_case, values.output_dir) == (0.5, False, "x")
  assert script.settings().is_given("learning_rate")
  command_line.parse(script, ["--train_batch_size=4"])
  assert (values.learning_rate, values.do_lower_case, values.output_dir) == (5e-5, True, None)
  assert values.train_batch_size == 4 and not script.settings().is_given("learning_rate")


@pytest.mark.parametrize(
  "argument, value",
  [
    ("--do_lower_case=False", False),
    ("--do_lower_case=0", False),
    ("-do_lower_case=true", True),
    ("--nodo_lower_case", False),
    ("-nodo_lower_case", False),
  ],
)
def test_spellings_of_a_switch(script, argument, value):
  command_line.parse(script, ["--do_lower_case", argument])  # the last one counts
  assert script.settings().do_lower_case is value


@pytest.mark.parametrize("name", ["run_classifier", "run_squad", "run_ner", "run_multiple_choice"])
def test_flags_as_text_can_be_read_again(name):
  script = importlib.import_module(name)
  command_line.parse(script.flags, ["--output_dir=a b", "--learning_rate=0.5"])
  before = script.flags.settings().as_dict()
  command_line.parse(script.flags, script.FLAGS.flags_into_string().splitlines())
  assert script.flags.settings().as_dict() == before
  command_line.parse(script.flags, [])


def test_a_file_of_flags(script, tmp_path):
  (tmp_path / "flags.txt").write_text("# mine\n--max_seq_length=9\n--output_dir=x\n")
  command_line.parse(script, [f"--flagfile={tmp_path / 'flags.txt'}", "--output_dir=y"])
  settings = script.settings()
  assert (settings.max_seq_length, settings.output_dir) == (9, "y")
  command_line.parse(script, ["--undefok=other", "--other=3"])


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
    ("--do_lower_case=maybe", r"^flag --do_lower_case=maybe: should be true or false$"),
    ("--save_checkpoints_steps=0", r"save_checkpoints_steps"),
    ("output_dir=x", r"'output_dir=x' is not a flag; write --output_dir=x$"),
    ("--nodo_lower_case=true", r"--nodo_lower_case=true does not take an argument"),
  ],
)
def test_mistakes_are_one_line(script, argument, match):
  with pytest.raises(files.InputError, match=match) as caught:
    command_line.parse(script, [argument])
  assert "\n" not in str(caught.value)
  command_line.parse(script, [])  # and the flags can be used again
  assert script.FLAGS.train_batch_size == 32


@pytest.mark.parametrize(
  ("words", "message"),
  [
    (["--do_lower_case", "true"], "'true' is not a flag; write --do_lower_case=true"),
    (["-do_lower_case", "False"], "'False' is not a flag; write --do_lower_case=false"),
    (["--nodo_lower_case", "yes"], "'yes' is not a flag; write --do_lower_case=true"),
    (["--do_lower_case", "0", "--output_dir=x"], "'0' is not a flag; write --do_lower_case=0"),
    (["--do_lower_case", "=", "no"], "'=' is not a flag; write --do_lower_case=no, without spaces"),
    (["--do_lower_case", "=no"], "'=no' is not a flag; write --do_lower_case=no, without spaces"),
    (["--output_dir", "=", "x"], "'x' is not a flag; write --output_dir=x, without spaces"),
    (["--output_dir=a", "b"],
     "'b' is not a flag; put quotes around a value with spaces: --output_dir=\"a b\""),
    (["--output_dir", "a", "b"],
     "'b' is not a flag; put quotes around a value with spaces: --output_dir \"a b\""),
    (["do_lower_case"], "'do_lower_case' is not a flag; write --do_lower_case"),
    (["\u2014output_dir=x"], "'\u2014output_dir=x' is not a flag; write --output_dir=x"),
    (["--do_lower_case", " "],
     "' ' is not a flag; a backslash that continues a line must be the last character of it"),
    (["--do_lower_case", "x"], "'x' is not a flag; flags are written --name=value"),
    (["--do_lower_case=true", "true"],
     "'true' is not a flag; put quotes around a value with spaces: --do_lower_case=\"true true\""),
    (["true"], "'true' is not a flag; flags are written --name=value"),
    (["--", "=", "x"], "'=' is not a flag; flags are written --name=value"),
    (["-"], "'-' is not a flag; flags are written --name=value"),
    ([""], "'' is not a flag; flags are written --name=value"),
  ],
)  # fmt: skip
def test_words_that_are_no_flags(script, words, message):
  with pytest.raises(files.InputError) as caught:
    command_line.parse(script, words)
  assert str(caught.value) == message
  command_line.parse(script, [])


SCRIPTS = [
  path.stem
  for path in sorted(ROOT.glob("*.py"))
  if "command_line.run(main, flags)" in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_names_a_switch_in_two_words(name):
  script = importlib.import_module(name)
  switch = next(n for n in script.FLAGS if script.FLAGS[n].boolean and n not in ("help", "h"))
  with pytest.raises(files.InputError, match=f"^'true' is not a flag; write --{switch}=true$"):
    command_line.parse(script.flags, [f"--{switch}", "true"])
  command_line.parse(script.flags, [])


def test_scripts_do_not_share_values(script):
  other = command_line.ScriptFlags()
  run_flags.define_model_flags(other, max_seq_length=5)
  command_line.parse(script, ["--max_seq_length=9"])
  assert (script.FLAGS.max_seq_length, other.FLAGS.max_seq_length) == (9, 5)
  assert "max_seq_length" not in absl.flags.FLAGS


# ---- Settings -----------------------------------------------------------------------------------


def test_settings_are_frozen(script):
  command_line.parse(script, ["--max_seq_length=9"])
  settings = script.settings()
  with pytest.raises(AttributeError, match="frozen"):
    settings.max_seq_length = 3
  with pytest.raises(AttributeError):
    _ = settings.no_such_flag
  script.FLAGS.max_seq_length = 5
  assert settings.max_seq_length == settings["max_seq_length"] == 9
  assert settings.replace(max_seq_length=4).max_seq_length == 4
  assert settings.max_seq_length == 9
  assert not {"help", "h"} & set(settings.as_dict())
  assert "learning_rate" in settings and "text" not in settings


def test_adopted_values_give_way_to_the_command_line(script):
  command_line.parse(script, ["--max_seq_length=9"])
  saved = {"max_seq_length": 20, "do_lower_case": False, "unknown": 1}
  settings = script.settings().adopt(saved)
  assert (settings.max_seq_length, settings.do_lower_case) == (9, False)
  assert (settings.learning_rate, settings.vocab_file) == (5e-5, None)
  assert "unknown" not in settings


def test_roles_stand_where_a_flag_is_defined(script):
  script.DEFINE_string("task", None, "A task.", remembered=True, identity=True)
  settings = script.settings()
  assert settings.names("remembered") == ["do_lower_case", "max_seq_length", "task"]
  assert (settings.names("identity"), settings.names("shared")) == (["task"], ["do_lower_case"])
  assert settings.replace(task="x").names("identity") == ["task"]


def test_settings_without_a_flag(script):
  command_line.parse(script, ["--output_dir=x", "--vocab_file=v"])
  settings = script.settings().without("output_dir")
  assert "output_dir" not in settings and "output_dir" not in settings.as_dict()
  assert not hasattr(settings, "output_dir") and settings.vocab_file == "v"
  assert settings.is_given("output_dir")  # the command line is what it was
  assert settings.names("remembered") == ["do_lower_case", "max_seq_length"]


def test_a_flag_named_like_a_method(script):
  script.DEFINE_string("names", "x", "A flag.")
  settings = script.settings()
  assert settings["names"] == "x" and settings.names("shared") == ["do_lower_case"]


def test_required_flags(script):
  command_line.parse(script, ["--output_dir=x", "--vocab_file="])
  settings = script.settings()
  settings.require(["output_dir"], "every run")
  with pytest.raises(files.InputError, match="--vocab_file is missing: a model needs it"):
    settings.require(["output_dir", "vocab_file"], "a model")


# ---- A script's end -----------------------------------------------------------------------------

SCRIPT = '''"""A script for tests."""
import sys
import tensorflow.compat.v1 as tf
from absl import flags as absl_flags
from absl import logging
from toolkit.support import command_line, files, logs
from toolkit.training import run_flags

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_string("end", "well", "Way to end.")
run_flags.define_model_flags(flags, max_seq_length=5)

def main(_):
  logging.info("details of end %s", FLAGS.end)
  logs.notice("running to end %s", FLAGS.end)
  if FLAGS.end == "input":
    raise files.InputError("--end: is wrong")
  if FLAGS.end == "interrupt":
    raise KeyboardInterrupt
  if FLAGS.end == "exit":
    raise SystemExit(143)
  if FLAGS.end == "bug":
    raise ZeroDivisionError("a bug")
  if FLAGS.end == "global":
    print(tf.flags.FLAGS.max_seq_length, absl_flags.FLAGS.max_seq_length, absl_flags.FLAGS.mine)
    tf.flags.FLAGS.max_seq_length = 8
    print(FLAGS.max_seq_length)
    FLAGS.max_seq_length = 9
    print(tf.flags.FLAGS.max_seq_length, absl_flags.FLAGS.max_seq_length)

if __name__ == "__main__":
  command_line.run(main, flags)
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
      env={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
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
  status, _, stderr = run("--edn=x")
  # Recent versions of TensorFlow print lines of their own as they start.
  unknown = "script.py: error: Unknown command line flag 'edn'. Did you mean: end ?"
  assert (status, stderr.splitlines()[-1]) == (1, unknown) and "Traceback" not in stderr
  status, _, stderr = run("--end=bug")
  assert status == 1 and "Traceback" in stderr and "ZeroDivisionError: a bug" in stderr


def test_help(run):
  status, stdout, stderr = run("--help")
  assert status == 0 and "running" not in stderr and "Traceback" not in stderr
  assert stdout.startswith("A script for tests.\n\nEssential:\n\n  --output_dir=STRING ")
  assert "  --end=STRING  (default: well)\n      Way to end.\n" in stdout
  assert "--max_seq_length=INTEGER  (default: 5; at least 3)" in stdout
  assert "only_check_args" not in stdout and "flagfile" not in stdout


@pytest.mark.parametrize("flag", ["-h", "-?", "--?", "--help=true", "-help", "--nohelp --help"])
def test_spellings_of_help(run, flag):
  assert run(*flag.split()) == run("--help")


@pytest.mark.parametrize("flag", ["--help=false", "--nohelp", "--nohelpfull"])
def test_no_help(run, flag):
  status, stdout, stderr = run(flag)
  assert (status, stdout) == (0, "") and "running to end well" in stderr


def test_help_with_another_value_is_a_mistake(run):
  status, stdout, stderr = run("--help=devices")
  assert (status, stdout) == (1, "")
  want = "script.py: error: flag --help=devices: should be true or false"
  assert stderr.splitlines()[-1] == want


def test_help_as_xml(run):
  status, stdout, _ = run("--helpxml")
  assert status == 0
  tree = ElementTree.fromstring(stdout)
  names = {flag.findtext("name") for flag in tree.iter("flag")}
  assert {"end", "max_seq_length", "help", "verbosity"} <= names


def test_help_for_a_reader_that_ends(run, tmp_path):
  """As with --help | head."""
  command = f"{sys.executable} {tmp_path / 'script.py'} --helpfull | head -n 1"
  done = subprocess.run(
    ["bash", "-o", "pipefail", "-c", command],
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert (done.returncode, done.stdout) == (0, "A script for tests.\n")
  assert "Traceback" not in done.stderr and "BrokenPipe" not in done.stderr


def test_absls_own_flags_are_known(run):
  for flag in (
    *("--alsologtostderr", "--logtostderr", "-v=1", "--verbosity=0", "--stderrthreshold=error"),
    *("--nopdb_post_mortem", "--run_with_pdb=false", "--log_dir=/tmp"),
  ):
    status, _, stderr = run(flag)
    assert status == 0, (flag, stderr)
    assert "running to end well" in stderr, (flag, stderr)
  status, _, stderr = run("--verbosity=-1")
  assert status == 0 and "running to end" not in stderr


def test_arguments_alone_can_be_checked(run):
  status, stdout, stderr = run("--only_check_args")
  assert (status, stdout) == (0, "") and "running to end" not in stderr
  assert run("--only_check_args", "--max_seq_length=2")[0] == 1


@pytest.mark.parametrize("flag", ["--helpshort", "--helpfull"])
def test_absls_own_help(run, flag):
  status, stdout, _ = run(flag)
  assert status == 0 and "--output_dir=STRING" in stdout
  assert ("--end=STRING" in stdout) == (flag == "--helpfull")
  for name in ("--[no]only_check_args", "--flagfile=STRING", "--undefok=STRING", "--verbosity"):
    assert (name in stdout) == (flag == "--helpfull")


PROGRAM = """
import runpy
import tensorflow.compat.v1 as tf
tf.flags.DEFINE_string("mine", "", "A flag of a program's own.")
tf.flags.DEFINE_string("vocab_file", "", "A name that the script has, too.")
runpy.run_path("script.py", run_name="__main__")
"""


def test_a_programs_flags_are_in_the_global_ones(tmp_path, run):
  """The same values both ways, and flags that another program has defined there."""
  program = tmp_path / "mine.py"
  program.write_text(PROGRAM)
  done = subprocess.run(
    [sys.executable, str(program), "--end=global", "--mine=m", "--max_seq_length=7"],
    capture_output=True,
    text=True,
    timeout=60,
    cwd=tmp_path,
    env={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.split() == ["7", "7", "m", "8", "9", "9"]


SERVER = """
import sys
import tensorflow.compat.v1 as tf
import run_classifier
from run_squad import *
from run_squad import FLAGS, flags

flags.DEFINE_string("ip", "127.0.0.1", "Address.")
flags.DEFINE_integer(flag_name="port", default_value=1, docstring="Port.")
flags.mark_flag_as_required(flag_name="vocab_file")
FLAGS.doc_stride = 64
tf.flags.DEFINE_string("own", "", "A global flag.")

def main(_):
  FLAGS.max_query_length = 9
  print(FLAGS.max_query_length, end=" ")
  print(FLAGS.ip, FLAGS.port, FLAGS.vocab_file, FLAGS.doc_stride, tf.flags.FLAGS.own)
  print(run_classifier.FLAGS.vocab_file, run_classifier.flags.FLAGS.max_seq_length)
  print("vocab_file" in tf.flags.FLAGS, flags.FLAGS is FLAGS)

if __name__ == "__main__":
  tf.app.run()
"""


def test_a_server_of_its_own_on_flags_of_a_script(tmp_path):
  """Defines flags beside a script's, and runs tf.app.run; two scripts are imported."""
  (tmp_path / "server.py").write_text(SERVER)

  def serve(*arguments):
    return subprocess.run(
      [sys.executable, str(tmp_path / "server.py"), *arguments],
      capture_output=True,
      text=True,
      timeout=60,
      env={"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
      check=False,
    )

  # An assignment holds: one before the command line is parsed if that gives no value.
  done = serve("--port=80", "--vocab_file=v.txt", "--own=o", "--max_query_length=5", "-x=1")
  assert done.returncode == 0, done.stderr
  want = ("9 127.0.0.1 80 v.txt 64 o", "v.txt 128", "False True")
  assert tuple(done.stdout.splitlines()) == want
  assert "vocab_file must have a value" in serve().stderr
