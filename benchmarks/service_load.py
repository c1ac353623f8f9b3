"""Load on serve.py: many clients against few, each answer compared with the predictor's own.

  python benchmarks/service_load.py --model_dir=quickstart/bert

The model is a classifier or an encoder. The service runs in a process of its own; this process is
the clients, over connections that stay open. Each client sends one text of --tokens word pieces,
waits for the answer, and sends the next. The clients of --few and of --clients run in --turns;
printed are answers per second, the times of answers, and what was lost or wrong. The exit status is
1 if anything was.
"""

import argparse
import contextlib
import http.client
import json
import os
import random
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import time

import numpy as np
import turns

_START_SECONDS = 120
_LOST_SECONDS = 60  # after which an answer is lost
_NUM_TEXTS = 256
_NAME = "model"


def make_texts(vocab_file, tokens, seed=1):
  """Returns texts of whole words, each of `tokens` word pieces with [CLS] and [SEP]."""
  with open(vocab_file, encoding="utf-8") as f:
    words = [line.strip() for line in f]
  words = [word for word in words if word.isascii() and word.isalpha() and word.islower()]
  chosen = random.Random(seed)
  return [" ".join(chosen.choices(words, k=tokens - 2)) for _ in range(_NUM_TEXTS)]


def expected_answers(model_dir, engine, texts):
  """Returns the predictor's own answers, float32 [number of texts, W]: vectors or probabilities."""
  sys.path.insert(0, turns.ROOT)
  from toolkit.serving import loading

  predictor = loading.load(model_dir, engine)
  if hasattr(predictor, "classify"):
    found = [predictor.classify([text])[0] for text in texts]
    return np.array([list(each.probabilities.values()) for each in found], np.float32)
  return np.concatenate([predictor.encode([text]) for text in texts])


def read_answer(body):
  """Returns the numbers of an answer, float32 [W]."""
  (answer,) = json.loads(body)["predictions"]
  if isinstance(answer, dict):
    answer = list(answer["probabilities"].values())
  return np.array(answer, np.float32)


