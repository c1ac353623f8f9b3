"""Bodies of requests: read with limits of size and time, and parsed strictly; and JSON answers."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from toolkit.serving.service.refusals import Limits, Refused

# curl -d, which TensorFlow Serving's users call, sends the second.
_TYPES = ("application/json", "application/x-www-form-urlencoded", "text/plain", "")
_LARGE_ANSWER = 32  # parts of an answer that are written without a pause for other requests


async def read_json(request: Request, limits: Limits) -> Any:
  """Reads the body of a request, a JSON value.

  Raises:
    Refused: its type, size or syntax is wrong, or it did not arrive in time.
  """
  _check_headers(request.headers, limits)
  try:
    body = await asyncio.wait_for(_read(request, limits), limits.body_seconds)
  except asyncio.TimeoutError:
    raise Refused(
      408,
      f"the body did not arrive within {limits.body_seconds:g} seconds",
      headers={"Connection": "close"},
    ) from None
  return parse_json(body)


def _check_headers(headers, limits):
  kind, _, parameters = headers.get("content-type", "").partition(";")
  if kind.strip().lower() not in _TYPES and not kind.strip().lower().endswith("+json"):
    raise Refused(415, "the Content-Type must be application/json")
  charset = parameters.lower().partition("charset=")[2].strip().strip('"')
  if charset not in ("", "utf-8", "utf8", "us-ascii"):
    raise Refused(415, "the charset must be utf-8")
  if headers.get("content-encoding", "identity").lower() != "identity":
    raise Refused(415, "a body with Content-Encoding is not read; send it uncompressed")
  length = headers.get("content-length", "0")
  if length.isdigit() and int(length) > limits.body_bytes:
    raise _too_large(limits)


def _too_large(limits):
  return Refused(
    413, f"the body is larger than the limit, {limits.body_bytes} bytes; divide the request"
  )


async def _read(request, limits):
  chunks, size = [], 0
  async for chunk in request.stream():
    size += len(chunk)
    if size > limits.body_bytes:
      raise _too_large(limits)
    chunks.append(chunk)
  return b"".join(chunks)


def parse_json(body: bytes) -> Any:
  """Parses a JSON value in UTF-8.

  Raises:
    Refused: it is none, or holds NaN, an infinite number, half of a surrogate pair, or too many
      levels. The message has no part of the body.
  """
  if not body.strip():
    raise Refused(400, "the body is empty; it must be JSON")
  try:
    value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
  except UnicodeDecodeError as error:
    raise Refused(400, f"the body is not UTF-8 at byte {error.start}") from None
  except json.JSONDecodeError as error:
    where = f"line {error.lineno}, column {error.colno}"
    raise Refused(400, f"the body is not JSON: {error.msg} at {where}") from None
  except RecursionError:
    raise Refused(400, "the JSON of the body has too many levels") from None
  except ValueError:  # int() has a limit of digits
    raise Refused(400, "the JSON of the body has a number with too many digits") from None
  if b"\\u" in body and not _is_unicode(value):
    raise Refused(400, "the JSON of the body has half of a surrogate pair, which is no character")
  return value


def _refuse_constant(name):
  raise Refused(400, f"the body is not JSON: it has {name}, which is no JSON number")


def _is_unicode(value):
  try:
    json.dumps(value, ensure_ascii=False).encode("utf-8")
  except (UnicodeEncodeError, RecursionError):
    return False
  return True


def encode_json(value: Any) -> bytes:
  """Encodes a value as compact JSON in UTF-8; ValueError for NaN and infinite numbers."""
  text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
  return text.encode("utf-8")


class JsonResponse(Response):
  """A JSON value; see encode_json."""

  media_type = "application/json"

  def render(self, content: Any) -> bytes:
    """Encodes the value; bytes are JSON already."""
    return content if isinstance(content, bytes) else encode_json(content)


async def encode_list(values: Sequence[Any]) -> bytes:
  """Encodes a list as encode_json does, with pauses in which other requests are served."""
  parts: list[bytes] = []
  for first in range(0, len(values), _LARGE_ANSWER):
    if first:
      await asyncio.sleep(0)
    parts.extend(encode_json(value) for value in values[first : first + _LARGE_ANSWER])
  return b"[" + b",".join(parts) + b"]"
