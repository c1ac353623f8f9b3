"""A run that makes pre-training records: its output files, which can be resumed, and progress."""

import json
import operator
import os
import shutil
import sys
import time
from typing import Any, NamedTuple, Optional

from absl import logging
from tqdm import tqdm

import tokenization
from toolkit.support import files, logs
from toolkit.tasks import pretraining

_SECONDS_BETWEEN_LINES = 60  # of the log, where there is no progress bar


class Job(NamedTuple):
  """The checked inputs of a run.

  Attributes:
    vocab_digest: see pretraining.vocab_digest.
    outputs: paths of the output files.
    num_workers: processes that make shards.
  """

  settings: pretraining.Settings
  tools: pretraining.Tools
  vocab_digest: str
  corpus: pretraining.Corpus
  outputs: list[str]
  num_workers: int


class RunFiles:
  """The output files of a run, under temporary names until all are complete.

  Finished shards are in `.NAME.partial` beside each output file. `.NAME.progress.json` beside the
  first one has their number, and describes the settings and the corpus. A later run with the same
  description resumes there.
  """

  def __init__(self, job: Job) -> None:
    self._job = job
    hidden = list(map(pretraining.hidden_path, job.outputs))
    self._partial_paths = [f"{path}.partial" for path in hidden]
    self._state_path = f"{hidden[0]}.progress.json"
    self._state: dict[str, Any] = {
      "run": json.loads(json.dumps(_describe_run(job))),  # as it will be read
      "is_complete": False,
      "num_shards": 0,
      "num_records": [0] * len(hidden),
      "num_bytes": [0] * len(hidden),
      "num_documents": 0,
      "num_random_next": 0,
      "fit": pretraining.Fit(),
    }

  def __enter__(self) -> "RunFiles":
    pretraining.remove_parts(self._job.outputs)
    saved = self._load()
    if saved:
      self._state = saved
      logs.notice("Going on after %d finished shards", saved["num_shards"])
    if not self.is_complete():
      self._cut_to_state()
    logging.info("*** Writing to output files ***")
    for path in self._job.outputs:
      logging.info("  %s", path)
    return self

  def __exit__(self, error_type: Optional[type[BaseException]], *_: object) -> None:
    pretraining.remove_parts(self._job.outputs)
    if not self.is_complete():
      self._cut_to_state()

  def _load(self):
    """Reads the state of an interrupted run; None if it cannot be resumed."""
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
    """Removes the records that were written after the state."""
    for path, size in zip(self._partial_paths, self._state["num_bytes"]):
      if size:
        os.truncate(path, size)
      elif os.path.exists(path):
        os.remove(path)

  def is_complete(self) -> bool:
    """Returns True when all shards are finished."""
    return self._state["is_complete"]

  def num_shards(self) -> int:
    """Returns the number of finished shards."""
    return self._state["num_shards"]

  def done(self) -> tuple[int, int]:
    """Returns the numbers of finished documents and instances."""
    return self._state["num_documents"], sum(self._state["num_records"])

  def totals(self) -> dict[str, int]:
    """Returns the counts of the finished shards, for the metadata."""
    num_documents, num_instances = self.done()
    return {
      "num_documents": num_documents,
      "num_instances": num_instances,
      "num_random_next": self._state["num_random_next"],
    }

  def fit(self) -> pretraining.Fit:
    """Returns the counts of long lines of the finished shards."""
    return pretraining.Fit(*self._state.get("fit", ()))

  def add(self, report: pretraining.ShardReport) -> None:
    """Appends a finished shard; InputError if that fails."""
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
        "fit": self.fit() + report.fit,
      }
      _write_json(self._job.outputs[0], self._state_path, after)
    except OSError as error:
      raise pretraining.cannot_write(self._job.outputs[0], error) from error
    self._state = after

  def publish(self) -> None:
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
        if os.path.exists(partial_path):  # else an interrupted run has published it
          pretraining.publish(partial_path, output)
      metadata = pretraining.make_metadata(
        job.settings,
        job.vocab_digest,
        tokenization.num_ids(job.tools.tokenizer.vocab),
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
  """Returns all values that the records depend on, by flag."""
  return {
    **job.settings._asdict(),
    "vocab_file": job.vocab_digest,
    "input_file": [[path, *files.size_and_time(path)] for path in job.corpus.paths],
    "output_file": job.outputs,
    "format_version": pretraining.FORMAT_VERSION,
  }


def _write_json(output, path, value):
  """Writes JSON, whole or not at all, by a temporary file that the next run would remove."""
  part = f"{pretraining.hidden_path(output)}{pretraining.PART}json"
  with open(part, "w", encoding="utf-8") as f:
    json.dump(value, f, indent=2, sort_keys=True)
    f.write("\n")
  pretraining.publish(part, path)


def _append(source_path, target_path):
  """Moves the content of a file to the end of another, which may not exist."""
  if not os.path.exists(target_path):
    os.replace(source_path, target_path)
    return
  with open(source_path, "rb") as source, open(target_path, "ab") as target:
    shutil.copyfileobj(source, target, 1 << 20)
  os.remove(source_path)


class Progress:
  """A progress bar on a terminal, else a line in the log from time to time."""

  def __init__(self, corpus: pretraining.Corpus, num_documents: int, num_instances: int) -> None:
    """Starts; num_documents of a corpus are done, and gave num_instances."""
    self._corpus = corpus
    self._num_documents: float = num_documents
    self._first_document = num_documents
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

  def __enter__(self) -> "Progress":
    return self

  def __exit__(self, error_type: Optional[type[BaseException]], *_: object) -> None:
    self._bar.close()

  def clear(self) -> None:
    """Hides the bar until its next move, so that lines can be logged."""
    self._bar.clear()

  def _bytes(self, num_documents):
    """Estimates the size of some documents."""
    return round(self._corpus.num_bytes * num_documents / self._corpus.num_documents)

  def advance(self, num_documents: float, num_instances: int) -> None:
    """Adds finished documents, of which one pass of several is a part, and new instances."""
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
    logs.notice(
      "%d of %d documents, %d instances, %.2f MB/s, %s left",
      round(self._num_documents),
      self._corpus.num_documents,
      self._num_instances,
      self._bytes(speed) / 1e6,
      tqdm.format_interval((self._corpus.num_documents - self._num_documents) / speed),
    )
