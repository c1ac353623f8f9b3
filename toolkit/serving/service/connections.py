"""HTTP connections with limits of time and number, and an end that loses no request.

uvicorn waits without limit for a request's headers, and for a client that does not read an answer.
"""

import asyncio
import json
from collections.abc import Iterable
from typing import Any, Optional

from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # from the first byte, or the connection, to the end of the headers
WRITE_SECONDS = 30.0  # without progress in reading an answer
# In which the rest of a refused request is read, so that the client reads why it was refused.
LINGER_SECONDS = 2.0
# After SIGTERM, for a request that a client is just sending over an open connection.
LAST_REQUEST_SECONDS = 0.5
KEEP_ALIVE_SECONDS = 65  # without a request; longer than the usual 60 seconds of a proxy
MOST_CONNECTIONS = 900  # of a worker; the usual limit of open files is 1024


class Connection(H11Protocol):
  """uvicorn's connection, closed when a client takes too long.

  The state of each request has two functions: is_gone, whether the client has closed the
  connection, and is_stopping, whether the service ends after the requests under way.
  """

  def __init__(self, *arguments: Any, **options: Any) -> None:
    """Makes the protocol of one connection; arguments as uvicorn gives them."""
    super().__init__(*arguments, **options)
    self._timer: Optional[asyncio.TimerHandle] = None
    self._is_stopping = False
    self._is_refused = False
    self.app_state = {
      **self.app_state,
      "is_gone": lambda: self.transport.is_closing(),
      "is_stopping": lambda: self._is_stopping,
    }

  def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
    """Begins to wait for a request. One connection too many ends one without a request."""
    super().connection_made(transport)
    self._start_timer(HEADER_SECONDS)
    if len(self.connections) <= MOST_CONNECTIONS:
      return
    others: Iterable[Any] = self.connections
    idle = next((each for each in others if each.cycle and each.is_idle()), None)
    if idle is not None:
      idle.transport.close()
    else:
      self._refuse("503 Service Unavailable", "there are too many connections", "Retry-After: 1")

  def data_received(self, data: bytes) -> None:
    """Takes bytes of a request."""
    if self._is_refused:
      return
    super().data_received(data)
    if not self.is_idle():
      self._stop_timer()
      if self._is_stopping:
        self.cycle.keep_alive = False
    elif self._timer is None and not self.transport.is_closing():
      self._start_timer(HEADER_SECONDS)  # for the rest of the headers, or of a refused body

  def connection_lost(self, exc: Optional[Exception]) -> None:
    """Ends the timers."""
    self._stop_timer()
    super().connection_lost(exc)

  def pause_writing(self) -> None:
    """Begins to wait for a client that does not read its answer."""
    super().pause_writing()
    self._start_timer(WRITE_SECONDS)

  def resume_writing(self) -> None:
    """Goes on with an answer."""
    self._stop_timer()
    super().resume_writing()

  def timeout_keep_alive_handler(self) -> None:
    """Closes a connection without requests."""
    super().timeout_keep_alive_handler()
    self._abort_later()

  def send_400_response(self, msg: str) -> None:
    """Answers what is no HTTP."""
    self._refuse("400 Bad Request", "this is no valid HTTP request, or its headers are too long")

  def shutdown(self) -> None:
    """Closes the connection after the request under way, or after one that is just arriving."""
    self._is_stopping = True
    if self.is_idle():
      self.loop.call_later(LAST_REQUEST_SECONDS, self._shut_down_idle)
    else:
      super().shutdown()

  def _shut_down_idle(self):
    if self.is_idle() and not self.transport.is_closing():
      self.transport.close()
      self._abort_later()

  def is_idle(self) -> bool:
    """Returns whether no request is under way."""
    return self.cycle is None or self.cycle.response_complete

  def _start_timer(self, seconds):
    self._stop_timer()
    self._timer = self.loop.call_later(seconds, self._is_late)

  def _stop_timer(self):
    if self._timer is not None:
      self._timer.cancel()
      self._timer = None

  def _is_late(self):
    self._timer = None
    if self.is_idle() and not self.flow.write_paused:
      self._refuse(
        "408 Request Timeout", f"the headers did not arrive within {HEADER_SECONDS:g} seconds"
      )
    else:
      self.transport.abort()

  def _refuse(self, status, message, header="Cache-Control: no-store"):
    """Answers with an error, outside of any request, and closes the connection soon."""
    if self.transport.is_closing() or self._is_refused:
      return
    self._is_refused = True
    self._stop_timer()
    body = json.dumps({"error": message})
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\n{header}\r\n"
    kind = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    self.transport.write(f"{head}{kind}{body}".encode("ascii"))
    self.transport.write_eof()
    self.flow.resume_reading()
    self.loop.call_later(LINGER_SECONDS, self.transport.abort)

  def _abort_later(self):
    """Frees the connection even if the client does not read what was sent."""
    self.loop.call_later(WRITE_SECONDS, self.transport.abort)
