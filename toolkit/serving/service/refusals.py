"""Refused requests: one exception, and the error forms of the APIs."""

from typing import Any, NamedTuple, Optional

# The APIs, by the forms of their errors.
TENSORFLOW_SERVING = "tensorflow_serving"
OPENAI = "openai"
TEXT_EMBEDDINGS = "text_embeddings_inference"
OTHER = "other"


class Refused(Exception):
  """A request that gets an error in place of an answer.

  Attributes:
    status: HTTP status.
    message: one line without texts of the request.
    code: short name of the problem for programs, such as "model_not_found", or None.
    headers: name -> value of more headers of the response.
  """

  def __init__(
    self,
    status: int,
    message: str,
    code: Optional[str] = None,
    retry_after: Optional[int] = None,
    headers: Optional[dict[str, str]] = None,
  ) -> None:
    """Makes the exception; retry_after is in seconds, None if a later try is not better."""
    super().__init__(message)
    self.status = status
    self.message = message
    self.code = code
    self.headers = dict(headers or {})
    if retry_after is not None:
      self.headers["Retry-After"] = str(retry_after)


class Limits(NamedTuple):
  """The limits of one request.

  Attributes:
    body_bytes: the largest body.
    body_seconds: time in which the whole body must arrive.
    answer_seconds: time from the whole body to the answer.
    characters: the longest text.
  """

  body_bytes: int = 2**20
  body_seconds: float = 30.0
  answer_seconds: float = 60.0
  characters: int = 100_000


def api_of(path: str) -> str:
  """Returns the API that a path belongs to, one of the constants above."""
  if path in ("/v1/embeddings", "/v1/models"):
    return OPENAI
  if path.startswith("/v1/"):
    return TENSORFLOW_SERVING
  if path in ("/embed", "/info", "/health"):
    return TEXT_EMBEDDINGS
  return OTHER


def error_body(api: str, error: Refused) -> dict[str, Any]:
  """Returns the JSON object of an error in the form of an API."""
  if api == OPENAI:
    return {"error": {**_openai_type(error), "message": error.message, "param": None}}
  if api == TEXT_EMBEDDINGS:
    return {"error": error.message, "error_type": _text_embeddings_type(error.status)}
  return {"error": error.message}


def _openai_type(error):
  if error.status == 429:
    return {"type": "rate_limit_error", "code": error.code or "rate_limit_exceeded"}
  kind = "invalid_request_error" if error.status < 500 else "server_error"
  return {"type": kind, "code": error.code}


def _text_embeddings_type(status):
  if status == 429:
    return "Overloaded"
  if status == 503:
    return "Unhealthy"
  return "Validation" if status < 500 else "Backend"
