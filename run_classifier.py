"""Fine-tunes BERT to classify sentences or pairs of them, evaluates it, and predicts.

  python run_classifier.py --task_name=tsv --data_dir=samples/reviews --do_train --do_eval \\
    --bert_config_file=$BERT/bert_config.json --vocab_file=$BERT/vocab.txt \\
    --init_checkpoint=$BERT/bert_model.ckpt --output_dir=/tmp/reviews

A finished --output_dir is all that later evaluation and prediction need:

  python run_classifier.py --do_predict --predict_file=new.tsv --output_dir=/tmp/reviews
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import csv
import functools
import io
import os
from typing import Callable, NamedTuple, Optional

import numpy as np
from absl import flags, logging

import modeling
import optimization
from toolkit.formats import model_directory
from toolkit.metrics import glue_metrics
from toolkit.records import input_pipeline
from toolkit.support import files
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import classification
from toolkit.tasks.classification import (  # noqa: F401, names that were always importable from here
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
  _truncate_seq_pair,
  convert_examples_to_features,
  convert_single_example,
  file_based_convert_examples_to_features,
)
from toolkit.training import (
  common_flags,
  distillation,
  estimators,
  hooks,
  micro_batches,
  report,
  runs,
)

SCRIPT = "run_classifier"
THRESHOLD_FILE = "label_threshold.json"

FLAGS = flags.FlagValues()
common_flags.define_model_flags(FLAGS, max_seq_length=128)
common_flags.define_training_flags(FLAGS)
common_flags.define_distillation_flags(FLAGS)
common_flags.define_device_flags(FLAGS)
flags.DEFINE_string("task_name", None, classification.TASK_HELP, flag_values=FLAGS)
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
flags.DEFINE_bool(
  "multi_label",
  False,
  "tsv, csv, jsonl: whether a text has any number of labels, none included, and not exactly one. "
  "Default column: labels, or label.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "label_separator",
  ",",
  "What stands between the labels of a text (--multi_label). In jsonl they may also be a list.",
  flag_values=FLAGS,
)
flags.DEFINE(
  common_flags.ThresholdParser(),
  "label_threshold",
  0.5,
  "Probability from which on a label is predicted (--multi_label). `auto`: that with the best "
  "micro F1 on the dev set, one for all labels; --do_eval finds it and keeps it in --output_dir.",
  flag_values=FLAGS,
)
flags.register_validator(
  "label_threshold",
  lambda threshold: threshold == common_flags.AUTO or 0 < threshold < 1,
  f"must be above 0 and below 1, or {common_flags.AUTO}",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "regression",
  False,
  "tsv, csv, jsonl: whether labels are numbers to predict. Default column: score, or label.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "class_weights",
  None,
  "What the examples of each class count in the training loss: a file with a label, a tab and its "
  f"weight in each line; or `{classification.BALANCED}`, n / (classes * count), which lets all "
  "classes count the same.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "xnli_language",
  "zh",
  "xnli: code of the language to evaluate in, one of those in xnli.dev.tsv.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "xnli_train_language",
  None,
  "xnli: code of the language to train in, of which there must be a file in multinli/. Default: "
  "that of --xnli_language.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "unlabeled_file",
  None,
  "With --teacher_dir: a file like --predict_file, whose texts are trained on as well, by what the "
  "teacher says of them alone. Their number counts in an epoch.",
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
  "multi_label",
  "label_separator",
  "label_threshold",
  "regression",
  "xnli_language",
  "xnli_train_language",
)


# ---- What differs between the kinds of tasks ----------------------------------------------------


class Head(NamedTuple):
  """What a kind of task does with the logits, float32 [B, L], of its L outputs.

  Attributes:
    activate: function of the logits to the probabilities, float32 [B, L]; for NUMBER they are the
      predicted numbers.
    losses: function of the logits and of label_ids, as classification.record_features has them, to
      the losses, float32 [B].
    teacher_losses: function of the logits, the teacher's, and the temperature, to the losses,
      float32 [B].
    streaming_metrics: function of losses, label_ids, logits, and is_real int32 [B], 0 for rows that
      do not count, to the metrics of an EVAL graph.
    score: function of N labels, probabilities [N, L], the list of labels and the threshold to
      metrics; see score.
    decide: function of probabilities [N, L], the list of labels and the threshold to a list of N
      predictions: labels, tuples of labels, or numbers.
  """

  activate: Callable
  losses: Callable
  teacher_losses: Callable
  streaming_metrics: Callable
  score: Callable
  decide: Callable


def _class_losses(logits, label_ids):
  return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label_ids, logits=logits)


def _mark_losses(logits, marks):
  losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=marks, logits=logits)  # [B, L]
  return tf.reduce_mean(losses, axis=1)


def _number_losses(logits, numbers):
  return tf.square(logits[:, 0] - numbers)


def _classification_metrics(losses, label_ids, logits, is_real):
  weights = tf.cast(is_real, tf.float32)
  predictions = tf.argmax(logits, axis=-1, output_type=tf.int32)
  return {
    "eval_accuracy": tf.metrics.accuracy(label_ids, predictions, weights),
    "eval_loss": tf.metrics.mean(losses, weights),
  }


def _loss_metrics(losses, label_ids, logits, is_real):
  del label_ids, logits
  return {"eval_loss": tf.metrics.mean(losses, tf.cast(is_real, tf.float32))}


def _score_classes(labels, probabilities, label_list, threshold):
  del threshold
  ids = {label: place for place, label in enumerate(label_list)}
  label_ids = np.array([ids[label] for label in labels])
  return glue_metrics.classification_metrics(label_ids, probabilities, label_list)


def _score_marks(labels, probabilities, label_list, threshold):
  truth = np.array([[label in chosen for label in label_list] for chosen in labels])
  if threshold == common_flags.AUTO:
    threshold = glue_metrics.best_threshold(truth, probabilities)
  predictions = _reach(probabilities, threshold)
  metrics = glue_metrics.multi_label_metrics(truth, predictions, label_list)
  return {**metrics, "threshold": threshold}


def _score_numbers(labels, probabilities, label_list, threshold):
  del label_list, threshold
  return glue_metrics.regression_metrics(np.array(labels, float), probabilities[:, 0])


def _reach(probabilities, threshold):
  return probabilities.astype(np.float64) >= threshold  # the threshold has more digits than float32


def _decide_classes(probabilities, label_list, threshold):
  del threshold
  return [label_list[place] for place in probabilities.argmax(axis=1)]


def _decide_marks(probabilities, label_list, threshold):
  marks = _reach(probabilities, threshold)
  return [tuple(label for label, mark in zip(label_list, row) if mark) for row in marks]


def _decide_numbers(probabilities, label_list, threshold):
  del label_list, threshold
  return list(probabilities[:, 0])


HEADS = {
  CLASSES: Head(
    tf.nn.softmax,
    _class_losses,
    distillation.class_losses,
    _classification_metrics,
    _score_classes,
    _decide_classes,
  ),
  LABELS: Head(
    tf.sigmoid,
    _mark_losses,
    distillation.mark_losses,
    _loss_metrics,
    _score_marks,
    _decide_marks,
  ),
  NUMBER: Head(
    tf.identity,
    _number_losses,
    distillation.number_losses,
    _loss_metrics,
    _score_numbers,
    _decide_numbers,
  ),
}


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
  kind=CLASSES,
  class_weights=None,
):
  """BERT with a dense layer over its pooled output.

  Args:
    bert_config: modeling.BertConfig.
    is_training: bool, whether there is dropout.
    input_ids, input_mask, segment_ids: int32 [B, S].
    labels: int32 [B], places of the labels in the list; for LABELS float32 [B, L], 1 for each label
      of a text and else 0; for NUMBER float32 [B].
    num_labels: int, L; 1 for NUMBER.
    use_one_hot_embeddings: bool, see modeling.BertModel.
    kind: member of classification.KINDS.
    class_weights: list of L float, or None; for CLASSES alone. The mean loss of training is then
      sum(weight of the label * loss) / B: it is not divided by the weights, so that parts of a
      batch add up.

  Returns:
    A tuple: float32 scalar, the mean loss; float32 [B], the losses, never weighted (cross-entropy
    in nats, for LABELS the mean of the L binary ones, for NUMBER the squared error); float32
    [B, L], the logits; float32 [B, L], the probabilities (for NUMBER [B, 1], the predicted number).
  """
  inputs = (input_ids, input_mask, segment_ids)
  logits = _logits(bert_config, num_labels, is_training, *inputs, use_one_hot_embeddings)
  with tf.variable_scope("loss"):
    losses = HEADS[kind].losses(logits, labels)  # [B]
    counted = _weighted(losses, labels, class_weights) if is_training else losses
    return tf.reduce_mean(counted), losses, logits, HEADS[kind].activate(logits)


def _logits(
  bert_config, num_labels, is_training, input_ids, input_mask, segment_ids, use_one_hot_embeddings
):
  """float32 [B, L]; see create_model."""
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
    return tf.nn.bias_add(tf.matmul(pooled, weights, transpose_b=True), bias)


def _weighted(losses, labels, class_weights):
  """float32 [B]: what losses count by the weights of their labels, if there are weights."""
  if class_weights is None:
    return losses
  return losses * tf.gather(tf.constant(class_weights, tf.float32), labels)


def model_fn_builder(
  bert_config,
  num_labels,
  init_checkpoint,
  learning_rate,
  num_train_steps,
  num_warmup_steps,
  use_tpu,
  use_one_hot_embeddings,
  kind=CLASSES,
  options=micro_batches.DEFAULTS,
  class_weights=None,
  soft_targets=None,
):
  """Makes the model_fn of a TPUEstimator.

  Args:
    bert_config: modeling.BertConfig.
    num_labels: int, 1 for NUMBER.
    init_checkpoint: str or None, weights to start from; see estimators.resolve_checkpoint.
    learning_rate: float, see optimization.create_optimizer.
    num_train_steps, num_warmup_steps: int or None; needed to train.
    use_tpu: bool.
    use_one_hot_embeddings: bool, see modeling.BertModel.
    kind, class_weights: see create_model.
    options: micro_batches.StepOptions.
    soft_targets: distillation.SoftTargets of a training whose features have TEACHER_LOGITS, float32
      [B, L]; None for a training without a teacher.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of classification.record_features, is_real_example and example_index optional. Predictions have
    `probabilities` [B, L] and `per_example_loss` [B].
  """

  def model_fn(features, labels, mode, params):
    del labels, params  # the labels are among the features

    def build(features):
      loss, losses, logits, probabilities = create_model(
        bert_config,
        mode == tf.estimator.ModeKeys.TRAIN,
        features["input_ids"],
        features["input_mask"],
        features["segment_ids"],
        features["label_ids"],
        num_labels,
        use_one_hot_embeddings,
        kind,
        class_weights,
      )
      is_real = features.get("is_real_example", tf.ones_like(losses, tf.int32))
      metric_fn = HEADS[kind].streaming_metrics
      objective = optimization.Objective([optimization.mean_of_examples(loss, losses)])
      if soft_targets and mode == tf.estimator.ModeKeys.TRAIN:
        label_losses = _weighted(losses, features["label_ids"], class_weights)
        objective = _taught_objective(features, label_losses, logits, kind, soft_targets)
      return estimators.Outputs(
        objective,
        eval_metrics=(metric_fn, [losses, features["label_ids"], logits, is_real]),
        predictions={"probabilities": probabilities, "per_example_loss": losses},
      )

    training = (learning_rate, num_train_steps, num_warmup_steps)
    return estimators.make_spec(mode, features, build, init_checkpoint, use_tpu, training, options)

  return model_fn


# ---- Input --------------------------------------------------------------------------------------


def _taught_objective(features, losses, logits, kind, soft_targets):
  """optimization.Objective of a batch of a training with a teacher; see model_fn_builder.

  Of an example without a label the teacher's loss is the whole loss, in place of a share of it.

  Args:
    features: see model_fn_builder.
    losses: float32 [B], those of the labels.
    logits, kind, soft_targets: see create_model and model_fn_builder.
  """
  teacher_logits = features[distillation.TEACHER_LOGITS]
  teacher_losses = HEADS[kind].teacher_losses(logits, teacher_logits, soft_targets.temperature)
  teacher_mean = optimization.mean_of_examples(tf.reduce_mean(teacher_losses), losses)
  if "is_labeled" in features:
    losses = tf.where(features["is_labeled"] > 0, losses, teacher_losses)
  mean = optimization.mean_of_examples(tf.reduce_mean(losses), losses)
  return soft_targets.objective(mean, teacher_mean)


def file_based_input_fn_builder(
  input_file,
  seq_length,
  is_training,
  drop_remainder,
  kind=CLASSES,
  trim_padding=False,
  seed=None,
  num_seen=0,
  num_labels=None,
):
  """Makes the input_fn that reads what file_based_convert_examples_to_features wrote.

  Args:
    input_file: str, a TFRecord file.
    seq_length: int, S.
    is_training, drop_remainder, trim_padding, seed, num_seen: see input_pipeline.read_input_fn.
    kind, num_labels: see classification.record_features.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches.
  """
  features = classification.record_features(seq_length, kind, num_labels)
  return input_pipeline.read_input_fn(
    input_file, features, is_training, drop_remainder, trim_padding, seed, num_seen
  )


def input_fn_builder(features, seq_length, is_training, drop_remainder):
  """Makes an input_fn of features in memory, for data small enough to be part of the graph.

  Args:
    features: list of InputFeatures.
    seq_length: int, S.
    is_training, drop_remainder: see input_pipeline.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches with input_ids,
    input_mask, segment_ids, label_ids.
  """
  table = [f for f in classification.record_features(seq_length) if f.name != "is_real_example"]
  rows = [classification.feature_row(feature) for feature in features]
  return input_pipeline.slices_input_fn(rows, table, is_training, drop_remainder)


# ---- One run ------------------------------------------------------------------------------------


class Job(NamedTuple):
  """What a run works with, all of it checked.

  Attributes:
    run: runs.Run.
    task: classification.Task.
    labels: list of labels in the order of their ids, empty for NUMBER.
    examples: dict of set name -> list of InputExample; "unlabeled" is what is trained on beside
      "train".
    class_weights: list of float in the order of labels, or None.
  """

  run: runs.Run
  task: classification.Task
  labels: list
  examples: dict
  class_weights: Optional[list] = None


def main(_):
  """Trains, evaluates and predicts as the flags say."""
  estimators.prepare_process()
  job = prepare()
  parts = train(job) if FLAGS.do_train else []
  if FLAGS.do_eval:
    for number, set_name in enumerate(job.task.dev_sets):
      evaluate(job, set_name, suffix=f"_{set_name}" if number else "")
  if FLAGS.do_predict:
    for number, set_name in enumerate(_predicted_sets(job.task)):
      predict(job, set_name, suffix=f"_{set_name}" if number else "")
  report.write(job.run, parts)


def prepare():
  """Reads and checks everything that a run needs, before it writes anything.

  Returns:
    Job.

  Raises:
    files.InputError: the first thing that is missing or wrong.
  """
  if not (FLAGS.do_train or FLAGS.do_eval or FLAGS.do_predict):
    raise files.InputError("nothing to do: give --do_train, --do_eval or --do_predict")
  identity = ["task_name", "multi_label", "regression"]
  taught = ["multi_label", "regression"]
  run = runs.begin(FLAGS, SCRIPT, TASK_FLAGS, identity, needed=["task_name"], taught=taught)
  if FLAGS.do_train or FLAGS.do_eval or not FLAGS.predict_file:
    common_flags.require(FLAGS, ["data_dir"], f"the task {FLAGS.task_name}")
  task, labels = _task_and_labels(run)
  _check_kind(task)
  runs.check_evaluation(FLAGS, (*task.metrics, "loss"))
  if FLAGS.do_train and FLAGS.unlabeled_file and run.soft_targets() is None:
    raise files.InputError(
      "--unlabeled_file needs a teacher to say what its texts are: give --teacher_dir, and a "
      "--distill_alpha above 0"
    )
  job = Job(run, task, labels, _read_examples(task))
  if FLAGS.do_train:
    runs.num_train_steps(FLAGS, len(_training_examples(job)))
    job = job._replace(class_weights=_class_weights(job))
  num_outputs = _num_outputs(job)
  shape = [num_outputs, run.config.hidden_size]
  runs.check_head(run, "output_weights", shape, f"classifier of {num_outputs} labels")
  files.make_directory(FLAGS.output_dir, "output_dir")
  return job


def _task_and_labels(run):
  """The task, and its labels: those that the weights were trained with, if that is known."""
  known = model_directory.read_labels(FLAGS.output_dir) if run.resumed else None
  if known is None and not FLAGS.do_train and FLAGS.init_checkpoint:
    prefix = estimators.resolve_checkpoint(FLAGS.init_checkpoint)
    known = model_directory.read_labels(os.path.dirname(prefix))
  task = _find_task(known)
  labels = known or task.get_labels(FLAGS.data_dir)
  if run.teacher:
    labels = run.teacher.check_labels(labels, is_fixed=known is not None)
    task = _find_task(labels)
  return task, labels


def _find_task(known):
  """classification.Task, given its list of labels, or None if it is to find them."""
  task = classification.find_task(
    FLAGS.task_name,
    text_column=FLAGS.text_column,
    text_b_column=FLAGS.text_b_column,
    label_column=FLAGS.label_column,
    id_column=FLAGS.id_column,
    has_header=FLAGS.has_header,
    label_file=FLAGS.label_file,
    labels=known,
    multi_label=FLAGS.multi_label,
    label_separator=FLAGS.label_separator,
    regression=FLAGS.regression,
  )
  _choose_languages(task)
  return task


def _choose_languages(task):
  """Takes --xnli_language and --xnli_train_language over; other tasks have no such choice."""
  names = ("xnli_language", "xnli_train_language")
  if isinstance(task, XnliProcessor):
    task.language, task.train_language = (FLAGS[name].value for name in names)
    return
  for name in names:
    if FLAGS[name].present:
      raise files.InputError(f"--{name}: the task {task.name} has no languages; leave it out")


def _check_kind(task):
  """Makes sure that no flag is for another kind of task, and that a needed threshold is known."""
  for name, kind, needed in (
    ("label_separator", LABELS, "several labels a text (--multi_label)"),
    ("label_threshold", LABELS, "several labels a text (--multi_label)"),
    ("class_weights", CLASSES, "one label a text, not several and not a number"),
  ):
    if FLAGS[name].present and task.kind != kind:
      raise files.InputError(f"--{name} is for tasks with {needed}; leave it out")
  if task.kind == LABELS and FLAGS.do_predict and not FLAGS.do_eval:
    _label_threshold(is_kept=not (FLAGS.do_train and FLAGS.overwrite_output_dir))


def _class_weights(job):
  """What --class_weights says, or None."""
  if FLAGS.class_weights is None:
    return None
  return classification.class_weights(FLAGS.class_weights, job.labels, job.examples["train"])


def _label_threshold(is_kept=True):
  """The probability from which on a label is predicted.

  A number on the command line counts before what an evaluation has found, and this before the
  number that the model was trained with.

  Args:
    is_kept: bool, whether what an earlier evaluation has found outlives this run.

  Raises:
    files.InputError: it is to be found by an evaluation, and there was none.
  """
  flag = FLAGS["label_threshold"]
  path = os.path.join(FLAGS.output_dir, THRESHOLD_FILE)
  is_found = is_kept and files.exists(path)
  if is_found and (flag.value == common_flags.AUTO or not flag.present):
    return files.read_json(path)["threshold"]
  if flag.value == common_flags.AUTO:
    raise files.InputError(
      f"--label_threshold={common_flags.AUTO}: {FLAGS.output_dir} has no threshold yet; find one "
      "by --do_eval"
    )
  return flag.value


def _predicted_sets(task):
  return ("predict_file",) if FLAGS.predict_file else task.test_sets


def _read_examples(task):
  """Dict of set name -> examples, for all sets that this run works on."""
  wanted = ["train"] if FLAGS.do_train else []
  if FLAGS.do_eval:
    if not task.dev_sets:
      raise files.InputError(f"--do_eval: {task.name} has no dev set; use --do_predict alone")
    wanted += task.dev_sets
  elif FLAGS.do_train and FLAGS.eval_steps:
    wanted += task.dev_sets[:1]
  if FLAGS.do_predict:
    if not _predicted_sets(task):
      raise files.InputError(f"--do_predict: {task.name} has no test set; give --predict_file")
    wanted += _predicted_sets(task)
  examples = {
    name: task.get_predict_examples(FLAGS.predict_file)
    if name == "predict_file"
    else task.get_examples(name, FLAGS.data_dir)
    for name in wanted
  }
  if FLAGS.do_train and FLAGS.unlabeled_file:
    examples["unlabeled"] = task.get_predict_examples(FLAGS.unlabeled_file)
    for example in examples["unlabeled"]:
      example.label = None  # in place of what stands for a label in some test sets
  return examples


def _training_examples(job):
  """List of InputExample, the unlabelled ones last."""
  return job.examples["train"] + job.examples.get("unlabeled", [])


def _num_outputs(job):
  return len(job.labels) or 1


def _model_and_table(job, marks_unlabeled=False):
  """What runs.fine_tune and runs.predict need: a builder of the model_fn, and the file's table."""
  num_outputs, kind = _num_outputs(job), job.task.kind
  build_model_fn = functools.partial(
    model_fn_builder,
    num_labels=num_outputs,
    kind=kind,
    class_weights=job.class_weights,
    soft_targets=job.run.soft_targets(),
  )
  table = classification.record_features(FLAGS.max_seq_length, kind, num_outputs, marks_unlabeled)
  return build_model_fn, table


