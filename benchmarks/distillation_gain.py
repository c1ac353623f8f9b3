"""Gain of distillation: a teacher, students that learn from it, and students of labels alone.

  python benchmarks/distillation_gain.py --script=squad --teacher_dir=/tmp/squad \\
    --student_layers=0,2,4 --work_dir=/tmp/students -- \\
    --train_file=train-v2.0.json --predict_file=dev-v2.0.json --num_train_epochs=2

Arguments behind -- go to the script that trains and evaluates: the data, epochs, batch size and so
on. A student with a model of its own takes --bert_config_file and --init_checkpoint there, in place
of --student_layers. For each of --seeds, --work_dir has

  alone-SEED                 a student that sees the labels alone (--distill_alpha=0)
  distilled-SEED             one that learns from the teacher, too
  distilled-unlabeled-SEED   with --unlabeled_file: one that sees these texts besides
  teacher                    the evaluation of the teacher, on the same file
  teacher-logits             its logits for the training set, for all students
  weights                    weights of the teacher and of a student without optimizer slots
  commands.json              the commands that have ended well; they are not run again
  table.md                   the table that is printed at the end

A run that was stopped goes on where it was, and one that was made by hand in such a directory is
evaluated, if it is finished. Speeds of teacher and student are measured in turns, from windows or
texts to logits; the first turn of each warms up and is not counted.
"""

import argparse
import functools
import math
import os
import statistics
import subprocess
import sys
import time

import turns

