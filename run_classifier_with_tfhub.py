"""Fine-tunes a module of TensorFlow Hub to classify sentences or sentence pairs.

  python run_classifier_with_tfhub.py --bert_hub_module_handle=bert.tar.gz \\
    --task_name=cola --data_dir=glue/CoLA --output_dir=/tmp/cola \\
    --do_train --do_eval

The module is a directory, or a .tar.gz archive as it was downloaded. It is converted to a
checkpoint at the start, as by convert_checkpoint.py --mode=from_hub. The casing is the module's.

A finished --output_dir is one of run_classifier.py, too, and needs no module any more. For other
tasks than those with one label per text, and for more flags, convert the module and use that.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import functools
from typing import Any, NamedTuple, Optional

import numpy as np

import modeling
import optimization
import tokenization
from toolkit.formats import checkpoint_files, checkpoints, hub_modules
from toolkit.support import command_line, files, logs
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import classification, classification_head
from toolkit.tasks.classification import CLASSES
from toolkit.training import estimators, hooks, micro_batches, report, run_flags, runs, steps

SCRIPT = "run_classifier"  # which the output directory is of, as well
HANDLE = "bert_hub_module_handle"

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_string(
  HANDLE,
  None,
  "Module of TensorFlow Hub: its directory, or its .tar.gz archive. A finished --output_dir needs "
  "none.",
  group="essential",
)
flags.DEFINE_string(
  "data_dir", None, "Directory with the files of the task.", remembered=True, group="essential"
)
run_flags.define_model_flags(flags, max_seq_length=128)
flags.DEFINE_string(
  "task_name", None, classification.TASK_HELP, remembered=True, identity=True, group="essential"
)
flags.DEFINE_bool("do_train", False, "Train on the training set.", group="essential")
flags.DEFINE_bool("do_eval", False, "Evaluate on the dev set.", group="essential")
flags.DEFINE_bool("do_predict", False, "Predict the test set.", group="essential")
flags.DEFINE_string("predict_file", None, "File to predict, in place of the test set.")
run_flags.define_batch_flags(flags, "Texts", ["eval", "predict"])
run_flags.define_training_flags(flags)
run_flags.define_device_flags(flags)


# ---- The model ----------------------------------------------------------------------------------


def create_tokenizer_from_hub_module(
  bert_hub_module_handle: str,
) -> tokenization.FullTokenizer:
  """Makes the tokenizer of a module, with its vocabulary and its casing.

  Raises:
    files.InputError: see hub_modules.convert.
  """
  found = hub_modules.convert(bert_hub_module_handle, HANDLE)
  return tokenization.FullTokenizer(found.vocab_file, found.do_lower_case)


def create_model(
  is_training: bool,
  input_ids: tf.Tensor,
  input_mask: tf.Tensor,
  segment_ids: tf.Tensor,
  labels: tf.Tensor,
  num_labels: int,
  bert_hub_module_handle: str,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
  """Builds a classifier whose encoder is initialized from a module.

  Args:
    is_training: True for dropout.
    input_ids, input_mask, segment_ids: int32 [B, S].
    labels: int32 [B], ids of the labels.
    num_labels: L.
    bert_hub_module_handle: see hub_modules.convert, also for errors.

  Returns:
    float32 scalar, the mean loss; float32 [B], the losses; float32 [B, L], the logits; float32
    [B, L], the probabilities.
  """
  found = hub_modules.convert(bert_hub_module_handle, HANDLE)
  inputs = (input_ids, input_mask, segment_ids, labels, num_labels, False)
  outputs = classification_head.create_model(found.config, is_training, *inputs)
  estimators.load_init_checkpoint(found.init_checkpoint, use_tpu=False)
  return outputs


def model_fn_builder(
  num_labels: int,
  learning_rate: Optional[float],
  num_train_steps: Optional[int],
  num_warmup_steps: Optional[int],
  use_tpu: bool,
  bert_hub_module_handle: str,
) -> estimators.ModelFn:
  """Makes the model_fn of a TPUEstimator that starts from a module; see make_model_fn."""
  found = hub_modules.convert(bert_hub_module_handle, HANDLE)
  schedule = (learning_rate, num_train_steps, num_warmup_steps)
  return make_model_fn(num_labels, found.config, found.init_checkpoint, *schedule, use_tpu, use_tpu)


def make_model_fn(
  num_labels: int,
  bert_config: modeling.BertConfig,
  init_checkpoint: Optional[str],
  learning_rate: Optional[float],
  num_train_steps: Optional[int],
  num_warmup_steps: Optional[int],
  use_tpu: bool,
  use_one_hot_embeddings: bool,
  options: micro_batches.StepOptions = micro_batches.DEFAULTS,
) -> estimators.ModelFn:
  """Makes the model_fn of a TPUEstimator.

  Args:
    num_labels: L.
    bert_config, use_one_hot_embeddings: see modeling.BertModel.
    init_checkpoint, learning_rate, and the others: see estimators.make_model_fn.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of classification.record_features. Predictions have `probabilities` [B, L], and
    `per_example_loss` [B].
  """

  def build(features, mode):
    names = ("input_ids", "input_mask", "segment_ids", "label_ids")
    ids, mask, segments, label_ids = (features[name] for name in names)
    is_training = mode == tf.estimator.ModeKeys.TRAIN
    inputs = (ids, mask, segments, label_ids, num_labels, use_one_hot_embeddings)
    outputs = classification_head.create_model(bert_config, is_training, *inputs)
    loss, losses, logits, probabilities = outputs
    is_real = features.get("is_real_example", tf.ones_like(label_ids))
    metrics = classification_head.HEADS[CLASSES].streaming_metrics
    return estimators.Outputs(
      optimization.Objective([optimization.mean_of_examples(loss, losses)]),
      (metrics, [losses, label_ids, logits, is_real]),
      {"probabilities": probabilities, "per_example_loss": losses},
    )

  schedule = (learning_rate, num_train_steps, num_warmup_steps)
  return estimators.make_model_fn(build, init_checkpoint, *schedule, use_tpu, options)


# ---- One run ------------------------------------------------------------------------------------


def main(_: list[str]) -> None:
  """Trains, evaluates and predicts according to the flags."""
  job = prepare()
  parts = train(job) if FLAGS.do_train else []
  for name in job.task.dev_sets if FLAGS.do_eval else ():
    evaluate(job, name, suffix(name, job.task.dev_sets))
  sets = classification.predicted_sets(job.task, job.run.settings)
  for name in sets if FLAGS.do_predict else ():
    predict(job, name, suffix(name, sets))
  report.write(job.run, parts)


def suffix(name: str, names: tuple[str, ...]) -> str:
  """Returns the end of the names of a set's files: "" for the first set."""
  return "" if name == names[0] else f"_{name}"


