"""Fine-tunes BERT on questions about paragraphs (SQuAD 1.1 and 2.0), scores it, and answers.

  python run_squad.py --model=$BERT --train_file=samples/squad/train.json \\
    --predict_file=samples/squad/dev.json --version_2_with_negative \\
    --do_train --do_predict --do_eval --output_dir=/tmp/squad

A finished --output_dir is all that later predictions need:

  python run_squad.py --do_predict --predict_file=questions.json \\
    --output_dir=/tmp/squad
  python run_squad.py --do_ask --output_dir=/tmp/squad
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import collections  # noqa: F401, this and four more for programs that import * from here
import functools
import hashlib
import json  # noqa: F401
import math  # noqa: F401
import os
import random  # noqa: F401
from typing import Any, NamedTuple, Optional

import numpy as np
import six  # noqa: F401
from absl import logging

import modeling
import optimization  # noqa: F401
import tokenization
from toolkit.formats import checkpoints, model_directory
from toolkit.metrics import squad_scores
from toolkit.serving import question_answerer
from toolkit.serving.question_answerer import (  # noqa: F401
  QuestionAnswerer,
  answer_line,
  typed_questions,
)
from toolkit.support import command_line, files, logs
from toolkit.support.command_line import AUTO
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import squad, squad_answers, squad_head
from toolkit.tasks.soft_targets import SoftTargets
from toolkit.tasks.squad import (  # noqa: F401, names of the classic script
  FeatureWriter,
  InputFeatures,
  SquadExample,
  _check_is_max_context,
  _improve_answer_span,
  convert_examples_to_features,
  read_squad_examples,
)
from toolkit.tasks.squad_answers import (  # noqa: F401, names of the classic script
  RawResult,
  _compute_softmax,
  _get_best_indexes,
  get_final_text,
  write_predictions,
)
from toolkit.tasks.squad_head import create_model, input_fn_builder  # noqa: F401
from toolkit.training import estimators, hooks, micro_batches, report, run_flags, runs, steps

SCRIPT = "run_squad"
PREDICTIONS_FILE = "predictions.json"
# Metrics that --best_metric may name, the default first; by whether questions may have no answer.
METRICS = {False: ("f1", "exact_match"), True: ("best_f1", "best_exact")}

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
run_flags.define_fine_tuning_flags(flags, max_seq_length=384)
flags.DEFINE_string("train_file", None, "SQuAD file to train on.", group="essential")
flags.DEFINE_string(
  "predict_file",
  None,
  "SQuAD file to answer, and to score with --do_eval. Only --do_eval needs its answers.",
  group="essential",
)
flags.DEFINE_bool("do_train", False, "Train on --train_file.", group="essential")
flags.DEFINE_bool("do_predict", False, "Answer the questions of --predict_file.", group="essential")
flags.DEFINE_bool(
  "do_eval",
  False,
  "Score the answers to --predict_file by exact match and F1. The model runs only if --output_dir "
  "has no answers to that file yet.",
  group="essential",
)
flags.DEFINE_bool(
  "do_ask", False, "Answer --question about a paragraph, or questions typed at a prompt."
)
flags.DEFINE_string("question", None, "Question of --do_ask.")
flags.DEFINE_string("context", None, "Paragraph of --do_ask.")
flags.DEFINE_string("context_file", None, "Text file with the paragraph of --do_ask.")
squad.define_flags(flags)


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config: modeling.BertConfig, init_checkpoint: Optional[str], learning_rate: Optional[float],
  num_train_steps: Optional[int], num_warmup_steps: Optional[int], use_tpu: bool,
  use_one_hot_embeddings: bool, options: micro_batches.StepOptions = micro_batches.DEFAULTS,
  soft_targets: Optional[SoftTargets] = None,
) -> estimators.ModelFn:  # fmt: skip
  """Makes the model_fn of a TPUEstimator, for training and prediction.

  Args:
    bert_config, use_one_hot_embeddings: see create_model.
    init_checkpoint, use_tpu: see estimators.make_model_fn.
    learning_rate, num_train_steps, num_warmup_steps: see optimization.create_optimizer; None for a
      model_fn that does not train.
    options: of a training step.
    soft_targets: of a training whose features have TEACHER_LOGITS, float32 [B, S, 2].

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of squad.record_features. Predictions have `unique_ids` [B], `start_logits` and `end_logits`
    [B, S]. Other modes than TRAIN and PREDICT are a ValueError.
  """

  def build(features, mode):
    is_training = mode == tf.estimator.ModeKeys.TRAIN
    inputs = (features["input_ids"], features["input_mask"], features["segment_ids"])
    logits = create_model(bert_config, is_training, *inputs, use_one_hot_embeddings)
    objective = None
    if is_training:
      objective = squad_head.objective(features, *logits, soft_targets)
    predictions = dict(zip(("start_logits", "end_logits"), logits))
    if "unique_ids" in features:
      predictions["unique_ids"] = features["unique_ids"]
    return estimators.Outputs(objective, predictions=predictions)

  schedule = (learning_rate, num_train_steps, num_warmup_steps)
  return estimators.make_model_fn(build, init_checkpoint, *schedule, use_tpu, options)


# ---- One run ------------------------------------------------------------------------------------


def main(_: list[str]) -> None:
  """Trains, answers, scores and asks according to the flags."""
  job = prepare()
  settings = job.run.settings
  parts = train(job) if settings.do_train else []
  if settings.do_predict or settings.do_eval:
    answers = None
    if not settings.do_predict:
      answers = squad_answers.load(settings.output_dir, answers_source(job.run))
    finish(job.run, answers or predict(job))
  if settings.do_ask:
    ask(job.run)
  report.write(job.run, parts)


class Job(NamedTuple):
  """Inputs of a run, all of them checked.

  Attributes:
    run: settings and model.
    examples: "train" and "predict" -> questions, those that the run needs.
  """

  run: runs.Run
  examples: dict[str, list[SquadExample]]


def validate_flags_or_throw(
  bert_config: modeling.BertConfig, settings: Optional[command_line.Settings] = None
) -> None:
  """Checks the flags that need no file but the model's configuration.

  Args:
    bert_config: the model's.
    settings: default: the present values of the flags.

  Raises:
    files.InputError, a ValueError: the first flag that is missing or cannot be used.
  """
  settings = settings or flags.settings()
  if not (settings.do_train or settings.do_predict or settings.do_eval or settings.do_ask):
    raise files.InputError("nothing to do: give --do_train, --do_predict, --do_eval or --do_ask")
  if settings.do_train:
    settings.require(["train_file"], "--do_train")
  if settings.do_predict or settings.do_eval:
    purpose = "--do_predict" if settings.do_predict else "--do_eval"
    settings.require(["predict_file"], purpose)
  model_directory.check_length(settings.max_seq_length, bert_config)
  squad.settings_of(settings, is_training=False).check()
  with files.input_checks():
    tokenization.validate_case_matches_checkpoint(settings.do_lower_case, settings.init_checkpoint)


def prepare() -> Job:
  """Reads and checks all inputs of a run, and writes nothing; InputError for the first mistake."""
  run = runs.begin(flags, SCRIPT)
  settings = run.settings
  validate_flags_or_throw(run.config, settings)
  if settings.null_score_diff_threshold == AUTO and not settings.do_eval:
    squad_answers.saved_threshold(settings.output_dir)  # refuses one that is not known
  evaluates = settings.do_eval or (settings.do_train and settings.eval_steps is not None)
  run = runs.with_best_metric(run, METRICS[settings.version_2_with_negative])
  if settings.do_ask:
    paragraph_to_ask(settings)  # refuses an empty one
  examples = {}
  if settings.do_train:
    examples["train"] = read_squad_examples(
      settings.train_file, True, settings.version_2_with_negative
    )
  if settings.do_predict or evaluates:
    settings.require(["predict_file"], "evaluation")
    examples["predict"] = read_squad_examples(settings.predict_file, False)
  if evaluates:
    squad_scores.check_scorable(settings.predict_file)
  shape = [2, run.config.hidden_size]
  runs.check_head(run, "cls/squad/output_weights", shape, "question answering model")
  runs.make_directory(run)
  if settings.cache_dir:
    files.make_directory(settings.cache_dir, "cache_dir")
  return Job(run, examples)


def make_features(job: Job, set_name: str, input_file: str) -> squad.FeatureSet:
  """Makes the features of job.examples[set_name], which were read from input_file."""
  settings = job.run.settings
  features = squad.cached_features(
    job.examples[set_name],
    input_file,
    squad.settings_of(settings, is_training=set_name == "train"),
    settings.cache_dir or job.run.scratch(),
    settings.num_workers or os.cpu_count() or 1,
  )
  squad.log_features(features)
  return features


def train(job: Job) -> list[hooks.Trained]:
  """Trains, from the last checkpoint in the output directory."""
  run, settings = job.run, job.run.settings
  features = make_features(job, "train", settings.train_file)
  num_steps = runs.num_train_steps(settings, len(features), "windows")
  done = steps.open_directory(run, num_steps)
  if done is None:
    return []
  train_file = os.path.join(run.scratch(), "train.tf_record")
  squad.write_feature_records(features, train_file, settings.num_workers or os.cpu_count() or 1)
  table = squad.record_features(settings.max_seq_length, is_training=True)
  teacher = squad_head.stacked_logits
  train_file, table = steps.add_teacher_logits(run, teacher, train_file, table)
  num_questions = len(job.examples["train"])
  counts = {"Num orig examples": num_questions, "Num split examples": len(features)}
  steps.log_training(run, counts, num_steps, done)
  soft = run.soft_targets()
  model_fn = model_fn_builder(soft_targets=soft, **run.model_arguments(num_steps))
  dev_metrics = functools.partial(measure_while_training, job)
  return steps.fine_tune(run, model_fn, table, train_file, num_steps, len(features), dev_metrics)


def run_model(
  job: Job, features: squad.FeatureSet, checkpoint: Optional[str] = None
) -> list[RawResult]:
  """Runs the model over windows.

  Args:
    job: of the model.
    features: of the windows.
    checkpoint: see steps.predict.

  Returns:
    A result per window in their order; logits are float32 [L], L at least the number of the
    window's tokens.
  """
  run, settings = job.run, job.run.settings
  input_file, batch_size = run.path("eval.tf_record"), settings.predict_batch_size
  multiple = batch_size if settings.use_tpu else 1
  workers = settings.num_workers or os.cpu_count() or 1
  squad.write_feature_records(features, input_file, workers, multiple=multiple)
  table = squad.record_features(settings.max_seq_length, is_training=False)
  model_fn = model_fn_builder(**run.model_arguments())
  rows = steps.predict(
    run,
    model_fn,
    table,
    input_file,
    num_examples=len(features),
    batch_size=batch_size,
    description="predict",
    checkpoint=checkpoint,
  )
  return [RawResult(int(row["unique_ids"]), row["start_logits"], row["end_logits"]) for row in rows]


def choose_answers(
  job: Job, features: squad.FeatureSet, results: list[RawResult]
) -> squad_answers.Answers:
  """Chooses answers of the model's results, however high null odds are."""
  settings = job.run.settings
  return squad_answers.compute_answers(
    job.examples["predict"],
    features,
    results,
    settings.n_best_size,
    settings.max_answer_length,
    settings.do_lower_case,
    settings.version_2_with_negative,
    null_score_diff_threshold=np.inf,
    verbose_logging=settings.verbose_logging,
  )


