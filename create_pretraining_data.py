"""Makes the records that run_pretraining.py trains on: masked text with next-sentence labels.

  python create_pretraining_data.py --input_file=samples/pretraining.txt --vocab_file=vocab.txt \\
    --output_file=/tmp/pretraining.tfrecord --dupe_factor=5

Text has a sentence a line and blank lines between documents; .gz and .bz2 files are read too. The
whole corpus is in memory, and one process works, unless it is cut into shards:

  python create_pretraining_data.py --input_file='corpus/*.txt.gz' --vocab_file=vocab.txt \\
    --output_file=/data/pretraining.tfrecord --num_output_files=16 --shard_documents=1000 \\
    --num_workers=8

The same command goes on after an interruption, at the shard where it was.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import collections  # noqa: F401, for programs that import * from here
import contextlib
import json
import operator
import os
import random  # noqa: F401
import shutil
import sys
import time
from typing import NamedTuple

from absl import logging
from tqdm import tqdm

import tokenization
from toolkit.support import command_line, files
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

_SECONDS_BETWEEN_LINES = 60  # of the log, where there is no progress bar

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


def create_int_feature(values):
  """A tf.train.Feature with a list of int."""
  import tensorflow as tf  # not at the top: all else here does without, and it takes seconds

  return tf.train.Feature(int64_list=tf.train.Int64List(value=list(values)))


def create_float_feature(values):
  """A tf.train.Feature with a list of float, stored as float32."""
  import tensorflow as tf  # as above

  return tf.train.Feature(float_list=tf.train.FloatList(value=list(values)))


# ---- One run ------------------------------------------------------------------------------------


class Job(NamedTuple):
  """What a run works with, all of it checked.

  Attributes:
    settings: pretraining.Settings.
    tools: pretraining.Tools.
    vocab_digest: str, see pretraining.vocab_digest.
    corpus: pretraining.Corpus.
    outputs: list of str, paths of the output files.
    num_workers: int, processes that make shards.
  """

  settings: pretraining.Settings
  tools: pretraining.Tools
  vocab_digest: str
  corpus: pretraining.Corpus
  outputs: list
  num_workers: int


def main(_):
  """Makes the records as the flags say."""
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
  logging.info("Wrote %d total instances", totals["num_instances"])


def prepare():
  """Reads and checks everything that a run needs, before it writes anything.

  Returns:
    Job.

  Raises:
    files.InputError: the first thing that is missing or wrong.
  """
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
  guess = tokenization.guess_lower_case(tools.tokenizer.vocab)
  if guess is not None and guess != settings.do_lower_case:
    logging.warning(
      "--do_lower_case=%s, but %s looks like a vocabulary of %s text",
      settings.do_lower_case,
      settings.vocab_file,
      "lower-cased" if guess else "cased",
    )
  inputs = files.find(given.input_file, "input_file", each_once=False)
  outputs = name_outputs(given.output_file, given.num_output_files)
  check_outputs(outputs, inputs)
  return Job(settings, tools, digest, read_through(inputs), outputs, given.num_workers)


def name_outputs(names, num_files):
  """The output files: "a,b", None -> a, b; "a", 2 -> a-00000-of-00002, a-00001-of-00002."""
  outputs = names.split(",")
  if num_files is None:
    return outputs
  if len(outputs) > 1:
    raise files.InputError(
      f"--output_file: found {len(outputs)} names; with --num_output_files give one"
    )
  return [f"{names}-{i:05d}-of-{num_files:05d}" for i in range(num_files)]


def check_outputs(outputs, inputs):
  """Makes sure that output files can be written, creating their directories.

  Raises:
    files.InputError: names the one that cannot.
  """
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


def read_through(paths):
  """Surveys the corpus, and warns when next sentences cannot be learnt from it."""
  logging.info("*** Reading from input files ***")
  for path in paths:
    logging.info("  %s", path)
  corpus = pretraining.survey(paths)
  logging.info("  %d documents, %d lines", corpus.num_documents, corpus.num_sentences)
  problem = pretraining.layout_problem(corpus)
  if problem:
    logging.warning("No next-sentence signal: %s", problem)
  return corpus


def make_shards(job, run_files, progress):
  """Makes the shards that are not done yet.

  Args:
    job: Job.
    run_files: RunFiles, which gets them.
    progress: Progress.
  """
  reports = _make_reports(job, run_files.num_shards(), progress)
  with contextlib.closing(reports):  # no worker goes on after an error
    for report in reports:
      run_files.add(report)
      progress.clear()
      job.tools.records.log(report.examples, job.tools.tokenizer.inv_vocab)


def _make_reports(job, num_done, progress):
  """Yields pretraining.ShardReport in order, but for the first, which are done."""
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
  # Each document is gone through once to be tokenized, and then dupe_factor times.
  share = 1 / (1 + job.settings.dupe_factor)
  for shard in jobs:
    yield pretraining.make_shard(shard, lambda n: progress.advance(share, n))


class RunFiles:
  """The output files of a run, under temporary names until all are complete.

  Finished shards are in `.NAME.partial` beside each output file. How many there are, and of which
  settings and corpus, is in `.NAME.progress.json` beside the first one: the next run of the same
  kind goes on from there.
  """

  def __init__(self, job):
    self._job = job
    hidden = list(map(pretraining.hidden_path, job.outputs))
    self._partial_paths = [f"{path}.partial" for path in hidden]
    self._state_path = f"{hidden[0]}.progress.json"
    self._state = {
      "run": json.loads(json.dumps(_describe_run(job))),  # as it will be read
      "is_complete": False,
      "num_shards": 0,
      "num_records": [0] * len(hidden),
      "num_bytes": [0] * len(hidden),
      "num_documents": 0,
      "num_random_next": 0,
    }

  def __enter__(self):
    pretraining.remove_parts(self._job.outputs)
    saved = self._load()
    if saved:
      self._state = saved
      logging.info("Going on after %d finished shards", saved["num_shards"])
    if not self.is_complete():
      self._cut_to_state()
    logging.info("*** Writing to output files ***")
    for path in self._job.outputs:
      logging.info("  %s", path)
    return self

  def __exit__(self, error_type, error, traceback):
    pretraining.remove_parts(self._job.outputs)
    if not self.is_complete():
      self._cut_to_state()

  def _load(self):
    """The state that an interrupted run has left, if it can be gone on from."""
    if not os.path.exists(self._state_path):
      return None
    try:
      saved = files.read_json(self._state_path)
      others = [name for name, value in self._state["run"].items() if saved["run"][name] != value]
      sizes = zip(self._partial_paths, saved["num_bytes"])
      is_whole = saved["is_complete"] or all(
        size == 0 or os.path.getsize(path) >= size for path, size in sizes
      )
    except (files.InputError, OSError, LookupError, TypeError):
      is_whole = False
    if not is_whole:
      logging.warning("%s cannot be used: starting anew", self._state_path)
    elif others:
      logging.warning(
        "%s is of a run with other %s: starting anew", self._state_path, ", ".join(others)
      )
    else:
      return saved
    os.remove(self._state_path)
    return None

  def _cut_to_state(self):
    """Takes away what was written after the state was."""
    for path, size in zip(self._partial_paths, self._state["num_bytes"]):
      if size:
        os.truncate(path, size)
      elif os.path.exists(path):
        os.remove(path)

  def is_complete(self):
    """Whether all shards are finished."""
    return self._state["is_complete"]

  def num_shards(self):
    """How many shards are finished."""
    return self._state["num_shards"]

  def done(self):
    """How many documents are finished, and how many instances."""
    return self._state["num_documents"], sum(self._state["num_records"])

  def totals(self):
    """Counts of the finished shards, as the metadata has them."""
    num_documents, num_instances = self.done()
    return {
      "num_documents": num_documents,
      "num_instances": num_instances,
      "num_random_next": self._state["num_random_next"],
    }

  def add(self, report):
    """Appends a finished shard.

    Args:
      report: pretraining.ShardReport.

    Raises:
      files.InputError: the files cannot be written.
    """
    before = self._state
    try:
      list(map(_append, report.part_paths, self._partial_paths))
      after = {
        **before,
        "num_shards": before["num_shards"] + 1,
        "num_records": list(map(operator.add, before["num_records"], report.num_records)),
        "num_bytes": list(map(os.path.getsize, self._partial_paths)),
        "num_documents": before["num_documents"] + report.num_documents,
        "num_random_next": before["num_random_next"] + report.num_random_next,
      }
      _write_json(self._job.outputs[0], self._state_path, after)
    except OSError as error:
      raise pretraining.cannot_write(self._job.outputs[0], error) from error
    self._state = after

  def publish(self):
    """Gives the output files their names and writes the metadata.

    Raises:
      files.InputError: no instance has been made, or a file cannot be written.
    """
    job, state = self._job, self._state
    if not sum(state["num_records"]):
      os.remove(self._state_path)
      raise files.InputError("--input_file: the text has no word pieces, so there are no records")
    try:
      state["is_complete"] = True
      _write_json(job.outputs[0], self._state_path, state)
      metadata_paths = {pretraining.metadata_path(output): output for output in job.outputs}
      for path in filter(files.exists, metadata_paths):
        files.remove(path)
      for partial_path, output in zip(self._partial_paths, job.outputs):
        if os.path.exists(partial_path):  # if not, an interrupted run has come so far
          pretraining.publish(partial_path, output)
      metadata = pretraining.make_metadata(
        job.settings,
        job.vocab_digest,
        len(job.tools.tokenizer.vocab),
        self.totals(),
        job.outputs,
        state["num_records"],
        state["num_bytes"],
      )
      for path, output in metadata_paths.items():
        _write_json(output, path, metadata)
      os.remove(self._state_path)
    except OSError as error:
      raise pretraining.cannot_write(job.outputs[0], error) from error


def _describe_run(job):
  """All that the records depend on, by the flag that gives it."""
  return {
    **job.settings._asdict(),
    "vocab_file": job.vocab_digest,
    "input_file": [[path, *files.size_and_time(path)] for path in job.corpus.paths],
    "output_file": job.outputs,
    "format_version": pretraining.FORMAT_VERSION,
  }


def _write_json(output, path, value):
  """Writes JSON, whole or not at all, by way of a temporary file that the next run would remove."""
  part = f"{pretraining.hidden_path(output)}{pretraining.PART}json"
  with open(part, "w", encoding="utf-8") as f:
    json.dump(value, f, indent=2, sort_keys=True)
    f.write("\n")
  pretraining.publish(part, path)


def _append(source_path, target_path):
  """Moves the content of a file to the end of another, which may not be there."""
  if not os.path.exists(target_path):
    os.replace(source_path, target_path)
    return
  with open(source_path, "rb") as source, open(target_path, "ab") as target:
    shutil.copyfileobj(source, target, 1 << 20)
  os.remove(source_path)


class Progress:
  """A progress bar on a terminal, else a line in the log now and then."""

  def __init__(self, corpus, num_documents, num_instances):
    """Begins.

    Args:
      corpus: pretraining.Corpus.
      num_documents: int, documents that are done already.
      num_instances: int, instances that they gave.
    """
    self._corpus = corpus
    self._num_documents = self._first_document = num_documents
    self._num_instances = num_instances
    self._start = self._last_line = time.monotonic()
    self._bar = tqdm(
      total=corpus.num_bytes,
      initial=self._bytes(num_documents),
      desc="Making instances",
      unit="B",
      unit_scale=True,
      disable=not sys.stderr.isatty(),
      dynamic_ncols=True,
    )

  def __enter__(self):
    return self

  def __exit__(self, error_type, error, traceback):
    self._bar.close()

  def clear(self):
    """Takes the bar away until it moves on, so that lines can be logged."""
    self._bar.clear()

  def _bytes(self, num_documents):
    """About how much text these documents have."""
    return round(self._corpus.num_bytes * num_documents / self._corpus.num_documents)

  def advance(self, num_documents, num_instances):
    """Counts what has been done.

    Args:
      num_documents: float, documents; a part of one, if it is gone through several times.
      num_instances: int, the new instances.
    """
    before = self._bytes(self._num_documents)
    self._num_documents += num_documents
    self._num_instances += num_instances
    if not self._bar.disable:
      self._bar.set_postfix(
        documents=round(self._num_documents), instances=self._num_instances, refresh=False
      )
      self._bar.update(self._bytes(self._num_documents) - before)
    elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
      self._last_line = time.monotonic()
      self._log()

  def _log(self):
    speed = (self._num_documents - self._first_document) / (self._last_line - self._start)
    logging.info(
      "%d of %d documents, %d instances, %.2f MB/s, %s left",
      round(self._num_documents),
      self._corpus.num_documents,
      self._num_instances,
      self._bytes(speed) / 1e6,
      tqdm.format_interval((self._corpus.num_documents - self._num_documents) / speed),
    )


if __name__ == "__main__":
  command_line.run(main, flags)
