"""Fine-tunes BERT to tag words: named entities in a text, or each word by its part of speech.

  python run_ner.py --model=$BERT --data_dir=samples/ner \\
    --do_train --do_eval --do_predict --output_dir=/tmp/ner

--data_dir has train.txt, dev.txt and test.txt: a word and its tag per line, and blank lines between
sentences. A finished --output_dir is all that later evaluation, prediction and tagging need:

  python run_ner.py --text="Ada moved to Lisbon." --output_dir=/tmp/ner
  python run_ner.py --do_predict --predict_file=new.txt --output_dir=/tmp/ner

Tags that are no entities (NOUN, VERB) are learned word by word. Tables, as train.csv, may have a
column that separates sentences:

  python run_ner.py --sentence_column="Sentence #" --token_column=Word --label_column=POS ...
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import functools
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import numpy as np
from absl import logging

import modeling
from toolkit.formats import checkpoints, model_directory
from toolkit.records import tf_records
from toolkit.serving import tagger
from toolkit.serving.tagger import Tagger
from toolkit.support import command_line, files, logs
from toolkit.support.tensorflow_versions import tf
from toolkit.tasks import tagging, tagging_head
from toolkit.tasks.soft_targets import SoftTargets
from toolkit.tasks.tagging_head import create_model
from toolkit.training import estimators, hooks, micro_batches, report, run_flags, runs, steps

SCRIPT = "run_ner"
PREDICTIONS_FILE = "predictions.txt"
RECORDS_FILE = "predictions.jsonl"

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
run_flags.define_fine_tuning_flags(flags, max_seq_length=128)
flags.DEFINE_string(
  "data_dir",
  None,
  "Directory with train.txt, dev.txt and test.txt, or with .csv or .tsv files of these names.",
  remembered=True,
  group="essential",
)
flags.DEFINE_string("predict_file", None, "File of words to predict, in place of test.txt.")
flags.DEFINE_string(
  "predict_text_file",
  None,
  "File of plain text, one sentence per line, to predict in place of test.txt.",
)
flags.DEFINE_string(
  "text", None, "Text to tag. Its entities, or its words and tags, are printed.", group="essential"
)
flags.DEFINE_bool("do_train", False, "Train on train.txt of --data_dir.", group="essential")
flags.DEFINE_bool("do_eval", False, "Evaluate on dev.txt of --data_dir.", group="essential")
flags.DEFINE_bool(
  "do_predict",
  False,
  "Predict test.txt of --data_dir, --predict_file or --predict_text_file.",
  group="essential",
)
run_flags.define_batch_flags(flags, "Sentences", ["eval", "predict"])
flags.DEFINE(
  tagging.ColumnParser(),
  "token_column",
  0,
  "Column of the words: a number from 0, from -1 at the end, or a name in a file with a header.",
  serializer=flags.ArgumentSerializer(),
  remembered=True,
)
flags.DEFINE(
  tagging.ColumnParser(),
  "label_column",
  -1,
  "Column of the tags: a number from 0, from -1 at the end, or a name in a file with a header.",
  serializer=flags.ArgumentSerializer(),
  remembered=True,
)
flags.DEFINE(
  tagging.ColumnParser(),
  "sentence_column",
  None,
  "Column that separates sentences, by number or name. A sentence begins where the cell is not "
  "empty and differs from the row before. Default: only blank lines separate sentences.",
  serializer=flags.ArgumentSerializer(),
  remembered=True,
)
flags.DEFINE_string(
  "delimiter",
  None,
  "Separator of columns; tab for a tab. With a comma, or in a .csv file, cells may be quoted. "
  "Default: spaces and tabs. It is a comma in .csv files that have commas. It is a tab in files "
  "with tabs, if a column is named or --sentence_column is given.",
  remembered=True,
)
flags.DEFINE_string(
  "comment_prefix",
  None,
  "Beginning of comment lines, such as '# '. Default: there are no comments.",
  remembered=True,
)
flags.DEFINE_enum(
  "tag_scheme",
  tagging.AUTO,
  [tagging.AUTO, tagging.NONE, *tagging.SCHEMES],
  "Scheme of the entity tags in the files. none: tags of single words, such as parts of speech. "
  "auto: the scheme that fits the data. Predictions of entities are in IOB2.",
  remembered=True,
)
flags.DEFINE_bool(
  "has_tags",
  True,
  "With --do_predict, read the tags of a file with more than one column. The predictions are "
  "scored against them, and both are written.",
)


# ---- The model ----------------------------------------------------------------------------------


def model_fn_builder(
  bert_config: modeling.BertConfig, num_labels: int, init_checkpoint: Optional[str],
  learning_rate: Optional[float], num_train_steps: Optional[int], num_warmup_steps: Optional[int],
  use_tpu: bool, use_one_hot_embeddings: bool,
  options: micro_batches.StepOptions = micro_batches.DEFAULTS,
  soft_targets: Optional[SoftTargets] = None,
) -> estimators.ModelFn:  # fmt: skip
  """Makes the model_fn of a TPUEstimator, for training and prediction.

  Args:
    bert_config, num_labels, use_one_hot_embeddings: see create_model.
    init_checkpoint, use_tpu: see estimators.make_model_fn.
    learning_rate, num_train_steps, num_warmup_steps: see optimization.create_optimizer; None for a
      model_fn that does not train.
    options: of a training step.
    soft_targets: of a training whose features have TEACHER_LOGITS, float32 [B, S, L].

  Returns:
    Function of (features, labels, mode, params) to a TPUEstimatorSpec. `features` has the columns
    of tagging.record_features. Predictions have `label_ids` int32 [B, S] and `losses` float32
    [B, S]. Other modes than TRAIN and PREDICT are a ValueError.
  """

  def build(features, mode):
    is_training = mode == tf.estimator.ModeKeys.TRAIN
    names = ("input_ids", "input_mask", "segment_ids", "label_ids", "label_mask")
    inputs = [features[name] for name in names]
    inputs += [num_labels, use_one_hot_embeddings]
    loss, losses, logits, _ = create_model(bert_config, is_training, *inputs)
    soft = soft_targets if is_training else None
    objective = tagging_head.objective(features, loss, logits, soft)
    return estimators.Outputs(objective, predictions=tagging_head.predictions(losses, logits))

  schedule = (learning_rate, num_train_steps, num_warmup_steps)
  return estimators.make_model_fn(build, init_checkpoint, *schedule, use_tpu, options)


# ---- One run ------------------------------------------------------------------------------------


def main(_: list[str]) -> None:
  """Trains, evaluates, predicts and tags according to the flags."""
  job = prepare()
  parts = train(job) if FLAGS.do_train else []
  if FLAGS.do_eval:
    evaluate(job)
  if FLAGS.do_predict:
    predict(job)
  if FLAGS.text is not None:
    tag_text(job)
  report.write(job.run, parts)


class Job(NamedTuple):
  """Inputs of a run, all of them checked.

  Attributes:
    labels: in the order of their ids.
    kind: of the tags.
    corpora: "train", "dev" and "test" -> corpus, those that the run needs.
  """

  run: runs.Run
  labels: list[str]
  kind: tagging.Kind
  corpora: dict[str, tagging.Corpus]


def prepare() -> Job:
  """Reads and checks all inputs of a run, and writes nothing; InputError for the first mistake."""
  if not (FLAGS.do_train or FLAGS.do_eval or FLAGS.do_predict or FLAGS.text is not None):
    raise files.InputError("nothing to do: give --do_train, --do_eval, --do_predict or --text")
  run = runs.begin(flags, SCRIPT)
  known = run.known_labels()
  if known is None and not run.settings.do_train:
    raise files.InputError(
      f"--{run.start[1]}: {run.label_directory()} has no {model_directory.LABEL_FILE}, the list of "
      "the model's tags"
    )
  corpora, tag_scheme = tagging.read_sets(run.settings, known)
  run = run._replace(settings=run.settings.replace(tag_scheme=tag_scheme))
  kind = tagging.kind_of(tag_scheme)
  run = runs.with_best_metric(run, kind.metrics)
  labels = known or tagging.find_labels(corpora["train"])
  if run.teacher:
    labels = run.teacher.check_labels(labels, is_fixed=known is not None)
  for corpus in corpora.values():
    tagging.check_labels(corpus, labels)
  shape = [len(labels), run.config.hidden_size]
  runs.check_head(run, "cls/ner/output_weights", shape, f"tagger of {len(labels)} labels")
  runs.make_directory(run)
  return Job(run, labels, kind, corpora)


def make_windows(job: Job, set_name: str) -> list[tagging.Window]:
  """Cuts the sentences of a set into windows."""
  sentences, length = job.corpora[set_name].sentences, job.run.settings.max_seq_length
  return tagging.make_windows(sentences, job.run.required_tokenizer(), length, job.kind)


def make_features(
  job: Job, set_name: str, windows: list[tagging.Window]
) -> tuple[Iterator[dict[str, Any]], list[tf_records.Feature]]:
  """Returns the features of windows: rows for tf_records, and their table."""
  length = job.run.settings.max_seq_length
  sentences = job.corpora[set_name].sentences
  rows = tagging.feature_rows(windows, sentences, job.labels, length)
  return rows, tagging.record_features(length)


def make_model_fn(job: Job, num_steps: Optional[int] = None) -> estimators.ModelFn:
  """Makes the model_fn of a run that trains num_steps steps, or of evaluation and prediction."""
  arguments = job.run.model_arguments(num_steps)
  soft = job.run.soft_targets()
  return model_fn_builder(num_labels=len(job.labels), soft_targets=soft, **arguments)


def train(job: Job) -> list[hooks.Trained]:
  """Trains, from the last checkpoint in the output directory."""
  run, windows = job.run, make_windows(job, "train")
  num_steps = runs.num_train_steps(run.settings, len(windows), "windows")
  done = steps.open_directory(run, num_steps, job.labels)
  if done is None:
    return []
  rows, table = make_features(job, "train", windows)
  train_file = os.path.join(run.scratch(), "train.tf_record")
  tf_records.write_records(train_file, rows, table)

  def build_teacher(config, *inputs):
    return tagging_head.logits(config, len(job.labels), False, *inputs, False)

  train_file, table = steps.add_teacher_logits(run, build_teacher, train_file, table)
  num_sentences = len(job.corpora["train"].sentences)
  counts = {"Num examples": num_sentences, "Num windows": len(windows)}
  steps.log_training(run, counts, num_steps, done)
  model_fn = make_model_fn(job, num_steps)
  dev_metrics = functools.partial(measure_while_training, job)
  return steps.fine_tune(run, model_fn, table, train_file, num_steps, len(windows), dev_metrics)


def run_model(
  job: Job, set_name: str, file_name: str, batch_size: int, checkpoint: Optional[str] = None
) -> tuple[list[list[str]], float]:
  """Runs the model over a set.

  Args:
    set_name: key of job.corpora.
    file_name: name of the file for the features.
    batch_size: on a TPU the set is filled up to a multiple of it.
    checkpoint: see steps.predict.

  Returns:
    A tag for each word of each sentence; the mean loss of the words that have a word piece, in
    nats, which is undefined for a set without tags.

  Raises:
    files.InputError: the model's outputs are NaN, or memory ran out.
  """
  sentences, windows = job.corpora[set_name].sentences, make_windows(job, set_name)
  logging.info("  Num examples = %d", len(sentences))
  logging.info("  Num windows = %d", len(windows))
  rows = steps.predict_set(
    job.run,
    make_model_fn(job),
    *make_features(job, set_name, windows),
    file_name=file_name,
    num_rows=len(windows),
    batch_size=batch_size,
    description=set_name,
    checkpoint=checkpoint,
  )
  checkpoints.check_finite((row["losses"] for row in rows), job.run.settings.output_dir)
  label_ids = [row["label_ids"] for row in rows]
  losses = np.concatenate([row["losses"][w.positions] for w, row in zip(windows, rows)])
  tags = tagging.join_tags(sentences, windows, label_ids, job.labels, job.kind)
  return tags, float(losses.sum() / max(len(losses), 1))


# ---- Results ------------------------------------------------------------------------------------


def measure(job: Job, checkpoint: Optional[str] = None) -> dict[str, Any]:
  """Returns the metrics of a checkpoint on the dev set, with its loss; see steps.predict."""
  batch_size = job.run.settings.eval_batch_size
  tags, loss = run_model(job, "dev", "eval.tf_record", batch_size, checkpoint)
  return {**score(job, "dev", tags), "loss": loss}


def measure_while_training(job: Job, checkpoint: str) -> dict[str, float]:
  """Returns the metrics of a checkpoint on the dev set."""
  return overall(measure(job, checkpoint))


def score(job: Job, set_name: str, tags: list[list[str]]) -> dict[str, Any]:
  """Returns the metrics of a set's predicted tags; see ner_metrics."""
  return job.kind.score([s.tags or [] for s in job.corpora[set_name].sentences], tags)