class Job(NamedTuple):
  """Inputs of a run, all of them checked.

  Attributes:
    labels: in the order of their ids.
    examples: set name -> examples.
  """

  run: runs.Run
  task: classification.Task
  labels: list[str]
  examples: dict[str, list[classification.InputExample]]


def prepare() -> Job:
  """Reads and checks all inputs, and writes nothing; InputError for the first mistake."""
  settings = flags.settings()
  if not (settings.do_train or settings.do_eval or settings.do_predict):
    raise files.InputError("nothing to do: give --do_train, --do_eval or --do_predict")
  settings.require(["output_dir"], "every run")
  run = runs.begin(flags, SCRIPT, needed=["task_name", "data_dir"], adopted=adopt_module(settings))
  settings = run.settings
  task = classification.find_task(settings.task_name, labels=run.known_labels())
  if task.kind is not CLASSES:
    raise files.InputError(
      f"--task_name: {task.name} has not one label per text; convert the module by "
      "convert_checkpoint.py --mode=from_hub, and give it to run_classifier.py by --model"
    )
  labels = run.known_labels() or task.get_labels(settings.data_dir)
  run = runs.with_best_metric(run, (*task.metrics, "loss"))
  job = Job(run, task, labels, classification.read_sets(task, settings))
  if settings.do_train:
    runs.num_train_steps(settings, len(job.examples["train"]))  # refuses a number of 0
  shape = [len(labels), run.config.hidden_size]
  runs.check_head(run, "output_weights", shape, f"classifier of {len(labels)} labels")
  runs.make_directory(run)
  return job


def adopt_module(settings: command_line.Settings) -> dict[str, Any]:
  """Converts the module of a run; returns the flags that name its parts, and the casing.

  A run on a directory with a model gets none: the model is there.
  """
  for name in ("model", "bert_config_file", "vocab_file", "init_checkpoint"):
    if settings.is_given(name):
      raise files.InputError(f"--{name}: the model is that of --{HANDLE}; use run_classifier.py")
  is_new = settings.do_train and settings.overwrite_output_dir
  if checkpoint_files.latest(settings.output_dir) and not is_new:
    return {}
  settings.require([HANDLE], "a new --output_dir")
  if settings.use_tpu and settings.tpu_name != "local":
    raise files.InputError(
      f"--{HANDLE}: the TPU cannot read a module of this machine; convert it by "
      "convert_checkpoint.py --mode=from_hub --output=gs://BUCKET/DIR, and use run_classifier.py "
      "with --model"
    )
  return hub_modules.convert(settings[HANDLE], HANDLE).flags()


