"""Fine-tunes BERT to answer questions about paragraphs (SQuAD 1.1 and 2.0), scores it, and asks it.

  python run_squad.py --train_file=samples/squad/train.json --predict_file=samples/squad/dev.json \\
    --version_2_with_negative --do_train --do_predict --do_eval \\
    --bert_config_file=$BERT/bert_config.json --vocab_file=$BERT/vocab.txt \\
    --init_checkpoint=$BERT/bert_model.ckpt --output_dir=/tmp/squad

A finished --output_dir is all that prediction and asking need:

  python run_squad.py --do_predict --predict_file=questions.json --output_dir=/tmp/squad
  python run_squad.py --do_ask --output_dir=/tmp/squad
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import functools
import hashlib
import os
import sys
from typing import NamedTuple

import numpy as np
from absl import flags, logging

import tokenization
from toolkit.formats import checkpoints, model_directory
from toolkit.metrics import squad_scores
from toolkit.records import input_pipeline
from toolkit.serving.predictor import Predictor
from toolkit.support import files, processes
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import squad, squad_answers, squad_head
from toolkit.tasks.squad import (  # noqa: F401, names that were always importable from here
  FeatureWriter,
  InputFeatures,
  SquadExample,
  _check_is_max_context,
  _improve_answer_span,
  convert_examples_to_features,
  read_squad_examples,
)
from toolkit.tasks.squad_answers import (  # noqa: F401, names that were always importable from here
  RawResult,
  _compute_softmax,
  _get_best_indexes,
  get_final_text,
  write_predictions,
)
from toolkit.tasks.squad_head import create_model, span_loss  # noqa: F401
from toolkit.training import (
  common_flags,
  estimators,
  hooks,
  micro_batches,
  report,
  runs,
)

SCRIPT = "run_squad"
PREDICTIONS_FILE = "predictions.json"
NBEST_FILE = "nbest_predictions.json"
NULL_ODDS_FILE = "null_odds.json"
METRICS_FILE = "eval_metrics.json"
# Says what the three files of answers were made of, so that they are never taken for other ones.
ANSWERS_FILE = "answers_source.json"
# What a training can be judged by, the default first; by whether some questions have no answer.
METRICS = {False: ("f1", "exact_match"), True: ("best_f1", "best_exact")}
THRESHOLD = "null_score_diff_threshold"

FLAGS = flags.FlagValues()
common_flags.define_model_flags(FLAGS, max_seq_length=384)
common_flags.define_training_flags(FLAGS)
common_flags.define_distillation_flags(FLAGS)
common_flags.define_device_flags(FLAGS)
flags.DEFINE_string("train_file", None, "SQuAD file to train on.", flag_values=FLAGS)
flags.DEFINE_string(
  "predict_file",
  None,
  "SQuAD file to answer, or to score with --do_eval. Needs no answers for --do_predict alone.",
  flag_values=FLAGS,
)
flags.DEFINE_bool("do_train", False, "Whether to train.", flag_values=FLAGS)
flags.DEFINE_bool("do_predict", False, "Whether to answer --predict_file.", flag_values=FLAGS)
flags.DEFINE_bool(
  "do_eval",
  False,
  "Whether to score the answers to --predict_file: exact match and F1. The model runs only if "
  "--output_dir has not its answers to that file already.",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "do_ask",
  False,
  "Whether to answer --question, or what is typed at a prompt, about a paragraph.",
  flag_values=FLAGS,
)
flags.DEFINE_string("question", None, "For --do_ask: the question.", flag_values=FLAGS)
flags.DEFINE_string("context", None, "For --do_ask: the paragraph.", flag_values=FLAGS)
flags.DEFINE_string(
  "context_file", None, "For --do_ask: text file with the paragraph.", flag_values=FLAGS
)
flags.DEFINE_integer(
  "doc_stride",
  128,
  "Word pieces between the beginnings of two windows of a long paragraph.",
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "max_query_length",
  64,
  "Most word pieces of a question; the rest is cut.",
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "predict_batch_size", 8, "Windows in a batch of prediction.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_integer(
  "n_best_size",
  20,
  "How many answers to each question are written, with their probabilities.",
  lower_bound=1,
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "max_answer_length", 30, "Most word pieces of an answer.", lower_bound=1, flag_values=FLAGS
)
flags.DEFINE_bool(
  "verbose_logging",
  False,
  "Whether to log each answer whose exact place in the text is not found.",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "version_2_with_negative",
  False,
  "Whether questions may have no answer (SQuAD 2.0).",
  flag_values=FLAGS,
)
flags.DEFINE(
  common_flags.ThresholdParser(),
  THRESHOLD,
  0.0,
  "No answer is given where its score minus that of the best answer is higher. `auto`: the "
  "threshold with the best F1, found by --do_eval, in this run or before.",
  flag_values=FLAGS,
)
flags.DEFINE_integer(
  "num_workers",
  0,
  "Processes that make features; 0 for one a core.",
  lower_bound=0,
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "cache_dir",
  None,
  "Where features are kept for later runs on the same file. Default: --output_dir.",
  flag_values=FLAGS,
)
common_flags.finish(FLAGS)

# Flags that prediction and asking take over from the run that trained the model.
TASK_FLAGS = (
  "do_lower_case",
  "max_seq_length",
  "doc_stride",
  "max_query_length",
  "version_2_with_negative",
)


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
  soft_targets=None,
):
  """Makes the model_fn of a TPUEstimator, for training and prediction.

  Args:
    bert_config: modeling.BertConfig.
    init_checkpoint: str or None, weights to start from; see checkpoints.resolve_checkpoint.
    learning_rate: float, see optimization.create_optimizer.
    num_train_steps, num_warmup_steps: int or None; needed to train.
    use_tpu: bool.
    use_one_hot_embeddings: bool, see modeling.BertModel.
    options: micro_batches.StepOptions.
    soft_targets: soft_targets.SoftTargets of a training whose features have TEACHER_LOGITS, float32
      [B, S, 2]; None for a training without a teacher.

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of squad.record_features. Predictions have `unique_ids` [B], `start_logits` and
    `end_logits` [B, S]. Other modes than TRAIN and PREDICT are a ValueError.
  """

  def model_fn(features, labels, mode, params):
    del labels, params  # the answers are among the features

    def build(features):
      start_logits, end_logits = create_model(
        bert_config,
        mode == tf.estimator.ModeKeys.TRAIN,
        features["input_ids"],
        features["input_mask"],
        features["segment_ids"],
        use_one_hot_embeddings,
      )
      objective = None
      if mode == tf.estimator.ModeKeys.TRAIN:
        objective = squad_head.objective(features, start_logits, end_logits, soft_targets)
      predictions = {
        "unique_ids": features.get("unique_ids"),
        "start_logits": start_logits,
        "end_logits": end_logits,
      }
      return estimators.Outputs(objective, predictions=predictions)

    training = (learning_rate, num_train_steps, num_warmup_steps)
    return estimators.make_spec(mode, features, build, init_checkpoint, use_tpu, training, options)

  return model_fn


def input_fn_builder(
  input_file, seq_length, is_training, drop_remainder, trim_padding=False, seed=None, num_seen=0
):
  """Makes the input_fn that reads the TFRecord file of windows.

  Args:
    input_file: str, as squad.write_feature_records or FeatureWriter writes it.
    seq_length: int, S.
    is_training, drop_remainder, trim_padding, seed, num_seen: see input_pipeline.read_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to a tf.data.Dataset of batches.
  """
  features = squad.record_features(seq_length, is_training)
  return input_pipeline.read_input_fn(
    input_file, features, is_training, drop_remainder, trim_padding, seed, num_seen
  )


# ---- One run ------------------------------------------------------------------------------------


class Job(NamedTuple):
  """What a run works with, all of it checked.

  Attributes:
    run: runs.Run.
    settings: squad.Settings of prediction.
    examples: dict of "train" and "predict" -> list of SquadExample, those that the run needs.
  """

  run: runs.Run
  settings: squad.Settings
  examples: dict


def main(_):
  """Trains, answers, scores and asks as the flags say."""
  processes.prepare_process()
  job = prepare()
  parts = train(job) if FLAGS.do_train else []
  if FLAGS.do_predict or FLAGS.do_eval:
    answers = (None if FLAGS.do_predict else load_answers()) or predict(job)
    finish(answers)
  if FLAGS.do_ask:
    ask(job)
  report.write(job.run, parts)


def validate_flags_or_throw(bert_config):
  """Checks the flags that need no file but the model's configuration.

  Args:
    bert_config: modeling.BertConfig.

  Raises:
    files.InputError, a ValueError: the first flag that is missing or cannot be used.
  """
  if not (FLAGS.do_train or FLAGS.do_predict or FLAGS.do_eval or FLAGS.do_ask):
    raise files.InputError("nothing to do: give --do_train, --do_predict, --do_eval or --do_ask")
  if FLAGS.do_train:
    common_flags.require(FLAGS, ["train_file"], "--do_train")
  if FLAGS.do_predict or FLAGS.do_eval:
    purpose = "--do_predict" if FLAGS.do_predict else "--do_eval"
    common_flags.require(FLAGS, ["predict_file"], purpose)
  model_directory.check_length(FLAGS.max_seq_length, bert_config)
  _settings(is_training=False).check()
  with files.input_checks():
    tokenization.validate_case_matches_checkpoint(FLAGS.do_lower_case, FLAGS.init_checkpoint)


def prepare():
  """Reads and checks everything that a run needs, before it writes anything.

  Returns:
    Job.

  Raises:
    files.InputError: the first thing that is missing or wrong.
  """
  run = runs.begin(FLAGS, SCRIPT, TASK_FLAGS, taught=["version_2_with_negative"])
  validate_flags_or_throw(run.config)
  if FLAGS[THRESHOLD].value == common_flags.AUTO and not FLAGS.do_eval:
    saved_threshold(FLAGS.output_dir)
  evaluates = FLAGS.do_eval or (FLAGS.do_train and FLAGS.eval_steps is not None)
  runs.check_evaluation(FLAGS, METRICS[FLAGS.version_2_with_negative])
  examples = {}
  if FLAGS.do_train:
    examples["train"] = read_squad_examples(FLAGS.train_file, True, FLAGS.version_2_with_negative)
  if FLAGS.do_predict or evaluates:
    common_flags.require(FLAGS, ["predict_file"], "evaluation")
    examples["predict"] = read_squad_examples(FLAGS.predict_file, False)
  if evaluates:
    _check_scorable()
  shape = [2, run.config.hidden_size]
  runs.check_head(run, "cls/squad/output_weights", shape, "question answering model")
  files.make_directory(FLAGS.output_dir, "output_dir")
  if FLAGS.cache_dir:
    files.make_directory(FLAGS.cache_dir, "cache_dir")
  return Job(run, _settings(is_training=False), examples)


def _check_scorable():
  """Makes sure that --predict_file has the answers that --do_eval compares with."""
  try:
    squad_scores.is_version_2(files.read_json(FLAGS.predict_file))
  except files.InputError as error:
    raise files.InputError(
      f"--do_eval: {FLAGS.predict_file}: {error}; --do_predict alone needs no answers"
    ) from error


def _settings(is_training):
  names = [name for name in squad.Settings._fields if name != "is_training"]
  return squad.Settings(is_training=is_training, **{n: FLAGS[n].value for n in names})


def _features(job, set_name, input_file):
  """squad.FeatureSet of job.examples[set_name], which were read from input_file."""
  features = squad.cached_features(
    job.examples[set_name],
    input_file,
    _settings(is_training=set_name == "train"),
    FLAGS.cache_dir or job.run.scratch(),
    FLAGS.num_workers or os.cpu_count(),
  )
  squad.log_features(features)
  return features


def train(job):
  """Trains, from the last checkpoint in the output directory; returns a list of hooks.Trained."""
  examples = job.examples["train"]
  features = _features(job, "train", FLAGS.train_file)
  num_steps = runs.num_train_steps(FLAGS, len(features), "windows")
  done = runs.open_directory(job.run, num_steps)
  if done is None:
    return []
  train_file = os.path.join(job.run.scratch(), "train.tf_record")
  squad.write_feature_records(features, train_file, FLAGS.num_workers or os.cpu_count())
  counts = {
    "Num orig examples": len(examples),
    "Num split examples": len(features),
    "Batch size": FLAGS.train_batch_size,
    "Num steps": num_steps,
  }
  table = squad.record_features(FLAGS.max_seq_length, is_training=True)
  train_file, table = runs.ask_teacher(job.run, squad_head.stacked_logits, train_file, table)
  runs.log_training(job.run, counts, done)
  build_model_fn = functools.partial(model_fn_builder, soft_targets=job.run.soft_targets())
  evaluate = functools.partial(_dev_metrics, job)
  return runs.fine_tune(
    job.run, build_model_fn, table, train_file, num_steps, len(features), evaluate
  )


def predict(job):
  """Runs the model over --predict_file and saves all that answers are chosen from.

  Returns:
    squad_answers.Answers, where each question has an answer, however high its null odds.
  """
  examples = job.examples["predict"]
  features = _features(job, "predict", FLAGS.predict_file)
  logging.info("***** Running predictions *****")
  logging.info("  Num orig examples = %d", len(examples))
  logging.info("  Num split examples = %d", len(features))
  logging.info("  Batch size = %d", FLAGS.predict_batch_size)
  answers = _answers_of(examples, features, run_model(job, features))
  save_answers(answers)
  return answers


def _answers_of(examples, features, results):
  """squad_answers.Answers, where each question has an answer, however high its null odds."""
  return squad_answers.compute_answers(
    examples,
    features,
    results,
    FLAGS.n_best_size,
    FLAGS.max_answer_length,
    FLAGS.do_lower_case,
    FLAGS.version_2_with_negative,
    null_score_diff_threshold=np.inf,
    verbose_logging=FLAGS.verbose_logging,
  )


def _dev_metrics(job, checkpoint):
  """Dict of metric -> number of a checkpoint on --predict_file, while the model trains."""
  examples = job.examples["predict"]
  features = _features(job, "predict", FLAGS.predict_file)
  answers = _answers_of(examples, features, run_model(job, features, checkpoint))
  dataset = files.read_json(FLAGS.predict_file)
  if answers.null_odds:
    return best_thresholds(dataset, answers)
  return squad_scores.evaluate(dataset, answers.predictions)


def run_model(job, features, checkpoint=None):
  """Runs the model over windows.

  Args:
    job: Job.
    features: squad.FeatureSet.
    checkpoint: str or None, see runs.predict.

  Returns:
    List of RawResult, one a window in their order; logits are float32 [L], L at least the number of
    the window's tokens.
  """
  input_file = os.path.join(FLAGS.output_dir, "eval.tf_record")
  batch_size = FLAGS.predict_batch_size
  squad.write_feature_records(
    features,
    input_file,
    FLAGS.num_workers or os.cpu_count(),
    multiple=batch_size if FLAGS.use_tpu else 1,
  )
  table = squad.record_features(FLAGS.max_seq_length, is_training=False)
  rows = runs.predict(
    job.run, model_fn_builder, table, input_file, len(features), batch_size, "predict", checkpoint
  )
  return [RawResult(int(row["unique_ids"]), row["start_logits"], row["end_logits"]) for row in rows]


# ---- Answers, thresholds and scores -------------------------------------------------------------


def _path(name):
  return os.path.join(FLAGS.output_dir, name)


def _answers_source():
  """What saved answers depend on; they are used again only if nothing of it has changed."""
  checkpoint = model_directory.trained_checkpoint(FLAGS.output_dir) or FLAGS.init_checkpoint
  index = checkpoints.resolve_checkpoint(checkpoint) + ".index"  # has a checksum of each variable
  return {
    "checkpoint": hashlib.sha256(files.read_bytes(index)).hexdigest(),
    "predict_file": hashlib.sha256(files.read_bytes(FLAGS.predict_file)).hexdigest(),
    **{name: FLAGS[name].value for name in (*TASK_FLAGS, "n_best_size", "max_answer_length")},
  }


def save_answers(answers):
  """Writes the n-best lists and null odds, and what they were made of."""
  logging.info("Writing nbest to: %s", _path(NBEST_FILE))
  squad_answers.write(_path(NBEST_FILE), answers.nbest)
  if FLAGS.version_2_with_negative:
    squad_answers.write(_path(NULL_ODDS_FILE), answers.null_odds)
  files.write_json(_path(ANSWERS_FILE), _answers_source())


def load_answers():
  """The answers that save_answers has written, or None if they are of something else."""
  source = _path(ANSWERS_FILE)
  if not files.exists(source) or files.read_json(source) != _answers_source():
    return None
  logging.info("The model need not run: its answers are in %s.", _path(NBEST_FILE))
  nbest = files.read_json(_path(NBEST_FILE))
  null_odds = files.read_json(_path(NULL_ODDS_FILE)) if FLAGS.version_2_with_negative else {}
  if null_odds:
    predictions = squad_answers.rethreshold(nbest, null_odds, np.inf)
  else:
    predictions = {qas_id: entries[0]["text"] for qas_id, entries in nbest.items()}
  return squad_answers.Answers(predictions, nbest, null_odds)


def finish(answers):
  """Writes the predictions by the wanted threshold and, with --do_eval, their scores."""
  dataset = files.read_json(FLAGS.predict_file) if FLAGS.do_eval else None
  best = best_thresholds(dataset, answers) if dataset and answers.null_odds else {}
  threshold = FLAGS[THRESHOLD].value
  if threshold == common_flags.AUTO:
    threshold = best["best_f1_thresh"] if best else saved_threshold(FLAGS.output_dir)
    logging.info("--%s=auto: %s", THRESHOLD, threshold)
  predictions = {
    qas_id: "" if answers.null_odds.get(qas_id, -np.inf) > threshold else text
    for qas_id, text in answers.predictions.items()
  }
  logging.info("Writing predictions to: %s", _path(PREDICTIONS_FILE))
  squad_answers.write(_path(PREDICTIONS_FILE), predictions)
  if FLAGS.do_eval:
    save_metrics({**squad_scores.evaluate(dataset, predictions), **best}, threshold)


def best_thresholds(dataset, answers):
  """The scores that are possible, and the thresholds that they need.

  Args:
    dataset: dict, content of a SQuAD file.
    answers: squad_answers.Answers, where each question has an answer, however high its null odds.

  Returns:
    Dict of best_exact, best_exact_thresh, best_f1 and best_f1_thresh.
  """
  metrics = squad_scores.evaluate_v2(dataset, answers.predictions, answers.null_odds)
  best = {name: value for name, value in metrics.items() if name.startswith("best_")}
  odds = answers.null_odds.values()
  for name in ("best_exact_thresh", "best_f1_thresh"):
    # 0.0 stands for no answer to any question. That holds for probabilities; odds go below 0.
    if best[name] == 0.0 and 0.0 not in odds:
      best[name] = min(0.0, min(odds) - 1.0)
  return best


def save_metrics(metrics, threshold):
  """Logs the scores and writes them to eval_metrics.json and TensorBoard.

  Args:
    metrics: dict of name -> number, as the official evaluators name them.
    threshold: float, the null_score_diff_threshold of the predictions.
  """
  step = runs.trained_step(FLAGS.output_dir)
  logging.info("***** Eval results *****")
  for name, value in metrics.items():
    logging.info("  %s = %s", name, value)
  hooks.write_scalars(_path("eval"), step, metrics)
  extra = {"global_step": step, "predict_file": FLAGS.predict_file}
  if FLAGS.version_2_with_negative:
    extra[THRESHOLD] = threshold
  files.write_json(_path(METRICS_FILE), {**metrics, **extra})


def saved_threshold(output_dir):
  """The null_score_diff_threshold with the best F1 that --do_eval found for a directory's model.

  Raises:
    files.InputError: it has found none.
  """
  path = os.path.join(output_dir, METRICS_FILE)
  metrics = files.read_json(path) if files.exists(path) else {}
  if "best_f1_thresh" not in metrics:
    raise files.InputError(
      f"--{THRESHOLD}=auto: {output_dir} has no threshold yet; find one by --do_eval with a "
      "--predict_file that has answers, and --version_2_with_negative"
    )
  return metrics["best_f1_thresh"]


# ---- Asking -------------------------------------------------------------------------------------


class QuestionAnswerer:
  """A trained model, loaded once, that answers questions; calls may come from several threads.

  answerer = QuestionAnswerer.from_directory("/tmp/squad")
  answerer.ask("Who founded it?", "It was founded by Ann Lee-Smith.").text
  """

  def __init__(self, checkpoint, config, settings, threshold=0.0, max_answer_length=30):
    """Loads the model.

    Args:
      checkpoint: str, a path as checkpoints.resolve_checkpoint takes it.
      config: modeling.BertConfig.
      settings: squad.Settings.
      threshold: float; "no answer" is given where the null odds are higher.
      max_answer_length: int, in word pieces.

    Raises:
      files.InputError: the checkpoint or the vocabulary cannot be used.
    """
    self.threshold = threshold
    self._settings = settings
    self._max_answer_length = max_answer_length
    with files.input_checks():
      self._tokenizer = tokenization.FullTokenizer(settings.vocab_file, settings.do_lower_case)

    def build(input_ids, input_mask, segment_ids):
      logits = create_model(config, False, input_ids, input_mask, segment_ids, False)
      return dict(zip(("start_logits", "end_logits"), logits))

    self._predictor = Predictor(build, checkpoint)

  @classmethod
  def from_directory(cls, output_dir):
    """The model of a directory that run_squad.py has trained, with the best threshold known there.

    Args:
      output_dir: str.

    Raises:
      files.InputError: the directory is not complete, or of another script.
    """
    saved = model_directory.load_flags(output_dir, SCRIPT)
    names = [name for name in squad.Settings._fields if name in saved]
    settings = squad.Settings(**{name: saved[name] for name in names})
    vocab_file = os.path.join(output_dir, model_directory.VOCAB_FILE)
    config_file = os.path.join(output_dir, model_directory.CONFIG_FILE)
    config = model_directory.read_config(config_file)
    threshold = known_threshold(output_dir)
    return cls(output_dir, config, settings._replace(vocab_file=vocab_file), threshold)

  def ask(self, question, context):
    """Answers a question.

    Args:
      question: str.
      context: str, the paragraph that may have the answer, of any length.

    Returns:
      squad_answers.BestAnswer.
    """
    words, offsets = squad.split_words(context)
    example = SquadExample(
      "question", question, words, paragraph_text=context, word_offsets=offsets
    )
    features = list(squad.extract([example], self._settings, tokenizer=self._tokenizer))
    rows = [(f.input_ids[: len(f.tokens)], f.segment_ids[: len(f.tokens)]) for f in features]
    results = [
      RawResult(feature.unique_id, **logits)
      for feature, logits in zip(features, self._predictor.run(rows))
    ]
    return squad_answers.best_answer(
      example,
      features,
      results,
      max_answer_length=self._max_answer_length,
      do_lower_case=self._settings.do_lower_case,
      version_2_with_negative=self._settings.version_2_with_negative,
      null_score_diff_threshold=self.threshold,
    )


def known_threshold(output_dir):
  """The threshold that --do_eval found for a directory's model, or 0.0."""
  try:
    return saved_threshold(output_dir)
  except files.InputError:
    return 0.0