def overall(metrics: dict[str, Any]) -> dict[str, float]:
  """Leaves out the metrics of single types or tags."""
  return {name: value for name, value in metrics.items() if not isinstance(value, dict)}


def log_metrics(metrics: dict[str, Any]) -> None:
  """Logs a line per metric, and a line per type of entity, or per tag."""
  for name, value in overall(metrics).items():
    logs.notice("  %s = %s", name, value)
  for each in metrics.values():
    if isinstance(each, dict):
      for name, values in each.items():
        logs.notice("  %s: %s", name, ", ".join(f"{k} {v:.4g}" for k, v in values.items()))


def evaluate(job: Job) -> None:
  """Evaluates on the dev set and writes eval_results.txt and eval_metrics.json."""
  logging.info("***** Running evaluation *****")
  metrics = measure(job)
  logs.notice("***** Eval results *****")
  log_metrics(metrics)
  steps.write_metrics(job.run, metrics, "dev")


def predict(job: Job) -> None:
  """Predicts a set and writes predictions.txt and predictions.jsonl; logs scores if it has tags."""
  logging.info("***** Running prediction *****")
  run, corpus = job.run, job.corpora["test"]
  tags, _ = run_model(job, "test", "predict.tf_record", run.settings.predict_batch_size)
  if corpus.is_tagged():
    logs.notice("***** Predict results *****")
    log_metrics(score(job, "test", tags))
  text = tagging.format_corpus(corpus, tags, tagging.layout_of(run.settings).separator())
  files.write_text(run.path(PREDICTIONS_FILE), text)
  found = (tagging.prediction_record(s, t, job.kind) for s, t in zip(corpus.sentences, tags))
  lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in found)
  files.write_text(run.path(RECORDS_FILE), "".join(lines))
  paths = (run.path(PREDICTIONS_FILE), run.path(RECORDS_FILE))
  logs.notice("%d sentences in %s and %s", len(tags), *paths)


def tag_text(job: Job) -> None:
  """Prints the entities of --text, or its words with their tags, on standard output."""
  run = job.run
  settings = run.settings
  model = Tagger(
    run.checkpoint(),
    run.config,
    run.required_tokenizer(),
    job.labels,
    settings.max_seq_length,
    settings.tag_scheme,
    settings.engine,
  )
  print("\n".join(tagger.record_lines(model.tag(settings.text))), flush=True)


if __name__ == "__main__":
  command_line.run(main, flags)
