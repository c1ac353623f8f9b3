"""Work in several processes."""

import itertools
import os
import pathlib
import subprocess
import sys
import time

import pytest

from toolkit.support import files, workers


def sleep_and_return(job):
  seconds, value = job
  time.sleep(seconds)
  return value, os.getpid()


def map_jobs(jobs, num_workers=2):
  return workers.map_in_order(sleep_and_return, jobs, num_workers, "--flags")


def test_results_come_in_the_order_of_the_jobs():
  results = list(map_jobs([(0.2, "a"), (0, "b"), (0.1, "c"), (0, "d"), (0, "e")]))
  assert [value for value, _ in results] == list("abcde")
  assert os.getpid() not in {process for _, process in results}


def test_the_next_call_has_the_same_workers():
  first, second = ({process for _, process in map_jobs([(0.2, 0)] * 4)} for _ in range(2))
  assert first & second


def test_jobs_are_taken_as_results_are():
  taken = []
  jobs = ((0, taken.append(number)) for number in itertools.count())
  results = map_jobs(jobs, num_workers=2)
  for _ in range(3):
    next(results)
  assert len(taken) == 4 + 2  # two a worker, and one for each result that was taken but the last
  results.close()


def test_closing_ends_the_work():
  start = time.monotonic()
  results = map_jobs([(0, 0), (60, 1), (60, 2), (60, 3)])
  next(results)
  results.close()
  assert time.monotonic() - start < 30


def test_errors_of_the_function_are_raised():
  with pytest.raises(ValueError, match="must be non-negative"):
    list(map_jobs([(0, 0), (-1, 1), (60, 2)]))
  assert len(list(map_jobs([(0, 0)] * 3))) == 3


def test_a_worker_that_dies():
  with pytest.raises(files.InputError, match=r"because memory ran out; lower --flags$") as caught:
    list(workers.map_in_order(os._exit, [9], 2, "--flags"))
  assert "\n" not in str(caught.value)
  assert len(list(map_jobs([(0, 0)] * 3))) == 3


PARENT = """
import time
from toolkit.support import workers
results = workers.map_in_order(time.sleep, [0, 0, *{more}], 2, "--flags")
next(results), next(results)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("more", ["[]", "[60, 60]"], ids=["idle", "busy"])
def test_workers_end_when_their_parent_is_killed(more):
  parent = subprocess.Popen(
    [sys.executable, "-c", PARENT.format(more=more)],
    stdout=subprocess.PIPE,
    cwd=pathlib.Path(workers.__file__).parents[2],
  )
  assert parent.stdout.readline() == b"ready\n"
  parent.kill()
  # The workers have this pipe too: it ends when the last of them does.
  assert parent.communicate(timeout=20) == (b"", None)