class Service:
  """serve.py in a process of its own."""

  def __init__(self, python, model_dir, flags):
    with socket.socket() as probe:
      probe.bind(("127.0.0.1", 0))
      self.port = probe.getsockname()[1]
    command = [python, os.path.join(turns.ROOT, "serve.py"), f"--model={_NAME}={model_dir}"]
    started = time.perf_counter()
    self._process = subprocess.Popen([*command, f"--port={self.port}", *flags])
    self._wait()
    self.start_seconds = time.perf_counter() - started

  def _wait(self):
    deadline = time.monotonic() + _START_SECONDS
    while self._process.poll() is None and time.monotonic() < deadline:
      with contextlib.suppress(OSError):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_SECONDS)
        connection.request("GET", "/readyz")
        if connection.getresponse().status == 200:
          return
      time.sleep(0.01)
    self.stop()
    sys.exit("the service did not start")

  def memory(self):
    """Returns the resident memory of the process in MiB; None where it is not known."""
    try:
      with open(f"/proc/{self._process.pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
      return None

  def stop(self):
    """Stops the service; returns its exit status."""
    self._process.send_signal(signal.SIGTERM)
    return self._process.wait()


class Client:
  """One client: a connection, and the request that it waits for."""

  def __init__(self, port):
    self.socket = socket.create_connection(("127.0.0.1", port))
    self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    self._received = b""
    self.number = self.sent = None

  def send(self, number, request):
    """Sends the request of a text."""
    self.number, self.sent, self._received = number, time.perf_counter(), b""
    self.socket.sendall(request)

  def receive(self):
    """Takes what has arrived; returns status and body once the answer is complete, or None."""
    self._received += self.socket.recv(2**18)
    head, end, body = self._received.partition(b"\r\n\r\n")
    if not end:
      return None
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return (int(head.split()[1]), body) if len(body) >= length else None


class Load:
  """The requests, and what has come of them."""

  def __init__(self, port, texts, expected, tolerance):
    self._port = port
    self._requests = [self._request(text) for text in texts]
    self._expected = expected
    self._tolerance = tolerance
    self._random = random.Random(2)
    self.failed, self.largest = [], 0.0

  def _request(self, text):
    body = json.dumps({"instances": [text]}).encode()
    head = f"POST /v1/models/{_NAME}:predict HTTP/1.1\r\nHost: localhost:{self._port}\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return f"{head}{kind}".encode() + body

  def run(self, number, seconds):
    """Runs a number of clients; returns answers per second, and the seconds of each answer."""
    with selectors.DefaultSelector() as selector:
      clients = [Client(self._port) for _ in range(number)]
      for client in clients:
        selector.register(client.socket, selectors.EVENT_READ, client)
        self._next(client)
      started = time.perf_counter()
      times, waiting, last = [], set(clients), started
      while waiting:
        is_over = time.perf_counter() > started + seconds
        ready = selector.select(_LOST_SECONDS)
        if not ready:
          self.failed += [f"lost: {len(waiting)} answers"]
          break
        for key, _ in ready:
          client = key.data
          answer = client.receive()
          if answer is None:
            continue
          last = time.perf_counter()
          times.append(last - client.sent)
          self._check(client.number, *answer)
          if is_over:
            waiting.discard(client)
            selector.unregister(client.socket)
          else:
            self._next(client)
      for client in clients:
        client.socket.close()
    return len(times) / (last - started), times

  def _next(self, client):
    number = self._random.randrange(len(self._requests))
    client.send(number, self._requests[number])

  def _check(self, number, status, body):
    if status != 200:
      self.failed.append(f"status {status}: {body[:100]!r}")
      return
    difference = float(np.abs(read_answer(body) - self._expected[number]).max())
    self.largest = max(self.largest, difference)
    if not difference <= self._tolerance:
      self.failed.append(f"text {number} differs by {difference:.2g}")


def percentile(times, share):
  """Returns a percentile of times in milliseconds."""
  return 1000 * float(np.quantile(times, share))


def main():
  """Prints the results; exits with status 1 if an answer was lost or wrong."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--model_dir", required=True)
  parser.add_argument("--engine", default="auto")
  parser.add_argument("--clients", type=int, default=32)
  parser.add_argument("--few", type=int, default=2)
  parser.add_argument("--seconds", type=float, default=60, help="of --clients, in all turns")
  parser.add_argument("--turns", type=int, default=3)
  parser.add_argument("--tokens", type=int, default=20)
  parser.add_argument("--workers", type=int, default=1)
  parser.add_argument("--python", default=sys.executable, help="Python that runs the service")
  parser.add_argument(
    "--tolerance",
    type=float,
    default=1e-4,
    help="largest difference of an answer; int8 rounds by the batch, and needs about 1",
  )
  args = parser.parse_args()
  texts = make_texts(os.path.join(args.model_dir, "vocab.txt"), args.tokens)
  expected = expected_answers(args.model_dir, args.engine, texts)
  flags = [f"--engine={args.engine}", f"--workers={args.workers}"]
  service = Service(args.python, args.model_dir, flags)
  load = Load(service.port, texts, expected, args.tolerance)
  load.run(args.few, 1)  # the first answers are slower
  sides = {
    number: lambda n=number: load.run(n, args.seconds / args.turns)
    for number in (args.few, args.clients)
  }
  results = turns.take(sides, args.turns)
  print(f"ready in {service.start_seconds:.2f} s; {service.memory() or 0:.0f} MiB")
  for number, found in results.items():
    times = [seconds for _, of_turn in found for seconds in of_turn]
    print(
      f"{number:3} clients: {turns.spread([speed for speed, _ in found])} answers per second; ms: "
      f"p50 {percentile(times, 0.5):.1f}, p99 {percentile(times, 0.99):.1f}, "
      f"longest {1000 * max(times):.1f}; {len(times)} answers"
    )
  ratios = [many / few for (few, _), (many, _) in zip(*results.values())]
  print(f"throughput, {args.clients} clients / {args.few}: {statistics.median(ratios):.2f}")
  print(f"largest difference {load.largest:.1e}; lost or wrong: {len(load.failed)}")
  status = service.stop()
  if load.failed or status:
    sys.exit(f"failed: {load.failed[:5]}; exit status of the service {status}")


if __name__ == "__main__":
  main()
