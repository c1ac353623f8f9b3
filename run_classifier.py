"""Fine-tunes BERT to classify sentences or pairs of them, evaluates it, and predicts.

  python run_classifier.py --task_name=tsv --data_dir=samples/reviews --do_train --do_eval \\
    --bert_config_file=$BERT/bert_config.json --vocab_file=$BERT/vocab.txt \\
    --init_checkpoint=$BERT/bert_model.ckpt --output_dir=/tmp/reviews

A finished --output_dir is all that later evaluation and prediction need:

  python run_classifier.py --do_predict --predict_file=new.tsv --output_dir=/tmp/reviews
"""

import quiet_start  # noqa: F401, first of all  # isort: skip

import csv
import functools
import io
import os
from typing import NamedTuple

import numpy as np
import tensorflow.compat.v1 as tf
from absl import flags, logging

import classifier_data
import common_flags
import estimators
import files
import glue_metrics
import model_directory
import modeling
import optimization
import records
import runs
from classifier_data import (  # noqa: F401, names that were always importable from here
  ColaProcessor,
  DataProcessor,
  InputExample,
  InputFeatures,
  MnliProcessor,
  MrpcProcessor,
  PaddingInputExample,
  XnliProcessor,
  _truncate_seq_pair,
  convert_examples_to_features,
  convert_single_example,
  file_based_convert_examples_to_features,
)

SCRIPT = "run_classifier"

FLAGS = flags.FlagValues()
common_flags.define_model_flags(FLAGS, max_seq_length=128)
common_flags.define_training_flags(FLAGS)
common_flags.define_device_flags(FLAGS)
flags.DEFINE_string("task_name", None, classifier_data.TASK_HELP, flag_values=FLAGS)
flags.DEFINE_string(
  "data_dir", None, "Directory with the task's training, dev and test files.", flag_values=FLAGS
)
flags.DEFINE_string(
  "predict_file", None, "File to predict in place of the test set.", flag_values=FLAGS
)
flags.DEFINE_bool("do_train", False, "Whether to train.", flag_values=FLAGS)
flags.DEFINE_bool("do_eval", False, "Whether to evaluate on the dev set.", flag_values=FLAGS)
flags.DEFINE_bool("do_predict", False, "Whether to predict the test set.", flag_values=FLAGS)
flags.DEFINE_integer(
  "eval_batch_size", 8, "Examples in a batch of evaluation.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
  "predict_batch_size", 8, "Examples in a batch of prediction.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_string(
  "text_column",
  None,
  "tsv, csv, jsonl: column of the text, a name or a number from 0. Default: sentence, text or "
  "sentence1; without a header the first column.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "text_b_column",
  None,
  "tsv, csv, jsonl: column of the second text of a pair.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "label_column", None, "tsv, csv, jsonl: column of the label. Default: label.", flag_values=FLAGS
)
flags.DEFINE_string(
  "id_column",
  None,
  "tsv, csv, jsonl: column of the id. Default: rows are numbered.",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "has_header", True, "tsv, csv: whether the first line names the columns.", flag_values=FLAGS
)
flags.DEFINE_string(
  "label_file",
  None,
  "tsv, csv, jsonl: file with the labels, one a line. Default: those of the training data.",
  flag_values=FLAGS,
)
common_flags.finish(FLAGS)

# Flags that evaluation and prediction take over from the run that trained the model.
TASK_FLAGS = (
  "task_name",
  "data_dir",
  "do_lower_case",
  "max_seq_length",
  "text_column",
  "text_b_column",
  "label_column",
  "id_column",
  "has_header",
  "label_file",
)


# ---- The model ----------------------------------------------------------------------------------


