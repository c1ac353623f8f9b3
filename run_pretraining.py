"""Pre-trains BERT on records of create_pretraining_data.py, evaluates it, and fills in masks.

  python run_pretraining.py --model=$BERT --do_train --do_eval \\
    --input_file='/data/pretraining.tfrecord*' --num_train_steps=20 \\
    --num_warmup_steps=10 --learning_rate=2e-5 --output_dir=/tmp/pretraining

Training from scratch takes --bert_config_file and --vocab_file in place of --model. A finished
--output_dir is all that the prediction of masked words needs:

  python run_pretraining.py --do_predict --text="The [MASK] barked." \\
    --output_dir=/tmp/pretraining
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import functools
import json
import os  # noqa: F401, for programs that import * from here
from typing import Any, NamedTuple, Optional

from absl import logging

import modeling
import optimization  # noqa: F401
import tokenization
from toolkit.formats import checkpoints, model_directory
from toolkit.records import input_pipeline
from toolkit.serving import engines, mask_filler
from toolkit.serving.mask_filler import MASK, MaskFiller
from toolkit.support import command_line, files
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import pretraining, pretraining_head
from toolkit.tasks.pretraining_head import (  # noqa: F401, names of the classic script
  _decode_record,
  gather_indexes,
  get_masked_lm_output,
  get_next_sentence_output,
  input_fn_builder,
)
from toolkit.training import estimators, hooks, micro_batches, report, run_flags, runs, steps

SCRIPT = "run_pretraining"
PREDICTIONS_FILE = "mask_predictions.jsonl"
# Metrics that --best_metric may name, the default first.
METRICS = ("loss", *pretraining_head.SCORES)
SMALLER_IS_BETTER = ("loss", "masked_lm_loss", "next_sentence_loss")

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
run_flags.define_model_flags(flags, max_seq_length=128)
run_flags.define_step_flags(flags)
run_flags.define_checkpoint_flags(flags)
run_flags.define_device_flags(flags)
flags.DEFINE_string(
  "input_file",
  None,
  "TFRecord files to train on: comma-separated names or patterns.",
  group="essential",
)
flags.DEFINE_string(
  "eval_file",
  None,
  "TFRecord files to evaluate on: comma-separated names or patterns. Default: --input_file.",
)
flags.DEFINE_integer(
  "max_predictions_per_seq",
  20,
  "Maximum number of masked word pieces per input, as in create_pretraining_data.py.",
  lower_bound=1,
  remembered=True,
)
flags.DEFINE_bool("do_train", False, "Train on --input_file.", group="essential")
flags.DEFINE_bool("do_eval", False, "Evaluate on --eval_file.", group="essential")
flags.DEFINE_bool(
  "do_predict", False, f"Fill in each {MASK} of --text and --predict_file.", group="essential"
)
run_flags.define_batch_flags(flags, "Examples", ["eval"])
flags.DEFINE_integer(
  "num_train_steps",
  100000,
  "Optimizer steps of the whole training.",
  lower_bound=1,
  group="essential",
)
flags.DEFINE_integer(
  "num_warmup_steps",
  10000,
  "Steps of the warm-up. The learning rate rises from 0 during it.",
  lower_bound=0,
  group="essential",
)
flags.DEFINE_integer(
  "max_eval_steps",
  100,
  "Maximum number of batches per evaluation; 0 for all of them.",
  lower_bound=0,
  group="evaluation",
)
flags.DEFINE_string("predict_file", None, f"Text file with one {MASK} or more per line.")
flags.DEFINE_string("text", None, f"Text with one {MASK} or more.")
flags.DEFINE_integer("top_k", 5, f"Number of words shown per {MASK}.", lower_bound=1)


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config: modeling.BertConfig, init_checkpoint: Optional[str], learning_rate: Optional[float],
  num_train_steps: Optional[int], num_warmup_steps: Optional[int], use_tpu: bool,
  use_one_hot_embeddings: bool, options: micro_batches.StepOptions = micro_batches.DEFAULTS,
) -> estimators.ModelFn:  # fmt: skip
  """Makes the model_fn of a TPUEstimator, for training and evaluation.

  Args:
    bert_config: the encoder's.
    init_checkpoint, use_tpu: see estimators.make_model_fn.
    learning_rate, num_train_steps, num_warmup_steps: see optimization.create_optimizer; None for a
      model_fn that does not train.
    use_one_hot_embeddings: see modeling.BertModel.
    options: of a training step.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of pretraining.record_features. Evaluation gives the metrics of SCORES, and BATCH_LOSS. Other
    modes than TRAIN and EVAL are a ValueError.
  """

  def build(features, mode):
    is_training = mode == tf.estimator.ModeKeys.TRAIN
    inputs = (bert_config, features, is_training, use_one_hot_embeddings)
    masked, following = pretraining_head.heads(*inputs)
    scores = pretraining_head.scores(features, masked, following)
    columns = [tensor for column in scores.values() for tensor in column]
    objective = pretraining_head.objective(features, masked[0], following[0], scores)
    return estimators.Outputs(objective, eval_metrics=(pretraining_head.metrics, columns))

  schedule = (learning_rate, num_train_steps, num_warmup_steps)
  return estimators.make_model_fn(build, init_checkpoint, *schedule, use_tpu, options)


# ---- One run ------------------------------------------------------------------------------------


def main(_: list[str]) -> None:
  """Trains, evaluates and fills in according to the flags."""
  job = prepare()
  parts = train(job) if FLAGS.do_train else []
  if FLAGS.do_eval:
    evaluate(job)
  if FLAGS.do_predict:
    fill_masks(job)
  report.write(job.run, parts)


class Job(NamedTuple):
  """Inputs of a run, all of them checked.

  Attributes:
    sets: flag -> records, for --input_file and --eval_file as far as the run needs them.
    texts: those to fill in.
  """

  run: runs.Run
  sets: dict[str, pretraining_head.RecordSet]
  texts: list[str]


def prepare() -> Job:
  """Reads and checks all inputs of a run, and writes nothing; InputError for the first mistake."""
  if not (FLAGS.do_train or FLAGS.do_eval or FLAGS.do_predict):
    raise files.InputError("nothing to do: give --do_train, --do_eval or --do_predict")
  found = find_inputs(flags.settings())
  known = pretraining.check_metadata([path for paths in found.values() for path in paths])
  # Text with masked words has the casing of the records.
  casing = {name: known[0][name] for name in ("do_lower_case",) if known and name in known[0]}
  run = runs.begin(flags, SCRIPT, needs_vocab=False, adopted=casing)
  run = runs.with_best_metric(run, METRICS, SMALLER_IS_BETTER)
  settings = run.settings
  run.devices.check({flag: paths[0] for flag, paths in found.items()}, batch_sizes={})
  if settings.num_warmup_steps > settings.num_train_steps and settings.do_train:
    logging.warning(
      "--num_warmup_steps=%d is more than --num_train_steps=%d: the learning rate will not get to "
      "--learning_rate",
      settings.num_warmup_steps,
      settings.num_train_steps,
    )
  texts = []
  if settings.do_predict:
    settings.require(["vocab_file"], "--do_predict")
    with files.input_checks():
      tokenization.validate_vocab(settings.vocab_file, [MASK])
    texts = mask_filler.read_texts(settings.text, settings.predict_file)
  vocab_size = run.config.vocab_size
  runs.check_head(run, "cls/predictions/output_bias", [vocab_size], "pre-training heads")
  expected = expected_metadata(run)
  sets = {
    flag: pretraining_head.check_records(paths, expected, vocab_size)
    for flag, paths in found.items()
  }
  runs.make_directory(run)
  return Job(run, sets, texts)


def find_inputs(settings: command_line.Settings) -> dict[str, list[str]]:
  """Returns flag -> TFRecord files, for those flags that this run needs."""
  wanted = ["input_file"] if settings.do_train else []
  if settings.do_eval or (settings.do_train and settings.eval_steps is not None):
    wanted.append("eval_file" if settings.eval_file else "input_file")
  settings.require(wanted, "--do_train" if settings.do_train else "--do_eval")
  return {flag: pretraining_head.find_records(settings[flag], flag) for flag in wanted}


def expected_metadata(run: runs.Run) -> dict[str, Any]:
  """Returns the entries that the metadata of records must have for this run."""
  settings = run.settings
  expected = {name: settings[name] for name in settings.names("remembered")}
  if run.tokenizer is None:
    return {**expected, "vocab_size": run.config.vocab_size}
  digest = pretraining.vocab_digest(settings.vocab_file)
  return {
    **expected,
    "vocab_size": tokenization.num_ids(run.tokenizer.vocab),
    "vocab_sha256": digest,
  }


def make_model_fn(run: runs.Run, num_steps: Optional[int] = None) -> estimators.ModelFn:
  """Makes the model_fn of a run that trains num_steps steps, or of evaluation."""
  return model_fn_builder(**run.model_arguments(num_steps, run.settings.num_warmup_steps))


def make_input_fn(
  run: runs.Run,
  record_set: pretraining_head.RecordSet,
  is_training: bool,
  trim_padding: bool,
  num_seen: int = 0,
) -> input_pipeline.InputFn:
  """Makes the input_fn of records, and logs their files; see input_fn_builder."""
  logging.info("*** Input Files ***")
  for path in record_set.paths:
    logging.info("  %s", path)
  return input_fn_builder(
    record_set.paths,
    run.settings.max_seq_length,
    run.settings.max_predictions_per_seq,
    is_training,
    trim_padding=trim_padding,
    seed=run.settings.random_seed,
    num_seen=num_seen,
    num_records=record_set.num_records,
  )


def train(job: Job) -> list[hooks.Trained]:
  """Trains, from the last checkpoint in the output directory."""
  run, train_set = job.run, job.sets["input_file"]
  num_steps, batch_size = run.settings.num_train_steps, run.settings.train_batch_size
  done = steps.open_directory(run, num_steps)
  if done is None:
    return []

  def make_train_input_fn(step):
    return make_input_fn(run, train_set, True, run.trims_padding(), num_seen=step * batch_size)

  steps.log_training(run, {"Num records": train_set.num_records}, num_steps, done)
  estimator = steps.make_estimator(run, make_model_fn(run, num_steps), num_steps)
  dev_metrics = functools.partial(measure_while_training, job)
  watch = steps.make_watch(run, num_steps, train_set.num_records, dev_metrics)
  # The steps count here, and not the epochs, which may be very short: no checkpoint after each.
  save_examples = num_steps * batch_size
  with input_pipeline.converted_data_loss(train_set.paths):
    return steps.train(run, estimator, make_train_input_fn, num_steps, save_examples, watch)


def evaluate(job: Job) -> None:
  """Evaluates on each record once, and writes eval_results.txt and eval_metrics.json."""
  logging.info("***** Running evaluation *****")
  logging.info("  Batch size = %d", job.run.settings.eval_batch_size)
  results, source = measure(job)
  steps.log_results(results)
  metrics = {key: value.item() for key, value in results.items()}
  steps.write_results(job.run, results, {**metrics, **source})


def measure_while_training(job: Job, checkpoint: str) -> dict[str, float]:
  """Returns the metrics of a checkpoint on the evaluation set."""
  results, _ = measure(job, checkpoint)
  return {name: results[name] for name in METRICS}


def measure(job: Job, checkpoint: Optional[str] = None) -> tuple[dict[str, Any], dict[str, Any]]:
  """Measures a checkpoint, the trained one by default, on the evaluation set.

  Returns:
    METRICS and global_step -> NumPy number; a description of the records that were used.
  """
  run, eval_set = job.run, job.sets.get("eval_file") or job.sets["input_file"]
  batch_size, limit = run.settings.eval_batch_size, run.settings.max_eval_steps
  num_batches = -(-eval_set.num_records // batch_size)
  if 0 < limit < num_batches:
    logging.warning(
      "Only %d of %d records are evaluated; --max_eval_steps=0 is for all of them",
      limit * batch_size,
      eval_set.num_records,
    )
    num_batches = limit
  input_fn = make_input_fn(run, eval_set, False, trim_padding=not run.settings.use_tpu)
  checkpoint = checkpoint or model_directory.trained_checkpoint(run.settings.output_dir)
  estimator = steps.make_estimator(run, make_model_fn(run), eval_batch_size=batch_size)
  with input_pipeline.converted_data_loss(eval_set.paths):
    results = estimators.evaluate(estimator, input_fn, num_batches, "eval", checkpoint)
  results["loss"] = results.pop(pretraining_head.BATCH_LOSS)
  checkpoints.check_finite([results["loss"]], run.settings.output_dir)
  num_records = min(num_batches * batch_size, eval_set.num_records)
  return results, {"num_records": num_records, "input_files": eval_set.paths}


def fill_masks(job: Job) -> None:
  """Prints the predicted words for each mask, and writes them to mask_predictions.jsonl."""
  logging.info("***** Running prediction *****")
  run, settings = job.run, job.run.settings
  filler = MaskFiller(
    run.checkpoint(),
    run.config,
    settings.vocab_file,
    settings.do_lower_case,
    settings.max_seq_length,
    settings.top_k,
    engines.TENSORFLOW,
  )
  lines = []
  for text, masks in zip(job.texts, filler.fill_all(job.texts)):
    print(text)
    for number, guesses in enumerate(masks, 1):
      print(f"  {number}: " + "  ".join(f"{word} {value:.3f}" for word, value in guesses))
    named = [[{"word": w, "probability": p} for w, p in guesses] for guesses in masks]
    lines.append(json.dumps({"text": text, "masks": named}, ensure_ascii=False) + "\n")
  files.write_text(run.path(PREDICTIONS_FILE), "".join(lines))


if __name__ == "__main__":
  command_line.run(main, flags)
