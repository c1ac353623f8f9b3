"""Counts and times of a service in the text format of Prometheus.

Each worker keeps its own numbers, and writes them into a directory that all workers share, where
the worker that is asked adds them up.
"""

import bisect
import collections
import contextlib
import json
import os
from collections.abc import Iterable
from typing import NamedTuple, Optional

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_ITEMS = (1, 2, 4, 8, 16, 32)


class Metric(NamedTuple):
  """A metric.

  Attributes:
    help: description.
    labels: names of its labels.
    buckets: upper limits of a histogram; empty for a counter.
  """

  help: str
  labels: tuple[str, ...]
  buckets: tuple[float, ...] = ()


METRICS = {
  "bert_requests_total": Metric("Requests by API and HTTP status.", ("api", "status")),
  "bert_request_seconds": Metric("Time from headers to answer.", ("api",), _SECONDS),
  "bert_instances_total": Metric("Instances that were answered.", ("model",)),
  "bert_truncated_total": Metric("Instances whose text was cut.", ("model",)),
  "bert_batch_items": Metric("Items of a batch.", ("model",), _ITEMS),
  "bert_batch_seconds": Metric("Time of a batch.", ("model",), _SECONDS),
}
_WAITING = "bert_waiting_items"

# Values by the name of a metric and the values of its labels: of a counter one number; of a
# histogram the counts of its buckets, one for larger values, and the sum.
_Values = dict[tuple[str, ...], list[float]]


class Metrics:
  """The numbers of one worker."""

  def __init__(self, directory: Optional[str] = None, worker: int = 0) -> None:
    """Makes them, with those of an earlier process of the same worker.

    Args:
      directory: shared by all workers, or None for one worker alone.
      worker: number of this one.
    """
    self._values: _Values = {}
    self._waiting = 0
    self._directory = directory
    self._path = os.path.join(directory, f"{worker}.json") if directory else None
    self._is_changed = False
    if self._path:
      _add(self._values, _read(self._path)[0])

  def count(self, name: str, *labels: str, by: int = 1) -> None:
    """Adds to a counter."""
    self._values.setdefault((name, *labels), [0])[0] += by
    self._is_changed = True

  def observe(self, name: str, *labels: str, value: float) -> None:
    """Adds a value to a histogram."""
    buckets = METRICS[name].buckets
    found = self._values.setdefault((name, *labels), [0] * (len(buckets) + 2))
    found[bisect.bisect_left(buckets, value)] += 1
    found[-1] += value
    self._is_changed = True

  def save(self, waiting: int) -> None:
    """Writes the numbers for other workers, if they have changed; `waiting` is that of items."""
    if self._path and (self._is_changed or waiting != self._waiting):
      self._is_changed, self._waiting = False, waiting
      stored = [waiting, [[list(key), value] for key, value in self._values.items()]]
      with contextlib.suppress(OSError):  # such as a full disk, which must not end the service
        with open(f"{self._path}.new", "w", encoding="utf-8") as f:
          json.dump(stored, f)
        os.replace(f"{self._path}.new", self._path)

  def text(self, waiting: int) -> str:
    """Returns the numbers of all workers; `waiting` is the number of items that wait in this."""
    total: _Values = {}
    _add(total, self._values)
    for path in self._other_files():
      values, others = _read(path)
      _add(total, values)
      waiting += others
    by_name: dict[str, _Values] = collections.defaultdict(dict)
    for (name, *labels), value in sorted(total.items()):
      by_name[name][tuple(labels)] = value
    lines = [f"# HELP {_WAITING} Items that wait.", f"# TYPE {_WAITING} gauge"]
    lines.append(f"{_WAITING} {waiting}")
    for name, metric in METRICS.items():
      lines += _lines(name, metric, by_name[name])
    return "\n".join(lines) + "\n"

  def _other_files(self) -> Iterable[str]:
    names = sorted(os.listdir(self._directory)) if self._directory else []
    paths = [os.path.join(self._directory or "", n) for n in names if n.endswith(".json")]
    return [path for path in paths if path != self._path]


def _read(path):
  """Returns the values in a file, and the number of items that wait."""
  try:
    with open(path, encoding="utf-8") as f:
      waiting, stored = json.load(f)
  except (OSError, ValueError):
    return {}, 0
  return {tuple(key): value for key, value in stored}, waiting


def _add(total, values):
  for key, value in values.items():
    found = total.get(key, [0] * len(value))
    total[key] = [a + b for a, b in zip(found, value)]


def _lines(name, metric, values):
  """Returns the lines of a metric."""
  lines = [
    f"# HELP {name} {metric.help}",
    f"# TYPE {name} {'histogram' if metric.buckets else 'counter'}",
  ]
  for labels, found in values.items():
    pairs = list(zip(metric.labels, labels))
    if not metric.buckets:
      lines.append(f"{name}{_braces(pairs)} {found[0]:.15g}")
      continue
    number = 0.0
    for limit, in_bucket in zip([*map("{:g}".format, metric.buckets), "+Inf"], found):
      number += in_bucket
      lines.append(f"{name}_bucket{_braces([*pairs, ('le', limit)])} {number:.15g}")
    lines.append(f"{name}_sum{_braces(pairs)} {found[-1]!r}")
    lines.append(f"{name}_count{_braces(pairs)} {number:.15g}")
  return lines


def _braces(pairs):
  return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs) + "}"


def _escaped(value):
  return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