def create_model(
  bert_config,
  is_training,
  input_ids,
  input_mask,
  segment_ids,
  labels,
  num_labels,
  use_one_hot_embeddings,
  is_regression=False,
):
  """BERT with a dense layer over its pooled output.

  Args:
    bert_config: modeling.BertConfig.
    is_training: bool, whether there is dropout.
    input_ids, input_mask, segment_ids: int32 [B, S].
    labels: int32 [B], places of the labels in the list; float32 [B] for regression.
    num_labels: int, L; 1 for regression.
    use_one_hot_embeddings: bool, see modeling.BertModel.
    is_regression: bool, whether a number is predicted and not a class.

  Returns:
    A tuple: float32 scalar, the mean loss; float32 [B], the losses (cross-entropy in nats; squared
    error for regression); float32 [B, L], the logits; float32 [B, L], the probabilities (for
    regression [B, 1], the predicted number).
  """
  model = modeling.BertModel(
    config=bert_config,
    is_training=is_training,
    input_ids=input_ids,
    input_mask=input_mask,
    token_type_ids=segment_ids,
    use_one_hot_embeddings=use_one_hot_embeddings,
  )
  pooled = model.get_pooled_output()  # [B, H]
  weights = tf.get_variable(
    "output_weights", [num_labels, pooled.shape[-1]], initializer=modeling.create_initializer(0.02)
  )
  bias = tf.get_variable("output_bias", [num_labels], initializer=tf.zeros_initializer())
  with tf.variable_scope("loss"):
    pooled = modeling.dropout(pooled, 0.1 if is_training else 0.0)
    logits = tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True), bias)  # [B, L]
    if is_regression:
      probabilities = logits
      losses = tf.square(logits[:, 0] - labels)  # [B]
    else:
      probabilities = tf.nn.softmax(logits)
      losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)  # [B]
    return tf.reduce_mean(losses), losses, logits, probabilities


def model_fn_builder(
  bert_config,
  num_labels,
  init_checkpoint,
  learning_rate,
  num_train_steps,
  num_warmup_steps,
  use_tpu,
  use_one_hot_embeddings,
  is_regression=False,
  options=optimization.DEFAULTS,
):
  """Makes the model_fn of a TPUEstimator.

  Args:
    bert_config: modeling.BertConfig.
    num_labels: int, 1 for regression.
    init_checkpoint: str or None, weights to start from; see estimators.resolve_checkpoint.
    learning_rate: float, see optimization.create_optimizer.
    num_train_steps, num_warmup_steps: int or None; needed to train.
    use_tpu: bool.
    use_one_hot_embeddings: bool, see modeling.BertModel.
    is_regression: bool.
    options: optimization.Options.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of classifier_data.record_features, is_real_example and example_index optional. Predictions have
    `probabilities` [B, L] and `per_example_loss` [B].
  """

  def model_fn(features, labels, mode, params):
    del labels, params  # the labels are among the features
    estimators.log_features(features)
    loss, losses, logits, probabilities = create_model(
      bert_config,
      mode == tf.estimator.ModeKeys.TRAIN,
      features["input_ids"],
      features["input_mask"],
      features["segment_ids"],
      features["label_ids"],
      num_labels,
      use_one_hot_embeddings,
      is_regression,
    )
    is_real = features.get("is_real_example", tf.ones_like(features["label_ids"]))
    metric_fn = _regression_metrics if is_regression else _classification_metrics
    train_op = functools.partial(
      optimization.create_optimizer,
      loss,
      learning_rate,
      num_train_steps,
      num_warmup_steps,
      use_tpu,
      options,
    )
    return estimators.make_spec(
      mode,
      features,
      init_checkpoint,
      use_tpu,
      loss=loss,
      train_op=train_op,
      eval_metrics=(metric_fn, [losses, features["label_ids"], logits, is_real]),
      predictions={"probabilities": probabilities, "per_example_loss": losses},
    )

  return model_fn


def _classification_metrics(losses, label_ids, logits, is_real):
  """Streaming metrics of an EVAL graph; rows whose is_real is 0 do not count."""
  weights = tf.cast(is_real, tf.float32)
  predictions = tf.argmax(logits, axis=-1, output_type=tf.int32)
  return {
    "eval_accuracy": tf.metrics.accuracy(label_ids, predictions, weights),
    "eval_loss": tf.metrics.mean(losses, weights),
  }