def train(job: Job) -> list[hooks.Trained]:
  """Trains, from the last checkpoint in the output directory."""
  run, examples = job.run, job.examples["train"]
  num_steps = runs.num_train_steps(run.settings, len(examples))
  done = steps.open_directory(run, num_steps, job.labels)
  if done is None:
    return []
  path, length = f"{run.scratch()}/train.tf_record", run.settings.max_seq_length
  classification.file_based_convert_examples_to_features(
    examples, job.labels, length, run.required_tokenizer(), path
  )
  steps.log_training(run, {"Num examples": len(examples)}, num_steps, done)
  model_fn = make_model_fn(len(job.labels), **run.model_arguments(num_steps))
  table = classification.record_features(length)
  watch = functools.partial(measure_while_training, job)
  return steps.fine_tune(run, model_fn, table, path, num_steps, len(examples), watch)


def run_model(
  job: Job, set_name: str, batch_size: int, checkpoint: Optional[str] = None
) -> tuple[np.ndarray, np.ndarray]:
  """Runs the model over a set.

  Returns:
    float32 [N, L] probabilities and float32 [N] losses, in the order of the input.
  """
  run, examples = job.run, job.examples[set_name]
  length = run.settings.max_seq_length
  features = classification.convert_examples_to_features(
    examples, job.labels, length, run.required_tokenizer()
  )
  rows = steps.predict_set(
    run,
    make_model_fn(len(job.labels), **run.model_arguments()),
    map(classification.feature_row, features),
    classification.record_features(length),
    file_name=f"{'eval' if set_name in job.task.dev_sets else 'predict'}.tf_record",
    num_rows=len(examples),
    batch_size=batch_size,
    description=set_name,
    checkpoint=checkpoint,
  )
  probabilities = np.stack([row["probabilities"] for row in rows])
  checkpoints.check_finite([probabilities], run.settings.output_dir)
  return probabilities, np.array([row["per_example_loss"] for row in rows])


def measure(
  job: Job, set_name: str, checkpoint: Optional[str] = None
) -> tuple[dict[str, Any], np.ndarray]:
  """Returns the metrics of a checkpoint on a set, and the losses, float32 [N]."""
  batch_size = job.run.settings.eval_batch_size
  probabilities, losses = run_model(job, set_name, batch_size, checkpoint)
  true_labels = [example.label for example in job.examples[set_name]]
  return CLASSES.score(true_labels, probabilities, job.labels, 0.5), losses


def measure_while_training(job: Job, checkpoint: str) -> dict[str, float]:
  """Returns the metrics of a checkpoint on the first dev set."""
  metrics, losses = measure(job, job.task.dev_sets[0], checkpoint)
  return {"loss": losses.mean(), **{name: metrics[name] for name in job.task.metrics}}


def evaluate(job: Job, set_name: str, suffix: str) -> None:
  """Evaluates on a set and writes eval_results.txt and eval_metrics.json."""
  run = job.run
  metrics, losses = measure(job, set_name)
  judged = {f"eval_{name}": metrics[name] for name in job.task.metrics}
  step, batch_size = steps.trained_step(run), run.settings.eval_batch_size
  results = classification.eval_results(metrics, losses, batch_size, step)
  steps.log_results({**judged, **results})
  loss = float(losses.mean())
  details = {**metrics, "loss": loss, "global_step": step, "set": set_name}
  steps.write_results(run, results, details, {**judged, "loss": loss}, suffix)


def predict(job: Job, set_name: str, suffix: str) -> None:
  """Predicts a set and writes test_results.tsv, predictions.tsv and the leaderboard's file."""
  examples, batch_size = job.examples[set_name], job.run.settings.predict_batch_size
  probabilities, _ = run_model(job, set_name, batch_size)
  decided = CLASSES.decide(probabilities, job.labels, 0.5)
  texts = classification.prediction_files(
    job.task, set_name, examples, job.labels, probabilities, decided, suffix=suffix
  )
  for name in texts:
    path = job.run.path(name)
    files.write_text(path, texts[name])
    logs.notice("%d predictions in %s", len(examples), path)


if __name__ == "__main__":
  command_line.run(main, flags)
