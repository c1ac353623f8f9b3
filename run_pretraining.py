"""Pre-trains BERT on the records of create_pretraining_data.py, evaluates it, and guesses words.

  python run_pretraining.py --input_file='/data/pretraining.tfrecord*' --do_train --do_eval \\
    --bert_config_file=$BERT/bert_config.json --vocab_file=$BERT/vocab.txt \\
    --init_checkpoint=$BERT/bert_model.ckpt --num_train_steps=20 --num_warmup_steps=10 \\
    --learning_rate=2e-5 --output_dir=/tmp/pretraining

A finished --output_dir is all that masked words need:

  python run_pretraining.py --do_predict --text="The [MASK] barked." --output_dir=/tmp/pretraining
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import functools
import json
import os
from typing import NamedTuple

from absl import flags, logging

import modeling
import tokenization
from toolkit.formats import model_directory
from toolkit.records import input_pipeline
from toolkit.serving.predictor import Predictor
from toolkit.support import files, processes
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import pretraining, pretraining_head
from toolkit.tasks.pretraining_head import (  # noqa: F401, names that were always importable from here
  BATCH_LOSS,
  SCORES,
  gather_indexes,
  get_masked_lm_output,
  get_next_sentence_output,
  masked_lm_logits,
)
from toolkit.training import common_flags, estimators, micro_batches, report, runs

SCRIPT = "run_pretraining"
RESULTS_FILE = "eval_results.txt"
METRICS_FILE = "eval_metrics.json"
PREDICTIONS_FILE = "mask_predictions.jsonl"
MASK = "[MASK]"
# What a training can be judged by, the default first.
METRICS = ("loss", *SCORES)

FLAGS = flags.FlagValues()
common_flags.define_model_flags(FLAGS, max_seq_length=128)
common_flags.define_step_flags(FLAGS)
common_flags.define_checkpoint_flags(FLAGS)
common_flags.define_device_flags(FLAGS)
flags.DEFINE_string(
  "input_file",
  None,
  "TFRecord files to train on: names or patterns, with commas between.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "eval_file",
  None,
  "TFRecord files to evaluate on, given like --input_file. Default: those of --input_file.",
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "max_predictions_per_seq",
  20,
  "Masked word pieces of an input, at most; as the records were made with.",
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_bool("do_train", False, "Whether to train.", flag_values=FLAGS)
flags.DEFINE_bool("do_eval", False, "Whether to evaluate.", flag_values=FLAGS)
flags.DEFINE_bool(
  "do_predict",
  False,
  f"Whether to fill in each {MASK} of --text and of --predict_file.",
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "eval_batch_size", 8, "Examples in a batch of evaluation.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
  "num_train_steps",
  100000,
  "Optimizer steps of the whole training.",
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "num_warmup_steps",
  10000,
  "Steps in which the learning rate rises from 0.",
  lower_bound=0,
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "max_eval_steps",
  100,
  "Batches of evaluation, at most. 0: all that there are.",
  lower_bound=0,
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "predict_file", None, f"Text file, in each line one {MASK} or more.", flag_values=FLAGS
)
flags.DEFINE_string("text", None, f"Text with {MASK} in it.", flag_values=FLAGS)
flags.DEFINE_integer(
  "top_k", 5, f"How many words are shown for each {MASK}.", lower_bound=1, flag_values=FLAGS
)
common_flags.finish(FLAGS)

# Flags that evaluation and prediction take over from the run that trained the model.
TASK_FLAGS = ("do_lower_case", "max_seq_length", "max_predictions_per_seq")


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config,
  init_checkpoint,
  learning_rate,
  num_train_steps,
  num_warmup_steps,
  use_tpu,
  use_one_hot_embeddings,
  options=micro_batches.DEFAULTS,
):
  """Makes the model_fn of a TPUEstimator, for training and evaluation.

  Args:
    bert_config: modeling.BertConfig.
    init_checkpoint: str or None, weights to start from; see checkpoints.resolve_checkpoint.
    learning_rate: float, see optimization.create_optimizer.
    num_train_steps, num_warmup_steps: int or None; needed to train.
    use_tpu: bool.
    use_one_hot_embeddings: bool, see modeling.BertModel.
    options: micro_batches.StepOptions.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of pretraining.record_features. Evaluation gives the metrics of SCORES, and BATCH_LOSS.
    Other modes than TRAIN and EVAL are a ValueError.
  """

  def model_fn(features, labels, mode, params):
    del labels, params  # the labels are among the features

    def build(features):
      masked, following = pretraining_head.heads(
        bert_config, features, mode == tf.estimator.ModeKeys.TRAIN, use_one_hot_embeddings
      )
      scores = pretraining_head.scores(features, masked, following)
      objective = pretraining_head.objective(features, masked[0], following[0], scores)
      columns = [tensor for column in scores.values() for tensor in column]
      return estimators.Outputs(objective, eval_metrics=(pretraining_head.metrics, columns))

    training = (learning_rate, num_train_steps, num_warmup_steps)
    return estimators.make_spec(mode, features, build, init_checkpoint, use_tpu, training, options)

  return model_fn


# ---- Input --------------------------------------------------------------------------------------


def input_fn_builder(
  input_files,
  max_seq_length,
  max_predictions_per_seq,
  is_training,
  num_cpu_threads=4,
  trim_padding=False,
  seed=None,
  num_seen=0,
  num_records=None,
):
  """Makes the input_fn that reads the files of create_pretraining_data.py.

  Args:
    input_files: list of str, TFRecord files.
    max_seq_length: int, S.
    max_predictions_per_seq: int, P.
    is_training: bool; the examples come shuffled and without end, or once and in order.
    num_cpu_threads: int, files that training reads at a time.
    trim_padding, seed, num_seen, num_records: see input_pipeline.corpus_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches with the columns
    of pretraining.record_features.
  """
  features = pretraining.record_features(max_seq_length, max_predictions_per_seq)
  return input_pipeline.corpus_input_fn(
    input_files, features, is_training, num_cpu_threads, trim_padding, seed, num_seen, num_records
  )


class RecordSet(NamedTuple):
  """TFRecord files, and how many records they have together."""

  paths: list
  num_records: int


def find_records(patterns, flag):
  """The TFRecord files that a flag names, the files of metadata beside them left out.

  Args:
    patterns: str, names or patterns with commas between.
    flag: str, name of the flag.

  Returns:
    List of str.

  Raises:
    files.InputError: there is none.
  """
  found = files.find(patterns, flag)
  paths = [path for path in found if not path.endswith(pretraining.metadata_path(""))]
  if not paths:
    raise files.InputError(f"--{flag}: {patterns} are metadata; give the TFRecord files themselves")
  return paths


def check_records(paths, expected, vocab_size):
  """Makes sure that records fit to the model, and counts them.

  Files without metadata are judged by their first records, and read through to be counted.

  Args:
    paths: list of str, TFRecord files.
    expected: dict of entries of the metadata, see pretraining.check_metadata;
      max_seq_length and max_predictions_per_seq among them.
    vocab_size: int, of the model.

  Returns:
    RecordSet.

  Raises:
    files.InputError: the records do not fit, are damaged, or there are none.
  """
  pretraining.check_metadata(paths, **expected)
  features = pretraining.record_features(
    expected["max_seq_length"], expected["max_predictions_per_seq"]
  )
  known, num_records = {}, 0
  for path in paths:
    source = pretraining.metadata_path(path)
    if source not in known:
      known[source] = files.read_json(source)["files"] if files.exists(source) else {}
    entry = known[source].get(os.path.basename(path))
    if entry is None:
      check_ids(path, input_pipeline.read_some(path, features), vocab_size)
      num_records += input_pipeline.count_records([path])
    else:
      num_records += entry["records"]
  if not num_records:
    raise files.InputError(f"{', '.join(paths)}: no records; see create_pretraining_data.py")
  return RecordSet(paths, num_records)


def check_ids(path, rows, vocab_size):
  """Makes sure that the word pieces of some records are among those of the model.

  Raises:
    files.InputError: one is not.
  """
  highest = max((max(row["input_ids"] + row["masked_lm_ids"]) for row in rows), default=0)
  if highest >= vocab_size:
    raise files.InputError(
      f"{path}: found word piece {highest}, and vocab_size is {vocab_size} in --bert_config_file; "
      "make the records with the model's vocabulary"
    )


# ---- One run ------------------------------------------------------------------------------------


class Job(NamedTuple):
  """What a run works with, all of it checked.

  Attributes:
    run: runs.Run.
    sets: dict of flag -> RecordSet, for --input_file and --eval_file as far as the run needs them.
    texts: list of str to fill in.
  """

  run: runs.Run
  sets: dict
  texts: list


def main(_):
  """Trains, evaluates and fills in as the flags say."""
  processes.prepare_process()
  job = prepare()
  parts = train(job) if FLAGS.do_train else []
  if FLAGS.do_eval:
    evaluate(job)
  if FLAGS.do_predict:
    predict(job)
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
  found = _find_inputs()
  known = pretraining.check_metadata([path for paths in found.values() for path in paths])
  if known:  # masked words will be guessed in text of the same casing
    common_flags.adopt(FLAGS, known[0], ["do_lower_case"])
  run = runs.begin(FLAGS, SCRIPT, TASK_FLAGS, needs_vocab=False)
  runs.check_evaluation(FLAGS, METRICS)
  run.devices.check({flag: paths[0] for flag, paths in found.items()}, batch_sizes={})
  if FLAGS.num_warmup_steps > FLAGS.num_train_steps and FLAGS.do_train:
    logging.warning(
      "--num_warmup_steps=%d is more than --num_train_steps=%d: the learning rate will not get to "
      "--learning_rate",
      FLAGS.num_warmup_steps,
      FLAGS.num_train_steps,
    )
  texts = []
  if FLAGS.do_predict:
    common_flags.require(FLAGS, ["vocab_file"], "--do_predict")
    with files.input_checks():
      tokenization.validate_vocab(FLAGS.vocab_file, [MASK])
    texts = read_texts(FLAGS.text, FLAGS.predict_file)
  runs.check_head(run, "cls/predictions/output_bias", [run.config.vocab_size], "pre-training heads")
  expected = _expected_metadata(run)
  sets = {
    flag: check_records(paths, expected, run.config.vocab_size) for flag, paths in found.items()
  }
  files.make_directory(FLAGS.output_dir, "output_dir")
  return Job(run, sets, texts)


def _find_inputs():
  """Dict of flag -> TFRecord files, for those flags that this run needs."""
  wanted = ["input_file"] if FLAGS.do_train else []
  if FLAGS.do_eval or (FLAGS.do_train and FLAGS.eval_steps is not None):
    wanted.append("eval_file" if FLAGS.eval_file else "input_file")
  common_flags.require(FLAGS, wanted, "--do_train" if FLAGS.do_train else "--do_eval")
  return {flag: find_records(FLAGS[flag].value, flag) for flag in wanted}


def _expected_metadata(run):
  """What the metadata of records must say for this run."""
  expected = {name: FLAGS[name].value for name in TASK_FLAGS}
  if run.tokenizer is None:
    return {**expected, "vocab_size": run.config.vocab_size}
  digest = pretraining.vocab_digest(FLAGS.vocab_file)
  return {**expected, "vocab_size": len(run.tokenizer.vocab), "vocab_sha256": digest}


def _make_estimator(job, init_checkpoint, cluster=None, session_config=None):
  model_fn = model_fn_builder(
    bert_config=job.run.config,
    init_checkpoint=init_checkpoint,
    learning_rate=FLAGS.learning_rate,
    num_train_steps=FLAGS.num_train_steps,
    num_warmup_steps=FLAGS.num_warmup_steps,
    use_tpu=FLAGS.use_tpu,
    use_one_hot_embeddings=FLAGS.use_tpu,
    options=job.run.options(),
  )
  batch_sizes = {
    "train_batch_size": FLAGS.train_batch_size,
    "eval_batch_size": FLAGS.eval_batch_size,
  }
  return estimators.make_estimator(
    model_fn,
    FLAGS.output_dir,
    job.run.devices,
    FLAGS.random_seed,
    batch_sizes,
    FLAGS.keep_checkpoint_max,
    cluster,
    session_config,
  )


def _make_input_fn(record_set, is_training, trim_padding, num_seen=0):
  logging.info("*** Input Files ***")
  for path in record_set.paths:
    logging.info("  %s", path)
  return input_fn_builder(
    record_set.paths,
    FLAGS.max_seq_length,
    FLAGS.max_predictions_per_seq,
    is_training,
    trim_padding=trim_padding,
    seed=FLAGS.random_seed,
    num_seen=num_seen,
    num_records=record_set.num_records,
  )


def train(job):
  """Trains, from the last checkpoint in the output directory; returns a list of hooks.Trained."""
  num_steps, batch_size = FLAGS.num_train_steps, FLAGS.train_batch_size
  done = runs.open_directory(job.run, num_steps)
  if done is None:
    return []
  train_set = job.sets["input_file"]

  def make_input_fn(step):
    return _make_input_fn(train_set, True, job.run.trims_padding(), num_seen=step * batch_size)

  counts = {
    "Num records": train_set.num_records,
    "Batch size": batch_size,
    "Num steps": num_steps,
  }
  runs.log_training(job.run, counts, done)
  run, start = job.run, None if done else FLAGS.init_checkpoint
  estimator = _make_estimator(job, start, run.cluster, run.plan.session_config())
  with input_pipeline.explained_damage(train_set.paths):
    evaluate_checkpoint = functools.partial(_dev_metrics, job)
    watch = runs.make_watch(job.run, num_steps, train_set.num_records, evaluate_checkpoint)
    # The steps count here, and not the epochs, which may be very short: no checkpoint after each.
    return runs.train(job.run, estimator, make_input_fn, num_steps, num_steps * batch_size, watch)


def evaluate(job):
  """Evaluates on each record once, and writes eval_results.txt and eval_metrics.json."""
  logging.info("***** Running evaluation *****")
  logging.info("  Batch size = %d", FLAGS.eval_batch_size)
  save_results(*_measure(job))


def _dev_metrics(job, checkpoint):
  """Dict of metric -> number of a checkpoint, while the model trains."""
  results, _ = _measure(job, checkpoint)
  return {name: results[name] for name in METRICS}


def _measure(job, checkpoint=None):
  """The metrics of a checkpoint, of the trained one by default, and what they were measured on.

  Returns:
    A pair of dicts: of METRICS and global_step -> NumPy number; what else eval_metrics.json tells.
  """
  eval_set = job.sets.get("eval_file") or job.sets["input_file"]
  batch_size, limit = FLAGS.eval_batch_size, FLAGS.max_eval_steps
  num_batches = -(-eval_set.num_records // batch_size)
  if 0 < limit < num_batches:
    logging.warning(
      "Only %d of %d records are evaluated; --max_eval_steps=0 is for all of them",
      limit * batch_size,
      eval_set.num_records,
    )
    num_batches = limit
  input_fn = _make_input_fn(eval_set, is_training=False, trim_padding=not FLAGS.use_tpu)
  checkpoint = checkpoint or model_directory.trained_checkpoint(FLAGS.output_dir)
  estimator = _make_estimator(job, None if checkpoint else FLAGS.init_checkpoint)
  with input_pipeline.explained_damage(eval_set.paths):
    results = estimators.evaluate(estimator, input_fn, num_batches, "eval", checkpoint)
  results["loss"] = results.pop(BATCH_LOSS)
  runs.check_finite([results["loss"]], FLAGS.output_dir)
  num_records = min(num_batches * batch_size, eval_set.num_records)
  return results, {"num_records": num_records, "input_files": eval_set.paths}


def save_results(results, source):
  """Logs the results and writes them to eval_results.txt and eval_metrics.json.

  Args:
    results: dict of metric -> NumPy number.
    source: dict of what else eval_metrics.json tells.
  """
  logging.info("***** Eval results *****")
  for key in sorted(results):
    logging.info("  %s = %s", key, str(results[key]))
  files.write_text(
    os.path.join(FLAGS.output_dir, RESULTS_FILE),
    "".join("%s = %s\n" % (key, str(results[key])) for key in sorted(results)),
  )
  metrics = {key: value.item() for key, value in results.items()}
  files.write_json(os.path.join(FLAGS.output_dir, METRICS_FILE), {**metrics, **source})


# ---- Masked words -------------------------------------------------------------------------------


def read_texts(text, predict_file):
  """The texts to fill in.

  Args:
    text: str or None.
    predict_file: str or None, a text file; its empty lines are left out.

  Returns:
    List of str, `text` first.

  Raises:
    files.InputError: there is none, or one without [MASK].
  """
  places = [("--text", text)] if text else []
  if predict_file:
    lines = files.read_lines(predict_file)
    places += [(f"{predict_file}:{number}", line) for number, line in lines if line.strip()]
  if not places:
    raise files.InputError(
      "--do_predict: nothing to fill in; give --text, or lines of text in --predict_file"
    )
  for place, line in places:
    if MASK not in line:
      raise files.InputError(f"{place}: found no {MASK}; write it for each word that is wanted")
  return [line for _, line in places]


class MaskedPart(NamedTuple):
  """An input of the model: its word pieces, their segments, and the places of masks to fill in."""

  tokens: list
  segment_ids: list
  places: list


def parts_with_masks(pieces, max_seq_length):
  """Makes inputs of the model from a text.

  A text with masks that fits is one input; of a longer one there is an input for each mask, with
  what is around it. Behind a [SEP] begins the second segment, as in the records:

    the [MASK] [SEP] it -> [CLS] the [MASK] [SEP] it [SEP], segments 0 0 0 0 1 1, place 2

  Args:
    pieces: list of str.
    max_seq_length: int.

  Yields:
    MaskedPart.
  """
  masks = [place for place, piece in enumerate(pieces) if piece == MASK]
  first_length = pieces.index("[SEP]") + 1 if "[SEP]" in pieces else len(pieces)
  segment_ids = [int(place >= first_length) for place in range(len(pieces))]
  room = max_seq_length - 2
  if masks and len(pieces) <= room:
    cuts = [(0, masks)]
  else:
    cuts = [(min(max(0, m - room // 2), len(pieces) - room), [m]) for m in masks]
  for start, places in cuts:
    cut = slice(start, start + room)
    yield MaskedPart(
      ["[CLS]", *pieces[cut], "[SEP]"],
      [0, *segment_ids[cut], max(segment_ids[cut])],
      [place - start + 1 for place in places],
    )


class MaskFiller:
  """A pre-trained model, loaded once, that guesses words; calls may come from several threads.

  filler = MaskFiller.from_directory("/tmp/pretraining")
  filler.fill("The [MASK] barked.")  # [[("dog", 0.61), ("fox", 0.07), ...]]
  """

  def __init__(
    self, checkpoint, config, vocab_file, do_lower_case=True, max_seq_length=128, top_k=5
  ):
    """Loads the model.

    Args:
      checkpoint: str, a path as checkpoints.resolve_checkpoint takes it.
      config: modeling.BertConfig.
      vocab_file: str.
      do_lower_case: bool, whether text is lower-cased.
      max_seq_length: int; of longer text, in word pieces, the model sees what is around a mask.
      top_k: int, how many words are given for each mask.

    Raises:
      files.InputError: the checkpoint or the vocabulary cannot be used.
    """
    with files.input_checks():
      tokenization.validate_vocab(vocab_file, [MASK])
      self._tokenizer = tokenization.FullTokenizer(
        vocab_file, do_lower_case, keep_special_tokens=True
      )
    self._max_seq_length = max_seq_length
    vocab = self._tokenizer.vocab
    top_k = min(top_k, len(vocab))

    def build(input_ids, input_mask, segment_ids):
      model = modeling.BertModel(config, False, input_ids, input_mask, segment_ids)
      places = tf.where(tf.equal(input_ids, vocab[MASK]))  # [M, 2], M masks in all
      hidden = tf.gather_nd(model.get_sequence_output(), places)  # [M, H]
      logits = masked_lm_logits(config, hidden, model.get_embedding_table())
      # A model may have more rows than its vocabulary has words.
      best, ids = tf.nn.top_k(tf.nn.softmax(logits[:, : len(vocab)]), top_k)  # [M, K]
      shape = tf.concat([tf.shape(input_ids, out_type=tf.int64), [top_k]], axis=0)  # [B, S, K]
      return {
        "ids": tf.scatter_nd(places, ids, shape),
        "probabilities": tf.scatter_nd(places, best, shape),
      }

    self._predictor = Predictor(build, checkpoint)

  @classmethod
  def from_directory(cls, output_dir, top_k=5):
    """The model of a directory that run_pretraining.py has trained with a --vocab_file.

    Args:
      output_dir: str.
      top_k: int, how many words are given for each mask.

    Raises:
      files.InputError: the directory is not complete, or of another script.
    """
    saved = model_directory.load_flags(output_dir, SCRIPT)
    config = model_directory.read_config(os.path.join(output_dir, model_directory.CONFIG_FILE))
    vocab_file = os.path.join(output_dir, model_directory.VOCAB_FILE)
    settings = {name: saved[name] for name in ("do_lower_case", "max_seq_length") if name in saved}
    return cls(output_dir, config, vocab_file, top_k=top_k, **settings)

  def fill(self, text):
    """Guesses the masked words of a text.

    Args:
      text: str with [MASK] in it; [SEP] may stand between two segments.

    Returns:
      List with an entry for each mask: list of (word piece, probability) pairs, the likeliest
      first.
    """
    return self.fill_all([text])[0]

  def fill_all(self, texts):
    """List of what `fill` gives for each of a list of texts, faster than one by one."""
    parts = [
      list(parts_with_masks(self._tokenizer.tokenize(text), self._max_seq_length)) for text in texts
    ]
    rows = [
      (self._tokenizer.convert_tokens_to_ids(part.tokens), part.segment_ids)
      for of_text in parts
      for part in of_text
    ]
    results = iter(self._predictor.run(rows))
    return [
      [guesses for part in of_text for guesses in self._guesses(next(results), part.places)]
      for of_text in parts
    ]

  def _guesses(self, result, places):
    """Yields a list of (word piece, probability) for each place in a row of the model's results."""
    for place in places:
      words = self._tokenizer.convert_ids_to_tokens(result["ids"][place].tolist())
      yield list(zip(words, result["probabilities"][place].tolist()))


def predict(job):
  """Prints the words for each mask, and writes them to mask_predictions.jsonl."""
  logging.info("***** Running prediction *****")
  filler = MaskFiller(
    model_directory.trained_checkpoint(FLAGS.output_dir) or FLAGS.init_checkpoint,
    job.run.config,
    FLAGS.vocab_file,
    FLAGS.do_lower_case,
    FLAGS.max_seq_length,
    FLAGS.top_k,
  )
  lines = []
  for text, masks in zip(job.texts, filler.fill_all(job.texts)):
    print(text)
    for number, guesses in enumerate(masks, 1):
      print(f"  {number}: " + "  ".join(f"{word} {value:.3f}" for word, value in guesses))
    named = [[{"word": w, "probability": p} for w, p in guesses] for guesses in masks]
    lines.append(json.dumps({"text": text, "masks": named}, ensure_ascii=False) + "\n")
  files.write_text(os.path.join(FLAGS.output_dir, PREDICTIONS_FILE), "".join(lines))


if __name__ == "__main__":
  common_flags.run(main, FLAGS)
