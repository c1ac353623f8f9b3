"""Fine-tunes BERT to tag words, such as those of names in a text, evaluates it, and tags new text.

  python run_ner.py --data_dir=samples/ner --do_train --do_eval --do_predict \\
    --bert_config_file=$BERT/bert_config.json --vocab_file=$BERT/vocab.txt \\
    --init_checkpoint=$BERT/bert_model.ckpt --output_dir=/tmp/ner

--data_dir has train.txt, dev.txt and test.txt: a word and its tag a line, and blank lines between
sentences. A finished --output_dir is all that later evaluation, prediction and tagging need:

  python run_ner.py --do_predict --predict_file=new.txt --output_dir=/tmp/ner
  python run_ner.py --text="Ada moved to Lisbon." --output_dir=/tmp/ner
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import functools
import itertools
import json
import os
from typing import NamedTuple

import numpy as np
from absl import flags, logging

import tokenization
from toolkit.formats import checkpoints, model_directory
from toolkit.metrics import ner_metrics
from toolkit.records import input_pipeline, tf_records
from toolkit.serving.predictor import Predictor
from toolkit.support import files, processes
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import tagging, tagging_head
from toolkit.tasks.tagging_head import create_model
from toolkit.training import (
  common_flags,
  estimators,
  hooks,
  micro_batches,
  report,
  runs,
)

SCRIPT = "run_ner"
PREDICTIONS_FILE = "predictions.txt"
RECORDS_FILE = "predictions.jsonl"
MAX_SEQ_LENGTH = 128
# What a training can be judged by, the default first.
METRICS = ("f1", "precision", "recall", "accuracy", "loss")

FLAGS = flags.FlagValues()
common_flags.define_model_flags(FLAGS, max_seq_length=MAX_SEQ_LENGTH)
common_flags.define_training_flags(FLAGS)
common_flags.define_distillation_flags(FLAGS)
common_flags.define_device_flags(FLAGS)
flags.DEFINE_string(
  "data_dir", None, "Directory with train.txt, dev.txt and test.txt.", flag_values=FLAGS
)
flags.DEFINE_string(
  "predict_file", None, "File of words to predict in place of test.txt.", flag_values=FLAGS
)
flags.DEFINE_string(
  "predict_text_file",
  None,
  "File of plain text, a sentence a line, to predict in place of test.txt.",
  flag_values=FLAGS,
)
flags.DEFINE_string("text", None, "Text to tag, whose names are printed.", flag_values=FLAGS)
flags.DEFINE_bool("do_train", False, "Whether to train on train.txt.", flag_values=FLAGS)
flags.DEFINE_bool("do_eval", False, "Whether to evaluate on dev.txt.", flag_values=FLAGS)
flags.DEFINE_bool(
  "do_predict",
  False,
  "Whether to predict test.txt, --predict_file or --predict_text_file.",
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "eval_batch_size", 8, "Sentences in a batch of evaluation.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
  "predict_batch_size", 8, "Sentences in a batch of prediction.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
  "token_column", 0, "Column of the words, from 0; from -1 at the end.", flag_values=FLAGS
)
flags.DEFINE_integer(
  "label_column", -1, "Column of the tags, from 0; from -1 at the end.", flag_values=FLAGS
)
flags.DEFINE_string(
  "delimiter",
  None,
  "What stands between two columns; tab for a tab. Default: any number of spaces and tabs.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "comment_prefix",
  None,
  "How lines begin that are no words, such as '# '. Default: there are none.",
  flag_values=FLAGS,
)
flags.DEFINE_enum(
  "tag_scheme",
  "auto",
  ["auto", *tagging.SCHEMES],
  "How the files write entities as tags; auto: as fits best. Predictions are always IOB2.",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "has_tags",
  True,
  "Whether --do_predict reads the tags of a file that has more than one column, to score its own "
  "and to write both.",
  flag_values=FLAGS,
)
common_flags.finish(FLAGS)

# Flags that evaluation and prediction take over from the run that trained the model.
TASK_FLAGS = ("data_dir", "do_lower_case", "max_seq_length", *tagging.Layout._fields)


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config,
  num_labels,
  init_checkpoint,
  learning_rate,
  num_train_steps,
  num_warmup_steps,
  use_tpu,
  use_one_hot_embeddings,
  options=micro_batches.DEFAULTS,
  soft_targets=None,
):
  """Makes the model_fn of a TPUEstimator, for training and prediction.

  Args:
    bert_config: modeling.BertConfig.
    num_labels: int, L.
    init_checkpoint: str or None, weights to start from; see checkpoints.resolve_checkpoint.
    learning_rate: float, see optimization.create_optimizer.
    num_train_steps, num_warmup_steps: int or None; needed to train.
    use_tpu: bool.
    use_one_hot_embeddings: bool, see modeling.BertModel.
    options: micro_batches.StepOptions.
    soft_targets: soft_targets.SoftTargets of a training whose features have TEACHER_LOGITS, float32
      [B, S, L]; None for a training without a teacher.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of tagging.record_features. Predictions have `label_ids` int32 [B, S] and `losses` float32
    [B, S]. Other modes than TRAIN and PREDICT are a ValueError.
  """

  def model_fn(features, labels, mode, params):
    del labels, params  # the labels are among the features

    def build(features):
      loss, losses, logits, _ = create_model(
        bert_config,
        mode == tf.estimator.ModeKeys.TRAIN,
        features["input_ids"],
        features["input_mask"],
        features["segment_ids"],
        features["label_ids"],
        features["label_mask"],
        num_labels,
        use_one_hot_embeddings,
      )
      teacher = soft_targets if mode == tf.estimator.ModeKeys.TRAIN else None
      objective = tagging_head.objective(features, loss, logits, teacher)
      return estimators.Outputs(objective, predictions=tagging_head.predictions(losses, logits))

    training = (learning_rate, num_train_steps, num_warmup_steps)
    return estimators.make_spec(mode, features, build, init_checkpoint, use_tpu, training, options)

  return model_fn


def input_fn_builder(
  input_file, seq_length, is_training, drop_remainder, trim_padding=False, seed=None, num_seen=0
):
  """Makes the input_fn that reads the TFRecord file of windows.

  Args:
    input_file: str, with the rows of tagging.feature_rows.
    seq_length: int, S.
    is_training, drop_remainder, trim_padding, seed, num_seen: see input_pipeline.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches.
  """
  features = tagging.record_features(seq_length)
  return input_pipeline.read_input_fn(
    input_file, features, is_training, drop_remainder, trim_padding, seed, num_seen
  )


# ---- One run ------------------------------------------------------------------------------------


class Job(NamedTuple):
  """What a run works with, all of it checked.

  Attributes:
    run: runs.Run.
    labels: list of labels in the order of their ids.
    corpora: dict of "train", "dev" and "test" -> tagging.Corpus, those that the run needs.
  """

  run: runs.Run
  labels: list
  corpora: dict


def main(_):
  """Trains, evaluates, predicts and tags as the flags say."""
  processes.prepare_process()
  job = prepare()
  parts = train(job) if FLAGS.do_train else []
  if FLAGS.do_eval:
    evaluate(job)
  if FLAGS.do_predict:
    predict(job)
  if FLAGS.text is not None:
    tag_text(job)
  report.write(job.run, parts)


def prepare():
  """Reads and checks everything that a run needs, before it writes anything.

  Returns:
    Job.

  Raises:
    files.InputError: the first thing that is missing or wrong.
  """
  if not (FLAGS.do_train or FLAGS.do_eval or FLAGS.do_predict or FLAGS.text is not None):
    raise files.InputError("nothing to do: give --do_train, --do_eval, --do_predict or --text")
  run = runs.begin(FLAGS, SCRIPT, TASK_FLAGS)
  runs.check_evaluation(FLAGS, METRICS)
  corpora = _read_corpora()
  known = _known_labels(run)
  labels = known or tagging.find_labels(corpora["train"])
  if run.teacher:
    labels = run.teacher.check_labels(labels, is_fixed=known is not None)
  for corpus in corpora.values():
    tagging.check_labels(corpus, labels)
  shape = [len(labels), run.config.hidden_size]
  runs.check_head(run, "cls/ner/output_weights", shape, f"tagger of {len(labels)} labels")
  files.make_directory(FLAGS.output_dir, "output_dir")
  return Job(run, labels, corpora)


def _layout():
  return tagging.Layout(**{name: FLAGS[name].value for name in tagging.Layout._fields})


def _read_corpora():
  """Dict of set name -> tagging.Corpus, for all sets that this run works on."""
  if FLAGS.predict_file and FLAGS.predict_text_file:
    raise files.InputError("--predict_file and --predict_text_file: give one of them")
  corpora = {}
  dev_flag = "eval_steps" if FLAGS.do_train and FLAGS.eval_steps else "do_eval"
  for name, flag in (("train", "do_train"), ("dev", dev_flag), ("test", "do_predict")):
    if FLAGS[flag].value:
      corpora[name] = _read_corpus(name, flag)
  return corpora


def _read_corpus(name, flag):
  """tagging.Corpus of a set that a flag needs."""
  if name == "test" and FLAGS.predict_text_file:
    return tagging.read_text_corpus(FLAGS.predict_text_file)
  path = FLAGS.predict_file if name == "test" else None
  if not path:
    common_flags.require(FLAGS, ["data_dir"], f"--{flag}")
    path = os.path.join(FLAGS.data_dir, f"{name}.txt")
  if name == "test":
    return tagging.read_corpus(path, _layout(), has_tags=None if FLAGS.has_tags else False)
  return tagging.read_corpus(path, _layout())


def _known_labels(run):
  """The labels that the weights were trained with; None if this run is to find them."""
  directory = FLAGS.output_dir if run.resumed else None
  if not run.resumed and not FLAGS.do_train:
    directory = os.path.dirname(checkpoints.resolve_checkpoint(FLAGS.init_checkpoint))
  known = model_directory.read_labels(directory) if directory else None
  if known is None and not FLAGS.do_train:
    raise files.InputError(
      f"--{run.start[1]}: {directory} has no {model_directory.LABEL_FILE}, the list of the tags "
      "that the model knows"
    )
  return known


def _model_and_table(job):
  """What runs.fine_tune and runs.predict need: a builder of the model_fn, and the file's table."""
  build_model_fn = functools.partial(
    model_fn_builder, num_labels=len(job.labels), soft_targets=job.run.soft_targets()
  )
  return build_model_fn, tagging.record_features(FLAGS.max_seq_length)


