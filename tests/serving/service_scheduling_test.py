"""Batches of many clients: their sizes and order, and what one request cannot do to others."""

import asyncio
import threading

import pytest

from toolkit.serving.service import scheduling
from toolkit.serving.service.refusals import Refused
from toolkit.serving.service.scheduling import ITEMS, LONG, TOKENS, Operation, Scheduler


class Model:
  """An operation that notes its batches, and waits for `release` in the first one."""

  def __init__(self, holds_first=True, weight=1):
    self.batches = []
    self.started, self.release = threading.Event(), threading.Event()
    self.operation = Operation("model", self._run, lambda item: weight)
    if not holds_first:
      self.release.set()

  def _run(self, items):
    self.batches.append(list(items))
    self.started.set()
    assert self.release.wait(60)
    if "bad" in items:
      raise ValueError("bad")
    return [f"{item}!" for item in items]


async def until(condition):
  """Waits for what another task or thread does."""
  while not condition():
    await asyncio.sleep(0.001)


async def start(scheduler, model, *requests, seconds=60):
  """Starts requests, of which the first has begun to run, and the others wait; returns tasks."""
  tasks = []
  for items in requests:
    tasks.append(asyncio.ensure_future(scheduler.run(model.operation, items, seconds)))
    await until(model.started.is_set)
    await asyncio.sleep(0)
  return tasks


def test_a_lone_request_runs_at_once():
  model = Model(holds_first=False)
  assert asyncio.run(Scheduler(8).run(model.operation, ["a", "b"], 60)) == ["a!", "b!"]
  assert model.batches == [["a", "b"]]


def test_no_items_are_no_batch():
  assert asyncio.run(Scheduler(8).run(Model().operation, [], 60)) == []


def test_what_comes_while_the_model_runs_goes_into_one_batch():
  async def main():
    model, scheduler = Model(), Scheduler(64)
    tasks = await start(scheduler, model, ["a"], ["b"], ["c", "d"], ["e"])
    assert scheduler.waiting == 4
    model.release.set()
    assert await asyncio.gather(*tasks) == [["a!"], ["b!"], ["c!", "d!"], ["e!"]]
    assert model.batches[0] == ["a"]
    assert sorted(model.batches[1]) == ["b", "c", "d", "e"]

  asyncio.run(main())


def test_a_large_request_delays_a_small_one_by_one_batch():
  async def main():
    model, scheduler = Model(), Scheduler(1000)
    large = [f"large{number}" for number in range(100)]
    tasks = await start(scheduler, model, ["first"], large, ["small"], ["other"])
    model.release.set()
    results = await asyncio.gather(*tasks)
    assert results[1] == [f"{item}!" for item in large]
    assert {"small", "other"} < set(model.batches[1])
    assert [len(batch) for batch in model.batches] == [1, ITEMS, ITEMS, ITEMS, 6]

  asyncio.run(main())


def test_two_large_requests_share_each_batch():
  async def main():
    model, scheduler = Model(), Scheduler(1000)
    tasks = await start(scheduler, model, ["first"], ["a"] * 50, ["b"] * 50)
    model.release.set()
    await asyncio.gather(*tasks)
    assert model.batches[1].count("a") == model.batches[1].count("b") == ITEMS // 2

  asyncio.run(main())