def _convert(job, examples, name, marks_unlabeled=False):
  """Writes the features of examples to a file; returns its path."""
  path = os.path.join(job.run.scratch(), name)
  file_based_convert_examples_to_features(
    examples,
    job.labels,
    FLAGS.max_seq_length,
    job.run.tokenizer,
    path,
    job.task.kind,
    marks_unlabeled,
  )
  return path


def train(job):
  """Trains, from the last checkpoint in the output directory; returns a list of hooks.Trained."""
  examples = _training_examples(job)
  num_steps = runs.num_train_steps(FLAGS, len(examples))
  done = runs.open_directory(job.run, num_steps, job.labels or None)
  if done is None:
    return []
  marks_unlabeled = "unlabeled" in job.examples
  build_model_fn, table = _model_and_table(job, marks_unlabeled)
  train_file = _convert(job, examples, "train.tf_record", marks_unlabeled)
  train_file, table = runs.ask_teacher(job.run, _teacher_logits(job), train_file, table)
  counts = {
    "Num examples": len(examples),
    "Batch size": FLAGS.train_batch_size,
    "Num steps": num_steps,
  }
  runs.log_training(job.run, counts, done)
  evaluate_checkpoint = functools.partial(_dev_metrics, job)
  return runs.fine_tune(
    job.run, build_model_fn, table, train_file, num_steps, len(examples), evaluate_checkpoint
  )


