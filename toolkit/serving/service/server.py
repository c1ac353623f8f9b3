"""One worker of the service: it loads the models, and serves a listening socket until a signal."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from typing import NamedTuple, Optional

import uvicorn

from toolkit.serving import engines, loading, onnx_engine
from toolkit.serving.service import app, connections
from toolkit.serving.service.metrics import Metrics
from toolkit.serving.service.models import Models
from toolkit.serving.service.refusals import Limits
from toolkit.serving.service.scheduling import Scheduler
from toolkit.serving.service.security import Keys
from toolkit.serving.service.tasks import Model
from toolkit.support import files

BACKLOG = 1024  # connections that wait to be accepted
# After the time limit of a request, for all that was under way when the service was stopped.
STOP_SECONDS = 5
_SAVE_SECONDS = 1  # between two writings of a worker's metrics


class Settings(NamedTuple):
  """A service.

  Attributes:
    models: name and directory of each.
    engine: member of engines.ENGINES.
    limits: of a request.
    max_waiting: the largest number of items that wait.
    keys: of clients; empty if none is needed.
    hosts: beside those of loopback, the names that a Host header may have; None for any.
    bert_as_service_ports: for requests and for results, or None.
    metrics_directory: shared by all workers, or None for one alone.
  """

  models: tuple[tuple[str, str], ...]
  engine: str = engines.AUTO
  limits: Limits = Limits()
  max_waiting: int = 2048
  keys: tuple[str, ...] = ()
  hosts: Optional[tuple[str, ...]] = ()
  bert_as_service_ports: Optional[tuple[int, int]] = None
  metrics_directory: Optional[str] = None


def load_models(settings: Settings) -> list[Model]:
  """Loads all models, and runs each once.

  Raises:
    files.InputError: a directory cannot be used.
  """
  onnx_engine.share_processors()
  models = []
  for name, directory in settings.models:
    predictor = loading.load(directory, settings.engine)
    models.append(Model(name, predictor, settings.limits.characters))
    models[-1].warm_up()
  return models


def serve(
  settings: Settings,
  listener: socket.socket,
  worker: int = 0,
  accepts: int = BACKLOG,
  on_ready: Optional[Callable[[], object]] = None,
) -> None:
  """Loads the models, and serves until SIGTERM or SIGINT; then answers what is under way.

  Args:
    settings: of the service.
    listener: a bound socket, which several workers may share.
    worker: number of this one. The first one serves bert-as-service's protocol, too.
    accepts: number of connections to accept at a time; few of them leave some to other workers.
    on_ready: called when requests are answered.

  Raises:
    files.InputError: a model cannot be loaded.
    KeyboardInterrupt: SIGINT has stopped it.
  """
  metrics = Metrics(settings.metrics_directory, worker)

  def on_batch(name: str, number: int, seconds: float) -> None:
    metrics.observe("bert_batch_items", name, value=number)
    metrics.observe("bert_batch_seconds", name, value=seconds)

  scheduler = Scheduler(settings.max_waiting, on_batch)
  models = load_models(settings)
  for model in models:
    model.facts.predictor.take_turns(scheduler.turns.turn)
  shared = Models(models, scheduler, settings.limits, metrics)
  access = app.Access(Keys(settings.keys) if settings.keys else None, settings.hosts)
  config = uvicorn.Config(
    app.make(shared, access),
    http=connections.Connection,
    ws="none",
    lifespan="off",
    loop="asyncio",
    log_config=None,
    access_log=False,
    server_header=False,
    proxy_headers=False,
    backlog=accepts,
    timeout_keep_alive=connections.KEEP_ALIVE_SECONDS,
    timeout_graceful_shutdown=int(settings.limits.answer_seconds) + STOP_SECONDS,
  )
  # uvicorn raises the signal again when it has stopped; this one has done its work then.
  signal.signal(signal.SIGTERM, lambda *_: None)
  ports = settings.bert_as_service_ports if worker == 0 else None
  asyncio.run(_run(_Server(config, listener, on_ready), listener, shared, ports))
  scheduler.close()


async def _run(server, listener, models, ports):
  """Runs the HTTP server, with what runs beside it until it stops."""
  saving = asyncio.ensure_future(_save_metrics(models))
  async with contextlib.AsyncExitStack() as stack:
    if ports:
      from toolkit.serving.service import bert_as_service  # only here: ZeroMQ may be missing

      await stack.enter_async_context(bert_as_service.serve(models, *ports))
    await server.serve([listener])
  saving.cancel()
  models.metrics.save(0)


async def _save_metrics(models):
  while True:
    await asyncio.sleep(_SAVE_SECONDS)
    models.metrics.save(models.scheduler.waiting)


class _Server(uvicorn.Server):
  """uvicorn's server on a socket that other workers may have, too."""

  def __init__(self, config, listener, on_ready):
    super().__init__(config)
    self._listener = listener
    self._on_ready = on_ready

  async def startup(self, sockets=None):
    await super().startup(sockets)
    self._listener.listen(BACKLOG)  # asyncio has set it to the number of accepts at a time
    if self.started and self._on_ready:
      self._on_ready()

  async def shutdown(self, sockets=None):
    for _ in range(3):  # accepts what has connected before the signal
      await asyncio.sleep(0)
    await super().shutdown(sockets)


def bind(host: str, port: int) -> socket.socket:
  """Binds a listening socket.

  Raises:
    files.InputError: the host has no such address, or the port is in use or not allowed.
  """
  try:
    family, kind, protocol, _, address = socket.getaddrinfo(
      host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
  except (OSError, UnicodeError) as error:
    raise files.InputError(f"--host: {host} is no known host: {files.describe(error)}") from error
  listener = socket.socket(family, kind, protocol)
  try:
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(BACKLOG)
  except OSError as error:
    listener.close()
    raise files.InputError(
      f"--port={port} cannot be used on {host}: {files.describe(error)}; choose another"
    ) from error
  return listener