def measure_while_training(job: Job, checkpoint: str) -> dict[str, float]:
  """Returns the metrics of a checkpoint on --predict_file."""
  predict_file = job.run.settings.predict_file
  features = make_features(job, "predict", predict_file)
  answers = choose_answers(job, features, run_model(job, features, checkpoint))
  dataset = files.read_json(predict_file)
  if answers.null_odds:
    return squad_scores.best_thresholds(dataset, answers.predictions, answers.null_odds)
  return squad_scores.evaluate(dataset, answers.predictions)


def predict(job: Job) -> squad_answers.Answers:
  """Runs the model over --predict_file and saves what answers are chosen from.

  Returns:
    An answer to each question, however high its null odds.
  """
  settings = job.run.settings
  features = make_features(job, "predict", settings.predict_file)
  logging.info("***** Running predictions *****")
  logging.info("  Num orig examples = %d", len(job.examples["predict"]))
  logging.info("  Num split examples = %d", len(features))
  logging.info("  Batch size = %d", settings.predict_batch_size)
  answers = choose_answers(job, features, run_model(job, features))
  squad_answers.save(settings.output_dir, answers, answers_source(job.run))
  return answers


# ---- Answers, thresholds and scores -------------------------------------------------------------


def answers_source(run: runs.Run) -> dict[str, Any]:
  """Returns all that saved answers depend on; they are used again only if nothing has changed."""
  settings = run.settings
  index = checkpoints.resolve_checkpoint(run.checkpoint()) + ".index"  # has checksums of variables
  names = (*settings.names("remembered"), "n_best_size", "max_answer_length")
  return {
    "checkpoint": hashlib.sha256(files.read_bytes(index)).hexdigest(),
    "predict_file": hashlib.sha256(files.read_bytes(settings.predict_file)).hexdigest(),
    **{name: settings[name] for name in names},
  }