def _teacher_logits(job):
  """Function of a configuration and a model's inputs to its logits, see distillation.add_logits."""
  return lambda config, *inputs: _logits(config, _num_outputs(job), False, *inputs, False)


def run_model(job, set_name, file_name, batch_size, checkpoint=None):
  """Runs the model over a set.

  Args:
    job: Job.
    set_name: str, key of job.examples.
    file_name: str, name of the file for the features.
    batch_size: int; on a TPU the set is filled up to a multiple of it.
    checkpoint: str or None, see runs.predict.

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
    job.run, *_model_and_table(job), input_file, num_examples, batch_size, set_name, checkpoint
  )
  probabilities = np.stack([row["probabilities"] for row in rows])
  runs.check_finite([probabilities], FLAGS.output_dir)
  return probabilities, np.stack([row["per_example_loss"] for row in rows])


def evaluate(job, set_name, suffix=""):
  """Evaluates on a set and writes eval_results.txt and eval_metrics.json."""
  logging.info("***** Running evaluation *****")
  batch_size = FLAGS.eval_batch_size
  metrics, losses = _measure(job, set_name, f"eval{suffix}.tf_record")
  step = runs.trained_step(FLAGS.output_dir)
  results = {
    "eval_loss": losses.mean(),
    "global_step": step,
    # The mean over batches in the order of the input, of which the last may be smaller.
    "loss": np.mean(
      [b.mean() for b in np.split(losses, range(batch_size, len(losses), batch_size))]
    ),
  }
  if "accuracy" in metrics:
    results["eval_accuracy"] = np.float32(metrics["accuracy"])
  judged = {f"eval_{name}": metrics[name] for name in job.task.metrics}
  logging.info("***** Eval results *****")
  for key in sorted({**judged, **results}):
    logging.info("  %s = %s", key, {**judged, **results}[key])
  hooks.write_scalars(
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
  if job.task.kind == LABELS and FLAGS.label_threshold == common_flags.AUTO:
    found = {"threshold": metrics["threshold"], "micro_f1": metrics["micro_f1"]}
    files.write_json(os.path.join(FLAGS.output_dir, THRESHOLD_FILE), found)


def _measure(job, set_name, file_name, checkpoint=None):
  """Metrics of a checkpoint, see runs.predict, on a set: a dict, and the losses, float32 [N]."""
  probabilities, losses = run_model(job, set_name, file_name, FLAGS.eval_batch_size, checkpoint)
  labels = [example.label for example in job.examples[set_name]]
  threshold = (
    common_flags.AUTO if FLAGS.label_threshold == common_flags.AUTO else _label_threshold()
  )
  return score(job.task, job.labels, labels, probabilities, threshold), losses


def _dev_metrics(job, checkpoint):
  """Dict of metric -> number of a checkpoint on the (first) dev set, while the model trains."""
  metrics, losses = _measure(job, job.task.dev_sets[0], "eval.tf_record", checkpoint)
  return {**{name: metrics[name] for name in job.task.metrics}, "loss": losses.mean()}


def score(task, label_list, labels, probabilities, threshold=0.5):
  """The metrics of predictions.

  Args:
    task: classification.Task.
    label_list: list of labels in the order of their ids.
    labels: list of N labels; tuples of labels for LABELS, numbers for NUMBER.
    probabilities: float32 [N, L]; for NUMBER [N, 1], the predicted numbers.
    threshold: float, for LABELS, the probability from which on a label is predicted; or
      common_flags.AUTO for the one with the best micro F1.

  Returns:
    Dict as glue_metrics makes it; for LABELS with the threshold.
  """
  return HEADS[task.kind].score(labels, probabilities, label_list, threshold)


def predict(job, set_name, suffix=""):
  """Predicts a set and writes test_results.tsv, predictions.tsv and the leaderboard's file."""
  logging.info("***** Running prediction*****")
  probabilities, _ = run_model(
    job, set_name, f"predict{suffix}.tf_record", FLAGS.predict_batch_size
  )
  threshold = _label_threshold() if job.task.kind == LABELS else None
  predictions = HEADS[job.task.kind].decide(probabilities, job.labels, threshold)
  examples = job.examples[set_name]
  logging.info("***** Predict results *****")
  written = {
    f"test_results{suffix}.tsv": "".join("\t".join(map(str, row)) + "\n" for row in probabilities),
    f"predictions{suffix}.tsv": prediction_table(
      examples, job.labels, probabilities, predictions, FLAGS.label_separator
    ),
  }
  submission = job.task.submission(set_name, examples, predictions)
  if submission:
    written.update([submission])
  for name, text in written.items():
    path = os.path.join(FLAGS.output_dir, name)
    files.write_text(path, text)
    logging.info("  %d predictions in %s", len(predictions), path)


def prediction_table(examples, label_list, probabilities, predictions, separator=","):
  """Predictions as tab-separated text with a header.

    id  prediction  negative     positive
    0   positive    0.016278993  0.983721

  Args:
    examples: list of N InputExample.
    label_list: list of labels, empty for NUMBER.
    probabilities: float32 [N, L]; for NUMBER [N, 1].
    predictions: list of N labels, tuples of labels, or numbers.
    separator: str, what is put between the labels of a tuple.

  Returns:
    str, a row an example in their order.
  """
  table = io.StringIO()
  writer = csv.writer(table, delimiter="\t", lineterminator="\n")
  writer.writerow(["id", "prediction", *label_list])
  for example, prediction, row in zip(examples, predictions, probabilities):
    shown = separator.join(prediction) if isinstance(prediction, tuple) else prediction
    writer.writerow([example.guid, shown, *row[: len(label_list)]])
  return table.getvalue()


if __name__ == "__main__":
  common_flags.run(main, FLAGS)