def _regression_metrics(losses, label_ids, logits, is_real):
  """The same for regression, where the loss is the squared error."""
  del label_ids, logits
  return {"eval_loss": tf.metrics.mean(losses, tf.cast(is_real, tf.float32))}


# ---- Input --------------------------------------------------------------------------------------


def file_based_input_fn_builder(
  input_file,
  seq_length,
  is_training,
  drop_remainder,
  is_regression=False,
  trim_padding=False,
  seed=None,
  num_seen=0,
):
  """Makes the input_fn that reads what file_based_convert_examples_to_features wrote.

  Args:
    input_file: str, a TFRecord file.
    seq_length: int, S.
    is_training, drop_remainder, trim_padding, seed, num_seen: see records.read_input_fn.
    is_regression: bool, whether labels are float32.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches.
  """
  features = classifier_data.record_features(seq_length, is_regression)
  return records.read_input_fn(
    input_file, features, is_training, drop_remainder, trim_padding, seed, num_seen
  )


def input_fn_builder(features, seq_length, is_training, drop_remainder):
  """Makes an input_fn of features in memory, for data small enough to be part of the graph.

  Args:
    features: list of InputFeatures.
    seq_length: int, S.
    is_training, drop_remainder: see records.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches with input_ids,
    input_mask, segment_ids, label_ids.
  """
  table = [f for f in classifier_data.record_features(seq_length) if f.name != "is_real_example"]
  rows = [classifier_data.feature_row(feature) for feature in features]
  return records.slices_input_fn(rows, table, is_training, drop_remainder)


# ---- One run ------------------------------------------------------------------------------------


class Job(NamedTuple):
  """What a run works with, all of it checked.

  Attributes:
    run: runs.Run.
    task: classifier_data.Task.
    labels: list of labels in the order of their ids, empty for regression.
    examples: dict of set name -> list of InputExample.
  """

  run: runs.Run
  task: classifier_data.Task
  labels: list
  examples: dict


def main(_):
  """Trains, evaluates and predicts as the flags say."""
  estimators.prepare_process()
  job = prepare()
  if FLAGS.do_train:
    train(job)
  if FLAGS.do_eval:
    for number, set_name in enumerate(job.task.dev_sets):
      evaluate(job, set_name, suffix=f"_{set_name}" if number else "")
  if FLAGS.do_predict:
    for number, set_name in enumerate(_predicted_sets(job.task)):
      predict(job, set_name, suffix=f"_{set_name}" if number else "")


def prepare():
  """Reads and checks everything that a run needs, before it writes anything.

  Returns:
    Job.

  Raises:
    files.InputError: the first thing that is missing or wrong.
  """
  if not (FLAGS.do_train or FLAGS.do_eval or FLAGS.do_predict):
    raise files.InputError("nothing to do: give --do_train, --do_eval or --do_predict")
  run = runs.begin(FLAGS, SCRIPT, TASK_FLAGS, identity=["task_name"], needed=["task_name"])
  if FLAGS.do_train or FLAGS.do_eval or not FLAGS.predict_file:
    common_flags.require(FLAGS, ["data_dir"], f"the task {FLAGS.task_name}")
  task, labels = _task_and_labels(run.resumed)
  job = Job(run, task, labels, _read_examples(task))
  if FLAGS.do_train:
    runs.num_train_steps(FLAGS, len(job.examples["train"]))
  num_outputs = _num_outputs(job)
  shape = [num_outputs, run.config.hidden_size]
  runs.check_head(run, "output_weights", shape, f"classifier of {num_outputs} labels")
  files.make_directory(FLAGS.output_dir, "output_dir")
  return job


