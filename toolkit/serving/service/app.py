"""The HTTP application: routes, checks of each request, error forms, and headers of each answer."""

import asyncio
import http
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Optional

from absl import logging
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from toolkit.serving.service import (
  bodies,
  embedding_apis,
  metrics,
  openapi,
  page,
  refusals,
  security,
  tensorflow_serving,
)
from toolkit.serving.service.models import Models
from toolkit.serving.service.refusals import Refused

# Of each answer. Answers are for one client, and no page of another origin may read them.
_HEADERS = {
  "Cache-Control": "no-store",
  "Cross-Origin-Resource-Policy": "same-origin",
  "X-Content-Type-Options": "nosniff",
}
_CLIENT_CLOSED = 499  # the usual status, in the metrics alone, of a request without a reader


class Access(NamedTuple):
  """Who may call a service.

  Attributes:
    keys: one of which each request must have; None if none is needed.
    hosts: beside those of loopback, the names that a Host header may have; None for any.
  """

  keys: Optional[security.Keys] = None
  hosts: Optional[tuple[str, ...]] = ()


def make(models: Models, access: Access) -> ASGIApp:
  """Makes the application."""
  router = Router(
    [
      page.route(),
      *_state_routes(models),
      *embedding_apis.routes(models),
      *tensorflow_serving.routes(models),
    ],
    redirect_slashes=False,
  )
  return _Application(router, access, models.metrics)


def _state_routes(models):
  """Returns the routes about the service itself."""

  async def health(request: Request) -> Response:
    del request
    return PlainTextResponse("ok\n")

  async def readiness(request: Request) -> Response:
    if _is_stopping(request.scope):
      raise Refused(503, "the service is stopping")
    return PlainTextResponse("ready\n")

  async def numbers(request: Request) -> Response:
    del request
    text = models.metrics.text(models.scheduler.waiting)
    return Response(text, media_type=metrics.CONTENT_TYPE)

  async def description(request: Request) -> Response:
    del request
    return bodies.JsonResponse(openapi.describe(models))

  return [
    Route("/healthz", health, methods=["GET"]),
    Route("/health", health, methods=["GET"]),
    Route("/readyz", readiness, methods=["GET"]),
    Route("/metrics", numbers, methods=["GET"]),
    Route("/openapi.json", description, methods=["GET"]),
  ]


def _is_stopping(scope):
  return scope.get("state", {}).get("is_stopping", lambda: False)()


class _Application:
  """Checks each request before its route, and answers exceptions in the form of its API."""

  def __init__(self, router, access, numbers):
    self._router = router
    self._keys = access.keys
    self._origins = security.OriginCheck(access.hosts)
    self._metrics = numbers

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      raise RuntimeError("only HTTP is served")
    started, answer = time.perf_counter(), _Answer(scope, send)
    scope["app"] = self  # makes the router raise HTTPException for an unknown path
    try:
      await self._route(scope, receive, answer)
    finally:
      api = refusals.api_of(scope["path"])
      self._metrics.count("bert_requests_total", api, str(answer.status or _CLIENT_CLOSED))
      self._metrics.observe("bert_request_seconds", api, value=time.perf_counter() - started)

  async def _route(self, scope, receive, answer):
    try:
      headers = Headers(scope=scope)
      self._origins.check(headers)
      if self._keys and scope["path"] not in security.OPEN_PATHS:
        self._keys.check(headers)
      await self._router(scope, receive, answer.send)
    except (ClientDisconnect, asyncio.CancelledError):
      if answer.status is None and _is_stopping(scope):
        await answer.refuse(Refused(503, "the service was stopped"))
    except Refused as error:
      await answer.refuse(error)
    except HTTPException as error:
      await answer.refuse(_of_router(error))
    except Exception as error:
      log_failure(error)
      await answer.refuse(Refused(500, "the service has failed at this request; see its log"))


class _Answer:
  """Sends the answer to one request, with the headers that each has."""

  def __init__(self, scope, send):
    self.status: Optional[int] = None
    self._scope = scope
    self._send = send

  async def send(self, message: Message) -> None:
    if message["type"] == "http.response.start":
      self.status = message["status"]
      headers = MutableHeaders(scope=message)
      for name, value in _HEADERS.items():
        headers[name] = value
      if _is_stopping(self._scope):
        headers["Connection"] = "close"
    await self._send(message)

  async def refuse(self, error: Refused) -> None:
    """Sends an error, unless an answer has begun."""
    if self.status is None:
      body = refusals.error_body(refusals.api_of(self._scope["path"]), error)
      response = bodies.JsonResponse(body, error.status, error.headers)
      await response(self._scope, _no_receive, self.send)


async def _no_receive() -> Message:
  return {"type": "http.disconnect"}


def _of_router(error):
  """Converts an exception of Starlette's router."""
  if error.status_code == 404:
    message = "there is nothing at this path; see /openapi.json"
  elif error.status_code == 405:
    allowed = (error.headers or {}).get("Allow", "another method")
    message = f"this path takes another method: {allowed}"
  else:
    message = http.HTTPStatus(error.status_code).phrase
  return Refused(error.status_code, message, headers=error.headers)


def log_failure(error: BaseException, log: Callable[..., object] = logging.error) -> None:
  """Logs the places of an exception, but not its message, which may have texts of a request."""
  while error is not None:
    frames: Any = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames))
    log("A request has failed: %s at %s", type(error).__name__, places)
    error = error.__cause__ or error.__context__  # type: ignore[assignment]
