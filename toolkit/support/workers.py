"""Worker processes, which end with the process that started them, even if that is killed."""

import collections
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from toolkit.support import files

_SECONDS_BETWEEN_CHECKS = 1  # of a worker that its parent still runs
_IDLE_SECONDS = 60  # after which a worker ends; until then it serves the next call too


def map_in_order(function: Callable, jobs: Iterable, num_workers: int, remedy: str) -> Iterator:
  """Yields map(function, jobs) from worker processes, which the next call reuses.

  Args:
    function: function of a job; it, the jobs and the results can be pickled.
    jobs: no more than two per worker are taken ahead of the results.
    num_workers: number of processes.
    remedy: the flags to lower when memory is too small, for the message.

  Raises:
    files.InputError: a worker has died. Exceptions of the function are raised as they are.
  """
  from joblib.externals import loky  # here alone, as a server does without joblib

  # Not joblib.Parallel: with a slow consumer it takes jobs and stores results without limit.
  executor = loky.get_reusable_executor(
    num_workers, timeout=_IDLE_SECONDS, initializer=_end_with_parent, initargs=(os.getpid(),)
  )
  waiting: collections.deque[Any] = collections.deque()  # loky's futures
  try:
    for job in jobs:
      waiting.append(executor.submit(function, job))
      if len(waiting) == 2 * num_workers:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  except BaseException as error:  # GeneratorExit too: the caller has stopped reading
    executor.shutdown(kill_workers=True)
    if isinstance(error, loky.process_executor.TerminatedWorkerError):
      raise files.InputError(
        f"a worker process was ended from outside, perhaps because memory ran out; lower {remedy}"
      ) from error
    raise


def _end_with_parent(parent):
  """Ends this worker process when its parent has been killed; it would wait for ever."""

  def watch():
    while os.getppid() == parent:
      time.sleep(_SECONDS_BETWEEN_CHECKS)
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
