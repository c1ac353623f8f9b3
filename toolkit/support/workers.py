"""Work in several processes, which end with the one that started them, even if that is killed."""

import collections
import os
import threading
import time

from joblib.externals import loky

from toolkit.support import files

_SECONDS_BETWEEN_LOOKS = 1  # of a worker at whether its parent is still there
_IDLE_SECONDS = 60  # after which a worker ends; until then it serves the next call too


def map_in_order(function, jobs, num_workers, remedy):
  """Like map(function, jobs), in worker processes, which the next call uses again.

  Args:
    function: function of a job; it and what it returns can be pickled.
    jobs: iterable of what can be pickled; no more than two a worker are taken ahead of the results.
    num_workers: int.
    remedy: str, the flags to lower when memory is too small, for the message.

  Yields:
    What the function returns for each job, in their order.

  Raises:
    files.InputError: a worker has died. Besides, whatever the function raises.
  """
  # Not joblib.Parallel: it would take jobs, and keep results, without end if their use were slow.
  executor = loky.get_reusable_executor(
    num_workers, timeout=_IDLE_SECONDS, initializer=_end_with_parent, initargs=(os.getpid(),)
  )
  waiting = collections.deque()
  try:
    for job in jobs:
      waiting.append(executor.submit(function, job))
      if len(waiting) == 2 * num_workers:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  except BaseException as error:  # GeneratorExit too: no more results are wanted
    executor.shutdown(kill_workers=True)
    if isinstance(error, loky.process_executor.TerminatedWorkerError):
      raise files.InputError(
        f"a worker process was ended from outside, perhaps for want of memory; lower {remedy}"
      ) from error
    raise


def _end_with_parent(parent):
  """Lets this worker process end when its parent has been killed; it would wait for ever."""

  def watch():
    while os.getppid() == parent:
      time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(1)

  threading.Thread(target=watch, daemon=True).start()
