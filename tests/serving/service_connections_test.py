"""Connections of slow, broken and closing clients, over real sockets."""

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time

import pytest
import uvicorn
from service_calls import Classifier, Service

from toolkit.serving.service import connections, server

PREDICT = "/v1/models/reviews:predict"
BODY = b'{"instances": ["good"]}'
REQUEST = (
  b"POST /v1/models/reviews:predict HTTP/1.1\r\nHost: localhost\r\n"
  b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Running:
  """The application of made-up models on a port, in a thread."""

  def __init__(self, service):
    self.listener = server.bind("127.0.0.1", 0)
    self.port = self.listener.getsockname()[1]
    is_ready = threading.Event()
    config = uvicorn.Config(
      service.app,
      http=connections.Connection,
      ws="none",
      lifespan="off",
      log_config=None,
      timeout_graceful_shutdown=60,
    )
    self._server = server._Server(config, self.listener, is_ready.set)
    self._thread = threading.Thread(target=self._run)
    self._thread.start()
    assert is_ready.wait(60)

  def _run(self):
    asyncio.run(self._server.serve([self.listener]))

  @property
  def num_connections(self):
    return len(self._server.server_state.connections)

  def stop(self):
    """Stops as SIGTERM does; returns at once."""
    self._server.should_exit = True

  def join(self):
    self.stop()
    self._thread.join(60)
    assert not self._thread.is_alive()

  def connect(self):
    return socket.create_connection(("127.0.0.1", self.port), timeout=60)

  def is_well(self):
    """Returns whether another client is answered."""
    connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
    with contextlib.closing(connection):
      connection.request("POST", PREDICT, BODY)
      return connection.getresponse().status == 200


@pytest.fixture
def running(monkeypatch):
  monkeypatch.setattr(connections, "HEADER_SECONDS", 0.3)
  monkeypatch.setattr(connections, "WRITE_SECONDS", 0.3)
  monkeypatch.setattr(connections, "LINGER_SECONDS", 0.3)
  found = Running(Service({"reviews": Classifier()}))
  yield found
  assert found.is_well()
  found.join()


def read_all(client):
  """The bytes that arrive until the service closes the connection."""
  with contextlib.closing(client):
    return b"".join(iter(lambda: client.recv(65536), b""))


def read_one(client):
  """The bytes of one answer, of the usual size."""
  found = b""
  while not found.endswith(b"}"):
    found += client.recv(65536)
  return found


def status_and_json(answer):
  head, _, body = answer.partition(b"\r\n\r\n")
  assert b"application/json" in head.lower()
  return int(head.split()[1]), json.loads(body)


def test_several_requests_on_one_connection(running):
  client = running.connect()
  client.sendall(REQUEST * 2)  # the second before the first is answered
  client.sendall(REQUEST.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n"))
  answer = read_all(client)
  assert answer.count(b"HTTP/1.1 200") == answer.count(b'"label":"good"') == 3


def test_a_chunked_body(running):
  chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
  head = REQUEST.partition(b"Content-Length")[0]
  client = running.connect()
  client.sendall(head + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks)
  assert read_all(client).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
  "sent",
  [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
    b"hello\r\n\r\n",
    b"\0\0\0\0\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",  # without Host
    b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nbroken header\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000,
    REQUEST.replace(b"Content-Length: %d" % len(BODY), b"Content-Length: -1"),
    REQUEST.replace(b"Content-Length: %d" % len(BODY), b"Content-Length: many"),
    REQUEST.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n"),
    REQUEST.replace(b"Content-Length: %d" % len(BODY), b"Transfer-Encoding: gzip"),
  ],
)
def test_what_is_no_http(running, sent):
  client = running.connect()
  with contextlib.suppress(OSError):  # it may be closed before all is sent
    client.sendall(sent)
  status, error = status_and_json(read_all(client))
  assert status in (400, 501)
  assert error["error"]


def test_a_chunk_of_no_size(running):
  head = REQUEST.partition(b"Content-Length")[0]
  client = running.connect()
  client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
  assert status_and_json(read_all(client))[0] == 400


@pytest.mark.parametrize("sent", [b"", b"POST /v1", REQUEST[:60]])
def test_headers_that_do_not_arrive(running, sent):
  client = running.connect()
  client.sendall(sent)
  status, error = status_and_json(read_all(client))
  assert (status, "headers did not arrive within 0.3 seconds" in error["error"]) == (408, True)


def test_headers_that_arrive_byte_by_byte(running):
  client = running.connect()
  with contextlib.suppress(OSError):
    for byte in REQUEST:
      client.sendall(bytes([byte]))
      time.sleep(0.02)
  with contextlib.suppress(OSError):  # the rest was sent to a closed connection
    assert b"408" in client.recv(1000)
  client.close()


def test_headers_of_a_second_request_that_do_not_arrive(running):
  client = running.connect()
  client.sendall(REQUEST)
  assert read_one(client).startswith(b"HTTP/1.1 200")
  client.sendall(b"POST /v1")
  assert status_and_json(read_all(client))[0] == 408


def test_a_body_that_does_not_arrive(running):
  client = running.connect()
  client.sendall(REQUEST[:-1])
  assert status_and_json(read_all(client))[0] == 408


def test_a_client_that_leaves(running):
  for sent in (b"", REQUEST[:60], REQUEST[:-1], REQUEST):
    with running.connect() as client:
      client.sendall(sent)
  deadline = time.monotonic() + 60
  while running.num_connections and time.monotonic() < deadline:
    time.sleep(0.01)
  assert running.num_connections == 0


def test_a_large_body_is_refused_before_it_is_read(running):
  head = REQUEST.partition(b"Content-Length")[0]
  client = running.connect()
  client.sendall(head + b"Content-Length: 1000000000\r\n\r\n")
  assert client.recv(1000).startswith(b"HTTP/1.1 413")
  client.close()


def test_a_client_that_sends_a_large_body_all_the_same_reads_why_it_is_refused(running):
  connection = http.client.HTTPConnection("127.0.0.1", running.port, timeout=60)
  connection.request("POST", PREDICT, b" " * 3_000_000)
  answer = connection.getresponse()
  assert (answer.status, "4096 bytes" in answer.read().decode()) == (413, True)
  connection.request("POST", PREDICT, BODY)  # the connection can still be used
  assert connection.getresponse().status == 200
  connection.close()


def test_a_large_body_with_expect_is_never_sent(running):
  head = REQUEST.partition(b"Content-Length")[0]
  client = running.connect()
  client.sendall(head + b"Expect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
  assert client.recv(1000).startswith(b"HTTP/1.1 413")
  client.close()
  client = running.connect()
  client.sendall(REQUEST.partition(b"\r\n\r\n")[0] + b"\r\nExpect: 100-continue\r\n\r\n")
  assert client.recv(1000).startswith(b"HTTP/1.1 100")
  client.sendall(BODY)
  assert client.recv(1000).startswith(b"HTTP/1.1 200")
  client.close()


def test_a_client_that_does_not_read_its_answers(running):
  client = running.connect()
  client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
  client.settimeout(0.1)
  page = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
  with contextlib.suppress(OSError):
    for _ in range(3000):
      client.sendall(page)
  deadline = time.monotonic() + 60
  while running.num_connections and time.monotonic() < deadline:
    time.sleep(0.01)
  assert running.num_connections == 0
  client.close()


def test_too_many_connections(running, monkeypatch):
  monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
  first = [running.connect() for _ in range(2)]
  deadline = time.monotonic() + 60
  while running.num_connections < 2 and time.monotonic() < deadline:
    time.sleep(0.01)
  answer = read_all(running.connect())
  assert status_and_json(answer)[0] == 503
  assert b"Retry-After" in answer
  for client in first:
    client.close()


def test_one_connection_too_many_ends_one_without_a_request(running, monkeypatch):
  monkeypatch.setattr(connections, "MOST_CONNECTIONS", 1)
  first = running.connect()
  first.sendall(REQUEST)
  assert read_one(first).startswith(b"HTTP/1.1 200")
  second = running.connect()
  second.sendall(REQUEST)
  assert read_one(second).startswith(b"HTTP/1.1 200")
  assert read_all(first) == b""
  second.close()


def test_a_stop_answers_what_is_under_way():
  release, started = threading.Event(), threading.Event()

  class Slow(Classifier):
    def classify(self, texts):
      started.set()
      assert release.wait(60)
      return super().classify(texts)

  running = Running(Service({"reviews": Slow()}))
  clients = [running.connect() for _ in range(3)]
  idle = running.connect()
  clients[0].sendall(REQUEST)
  assert started.wait(60)
  clients[1].sendall(REQUEST)
  clients[2].sendall(REQUEST[:-5])  # arrives as the service stops
  running.stop()
  time.sleep(0.1)
  clients[2].sendall(REQUEST[-5:])
  with contextlib.suppress(OSError):
    running.connect().close()
  release.set()
  for client in clients:
    answer = read_all(client)
    assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer.lower()
  assert read_all(idle) == b""
  running.join()


def test_a_request_over_an_open_connection_is_answered_while_the_service_stops():
  running = Running(Service({"reviews": Classifier()}))
  client = running.connect()
  client.sendall(REQUEST)
  assert read_one(client).startswith(b"HTTP/1.1 200")
  running.stop()
  time.sleep(0.3)  # uvicorn looks each 0.1 seconds
  client.sendall(REQUEST)
  answer = read_all(client)
  assert answer.startswith(b"HTTP/1.1 200") and b"connection: close" in answer.lower()
  running.join()