def ask(job):
  """Answers --question, or what is typed, on standard output."""
  threshold = FLAGS[THRESHOLD].value
  if threshold == common_flags.AUTO:
    threshold = saved_threshold(FLAGS.output_dir)
  elif not FLAGS[THRESHOLD].present:
    threshold = known_threshold(FLAGS.output_dir)
  checkpoint = model_directory.trained_checkpoint(FLAGS.output_dir) or FLAGS.init_checkpoint
  answerer = QuestionAnswerer(
    checkpoint, job.run.config, job.settings, threshold, FLAGS.max_answer_length
  )
  context = files.read_text(FLAGS.context_file) if FLAGS.context_file else FLAGS.context
  if FLAGS.question:
    asked = [(FLAGS.question, context or _typed("Paragraph: ") or "")]
  else:
    asked = typed_questions(context)
  for question, paragraph in asked:
    print(answer_line(answerer.ask(question, paragraph), paragraph, threshold), flush=True)


def typed_questions(context):
  """Yields pairs of a question and a paragraph as they are typed, until the end of the input.

  Args:
    context: str, the first paragraph, or None to ask for it.
  """
  while True:
    context = context or _typed("Paragraph: ")
    if not context:
      return
    question = _typed("Question (Enter: another paragraph, Ctrl-D: end): ")
    if question is None:
      return
    if question:
      yield question, context
    else:
      context = None


