"""Batches of the requests of many clients, and their order.

While the model runs, arriving items wait, and go into the next batch together. There is no timer:
an item that comes while the model is idle runs at once. Each request gives one item to a batch
in turn, so that a request of many items delays the others by no more than a batch.

An item of many tokens, such as a question about a long paragraph, runs in a second lane. The model
alternates between the two lanes after each of its own batches; see Turns.
"""

import asyncio
import collections
import contextlib
import math
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from typing import Any, Callable, NamedTuple, Optional

from toolkit.serving.service.refusals import Refused

ITEMS = 32  # of a batch
TOKENS = 4096  # of a batch, about
LONG = 1024  # tokens of an item that runs in the lane of long ones
_MOST_WAIT = 60  # seconds that a client is told to wait at most


class Operation(NamedTuple):
  """A function over a batch of items, such as the classification of texts by one model.

  Attributes:
    name: of the model, for the metrics.
    run: list of items -> list of their results. It is called in a thread of a lane.
    weigh: item -> number of its tokens, about.
  """

  name: str
  run: Callable[[list[Any]], list[Any]]
  weigh: Callable[[Any], int]


class _Cancelled(Exception):
  """Nobody waits for the results of a batch any more."""


class _Request:
  """The items of a request: their results, and who waits for them."""

  def __init__(self, items, future, is_gone):
    self.items = items
    self.results = [None] * len(items)
    self.missing = len(items)
    self.future = future
    self.is_gone = is_gone
    self.is_started = False

  def is_over(self):
    return self.future.done() or self.is_gone()


class _Part:
  """The items of a request that wait in one lane."""

  def __init__(self, request, places):
    self.request = request
    self.places = collections.deque(places)


class Turns:
  """The right to run a model, which threads get in the order in which they ask for it."""

  def __init__(self) -> None:
    """Makes one for all models of a process."""
    self._lock = threading.Lock()
    self._waiting: collections.deque[threading.Lock] = collections.deque()
    self._is_taken = False
    self._of_thread = threading.local()

  @contextlib.contextmanager
  def turn(self) -> Iterator[None]:
    """Waits for the right and holds it, around one run of a model.

    Raises:
      Exception: the batch of this thread is not waited for any more; it ends the batch.
    """
    is_over = getattr(self._of_thread, "is_over", None)
    if is_over and is_over():
      raise _Cancelled
    mine = None
    with self._lock:
      if self._is_taken:
        mine = threading.Lock()
        mine.acquire()
        self._waiting.append(mine)
      self._is_taken = True
    if mine:
      mine.acquire()  # released by the thread before
    try:
      yield
    finally:
      with self._lock:
        if self._waiting:
          self._waiting.popleft().release()
        else:
          self._is_taken = False

  @contextlib.contextmanager
  def until(self, is_over: Callable[[], bool]) -> Iterator[None]:
    """Sets the condition that ends the batch of this thread between two runs of the model."""
    self._of_thread.is_over = is_over
    try:
      yield
    finally:
      self._of_thread.is_over = None


class _Lane:
  """The waiting items of a lane, by operation, and its task while there are any."""

  def __init__(self):
    self.parts: dict[Operation, collections.deque[_Part]] = {}
    self.task = None

  def add(self, operation, part):
    self.parts.setdefault(operation, collections.deque()).append(part)

  def take(self):
    """Returns the operation whose turn it is, and (request, place of an item) pairs for a batch."""
    operation = next(iter(self.parts))
    parts = self.parts.pop(operation)
    batch: list[tuple[_Request, int]] = []
    tokens = 0
    while parts and len(batch) < ITEMS:
      part = parts[0]
      if part.request.is_over():
        parts.popleft()
        continue
      tokens += operation.weigh(part.request.items[part.places[0]])
      if batch and tokens > TOKENS:
        break
      batch.append((part.request, part.places.popleft()))
      parts.popleft()
      if part.places:
        parts.append(part)  # behind the other requests
    if parts:
      self.parts[operation] = parts  # behind the other operations
    return operation, batch


