"""serve.py in a process of its own."""

import contextlib
import http.client
import json
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _take_interrupts():
  """Undoes that a shell has started the tests in the background, where SIGINT is ignored."""
  signal.signal(signal.SIGINT, signal.SIG_DFL)


class Program:
  """serve.py in a process of its own, ready to answer; its lines of standard error by `end`."""

  def __init__(self, models, *flags):
    command = [sys.executable, str(ROOT / "serve.py"), "--port=0"]
    command += [f"--model={name}={path}" for name, path in models.items()]
    self.process = subprocess.Popen(
      [*command, *flags],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      cwd="/",
      preexec_fn=_take_interrupts,
    )
    self.lines = []
    self._is_ready = threading.Event()
    self._reader = threading.Thread(target=self._read)
    self._reader.start()
    assert self._is_ready.wait(300)
    found = re.search(r" at http://127\.0\.0\.1:(\d+)/", "".join(self.lines))
    assert found, self.lines
    self.port = int(found[1])

  def _read(self):
    for line in self.process.stderr:
      self.lines.append(line)
      if line.startswith("Serving "):
        self._is_ready.set()
    self._is_ready.set()

  def connect(self):
    return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

  def call(self, method, path, body=None, headers=None, connection=None):
    """Returns the status and the JSON of an answer."""
    connection = connection or self.connect()
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, headers or {})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())

  def end(self, kind=signal.SIGTERM):
    """Sends a signal; returns the exit status."""
    self.process.send_signal(kind)
    return self.wait()

  def wait(self):
    status = self.process.wait(120)
    self._reader.join(60)
    return status

  def children(self):
    """Lists the ids of the worker processes."""
    path = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
    found = [int(pid) for pid in path.read_text().split()]
    return [pid for pid in found if b"resource_tracker" not in command_of(pid)]

  def close(self):
    if self.process.poll() is None:
      self.process.kill()
    self.wait()
    self.process.stdout.close()
    self.process.stderr.close()


def command_of(pid):
  with contextlib.suppress(OSError):
    return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
  return b""


@contextlib.contextmanager
def running(models, *flags):
  with contextlib.closing(Program(models, *flags)) as program:
    yield program


def until(condition, seconds=120):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)