def finish(run: runs.Run, answers: squad_answers.Answers) -> None:
  """Writes the predictions by the wanted threshold and, with --do_eval, their scores."""
  settings = run.settings
  threshold, best, dataset = settings.null_score_diff_threshold, {}, {}
  if settings.do_eval:
    dataset = files.read_json(settings.predict_file)
    if answers.null_odds:
      best = squad_scores.best_thresholds(dataset, answers.predictions, answers.null_odds)
  if threshold == AUTO:
    saved = None if best else squad_answers.saved_threshold(settings.output_dir)
    threshold = best["best_f1_thresh"] if best else saved
    logs.notice("--null_score_diff_threshold=auto: %s", threshold)
  predictions = squad_answers.apply_threshold(answers, threshold)
  logs.notice("Writing predictions to: %s", run.path(PREDICTIONS_FILE))
  squad_answers.write(run.path(PREDICTIONS_FILE), predictions)
  if settings.do_eval:
    write_metrics(run, {**squad_scores.evaluate(dataset, predictions), **best}, threshold)


def write_metrics(run: runs.Run, metrics: dict[str, Any], threshold: float) -> None:
  """Logs the scores and writes them to eval_metrics.json and TensorBoard.

  Args:
    run: with the output directory.
    metrics: name -> number, as the official evaluators name them.
    threshold: the null_score_diff_threshold of the predictions.
  """
  step = steps.trained_step(run)
  logs.notice("***** Eval results *****")
  for name, value in metrics.items():
    logs.notice("  %s = %s", name, value)
  hooks.write_scalars(run.path("eval"), step, metrics)
  extra = {"global_step": step, "predict_file": run.settings.predict_file}
  if run.settings.version_2_with_negative:
    extra["null_score_diff_threshold"] = threshold
  files.write_json(run.path(squad_answers.METRICS_FILE), {**metrics, **extra})


def paragraph_to_ask(settings: command_line.Settings) -> Optional[str]:
  """Returns the text of --context_file or --context, or None; InputError if it is empty."""
  context, name = settings.context, "--context"
  if settings.context_file:
    context, name = files.read_text(settings.context_file), settings.context_file
  question_answerer.check_texts(settings.question, context, name)
  return context


def ask(run: runs.Run) -> None:
  """Answers --question, or typed questions, on standard output."""
  settings = run.settings
  threshold = settings.null_score_diff_threshold
  if threshold == AUTO:
    threshold = squad_answers.saved_threshold(settings.output_dir)
  elif not settings.is_given("null_score_diff_threshold"):
    threshold = squad_answers.known_threshold(settings.output_dir)
  features = squad.settings_of(settings, is_training=False)
  options = (threshold, settings.max_answer_length, settings.engine)
  answerer = QuestionAnswerer(run.checkpoint(), run.config, features, *options)
  question_answerer.converse(answerer, settings.question, paragraph_to_ask(settings))


if __name__ == "__main__":
  command_line.run(main, flags)