def _task_and_labels(resumed):
  """The task, and its labels: those that the weights were trained with, if that is known."""
  known = model_directory.read_labels(FLAGS.output_dir) if resumed else None
  if known is None and not FLAGS.do_train and FLAGS.init_checkpoint:
    prefix = estimators.resolve_checkpoint(FLAGS.init_checkpoint)
    known = model_directory.read_labels(os.path.dirname(prefix))
  task = classifier_data.find_task(
    FLAGS.task_name,
    text_column=FLAGS.text_column,
    text_b_column=FLAGS.text_b_column,
    label_column=FLAGS.label_column,
    id_column=FLAGS.id_column,
    has_header=FLAGS.has_header,
    label_file=FLAGS.label_file,
    labels=known,
  )
  return task, known or task.get_labels(FLAGS.data_dir)


def _predicted_sets(task):
  return ("predict_file",) if FLAGS.predict_file else task.test_sets


def _read_examples(task):
  """Dict of set name -> examples, for all sets that this run works on."""
  wanted = ["train"] if FLAGS.do_train else []
  wanted += task.dev_sets if FLAGS.do_eval else ()
  if FLAGS.do_predict:
    if not _predicted_sets(task):
      raise files.InputError(f"--do_predict: {task.name} has no test set; give --predict_file")
    wanted += _predicted_sets(task)
  return {
    name: task.get_predict_examples(FLAGS.predict_file)
    if name == "predict_file"
    else task.get_examples(name, FLAGS.data_dir)
    for name in wanted
  }


def _num_outputs(job):
  return 1 if job.task.is_regression else len(job.labels)


def _model_and_table(job):
  """What runs.fine_tune and runs.predict need: a builder of the model_fn, and the file's table."""
  is_regression = job.task.is_regression
  build_model_fn = functools.partial(
    model_fn_builder, num_labels=_num_outputs(job), is_regression=is_regression
  )
  return build_model_fn, classifier_data.record_features(FLAGS.max_seq_length, is_regression)


def _convert(job, examples, name):
  """Writes the features of examples to a file in the output directory; returns its path."""
  path = os.path.join(FLAGS.output_dir, name)
  file_based_convert_examples_to_features(
    examples, job.labels, FLAGS.max_seq_length, job.run.tokenizer, path
  )
  return path


def train(job):
  """Trains, from the last checkpoint in the output directory if there is one."""
  examples = job.examples["train"]
  num_steps = runs.num_train_steps(FLAGS, len(examples))
  done = runs.open_directory(job.run, num_steps, job.labels or None)
  if done is None:
    return
  train_file = _convert(job, examples, "train.tf_record")
  counts = {
    "Num examples": len(examples),
    "Batch size": FLAGS.train_batch_size,
    "Num steps": num_steps,
  }
  runs.log_training(counts, done)
  runs.fine_tune(
    job.run, *_model_and_table(job), train_file, num_steps, done, num_examples=len(examples)
  )


def run_model(job, set_name, file_name, batch_size):
  """Runs the model over a set.

  Args:
    job: Job.
    set_name: str, key of job.examples.
    file_name: str, name of the file for the features.
    batch_size: int; on a TPU the set is filled up to a multiple of it.

  Returns:
    A pair: float32 [N, L] probabilities and float32 [N] losses, in the order of the input.
  """
  examples = list(job.examples[set_name])
  num_examples = len(examples)
  if FLAGS.use_tpu:
    examples += [PaddingInputExample()] * (-num_examples % batch_size)
  input_file = _convert(job, examples, file_name)
  logging.info(
    "  Num examples = %d (%d actual, %d padding)",
    len(examples),
    num_examples,
    len(examples) - num_examples,
  )
  logging.info("  Batch size = %d", batch_size)
  rows = runs.predict(
    job.run, *_model_and_table(job), input_file, num_examples, batch_size, set_name
  )
  probabilities = np.stack([row["probabilities"] for row in rows])
  runs.check_finite([probabilities], FLAGS.output_dir)
  return probabilities, np.stack([row["per_example_loss"] for row in rows])


