"""Fine-tunes BERT to classify sentences or sentence pairs, evaluates it, and predicts.

  python run_classifier.py --model=$BERT --task_name=tsv \\
    --data_dir=samples/reviews --do_train --do_eval --output_dir=/tmp/reviews

A finished --output_dir is all that later evaluation and prediction need:

  python run_classifier.py --do_predict --predict_file=new.tsv \\
    --output_dir=/tmp/reviews
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip
import collections  # noqa: F401, for programs that import * from here
import csv  # noqa: F401
import functools
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
from absl import logging

import modeling
import optimization  # noqa: F401
import tokenization  # noqa: F401
from tokenization import _truncate_seq_pair  # noqa: F401
from toolkit.formats import checkpoints
from toolkit.records import tf_records
from toolkit.serving import classifier
from toolkit.serving.classifier import Classifier
from toolkit.support import command_line, files, logs
from toolkit.support.command_line import AUTO
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import classification, classification_head
from toolkit.tasks.classification import (  # noqa: F401, names of the classic script
  CLASSES,
  LABELS,
  NUMBER,
  ColaProcessor,
  DataProcessor,
  InputExample,
  InputFeatures,
  MnliProcessor,
  MrpcProcessor,
  PaddingInputExample,
  XnliProcessor,
  convert_examples_to_features,
  convert_single_example,
  file_based_convert_examples_to_features,
)
from toolkit.tasks.classification_head import (  # noqa: F401, names of the classic script
  HEADS,
  create_model,
  file_based_input_fn_builder,
  input_fn_builder,
)
from toolkit.tasks.soft_targets import SoftTargets
from toolkit.training import estimators, hooks, micro_batches, report, run_flags, runs, steps

SCRIPT = "run_classifier"

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
run_flags.define_fine_tuning_flags(flags, max_seq_length=128)
flags.DEFINE_string(
  "task_name", None, classification.TASK_HELP, remembered=True, identity=True, group="essential"
)
flags.DEFINE_string(
  "data_dir", None, "Directory of the data of --task_name.", remembered=True, group="essential"
)
flags.DEFINE_string("predict_file", None, "File to predict, in place of the test set.")
flags.DEFINE_bool("do_train", False, "Train on the training set of --data_dir.", group="essential")
flags.DEFINE_bool("do_eval", False, "Evaluate on the dev set of --data_dir.", group="essential")
flags.DEFINE_bool("do_predict", False, "Predict the test set or --predict_file.", group="essential")
run_flags.define_batch_flags(flags, "Examples", ["eval", "predict"])
flags.DEFINE_string("text", None, "Text to classify. Its label is printed.")
flags.DEFINE_string("text_b", None, "Second text of a pair, with --text.")
classification.define_flags(flags)
flags.DEFINE_string(
  "unlabeled_file",
  None,
  "File like --predict_file, with more texts to train on. Their loss compares student and teacher "
  "alone. They count in an epoch. Needs --teacher_dir.",
  group="distillation",
)


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config: modeling.BertConfig, num_labels: int, init_checkpoint: Optional[str],
  learning_rate: Optional[float], num_train_steps: Optional[int], num_warmup_steps: Optional[int],
  use_tpu: bool, use_one_hot_embeddings: bool, kind: classification.Kind = CLASSES,
  options: micro_batches.StepOptions = micro_batches.DEFAULTS,
  class_weights: Optional[list[float]] = None, soft_targets: Optional[SoftTargets] = None,
  predicts_losses: bool = False,
) -> estimators.ModelFn:  # fmt: skip
  """Makes the model_fn of a TPUEstimator.

  Args:
    bert_config, num_labels, use_one_hot_embeddings, kind, class_weights: see create_model.
    init_checkpoint, use_tpu: see estimators.make_model_fn.
    learning_rate, num_train_steps, num_warmup_steps, options: see optimization.create_optimizer;
      None for a model_fn that does not train.
    soft_targets: of a training whose features have TEACHER_LOGITS, float32 [B, L].
    predicts_losses: True if predictions have `per_example_loss` too, which needs labels.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of classification.record_features; is_real_example and example_index are optional, and for
    prediction label_ids. Predictions have `probabilities` [B, L].
  """

  def build(features, mode):
    keys = tf.estimator.ModeKeys
    inputs = [features[name] for name in ("input_ids", "input_mask", "segment_ids")]
    label_ids = features.get("label_ids") if mode == keys.PREDICT else features["label_ids"]
    # A program may replace create_model by a function with the classic arguments.
    more: dict[str, Any] = {} if kind is CLASSES else {"kind": kind}
    more.update({"class_weights": class_weights} if class_weights else {})
    inputs += [label_ids, num_labels, use_one_hot_embeddings]
    loss, losses, logits, probabilities = create_model(
      bert_config, mode == keys.TRAIN, *inputs, **more
    )
    is_real = features.get("is_real_example", tf.ones_like(losses, tf.int32))
    soft = soft_targets if mode == keys.TRAIN else None
    return estimators.Outputs(
      classification_head.objective(features, loss, losses, logits, kind, class_weights, soft),
      # For programs that evaluate by the estimator; this script evaluates by prediction.
      (HEADS[kind].streaming_metrics, [losses, label_ids, logits, is_real]),
      {
        "probabilities": probabilities,
        **({"per_example_loss": losses} if predicts_losses else {}),
      },
    )

  schedule = (learning_rate, num_train_steps, num_warmup_steps)
  return estimators.make_model_fn(build, init_checkpoint, *schedule, use_tpu, options)


# ---- One run ------------------------------------------------------------------------------------


def main(_: list[str]) -> None:
  """Trains, evaluates and predicts according to the flags."""
  job = prepare()
  parts = train(job) if FLAGS.do_train else []
  if FLAGS.do_eval:
    for number, set_name in enumerate(job.task.dev_sets):
      evaluate(job, set_name, suffix=f"_{set_name}" if number else "")
  if FLAGS.do_predict:
    for number, set_name in enumerate(classification.predicted_sets(job.task, job.run.settings)):
      predict(job, set_name, suffix=f"_{set_name}" if number else "")
  if FLAGS.text is not None:
    classify_text(job)
  report.write(job.run, parts)


class Job(NamedTuple):
  """Inputs of a run, all of them checked.

  Attributes:
    labels: in the order of their ids, that of class_weights too; empty for NUMBER.
    examples: set name -> examples; see classification.read_sets.
  """

  run: runs.Run
  task: classification.Task
  labels: list[str]
  examples: dict[str, list[InputExample]]
  class_weights: Optional[list[float]] = None

  def num_outputs(self) -> int:
    return len(self.labels) or 1


def prepare() -> Job:
  """Reads and checks all inputs of a run, and writes nothing; InputError for the first mistake."""
  if not (FLAGS.do_train or FLAGS.do_eval or FLAGS.do_predict or FLAGS.text is not None):
    raise files.InputError("nothing to do: give --do_train, --do_eval, --do_predict or --text")
  if FLAGS.text_b is not None and FLAGS.text is None:
    raise files.InputError("--text_b needs --text, the first text of the pair")
  run = runs.begin(flags, SCRIPT, needed=["task_name"])
  settings = run.settings
  if settings.do_train or settings.do_eval or (settings.do_predict and not settings.predict_file):
    settings.require(["data_dir"], f"the task {settings.task_name}")
  task, labels = find_task(run)
  run = runs.with_best_metric(run, (*task.metrics, "loss"))
  predicts = settings.do_predict or settings.text is not None
  if task.kind is LABELS and predicts and not settings.do_eval:
    is_kept = not (settings.do_train and settings.overwrite_output_dir)
    classification.label_threshold(settings, is_kept)  # refuses one that is not known
  if settings.do_train and settings.unlabeled_file and run.soft_targets() is None:
    raise files.InputError(
      "--unlabeled_file needs a teacher, whose logits are the labels: give --teacher_dir, and a "
      "--distill_alpha above 0"
    )
  job = Job(run, task, labels, classification.read_sets(task, settings))
  if settings.do_train:
    runs.num_train_steps(settings, len(training_examples(job)))  # refuses a number of 0
    if settings.class_weights is not None:
      weights = classification.class_weights(settings.class_weights, labels, job.examples["train"])
      job = job._replace(class_weights=weights)
  shape = [job.num_outputs(), run.config.hidden_size]
  runs.check_head(run, "output_weights", shape, f"classifier of {job.num_outputs()} labels")
  runs.make_directory(run)
  return job


def find_task(run: runs.Run) -> tuple[classification.Task, list[str]]:
  """Returns the task and its labels: those of the trained weights, if they are known."""
  known = run.known_labels()
  task = classification.task_of(run.settings, known)
  labels = known or task.get_labels(run.settings.data_dir)
  if run.teacher:
    labels = run.teacher.check_labels(labels, is_fixed=known is not None)
    task = classification.task_of(run.settings, labels)
  return task, labels


def training_examples(job: Job) -> list[InputExample]:
  """Returns the examples to train on, the unlabeled ones last."""
  return job.examples["train"] + job.examples.get("unlabeled", [])


def write_features(
  job: Job, examples: Sequence[classification.Example], name: str
) -> tuple[str, list[tf_records.Feature]]:
  """Writes the features of examples to a TFRecord file; returns its path and its table."""
  length, kind = job.run.settings.max_seq_length, job.task.kind
  marks_unlabeled = name == "train.tf_record" and "unlabeled" in job.examples
  path = os.path.join(job.run.scratch(), name)
  file_based_convert_examples_to_features(
    examples, job.labels, length, job.run.required_tokenizer(), path, kind, marks_unlabeled
  )
  return path, classification.record_features(length, kind, job.num_outputs(), marks_unlabeled)


def make_model_fn(job: Job, num_steps: Optional[int] = None) -> estimators.ModelFn:
  """Makes the model_fn of a run that trains num_steps steps, or of evaluation and prediction."""
  return model_fn_builder(
    num_labels=job.num_outputs(),
    kind=job.task.kind,
    class_weights=job.class_weights,
    soft_targets=job.run.soft_targets(),
    predicts_losses=True,
    **job.run.model_arguments(num_steps),
  )


def train(job: Job) -> list[hooks.Trained]:
  """Trains, from the last checkpoint in the output directory."""
  run, examples = job.run, training_examples(job)
  num_steps = runs.num_train_steps(run.settings, len(examples))
  done = steps.open_directory(run, num_steps, job.labels or None)
  if done is None:
    return []
  train_file, table = write_features(job, examples, "train.tf_record")

  def build_teacher(config, *inputs):
    return classification_head.create_logits(config, job.num_outputs(), *inputs)

  train_file, table = steps.add_teacher_logits(run, build_teacher, train_file, table)
  steps.log_training(run, {"Num examples": len(examples)}, num_steps, done)
  model_fn = make_model_fn(job, num_steps)
  dev_metrics = functools.partial(measure_while_training, job)
  return steps.fine_tune(run, model_fn, table, train_file, num_steps, len(examples), dev_metrics)


def run_model(
  job: Job, set_name: str, file_name: str, batch_size: int, checkpoint: Optional[str] = None
) -> tuple[np.ndarray, np.ndarray]:
  """Runs the model over a set.

  Args:
    set_name: key of job.examples.
    file_name: name of the file for the features.
    batch_size: on a TPU the set is filled up to a multiple of it.
    checkpoint: see steps.predict.

  Returns:
    float32 [N, L] probabilities and float32 [N] losses, in the order of the input.
  """
  examples: list[classification.Example] = list(job.examples[set_name])
  count = len(examples)
  if job.run.settings.use_tpu:
    examples += [PaddingInputExample()] * (-count % batch_size)
  input_file, table = write_features(job, examples, file_name)
  padding = len(examples) - count
  logging.info("  Num examples = %d (%d actual, %d padding)", len(examples), count, padding)
  logging.info("  Batch size = %d", batch_size)
  rows = steps.predict(
    job.run,
    make_model_fn(job),
    table,
    input_file,
    num_examples=count,
    batch_size=batch_size,
    description=set_name,
    checkpoint=checkpoint,
  )
  probabilities = np.stack([row["probabilities"] for row in rows])
  checkpoints.check_finite([probabilities], job.run.settings.output_dir)
  return probabilities, np.stack([row["per_example_loss"] for row in rows])


def measure(
  job: Job, set_name: str, file_name: str, checkpoint: Optional[str] = None
) -> tuple[dict[str, Any], np.ndarray]:
  """Returns the metrics of a checkpoint on a set, and the losses, float32 [N]."""
  settings = job.run.settings
  batch_size = settings.eval_batch_size
  probabilities, losses = run_model(job, set_name, file_name, batch_size, checkpoint)
  labels = [example.label for example in job.examples[set_name]]
  threshold = settings.label_threshold
  if threshold != AUTO:
    threshold = classification.label_threshold(settings)
  return job.task.kind.score(labels, probabilities, job.labels, threshold), losses


def measure_while_training(job: Job, checkpoint: str) -> dict[str, float]:
  """Returns the metrics of a checkpoint on the first dev set."""
  metrics, losses = measure(job, job.task.dev_sets[0], "eval.tf_record", checkpoint)
  return {**{name: metrics[name] for name in job.task.metrics}, "loss": losses.mean()}


def evaluate(job: Job, set_name: str, suffix: str = "") -> None:
  """Evaluates on a set and writes eval_results.txt and eval_metrics.json."""
  logging.info("***** Running evaluation *****")
  run, batch_size = job.run, job.run.settings.eval_batch_size
  metrics, losses = measure(job, set_name, f"eval{suffix}.tf_record")
  step = steps.trained_step(run)
  judged = {f"eval_{name}": metrics[name] for name in job.task.metrics}
  results = classification.eval_results(metrics, losses, batch_size, step)
  steps.log_results({**judged, **results})
  mean_loss = float(losses.mean())
  details = {**metrics, "loss": mean_loss, "global_step": step, "set": set_name}
  steps.write_results(run, results, details, {**judged, "loss": mean_loss}, suffix)
  if run.settings.label_threshold == AUTO and job.task.kind is LABELS:
    found = {name: metrics[name] for name in ("threshold", "micro_f1")}
    files.write_json(run.path(classification.THRESHOLD_FILE), found)


def predict(job: Job, set_name: str, suffix: str = "") -> None:
  """Predicts a set and writes test_results.tsv, predictions.tsv and the leaderboard's file."""
  logging.info("***** Running prediction*****")
  settings, kind, examples = job.run.settings, job.task.kind, job.examples[set_name]
  file_name = f"predict{suffix}.tf_record"
  probabilities, _ = run_model(job, set_name, file_name, settings.predict_batch_size)
  threshold = classification.label_threshold(settings) if kind is LABELS else 0.5
  predictions = kind.decide(probabilities, job.labels, threshold)
  logging.info("***** Predict results *****")
  rows = (examples, job.labels, probabilities, predictions, settings.label_separator)
  written = classification.prediction_files(
    job.task, set_name, *rows, suffix=suffix, with_text=settings.predictions_with_text
  )
  for name, text in written.items():
    files.write_text(job.run.path(name), text)
    logs.notice("%d predictions in %s", len(predictions), job.run.path(name))


def classify_text(job: Job) -> None:
  """Prints the prediction for --text on standard output."""
  run, settings = job.run, job.run.settings
  kind, tokenizer = job.task.kind, run.required_tokenizer()
  threshold = classification.label_threshold(settings) if kind is LABELS else 0.5
  options: list[Any] = [job.labels, settings.max_seq_length, kind, threshold, settings.engine]
  model = Classifier(run.checkpoint(), run.config, tokenizer, *options)
  text = settings.text if settings.text_b is None else (settings.text, settings.text_b)
  print(classifier.prediction_line(*model.classify([text])), flush=True)


if __name__ == "__main__":
  command_line.run(main, flags)
