"""Worker processes of the service, each with models of its own, on one listening socket."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Optional

from absl import logging

from toolkit.serving.service import server
from toolkit.serving.service.server import STOP_SECONDS, Settings
from toolkit.support import files

_READY = b"ready"
_POLL_SECONDS = 0.2
_LONGEST_PAUSE = 30.0  # before a worker that could not load is started again
# Connections that a worker accepts at a time, so that those of a burst are divided.
_ACCEPTS = 1


def serve(
  settings: Settings, listener: socket.socket, number: int, on_ready: Callable[[], object]
) -> None:
  """Serves by one worker in this process, or by several processes, until SIGTERM or SIGINT.

  Each of several workers loads the models after its start. One that has died is replaced.

  Raises:
    files.InputError: the models cannot be loaded.
    KeyboardInterrupt: SIGINT has stopped it.
  """
  if number == 1:
    server.serve(settings, listener, on_ready=on_ready)
    return
  with _shared_directory() as directory:
    settings = settings._replace(metrics_directory=directory)
    _Supervisor(settings, listener, number, on_ready).run()


@contextlib.contextmanager
def _shared_directory() -> Iterator[str]:
  directory = tempfile.mkdtemp(prefix="bert_metrics_")
  try:
    yield directory
  finally:
    shutil.rmtree(directory, ignore_errors=True)


class _Worker:
  """A worker process, and the pipe by which it tells that it is ready."""

  def __init__(self, settings, listener, place, number):
    context = multiprocessing.get_context("spawn")
    self.place = place
    self.is_ready = False
    self.pipe, end = context.Pipe()
    arguments = (settings, listener, place, number, end)
    self.process = context.Process(target=_work, args=arguments, name=f"worker {place}")
    self.process.start()
    end.close()

  def read(self):
    """Takes what the worker tells; the pipe ends with the worker."""
    try:
      self.is_ready |= self.pipe.recv_bytes() == _READY
    except (EOFError, OSError):
      self.process.join()

  def end(self, deadline):
    """Waits for the end of a worker that was told to stop, and kills it at the deadline."""
    self.process.join(max(deadline - time.monotonic(), 0))
    if self.process.is_alive():
      logging.error("Worker %d did not stop in time, and was killed", self.place)
      self.process.kill()
      self.process.join()
    self.pipe.close()


class _Supervisor:
  """Starts workers, replaces those that die, and stops them."""

  def __init__(self, settings, listener, number, on_ready):
    self._settings = settings
    self._listener = listener
    self._number = number
    self._on_ready: Optional[Callable[[], object]] = on_ready
    self._signal = None
    self._workers: dict[int, _Worker] = {}
    self._pauses = [0.0] * number
    self._starts = [0.0] * number  # times of the next starts

  def run(self):
    for kind in (signal.SIGTERM, signal.SIGINT):
      signal.signal(kind, self._stop)
    try:
      while self._signal is None:
        self._start_missing()
        workers = list(self._workers.values())
        told = connection.wait([worker.pipe for worker in workers], _POLL_SECONDS)
        for worker in workers:
          if worker.pipe in told:
            self._listen(worker)
    finally:
      self._stop_all()
    if self._signal == signal.SIGINT:
      raise KeyboardInterrupt

  def _stop(self, number, frame):
    del frame
    self._signal = number

  def _start_missing(self):
    # The first one makes what all need, such as an export, and shows what is wrong.
    for place in range(1 if self._on_ready else self._number):
      if place not in self._workers and time.monotonic() >= self._starts[place]:
        self._workers[place] = _Worker(self._settings, self._listener, place, self._number)

  def _listen(self, worker):
    worker.read()
    if worker.is_ready:
      self._pauses[worker.place] = 0.0
      if self._on_ready:
        self._on_ready()
        self._on_ready = None
    if not worker.process.is_alive():
      self._replace(worker)

  def _replace(self, worker):
    """Removes a worker that has ended; another one is started in its place."""
    worker.pipe.close()
    del self._workers[worker.place]
    if self._signal is not None:
      return
    if self._on_ready:  # no worker has ever been ready
      raise files.InputError(
        f"worker {worker.place} has ended {_how(worker.process.exitcode)} while it was loading"
      )
    logging.warning(
      "Worker %d has ended %s, and is replaced", worker.place, _how(worker.process.exitcode)
    )
    pause = self._pauses[worker.place]
    self._starts[worker.place] = time.monotonic() + pause
    self._pauses[worker.place] = min(2 * pause or 1.0, _LONGEST_PAUSE)

  def _stop_all(self):
    self._listener.close()
    for worker in self._workers.values():
      worker.process.terminate()
    deadline = time.monotonic() + self._settings.limits.answer_seconds + 2 * STOP_SECONDS
    for worker in self._workers.values():
      worker.end(deadline)


def _how(status):
  return f"by signal {-status}" if status < 0 else f"with status {status}"


def _work(settings, listener, place, number, pipe):
  """Runs one worker: the main function of its process."""
  parent = os.getppid()
  _use_own_processors(place, number)
  threading.Thread(target=_stop_with_parent, args=(pipe,), daemon=True).start()
  try:
    server.serve(settings, listener, place, _ACCEPTS, lambda: pipe.send_bytes(_READY))
  except files.InputError as error:
    sys.exit(f"error: {error}")
  except KeyboardInterrupt:
    pass  # the parent got Ctrl-C as well
  if os.getppid() != parent:  # it was killed, and could not do this
    shutil.rmtree(settings.metrics_directory, ignore_errors=True)


def _use_own_processors(place, number):
  """Divides the processors among workers, as each would use all of them for every batch."""
  if not hasattr(os, "sched_setaffinity"):
    return
  processors = sorted(os.sched_getaffinity(0))
  own = processors[place % len(processors) :: number]
  os.sched_setaffinity(0, own)


def _stop_with_parent(pipe):
  """Stops this worker when its parent has been killed; it would serve for ever."""
  with contextlib.suppress(EOFError, OSError):
    pipe.recv_bytes()
  os.kill(os.getpid(), signal.SIGTERM)