class Scheduler:
  """Runs operations over the items of many requests, in batches, in threads of its own."""

  def __init__(
    self, max_waiting: int, on_batch: Optional[Callable[[str, int, float], object]] = None
  ) -> None:
    """Makes a scheduler; the first call of `run` binds it to its event loop.

    Args:
      max_waiting: the largest number of items that wait.
      on_batch: called after each batch with the name of the model, the number of items and the
        seconds.
    """
    self.turns = Turns()
    self.max_items = max(max_waiting // 2, 1)
    self._max_waiting = max_waiting
    self._on_batch = on_batch
    self._lanes = (_Lane(), _Lane())
    self._threads = futures.ThreadPoolExecutor(len(self._lanes), "model")
    self._seconds_per_item = 0.01  # a running mean

  @property
  def waiting(self) -> int:
    """The number of items that wait."""
    return sum(
      len(part.places)
      for lane in self._lanes
      for parts in lane.parts.values()
      for part in parts
      if not part.request.is_over()
    )

  async def run(
    self,
    operation: Operation,
    items: Sequence[Any],
    seconds: float,
    is_gone: Callable[[], bool] = lambda: False,
  ) -> list[Any]:
    """Runs an operation over items, and returns their results in order.

    Args:
      operation: of a model.
      items: any number.
      seconds: the time limit.
      is_gone: returns True when the client does not wait any more.

    Raises:
      Refused: there are too many items, or the time has passed. Exceptions of the operation are
        raised as they are.
    """
    if not items:
      return []
    self._admit(len(items))
    request = _Request(items, asyncio.get_running_loop().create_future(), is_gone)
    places: tuple[list[int], list[int]] = ([], [])
    for place, item in enumerate(items):
      places[int(operation.weigh(item) > LONG)].append(place)
    for lane, own in zip(self._lanes, places):
      if own:
        lane.add(operation, _Part(request, own))
        if lane.task is None:
          lane.task = asyncio.ensure_future(self._work(lane))
    try:
      return await asyncio.wait_for(request.future, seconds)
    except asyncio.TimeoutError:
      raise self._late(request, seconds) from None

  def _admit(self, number):
    if number > self.max_items:
      raise Refused(
        413, f"the request has {number} items, and the limit is {self.max_items}; divide it"
      )
    # Large requests leave a part of the queue to small ones.
    limit = self._max_waiting if number <= ITEMS else self.max_items
    waiting = self.waiting
    if waiting + number > limit:
      raise Refused(
        429, f"{waiting} items are waiting; try again later", retry_after=self._wait(waiting)
      )

  def _wait(self, waiting):
    return min(max(math.ceil(waiting * self._seconds_per_item), 1), _MOST_WAIT)

  def _late(self, request, seconds):
    if request.is_started:
      return Refused(504, f"the answer took longer than the limit, {seconds:g} seconds")
    return Refused(
      503,
      f"the service was busy with other requests for {seconds:g} seconds; try again later",
      retry_after=self._wait(self.waiting),
    )

  async def _work(self, lane):
    """Runs batches while items wait in a lane."""
    loop = asyncio.get_running_loop()
    while lane.parts:
      operation, batch = lane.take()
      if not batch:
        continue
      for request, _ in batch:
        request.is_started = True
      started = time.perf_counter()
      outcomes = await loop.run_in_executor(self._threads, self._run_batch, operation, batch)
      seconds = time.perf_counter() - started
      self._seconds_per_item += 0.1 * (seconds / len(batch) - self._seconds_per_item)
      if self._on_batch:
        self._on_batch(operation.name, len(batch), seconds)
      for (request, place), outcome in zip(batch, outcomes):
        _deliver(request, place, outcome)
    lane.task = None

  def _run_batch(self, operation, batch):
    """Returns a result or an exception for each item of a batch."""
    requests = list(dict.fromkeys(request for request, _ in batch))
    try:
      return self._run_items(operation, batch)
    except Exception as error:
      if len(requests) == 1:
        return [error] * len(batch)
    # A request of the batch is at fault; the others get their results.
    outcomes: dict[tuple[_Request, int], Any] = {}
    for request in requests:
      own = [pair for pair in batch if pair[0] is request]
      try:
        outcomes.update(zip(own, self._run_items(operation, own)))
      except Exception as error:
        outcomes.update(dict.fromkeys(own, error))
    return [outcomes[pair] for pair in batch]

  def _run_items(self, operation, batch):
    with self.turns.until(lambda: all(request.is_over() for request, _ in batch)):
      return operation.run([request.items[place] for request, place in batch])

  def close(self) -> None:
    """Ends the threads, after the batches that run."""
    self._threads.shutdown(wait=False)


def _deliver(request, place, outcome):
  """Gives an item's result or exception to its request."""
  if request.future.done():
    return
  if isinstance(outcome, Exception):
    request.future.set_exception(outcome)
    return
  request.results[place] = outcome
  request.missing -= 1
  if not request.missing:
    request.future.set_result(request.results)