sys.path.insert(0, turns.ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf

import convert_checkpoint
import modeling
import run_classifier
import run_squad
from toolkit.formats import checkpoints, model_directory
from toolkit.records import input_pipeline
from toolkit.serving.tensorflow_engine import load_predictor
from toolkit.support import files, processes
from toolkit.tasks import classification
from toolkit.training import distillation

STUDENTS = {
  "alone": "student alone",
  "distilled": "student distilled",
  "distilled-unlabeled": "student distilled, with unlabelled texts",
}
TEACHER, WEIGHTS, COMMANDS_FILE = "teacher", "weights", "commands.json"
SCRIPTS = {"squad": run_squad, "classifier": run_classifier}
# Columns of the table: title, names of the metric in eval_metrics.json, digits. Those that the
# task lacks are left out.
METRICS = {
  "squad": [
    ("EM", ("exact_match", "exact"), 1),
    ("F1", ("f1",), 1),
    ("HasAns F1", ("HasAns_f1",), 1),
    ("NoAns F1", ("NoAns_f1",), 1),
  ],
  "classifier": [
    ("accuracy", ("accuracy",), 3),
    ("F1", ("f1", "micro_f1"), 3),
    ("macro F1", ("macro_f1",), 3),
    ("Pearson", ("pearson",), 3),
    ("Spearman", ("spearman",), 3),
  ],
}


# ---- Training and evaluation --------------------------------------------------------------------


def run(args, name, own):
  """Runs the script in a directory of --work_dir, unless the same command has ended well before.

  Args:
    args: see parse_arguments.
    name: str, name of the directory.
    own: list of str, arguments that count before those of the command line.
  """
  script = os.path.join(turns.ROOT, f"{SCRIPTS[args.script].SCRIPT}.py")
  output_dir = f"--output_dir={os.path.join(args.work_dir, name)}"
  command = [sys.executable, script, *own, "--do_eval", output_dir]
  path = os.path.join(args.work_dir, COMMANDS_FILE)
  done = files.read_json(path) if files.exists(path) else {}
  if done.get(name) == command:
    print(f"{name} is done.", flush=True)
    return
  print(" ".join(command), flush=True)
  with subprocess.Popen(command) as process:  # subprocess.run would kill it at Ctrl-C
    status = process.wait()
  if status:
    sys.exit(f"{name}: the command above has failed; the same benchmark goes on from there")
  files.write_json(path, {**done, name: command})


def evaluate_teacher(args, teacher):
  """Evaluates the stripped weights, so that nothing is written into the teacher's directory."""
  weights = save_weights(args, teacher.directory, TEACHER)
  script = SCRIPTS[args.script]
  remembered = script.flags.settings().names("remembered")
  task = {name: value for name, value in teacher.flags.items() if name in remembered}
  task = {name: value for name, value in task.items() if value != script.FLAGS[name].default}
  model = {
    "bert_config_file": os.path.join(weights, model_directory.CONFIG_FILE),
    "vocab_file": os.path.join(weights, model_directory.VOCAB_FILE),
    "init_checkpoint": os.path.join(weights, convert_checkpoint.CHECKPOINT),
  }
  run(args, TEACHER, [*named(task), *args.flags, *named(model)])


def train_students(args):
  """Trains and evaluates; returns a dict of a kind of STUDENTS -> names of its directories."""
  cache_dir = os.path.join(args.work_dir, "teacher-logits")
  common = [f"--teacher_dir={args.teacher_dir}", f"--teacher_cache_dir={cache_dir}", "--do_train"]
  if args.student_layers:
    common.append(f"--student_layers={args.student_layers}")
  special = {"alone": ["--distill_alpha=0"], "distilled": []}
  if args.unlabeled_file:
    special["distilled-unlabeled"] = [f"--unlabeled_file={args.unlabeled_file}"]
  students = {kind: [f"{kind}-{seed}" for seed in args.seeds] for kind in special}
  for number, seed in enumerate(args.seeds):
    # The kind that reads most files comes first, so that a mistake in one of them is found at once.
    for kind, names in reversed(students.items()):
      own = [*args.flags, *common, *special[kind], f"--random_seed={seed}"]
      run(args, names[number], own)
  return students


def named(values):
  """Arguments of a dict of flag name -> value: {"a": 1} -> ["--a=1"]."""
  return [f"--{name}={value}" for name, value in values.items()]


# ---- Size and speed -----------------------------------------------------------------------------


def save_weights(args, directory, name):
  """Saves a finished directory's weights without optimizer slots; returns their directory."""
  output = os.path.join(args.work_dir, WEIGHTS, name)
  convert_checkpoint.write(convert_checkpoint.strip(directory), output, overwrite=True)
  return output


def measure_size(weights):
  """Millions of parameters, and megabytes (10^6) of the checkpoint of save_weights."""
  prefix = os.path.join(weights, convert_checkpoint.CHECKPOINT)
  parameters = sum(map(math.prod, checkpoints.checkpoint_shapes(prefix).values()))
  return parameters / 1e6, sum(map(os.path.getsize, files.glob(prefix + ".*"))) / 1e6


def read_rows(args, max_seq_length):
  """The inputs that the teacher was evaluated on, as Predictor.run takes them."""
  path = os.path.join(args.work_dir, TEACHER, "eval.tf_record")
  table = [f for f in classification.record_features(max_seq_length) if f.per_token]
  rows = []
  for row in input_pipeline.read_some(path, table, args.examples):
    length = sum(row["input_mask"])
    rows.append((row["input_ids"][:length], row["segment_ids"][:length]))
  return rows


def build_model(args, weights, *inputs):
  """Dict of the outputs of a model's head; see Predictor."""
  config = modeling.BertConfig.from_json_file(os.path.join(weights, model_directory.CONFIG_FILE))
  if args.script == "squad":
    return dict(zip(("start", "end"), run_squad.create_model(config, False, *inputs, False)))
  num_labels = len(model_directory.read_labels(weights) or [None])
  no_labels = tf.zeros_like(inputs[0][:, 0])
  outputs = run_classifier.create_model(config, False, *inputs, no_labels, num_labels, False)
  return {"logits": outputs[2]}


def measure_speeds(args, weights, rows):
  """Dict of a name in `weights` -> list of examples per second, one per turn."""

  def speed(predictor):
    start = time.monotonic()
    predictor.run(rows)
    return len(rows) / (time.monotonic() - start)

  sides = {}
  for name, directory in weights.items():
    build = functools.partial(build_model, args, directory)
    checkpoint = os.path.join(directory, convert_checkpoint.CHECKPOINT)
    sides[name] = functools.partial(speed, load_predictor(build, checkpoint))
  return {name: values[1:] for name, values in turns.take(sides, args.turns + 1).items()}


# ---- The table ----------------------------------------------------------------------------------


def metric_columns(args, names):
  """Dict of a column's title -> its text, of the directories of one row of the table."""
  paths = [os.path.join(args.work_dir, name, "eval_metrics.json") for name in names]
  metrics = [files.read_json(path) for path in paths]
  columns = {}
  for title, keys, digits in METRICS[args.script]:
    found = [key for key in keys if key in metrics[0]]
    if found:
      columns[title] = mean([each[found[0]] for each in metrics], digits)
  return columns


def mean(numbers, digits):
  """The mean, and the lowest and highest if there are several: [1, 3] -> "2.0 (1.0 to 3.0)"."""
  if len(numbers) == 1:
    return f"{numbers[0]:.{digits}f}"
  return turns.spread(numbers, digits, statistics.mean)


def measured_columns(weights, speeds):
  """Dict of TEACHER and "student" -> dict of a column's title -> its text."""
  columns = {}
  for name, directory in weights.items():
    parameters, megabytes = measure_size(directory)
    ratios = [own / its for own, its in zip(speeds[name], speeds[TEACHER])]
    columns[name] = {
      "parameters (millions)": f"{parameters:.1f}",
      "weights (MB)": f"{megabytes:.1f}",
      "examples/s": turns.spread(speeds[name]),
      "times as fast": "1" if name == TEACHER else turns.spread(ratios, 2),
    }
  return columns


def to_markdown(rows):
  """A table of dicts of title -> text with the same titles; see main."""
  lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
  return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def parse_arguments():
  """The command line as argparse.Namespace; ends the process if it is wrong."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--script", choices=SCRIPTS, required=True)
  parser.add_argument("--teacher_dir", required=True, help="a finished directory of the script")
  parser.add_argument("--student_layers", help="the teacher's layers, such as 0,2,4")
  parser.add_argument("--unlabeled_file", type=turns.existing_file, help="for the classifier")
  parser.add_argument("--seeds", type=lambda text: list(map(int, text.split(","))), default="1,2,3")
  parser.add_argument("--work_dir", required=True)
  parser.add_argument("--examples", type=int, default=400, help="whose time is taken")
  parser.add_argument("--turns", type=int, default=5, help="of each side that are counted")
  parser.add_argument("flags", nargs="*", help="after --: of the script")
  args = parser.parse_args()
  if args.unlabeled_file and args.script != "classifier":
    parser.error("--unlabeled_file is for --script=classifier")
  return args


def compare(args):
  """Trains, evaluates and measures all that is not done; prints and writes the table."""
  script = SCRIPTS[args.script].SCRIPT
  teacher = distillation.find_teacher(args.teacher_dir, script)
  files.make_directory(args.work_dir, "work_dir")
  students = train_students(args)
  evaluate_teacher(args, teacher)
  some_student = os.path.join(args.work_dir, students["alone"][0])
  weights = {
    TEACHER: os.path.join(args.work_dir, WEIGHTS, TEACHER),
    "student": save_weights(args, some_student, "student"),
  }
  max_seq_length = model_directory.load_flags(some_student, script)["max_seq_length"]
  speeds = measure_speeds(args, weights, read_rows(args, max_seq_length))
  measured = measured_columns(weights, speeds)
  rows = [{"model": "teacher", **measured[TEACHER], **metric_columns(args, [TEACHER])}]
  for kind, names in students.items():
    rows.append({"model": STUDENTS[kind], **measured["student"], **metric_columns(args, names)})
  table = to_markdown(rows)
  files.write_text(os.path.join(args.work_dir, "table.md"), table)
  print(table, end="")


def main():
  """See the top of the file."""
  args = parse_arguments()
  processes.prepare_process()
  try:
    compare(args)
  except files.InputError as error:
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  main()
