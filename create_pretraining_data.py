"""Makes the records that run_pretraining.py trains on: masked text with next-sentence labels.

  python create_pretraining_data.py --input_file=samples/pretraining.txt --vocab_file=vocab.txt \\
    --output_file=/tmp/pretraining.tfrecord --dupe_factor=5

Text has one sentence per line and blank lines between documents; .gz and .bz2 files are read too.
The whole corpus is in memory, and one process works, unless it is cut into shards:

  python create_pretraining_data.py --input_file='corpus/*.txt.gz' --vocab_file=vocab.txt \\
    --output_file=/data/pretraining.tfrecord --num_output_files=16 --shard_documents=1000 \\
    --num_workers=8

After an interruption the same command resumes at the unfinished shard.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import collections  # noqa: F401, for programs that import * from here
import contextlib
import importlib
import os
import random  # noqa: F401
from collections.abc import Iterable, Sequence
from typing import Any, Optional

from absl import logging

import tokenization
from toolkit.support import command_line, files, logs
from toolkit.tasks import pretraining
from toolkit.tasks.pretraining import (  # noqa: F401, names that were always importable from here
  MaskedLmInstance,
  TrainingInstance,
  create_instances_from_document,
  create_masked_lm_predictions,
  create_training_instances,
  truncate_seq_pair,
  write_instance_to_example_files,
)
from toolkit.tasks.pretraining_run import Job, Progress, RunFiles

_DEFAULTS = pretraining.Settings()

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_string("input_file", None, "Text files: names or patterns, with commas between.")
flags.DEFINE_string(
  "output_file", None, "TFRecord files: names with commas between, which get a record in turn."
)
flags.DEFINE_string("vocab_file", None, "Vocabulary, one word piece a line (vocab.txt).")
flags.DEFINE_bool(
  "do_lower_case",
  _DEFAULTS.do_lower_case,
  "Whether text is lower-cased: True for uncased models, False for cased ones.",
)
flags.DEFINE_bool(
  "do_whole_word_mask",
  _DEFAULTS.do_whole_word_mask,
  "Whether the word pieces of a word are masked all or not at all.",
)
flags.DEFINE_integer(
  "max_seq_length",
  _DEFAULTS.max_seq_length,
  "Longest input in word pieces, [CLS] and both [SEP] included.",
)
flags.DEFINE_integer(
  "max_predictions_per_seq",
  _DEFAULTS.max_predictions_per_seq,
  "Masked word pieces of an input, at most.",
)
flags.DEFINE_integer("random_seed", _DEFAULTS.random_seed, "Seed of everything random.")
flags.DEFINE_integer(
  "dupe_factor",
  _DEFAULTS.dupe_factor,
  "How often the corpus is gone through, each time with other masks.",
)
flags.DEFINE_float(
  "masked_lm_prob", _DEFAULTS.masked_lm_prob, "Share of the word pieces that are masked."
)
flags.DEFINE_float(
  "short_seq_prob",
  _DEFAULTS.short_seq_prob,
  "How often a document is cut into shorter inputs, of a random length.",
)
flags.DEFINE_bool(
  "special_replacements",
  _DEFAULTS.special_replacements,
  "Whether [CLS], [unused7] and their like are among the random replacements of masked pieces.",
)
flags.DEFINE_bool(
  "mask_per_word",
  _DEFAULTS.mask_per_word,
  "With --do_whole_word_mask: whether it is decided once for a word, and not for each of its "
  "pieces, that it becomes [MASK], stays, or is replaced.",
)
flags.DEFINE_float(
  "truncate_segments_prob",
  _DEFAULTS.truncate_segments_prob,
  "Share of the segments that lose a random part at their beginning or end, so that a model also "
  "sees text that is no whole sentence.",
)
flags.DEFINE_bool(
  "chinese_whole_words",
  _DEFAULTS.chinese_whole_words,
  "With --do_whole_word_mask, for text that has been cut into words with spaces between: whether "
  "the Chinese characters of a word are masked together.",
)
flags.DEFINE_integer(
  "shard_documents",
  _DEFAULTS.shard_documents,
  "Documents that are handled together, apart from all others. Memory goes by them and not by the "
  "corpus. 0: the whole corpus, in one process.",
)
flags.DEFINE_integer(
  "num_workers",
  1,
  "Processes that make shards. The records do not depend on their number.",
  lower_bound=1,
)
flags.DEFINE_integer(
  "num_output_files",
  None,
  "How many files to write; they are called <--output_file>-00000-of-00010 and so on.",
  lower_bound=1,
  upper_bound=99999,
)


# ---- As a library -------------------------------------------------------------------------------


def __getattr__(name: str) -> Any:
  """Loads TensorFlow, as `tf`, when it is read: loading takes seconds, and little needs it."""
  if name == "tf":
    return importlib.import_module("tensorflow.compat.v1")
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def create_int_feature(values: Iterable[int]) -> Any:
  """Makes a tf.train.Feature."""
  train = __getattr__("tf").train
  return train.Feature(int64_list=train.Int64List(value=list(values)))


def create_float_feature(values: Iterable[float]) -> Any:
  """Makes a tf.train.Feature, stored as float32."""
  train = __getattr__("tf").train
  return train.Feature(float_list=train.FloatList(value=list(values)))


# ---- One run ------------------------------------------------------------------------------------


def main(_: list[str]) -> None:
  """Makes the records by the flags."""
  job = prepare()
  with RunFiles(job) as run_files, Progress(job.corpus, *run_files.done()) as progress:
    if not run_files.is_complete():
      make_shards(job, run_files, progress)
    run_files.publish()
  totals = run_files.totals()
  if totals["num_random_next"] == totals["num_instances"]:
    logging.warning(
      "All next sentences are random: the documents, or the inputs, have one line each"
    )
  problem = run_files.fit().problem(job.settings.max_seq_length)
  if problem:
    logging.warning("%s", problem)
  logs.notice("Wrote %d total instances", totals["num_instances"])


def prepare() -> Job:
  """Checks all inputs of a run, before anything is written."""
  given = flags.settings()
  given.require(["input_file", "output_file", "vocab_file"], "every run")
  settings = pretraining.Settings(**{name: given[name] for name in pretraining.Settings._fields})
  settings.check()
  if given.num_workers > 1 and not settings.shard_documents:
    raise files.InputError(
      f"--num_workers={given.num_workers} needs shards to work on: give --shard_documents=1000, say"
    )
  with files.input_checks():
    tokenization.validate_vocab(settings.vocab_file, ["[MASK]"])
  digest = pretraining.vocab_digest(settings.vocab_file)
  tools = pretraining.load_tools(settings, digest)
  is_lower_case = tokenization.guess_lower_case(tools.tokenizer.vocab)
  if is_lower_case is not None and is_lower_case != settings.do_lower_case:
    logging.warning(
      "--do_lower_case=%s, but %s looks like a vocabulary of %s text",
      settings.do_lower_case,
      settings.vocab_file,
      "lower-cased" if is_lower_case else "cased",
    )
  inputs = files.find(given.input_file, "input_file", each_once=False)
  outputs = name_outputs(given.output_file, given.num_output_files)
  check_outputs(outputs, inputs)
  return Job(settings, tools, digest, read_through(inputs), outputs, given.num_workers)


def name_outputs(names: str, num_files: Optional[int]) -> list[str]:
  """Lists the output files: "a,b", None -> a, b; "a", 2 -> a-00000-of-00002, a-00001-of-00002."""
  outputs = names.split(",")
  if num_files is None:
    return outputs
  if len(outputs) > 1:
    raise files.InputError(
      f"--output_file: found {len(outputs)} names; with --num_output_files give one"
    )
  return [f"{names}-{i:05d}-of-{num_files:05d}" for i in range(num_files)]


def check_outputs(outputs: Sequence[str], inputs: Sequence[str]) -> None:
  """Checks that output files can be written, and creates their directories."""
  taken = set(map(_location, inputs))
  for output in outputs:
    if _location(output) in taken:
      raise files.InputError(f"--output_file: {output} is an input file, or given twice")
    taken.add(_location(output))
    if not os.path.basename(output) or (files.exists(output) and not files.is_regular_file(output)):
      raise files.InputError(f"--output_file: {output!r} is not a name for a file")
  for directory in {os.path.dirname(output) or "." for output in outputs}:
    files.make_directory(directory, "output_file")


def _location(path):
  return path if files.is_remote(path) else os.path.realpath(path)


def read_through(paths: list[str]) -> pretraining.Corpus:
  """Surveys the corpus, and warns when its next-sentence labels have no signal."""
  logging.info("*** Reading from input files ***")
  for path in paths:
    logging.info("  %s", path)
  corpus = pretraining.survey(paths)
  logs.notice("  %d documents, %d lines", corpus.num_documents, corpus.num_sentences)
  problem = pretraining.layout_problem(corpus)
  if problem:
    logging.warning("No next-sentence signal: %s", problem)
  return corpus


def make_shards(job: Job, run_files: RunFiles, progress: Progress) -> None:
  """Makes the shards that are not done yet, and adds them to the files."""
  reports = _make_reports(job, run_files.num_shards(), progress)
  with contextlib.closing(reports):  # ends the workers after an error
    for report in reports:
      run_files.add(report)
      progress.clear()
      job.tools.records.log(report.examples, job.tools.tokenizer.inv_vocab)


def _make_reports(job, num_done, progress):
  """Yields the pretraining.ShardReport of all shards but the first num_done, in order."""
  shards = pretraining.read_shards(job.corpus.paths, job.settings.shard_documents)
  jobs = (
    pretraining.ShardJob(number, documents, job.settings, job.vocab_digest, job.outputs)
    for number, documents in enumerate(shards)
    if number >= num_done
  )
  if job.num_workers > 1:
    for report in pretraining.make_shards(jobs, job.num_workers):
      yield report
      progress.advance(report.num_documents, sum(report.num_records))
    return
  # There is one pass over each document to tokenize it, and then dupe_factor more.
  share = 1 / (1 + job.settings.dupe_factor)
  for shard in jobs:
    yield pretraining.make_shard(shard, lambda n: progress.advance(share, n))


# For programs that import * from here: all public names, and `tf`, which is loaded then.
__all__ = ["tf", *(name for name in globals() if not name.startswith("_"))]  # noqa: F822

if __name__ == "__main__":
  command_line.run(main, flags)
