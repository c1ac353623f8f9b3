"""The protocol of bert-as-service over ZeroMQ, for its client bert-serving-client 1.10.

A client pushes a request of four frames, and is subscribed to its own name for the results:

  request   name, b"SHOW_CONFIG" or JSON of texts, number of the request, number of texts
  result    name, JSON about the vectors, the vectors, number of the request

The protocol has no key and no form for errors. So it is served on loopback alone. In place of an
error, the type of the vectors is the message, which NumPy shows as it refuses that type.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import zmq
from zmq import asyncio as zmq_asyncio

from toolkit.serving.service import app, bodies
from toolkit.serving.service.models import Models
from toolkit.serving.service.refusals import Refused
from toolkit.support import files

CLIENT_VERSION = "1.10.0"
_HOST = "127.0.0.1"
_MOST_NAME_BYTES = 256
_MOST_UNREAD = 100  # results that wait for one client
_SUBSCRIPTION_SECONDS = 5  # in which a new client's subscription must arrive
_QUEUE_SECONDS = 0.1  # between two tries to enter a full queue
_UNKNOWN = "[UNK]"


def check_ports(port: int, port_out: int) -> None:
  """Checks that ports are free.

  Raises:
    files.InputError: one is in use.
  """
  with zmq.Context() as context:
    for number in (port, port_out):
      with context.socket(zmq.PULL) as probe:
        try:
          probe.bind(f"tcp://{_HOST}:{number}")
        except zmq.ZMQError as error:
          raise files.InputError(
            f"--bert_as_service_port: port {number} cannot be used: {error.strerror}"
          ) from error


@contextlib.asynccontextmanager
async def serve(models: Models, port: int, port_out: int) -> AsyncIterator[None]:
  """Serves the first encoder on two ports of loopback; at the end it answers what is under way."""
  with zmq_asyncio.Context() as context:
    requests, results = context.socket(zmq.PULL), context.socket(zmq.XPUB)
    requests.setsockopt(zmq.MAXMSGSIZE, models.limits.body_bytes)
    requests.setsockopt(zmq.RCVHWM, _MOST_UNREAD)
    results.setsockopt(zmq.SNDHWM, _MOST_UNREAD)
    results.setsockopt(zmq.LINGER, 1000)
    requests.bind(f"tcp://{_HOST}:{port}")
    results.bind(f"tcp://{_HOST}:{port_out}")
    served = _Served(models, requests, results)
    try:
      yield
    finally:
      await served.stop()
      requests.close(0)
      results.close()


class _Served:
  """The two sockets, and the requests under way."""

  def __init__(self, models, requests, results):
    self._models = models
    self._model = models.first_encoder()
    self._requests = requests
    self._results = results
    self._topics: set[bytes] = set()
    self._has_changed = asyncio.Event()
    self._answers: set[Any] = set()
    self._tasks = [asyncio.ensure_future(task()) for task in (self._receive, self._watch)]

  async def _watch(self):
    """Keeps the set of names that clients are subscribed to."""
    while True:
      message = await self._results.recv()
      change = self._topics.add if message[:1] == b"\1" else self._topics.discard
      change(message[1:])
      self._has_changed.set()

  async def _receive(self):
    while True:
      frames = await self._requests.recv_multipart()
      if len(frames) == 4 and len(frames[0]) <= _MOST_NAME_BYTES and frames[2].isdigit():
        answer = asyncio.ensure_future(self._answer(*frames[:3]))
        self._answers.add(answer)
        answer.add_done_callback(self._answers.discard)

  async def _answer(self, name, message, number):
    try:
      if message in (b"SHOW_CONFIG", b"SHOW_STATUS"):
        about, data = self._config(), b""
      else:
        found = await self._vectors(message)
        about, data = (
          {"dtype": str(found.dtype), "shape": found.shape, "tokens": ""},
          found.tobytes(),
        )
    except Refused as error:
      about, data = {"dtype": f"refused: {error.message}", "shape": [0]}, b""
    except Exception as error:
      app.log_failure(error)
      about, data = {"dtype": "the service has failed; see its log", "shape": [0]}, b""
    await self._wait_for_subscription(name)
    await self._results.send_multipart([name, json.dumps(about).encode(), data, number])

  def _config(self):
    return {
      "server_version": CLIENT_VERSION,
      "max_seq_len": self._model.max_seq_length,
      "show_tokens_to_client": False,
      "num_worker": 1,
    }

  async def _vectors(self, message):
    """Returns the vectors of a request's texts, float32 [number of texts, W]."""
    texts = bodies.parse_json(message)
    if not isinstance(texts, list) or not texts:
      raise Refused(400, "the texts must be a list with one text or more")
    items = [self._read(text, f"text {number}") for number, text in enumerate(texts)]
    deadline = asyncio.get_running_loop().time() + self._models.limits.answer_seconds
    while (found := await self._try(items, deadline)) is None:
      await asyncio.sleep(_QUEUE_SECONDS)
    return np.array([each.vector for each in found], np.float32)

  async def _try(self, items, deadline):
    """Returns the embeddings of items, or None for a full queue before the deadline.

    The client has no way to try again.
    """
    try:
      return await self._models.run(self._model.embeddings, items)
    except Refused as error:
      if error.status != 429 or asyncio.get_running_loop().time() > deadline:
        raise
    return None

  def _read(self, text, place):
    """Returns an item: a text; for a list of word pieces, their ids."""
    if not isinstance(text, list):
      return self._model.read_text(text, place)
    if not all(isinstance(piece, str) for piece in text):
      raise Refused(400, f"{place} must be a string, or a list of word pieces")
    vocab = self._model.predictor.tokenizer.vocab
    ids = [vocab.get(piece, vocab[_UNKNOWN]) for piece in text]
    return ids[: self._model.max_seq_length - 2]

  async def _wait_for_subscription(self, name):
    """Waits for the subscription of a new client, without which its result would be lost."""

    async def wait():
      while not any(name.startswith(topic) for topic in self._topics):
        self._has_changed.clear()
        await self._has_changed.wait()

    with contextlib.suppress(asyncio.TimeoutError):
      await asyncio.wait_for(wait(), _SUBSCRIPTION_SECONDS)

  async def stop(self):
    """Ends the receiving of requests, and answers those that have arrived."""
    self._tasks[0].cancel()
    if self._answers:
      await asyncio.wait(self._answers, timeout=self._models.limits.answer_seconds)
    self._tasks[1].cancel()
    await asyncio.gather(*self._tasks, return_exceptions=True)