def _path(name):
  return os.path.join(FLAGS.output_dir, name)


def _make_windows(job, set_name):
  sentences = job.corpora[set_name].sentences
  return tagging.make_windows(sentences, job.run.tokenizer, FLAGS.max_seq_length)


def _write_windows(job, set_name, windows, file_name, multiple=1):
  """Writes the features of windows, filled up to a multiple with empty ones; returns the path."""
  length = FLAGS.max_seq_length
  rows = tagging.feature_rows(windows, job.corpora[set_name].sentences, job.labels, length)
  table = tagging.record_features(length)
  padding = [{feature.name: [0] * length for feature in table}] * (-len(windows) % multiple)
  path = os.path.join(job.run.scratch(), file_name)
  tf_records.write_records(path, itertools.chain(rows, padding), table)
  return path


def train(job):
  """Trains, from the last checkpoint in the output directory; returns a list of hooks.Trained."""
  windows = _make_windows(job, "train")
  num_steps = runs.num_train_steps(FLAGS, len(windows), "windows")
  done = runs.open_directory(job.run, num_steps, job.labels)
  if done is None:
    return []
  build_model_fn, table = _model_and_table(job)
  train_file = _write_windows(job, "train", windows, "train.tf_record")
  train_file, table = runs.ask_teacher(job.run, _teacher_logits(job), train_file, table)
  counts = {
    "Num examples": len(job.corpora["train"].sentences),
    "Num windows": len(windows),
    "Batch size": FLAGS.train_batch_size,
    "Num steps": num_steps,
  }
  runs.log_training(job.run, counts, done)
  evaluate = functools.partial(_dev_metrics, job)
  return runs.fine_tune(
    job.run, build_model_fn, table, train_file, num_steps, len(windows), evaluate
  )