def _typed(prompt):
  """A line of standard input without spaces around it, or None at its end."""
  if sys.stdin.isatty():
    print(prompt, end="", flush=True)
  line = sys.stdin.readline()
  return line.strip() if line else None


def answer_line(answer, context, threshold):
  """A squad_answers.BestAnswer as a line of text.

  Ann Lee-Smith  (probability 0.93; characters 18 to 31: ... founded by [Ann Lee-Smith].)
  no answer  (probability 0.71; null odds 2.31, threshold 0.00)
  """
  if not answer.text:
    odds = "" if answer.null_odds is None else f"; null odds {answer.null_odds:.2f}"
    return f"no answer  (probability {answer.probability:.2f}{odds}, threshold {threshold:.2f})"
  line = f"{answer.text}  (probability {answer.probability:.2f}"
  if answer.start_char is None:
    return line + ")"
  start, end = answer.start_char, answer.end_char
  first, last = max(0, start - 30), end + 30
  shown = " ".join(f"{context[first:start]}[{context[start:end]}]{context[end:last]}".split())
  dots = "..." if first else "", "..." if last < len(context) else ""
  return f"{line}; characters {start} to {end}: {dots[0]}{shown}{dots[1]})"


if __name__ == "__main__":
  common_flags.run(main, FLAGS)
