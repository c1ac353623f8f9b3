"""Fine-tunes BERT to choose the answer to a question, evaluates it, and predicts.

  python run_multiple_choice.py --model=$BERT --task_name=jsonl \\
    --data_dir=DATA --do_train --do_eval --output_dir=/tmp/choice

The lines of train.jsonl, dev.jsonl and test.jsonl in --data_dir are like

  {"context": "The shop opens at nine.", "question": "When?", "choices": ["at ten", "at nine"],
   "answer": 1}

A finished --output_dir is all that later evaluation, prediction and single questions need:

  python run_multiple_choice.py --output_dir=/tmp/choice \\
    --context="The shop opens at nine." --question="When?" \\
    --choice="at ten" --choice="at nine"

  python run_multiple_choice.py --do_predict --predict_file=new.jsonl --output_dir=/tmp/choice
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import functools
import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import numpy as np
from absl import logging

import modeling
from toolkit.formats import checkpoints
from toolkit.records import tf_records
from toolkit.serving import chooser
from toolkit.serving.chooser import Chooser
from toolkit.support import command_line, files, logs
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import multiple_choice, multiple_choice_head
from toolkit.tasks.multiple_choice_head import create_model
from toolkit.tasks.soft_targets import SoftTargets
from toolkit.training import estimators, hooks, report, run_flags, runs, steps

SCRIPT = "run_multiple_choice"
PREDICTIONS_FILE = "predictions.tsv"

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
run_flags.define_fine_tuning_flags(flags, max_seq_length=128)
multiple_choice.define_flags(flags)
flags.DEFINE_string(
  "data_dir", None, "Directory of the data of --task_name.", remembered=True, group="essential"
)
flags.DEFINE_string("predict_file", None, "File of questions to predict, in place of the test set.")
flags.DEFINE_bool("do_train", False, "Train on the training set of --data_dir.", group="essential")
flags.DEFINE_bool("do_eval", False, "Evaluate on the dev set of --data_dir.", group="essential")
flags.DEFINE_bool("do_predict", False, "Predict the test set or --predict_file.", group="essential")
run_flags.define_batch_flags(flags, "Questions", ["eval", "predict"])
flags.DEFINE_multi_string(
  "choice", None, "Choice of a question to answer; give the flag per choice."
)
flags.DEFINE_string("question", None, "Text before each choice, with --choice.")
flags.DEFINE_string("context", None, "Text that the question is about, with --choice.")


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config: modeling.BertConfig,
  use_one_hot_embeddings: bool = False,
  soft_targets: Optional[SoftTargets] = None,
  **training: Any,
) -> estimators.ModelFn:
  """Makes the model_fn of a TPUEstimator, for training and prediction.

  Args:
    bert_config, use_one_hot_embeddings: see create_model.
    soft_targets: of a training whose features have TEACHER_LOGITS, float32 [B, C].
    **training: the other arguments of estimators.make_model_fn.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of multiple_choice.record_features. Predictions have `probabilities` float32 [B, C] and `losses`
    float32 [B]. Other modes than TRAIN and PREDICT are a ValueError.
  """

  def build(features, mode):
    is_training = mode == tf.estimator.ModeKeys.TRAIN
    inputs = multiple_choice_head.model_inputs(features)
    inputs.append(use_one_hot_embeddings)
    loss, losses, logits, probabilities = create_model(bert_config, is_training, *inputs)
    soft = soft_targets if is_training else None
    return estimators.Outputs(
      multiple_choice_head.objective(features, loss, losses, logits, soft),
      predictions={"probabilities": probabilities, "losses": losses},
    )

  return estimators.make_model_fn(build, **training)


# ---- One run ------------------------------------------------------------------------------------


def main(_: list[str]) -> None:
  """Trains, evaluates, predicts and answers according to the flags."""
  job = prepare()
  settings = job.run.settings
  parts = train(job) if settings.do_train else []
  if settings.do_eval:
    evaluate(job)
  if settings.do_predict:
    predict(job)
  if settings.choice:
    choose(job)
  report.write(job.run, parts)


class Job(NamedTuple):
  """Inputs of a run, all of them checked.

  Attributes:
    sets: "train", "dev" and "test" -> questions, those that the run needs.
  """

  run: runs.Run
  sets: dict[str, list[multiple_choice.Question]]


def prepare() -> Job:
  """Reads and checks all inputs of a run, and writes nothing; InputError for the first mistake."""
  chooser.check_flags(FLAGS.context, FLAGS.question, FLAGS.choice or [])
  reads_files = FLAGS.do_train or FLAGS.do_eval or FLAGS.do_predict
  if not (reads_files or FLAGS.choice):
    raise files.InputError("nothing to do: give --do_train, --do_eval, --do_predict or --choice")
  run = runs.begin(flags, SCRIPT, needed=["task_name"] if reads_files else [])
  run = runs.with_best_metric(run, multiple_choice.METRICS)
  sets, answer_form = multiple_choice.read_sets(run.settings) if reads_files else ({}, None)
  if run.settings.task_name in files.TABLES and reads_files:
    run = run._replace(settings=run.settings.replace(answer_form=answer_form))
  if run.settings.do_train:
    runs.num_train_steps(run.settings, len(sets["train"]), "questions")  # refuses a number of 0
  shape = [1, run.config.hidden_size]
  runs.check_head(run, "cls/multiple_choice/output_weights", shape, "head for multiple choice")
  runs.make_directory(run)
  return Job(run, sets)


def make_features(
  job: Job, set_name: str
) -> tuple[Iterator[dict[str, Any]], list[tf_records.Feature]]:
  """Returns the features of a set: rows for tf_records, and their table."""
  questions, length = job.sets[set_name], job.run.settings.max_seq_length
  width = multiple_choice.num_choices(questions)
  rows = multiple_choice.feature_rows(questions, job.run.required_tokenizer(), length, width)
  return rows, multiple_choice.record_features(length, width)


def make_model_fn(job: Job, num_steps: Optional[int] = None) -> estimators.ModelFn:
  """Makes the model_fn of a run that trains num_steps steps, or of evaluation and prediction."""
  arguments = job.run.model_arguments(num_steps)
  return model_fn_builder(soft_targets=job.run.soft_targets(), **arguments)


def train(job: Job) -> list[hooks.Trained]:
  """Trains, from the last checkpoint in the output directory."""
  run, count = job.run, len(job.sets["train"])
  num_steps = runs.num_train_steps(run.settings, count)
  done = steps.open_directory(run, num_steps)
  if done is None:
    return []
  rows, table = make_features(job, "train")
  train_file = os.path.join(run.scratch(), "train.tf_record")
  tf_records.write_records(train_file, rows, table)

  def build_teacher(config, *inputs):
    return multiple_choice_head.choice_scores(config, False, *inputs, False)

  train_file, table = steps.add_teacher_logits(run, build_teacher, train_file, table)
  steps.log_training(run, {"Num questions": count}, num_steps, done)
  model_fn = make_model_fn(job, num_steps)
  dev_metrics = functools.partial(measure, job)
  return steps.fine_tune(run, model_fn, table, train_file, num_steps, count, dev_metrics)


def run_model(
  job: Job, set_name: str, file_name: str, batch_size: int, checkpoint: Optional[str] = None
) -> tuple[np.ndarray, np.ndarray]:
  """Runs the model over a set.

  Args:
    set_name: key of job.sets.
    file_name: name of the file for the features.
    batch_size: on a TPU the set is filled up to a multiple of it.
    checkpoint: see steps.predict.

  Returns:
    float32 [N, C] probabilities of the choices; float32 [N], the losses in nats, which are
    undefined for questions without an answer.

  Raises:
    files.InputError: the model's outputs are NaN, or memory ran out.
  """
  rows, table = make_features(job, set_name)
  count = len(job.sets[set_name])
  logging.info("  Num questions = %d", count)
  options: dict[str, Any] = {
    "batch_size": batch_size,
    "description": set_name,
    "checkpoint": checkpoint,
  }
  found = steps.predict_set(
    job.run, make_model_fn(job), rows, table, file_name=file_name, num_rows=count, **options
  )
  probabilities = np.stack([row["probabilities"] for row in found])
  checkpoints.check_finite([probabilities], job.run.settings.output_dir)
  return probabilities, np.stack([row["losses"] for row in found])


# ---- Results ------------------------------------------------------------------------------------


def measure(job: Job, checkpoint: Optional[str] = None) -> dict[str, float]:
  """Returns the metrics of a checkpoint on the dev set, with its loss; see steps.predict."""
  batch_size = job.run.settings.eval_batch_size
  probabilities, losses = run_model(job, "dev", "eval.tf_record", batch_size, checkpoint)
  predictions = multiple_choice.decide(job.sets["dev"], probabilities)
  metrics = multiple_choice.score(job.sets["dev"], predictions)
  return {**metrics, "loss": float(losses.mean())}


def evaluate(job: Job) -> None:
  """Evaluates on the dev set and writes eval_results.txt and eval_metrics.json."""
  logging.info("***** Running evaluation *****")
  steps.log_results(steps.write_metrics(job.run, measure(job), "dev"))


def predict(job: Job) -> None:
  """Predicts a set and writes predictions.tsv; scores them if the set has answers."""
  logging.info("***** Running prediction *****")
  run, questions = job.run, job.sets["test"]
  batch_size = run.settings.predict_batch_size
  probabilities, losses = run_model(job, "test", "predict.tf_record", batch_size)
  predictions = multiple_choice.decide(questions, probabilities)
  rows = (questions, predictions, probabilities, run.settings.answer_form)
  path = run.path(PREDICTIONS_FILE)
  files.write_text(path, multiple_choice.prediction_table(*rows))
  logs.notice("%d predictions in %s", len(predictions), path)
  steps.remove_results(run, "_test")  # those of a file before
  if questions[0].answer is not None:
    metrics = multiple_choice.score(questions, predictions)
    metrics = {**metrics, "loss": float(losses.mean())}
    steps.log_results(steps.write_metrics(run, metrics, "test", "_test"))


def choose(job: Job) -> None:
  """Prints the choices of --choice on standard output, the most probable first."""
  run, settings = job.run, job.run.settings
  options = (settings.max_seq_length, settings.engine)
  model = Chooser(run.checkpoint(), run.config, run.required_tokenizer(), *options)
  found = model.choose(settings.choice, settings.question, settings.context)
  print("\n".join(chooser.choice_lines(found)), flush=True)


if __name__ == "__main__":
  command_line.run(main, flags)