def _teacher_logits(job):
  """Function of a configuration and a model's inputs to its logits, see distillation.add_logits."""
  return lambda config, *inputs: tagging_head.logits(config, len(job.labels), False, *inputs, False)


def run_model(job, set_name, file_name, batch_size, checkpoint=None):
  """Runs the model over a set.

  Args:
    job: Job.
    set_name: str, key of job.corpora.
    file_name: str, name of the file for the features.
    batch_size: int; on a TPU the set is filled up to a multiple of it.
    checkpoint: str or None, see runs.predict.

  Returns:
    A pair: list of lists of str, a tag for each word of each sentence; float, the mean loss of the
    words that have a word piece, in nats (it means something where the set has tags).

  Raises:
    files.InputError: the model's outputs are NaN, or memory ran out.
  """
  sentences = job.corpora[set_name].sentences
  windows = _make_windows(job, set_name)
  multiple = batch_size if FLAGS.use_tpu else 1
  input_file = _write_windows(job, set_name, windows, file_name, multiple)
  logging.info("  Num examples = %d", len(sentences))
  logging.info("  Num windows = %d", len(windows))
  logging.info("  Batch size = %d", batch_size)
  rows = runs.predict(
    job.run, *_model_and_table(job), input_file, len(windows), batch_size, set_name, checkpoint
  )
  tags = _tags_of(sentences, windows, rows, job.labels)
  losses = np.concatenate([row["losses"][w.positions] for w, row in zip(windows, rows)])
  return tags, float(losses.sum() / max(len(losses), 1))