def test_batches_have_a_limit_of_tokens():
  async def main():
    model, scheduler = Model(weight=LONG), Scheduler(100)
    tasks = await start(scheduler, model, ["first"], list(range(6)))
    model.release.set()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in model.batches] == [1, TOKENS // LONG, 2]

  asyncio.run(main())


def test_long_items_have_a_lane_of_their_own():
  async def main():
    scheduler = Scheduler(100)
    long, short = Model(weight=LONG + 1), Model(holds_first=False)
    (task,) = await start(scheduler, long, ["paragraph"])
    assert await scheduler.run(short.operation, ["word"], 60) == ["word!"]
    assert not task.done()
    long.release.set()
    assert await task == ["paragraph!"]

  asyncio.run(main())


def test_two_models_take_turns():
  async def main():
    scheduler, first = Scheduler(1000), Model()
    order = []

    def run_of(name):
      def run(items):
        order.append(name)
        return items

      return Operation(name, run, lambda item: 1)

    operations = [run_of("a"), run_of("b")]
    (task,) = await start(scheduler, first, ["first"])
    tasks = [asyncio.ensure_future(scheduler.run(each, [0] * 64, 60)) for each in operations]
    await until(lambda: scheduler.waiting == 128)
    first.release.set()
    await asyncio.gather(task, *tasks)
    assert order == ["a", "b", "a", "b"]

  asyncio.run(main())


def test_a_request_that_fails_does_not_fail_others():
  async def main():
    model, scheduler = Model(), Scheduler(64)
    tasks = await start(scheduler, model, ["a"], ["b"], ["c", "bad"], ["d"])
    model.release.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [["a!"], ["b!"], ["d!"]]
    assert isinstance(results[2], ValueError)
    assert await scheduler.run(model.operation, ["e"], 60) == ["e!"]

  asyncio.run(main())


def test_a_full_queue_refuses_with_a_time_to_wait():
  async def main():
    model, scheduler = Model(), Scheduler(4)
    tasks = await start(scheduler, model, ["a"], ["b"] * 2, ["c"] * 2)
    with pytest.raises(Refused) as caught:
      await scheduler.run(model.operation, ["d"], 60)
    assert caught.value.status == 429
    assert int(caught.value.headers["Retry-After"]) >= 1
    model.release.set()
    await asyncio.gather(*tasks)
    assert await scheduler.run(model.operation, ["d"], 60) == ["d!"]

  asyncio.run(main())


def test_large_requests_leave_a_part_of_the_queue_to_small_ones():
  async def main():
    model, scheduler = Model(), Scheduler(200)
    tasks = await start(scheduler, model, ["a"], ["b"] * 90)
    with pytest.raises(Refused, match="waiting"):
      await scheduler.run(model.operation, ["c"] * 40, 60)
    tasks += await start(scheduler, model, ["d"] * 20)
    model.release.set()
    await asyncio.gather(*tasks)

  asyncio.run(main())


def test_too_many_items_are_refused_with_the_limit():
  with pytest.raises(Refused, match="the limit is 4") as caught:
    asyncio.run(Scheduler(8).run(Model().operation, ["a"] * 5, 60))
  assert caught.value.status == 413


def test_time_limits_before_and_after_the_start():
  async def main():
    model, scheduler = Model(), Scheduler(64)
    tasks = await start(scheduler, model, ["a"], ["b"], seconds=0.05)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [error.status for error in results] == [504, 503]
    assert "Retry-After" in results[1].headers
    assert scheduler.waiting == 0
    model.release.set()
    assert await scheduler.run(model.operation, ["c"], 60) == ["c!"]
    assert ["b"] not in model.batches

  asyncio.run(main())


def test_requests_of_clients_that_have_gone_do_not_run():
  async def main():
    model, scheduler = Model(), Scheduler(64)
    tasks = await start(scheduler, model, ["a"])
    gone = asyncio.ensure_future(scheduler.run(model.operation, ["b"], 60, lambda: True))
    await asyncio.sleep(0)
    tasks += await start(scheduler, model, ["c"])
    model.release.set()
    assert await asyncio.gather(*tasks) == [["a!"], ["c!"]]
    assert model.batches == [["a"], ["c"]]
    gone.cancel()

  asyncio.run(main())


def test_batches_are_reported():
  seen = []
  scheduler = Scheduler(8, lambda *arguments: seen.append(arguments))
  asyncio.run(scheduler.run(Model(holds_first=False).operation, ["a", "b"], 60))
  ((name, number, seconds),) = seen
  assert (name, number) == ("model", 2) and seconds >= 0


# ---- Turns --------------------------------------------------------------------------------------


def test_turns_come_in_the_order_of_asking():
  turns, order = scheduling.Turns(), []

  def work(name):
    with turns.turn():
      order.append(name)

  threads = [threading.Thread(target=work, args=(name,)) for name in range(5)]
  with turns.turn():
    for number, thread in enumerate(threads):
      thread.start()
      while len(turns._waiting) <= number:
        pass
    assert order == []
  for thread in threads:
    thread.join()
  assert order == list(range(5))
  with turns.turn():  # it is free again
    pass


def test_a_batch_that_nobody_waits_for_ends_between_two_runs():
  turns, is_over = scheduling.Turns(), []
  runs = 0
  with pytest.raises(scheduling._Cancelled), turns.until(lambda: bool(is_over)):
    for _ in range(3):
      with turns.turn():
        runs += 1
        is_over.append(True)
  assert runs == 1
  with turns.turn():
    pass


def test_an_exception_gives_the_turn_on():
  turns = scheduling.Turns()
  with pytest.raises(KeyError), turns.turn():
    raise KeyError
  with turns.turn():
    pass