def evaluate(job, set_name, suffix=""):
  """Evaluates on a set and writes eval_results.txt and eval_metrics.json."""
  logging.info("***** Running evaluation *****")
  batch_size = FLAGS.eval_batch_size
  probabilities, losses = run_model(job, set_name, f"eval{suffix}.tf_record", batch_size)
  labels = [example.label for example in job.examples[set_name]]
  step = estimators.saved_step(FLAGS.output_dir)
  metrics = score(job.task, job.labels, labels, probabilities)
  results = {
    "eval_loss": losses.mean(),
    "global_step": step,
    # The mean over batches in the order of the input, of which the last may be smaller.
    "loss": np.mean(
      [b.mean() for b in np.split(losses, range(batch_size, len(losses), batch_size))]
    ),
  }
  if not job.task.is_regression:
    results["eval_accuracy"] = np.float32(metrics["accuracy"])
  judged = {f"eval_{name}": metrics[name] for name in job.task.metrics}
  logging.info("***** Eval results *****")
  for key in sorted({**judged, **results}):
    logging.info("  %s = %s", key, {**judged, **results}[key])
  estimators.write_scalars(
    os.path.join(FLAGS.output_dir, "eval"), step, {**judged, "loss": results["eval_loss"]}
  )
  files.write_text(
    os.path.join(FLAGS.output_dir, f"eval_results{suffix}.txt"),
    "".join("%s = %s\n" % (key, str(results[key])) for key in sorted(results)),
  )
  files.write_json(
    os.path.join(FLAGS.output_dir, f"eval_metrics{suffix}.json"),
    {**metrics, "loss": float(results["eval_loss"]), "global_step": step, "set": set_name},
  )


def score(task, label_list, labels, probabilities):
  """The metrics of predictions.

  Args:
    task: classifier_data.Task.
    label_list: list of labels in the order of their ids.
    labels: list of N labels; numbers for regression.
    probabilities: float32 [N, L]; for regression [N, 1], the predicted numbers.

  Returns:
    Dict as glue_metrics makes it.
  """
  if task.is_regression:
    return glue_metrics.regression_metrics(np.array(labels, float), probabilities[:, 0])
  ids = {label: place for place, label in enumerate(label_list)}
  label_ids = np.array([ids[label] for label in labels])
  return glue_metrics.classification_metrics(label_ids, probabilities, label_list)


def predict(job, set_name, suffix=""):
  """Predicts a set and writes test_results.tsv and predictions.tsv."""
  logging.info("***** Running prediction*****")
  probabilities, _ = run_model(
    job, set_name, f"predict{suffix}.tf_record", FLAGS.predict_batch_size
  )
  logging.info("***** Predict results *****")
  files.write_text(
    os.path.join(FLAGS.output_dir, f"test_results{suffix}.tsv"),
    "".join("\t".join(map(str, row)) + "\n" for row in probabilities),
  )
  path = os.path.join(FLAGS.output_dir, f"predictions{suffix}.tsv")
  files.write_text(path, prediction_table(job.examples[set_name], job.labels, probabilities))
  logging.info("  %d predictions in %s", len(probabilities), path)


def prediction_table(examples, label_list, probabilities):
  """Predictions as tab-separated text with a header.

    id  prediction  negative     positive
    0   positive    0.016278993  0.983721

  Args:
    examples: list of N InputExample.
    label_list: list of labels, empty for regression.
    probabilities: float32 [N, L]; for regression [N, 1].

  Returns:
    str, a row an example in their order.
  """
  table = io.StringIO()
  writer = csv.writer(table, delimiter="\t", lineterminator="\n")
  writer.writerow(["id", "prediction", *label_list])
  for example, row in zip(examples, probabilities):
    if label_list:
      writer.writerow([example.guid, label_list[int(row.argmax())], *row])
    else:
      writer.writerow([example.guid, row[0]])
  return table.getvalue()


if __name__ == "__main__":
  common_flags.run(main, FLAGS)