def _tags_of(sentences, windows, rows, labels):
  """The tags of sentences, of what the model says of their windows; see tagging.join_tags."""
  runs.check_finite((row["losses"] for row in rows), FLAGS.output_dir)
  return tagging.join_tags(sentences, windows, [row["label_ids"] for row in rows], labels)


# ---- Results ------------------------------------------------------------------------------------


def evaluate(job):
  """Evaluates on the dev set and writes eval_results.txt and eval_metrics.json."""
  logging.info("***** Running evaluation *****")
  metrics = _measure(job)
  step = runs.trained_step(FLAGS.output_dir)
  numbers = {f"eval_{name}": value for name, value in _overall(metrics).items()}
  logging.info("***** Eval results *****")
  _log_metrics(metrics)
  hooks.write_scalars(_path("eval"), step, numbers)
  results = {**numbers, "global_step": step}
  files.write_text(
    _path("eval_results.txt"), "".join(f"{name} = {results[name]}\n" for name in sorted(results))
  )
  files.write_json(_path("eval_metrics.json"), {**metrics, "global_step": step, "set": "dev"})


def _measure(job, checkpoint=None):
  """The metrics of a checkpoint, see runs.predict, on the dev set, with its loss."""
  tags, loss = run_model(job, "dev", "eval.tf_record", FLAGS.eval_batch_size, checkpoint)
  return {**_score(job.corpora["dev"], tags), "loss": loss}


def _dev_metrics(job, checkpoint):
  """Dict of metric -> number of a checkpoint on the dev set, while the model trains."""
  return _overall(_measure(job, checkpoint))


def _overall(metrics):
  return {name: value for name, value in metrics.items() if name != "per_type"}


def _score(corpus, tags):
  return ner_metrics.entity_metrics([sentence.tags for sentence in corpus.sentences], tags)


def _log_metrics(metrics):
  for name, value in _overall(metrics).items():
    logging.info("  %s = %s", name, value)
  for name, values in metrics["per_type"].items():
    logging.info("  %s: %s", name, ", ".join(f"{k} {v:.4g}" for k, v in values.items()))


def predict(job):
  """Predicts a set and writes predictions.txt and predictions.jsonl; logs scores if it has tags."""
  logging.info("***** Running prediction *****")
  corpus = job.corpora["test"]
  tags, _ = run_model(job, "test", "predict.tf_record", FLAGS.predict_batch_size)
  if corpus.is_tagged():
    logging.info("***** Predict results *****")
    _log_metrics(_score(corpus, tags))
  text = tagging.format_corpus(corpus, tags, _layout().separator())
  files.write_text(_path(PREDICTIONS_FILE), text)
  found = map(tagging.prediction_record, corpus.sentences, tags)
  lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in found)
  files.write_text(_path(RECORDS_FILE), "".join(lines))
  logging.info(
    "  %d sentences in %s and %s", len(tags), _path(PREDICTIONS_FILE), _path(RECORDS_FILE)
  )


# ---- Tagging of raw text ------------------------------------------------------------------------


class Tagger:
  """A trained model, loaded once, that tags text; calls may come from several threads.

  tagger = Tagger.from_directory("/tmp/ner")
  tagger.tag("Ada moved to Lisbon.")["entities"][1]["text"]  # "Lisbon"
  """

  def __init__(self, checkpoint, config, tokenizer, labels, max_seq_length=MAX_SEQ_LENGTH):
    """Loads the model.

    Args:
      checkpoint: str, a path as checkpoints.resolve_checkpoint takes it.
      config: modeling.BertConfig.
      tokenizer: tokenization.FullTokenizer.
      labels: list of labels in the order of their ids.
      max_seq_length: int, word pieces in a window; longer texts have several.

    Raises:
      files.InputError: the checkpoint does not fit.
    """
    self._tokenizer = tokenizer
    self._labels = labels
    self._max_seq_length = max_seq_length

    def build(input_ids, input_mask, segment_ids):
      none = tf.zeros_like(input_ids)
      _, losses, logits, _ = create_model(
        config, False, input_ids, input_mask, segment_ids, none, none, len(labels), False
      )
      return tagging_head.predictions(losses, logits)

    self._predictor = Predictor(build, checkpoint)

  @classmethod
  def from_directory(cls, output_dir):
    """The model of a directory that run_ner.py has trained.

    Args:
      output_dir: str.

    Raises:
      files.InputError: the directory is not complete, or of another script.
    """
    saved = model_directory.load_flags(output_dir, SCRIPT)
    labels = model_directory.read_labels(output_dir)
    if labels is None:
      raise files.InputError(
        f"{output_dir} has no {model_directory.LABEL_FILE}; train a model there first"
      )
    config = model_directory.read_config(os.path.join(output_dir, model_directory.CONFIG_FILE))
    vocab_file = os.path.join(output_dir, model_directory.VOCAB_FILE)
    with files.input_checks():
      tokenizer = tokenization.FullTokenizer(vocab_file, saved.get("do_lower_case", True))
    length = saved.get("max_seq_length", MAX_SEQ_LENGTH)
    return cls(output_dir, config, tokenizer, labels, length)

  def tag(self, text):
    """Finds the entities of a text.

    Args:
      text: str, of any length; a sentence is best, as the model was trained on sentences.

    Returns:
      Dict, see tagging.prediction_record.

    Raises:
      files.InputError: the model's outputs are NaN.
    """
    sentences = [tagging.split_text(text)]
    windows = tagging.make_windows(sentences, self._tokenizer, self._max_seq_length)
    rows = self._predictor.run([(w.input_ids, [0] * len(w.input_ids)) for w in windows])
    (tags,) = _tags_of(sentences, windows, rows, self._labels)
    return tagging.prediction_record(sentences[0], tags)


def tag_text(job):
  """Prints the entities of --text on standard output."""
  checkpoint = model_directory.trained_checkpoint(FLAGS.output_dir) or FLAGS.init_checkpoint
  tagger = Tagger(checkpoint, job.run.config, job.run.tokenizer, job.labels, FLAGS.max_seq_length)
  print("\n".join(entity_lines(tagger.tag(FLAGS.text))), flush=True)


def entity_lines(record):
  """The entities of a tagged text as lines.

    Lisbon  LOC  (characters 13 to 19)

  Args:
    record: dict, from tagging.prediction_record.

  Returns:
    List of str, one line an entity; a line that says so if there is none.
  """
  return [
    f"{' '.join(entity['text'].split())}  {entity['type']}  "
    f"(characters {entity['start_char']} to {entity['end_char']})"
    for entity in record["entities"]
  ] or ["no entities"]


if __name__ == "__main__":
  common_flags.run(main, FLAGS)
