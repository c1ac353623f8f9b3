"""A service for the page alone: the models of each task, with answers that need no model."""

import http.server
import json
import pathlib
import re
import threading
import time
import urllib.parse
from typing import Any, NamedTuple, Optional

from toolkit.serving.service import page

PAGE = pathlib.Path(__file__).resolve().parent.parent / "toolkit/serving/service/page.html"
# Where an answer of the service below is not "" or the words behind "find ".
ANSWERS = {
  "Where was the ferry built?": "Gdansk",
  "Who steers the ferry on Sundays?": "Captain Marta Lund",
}
TYPES = {"Ada": "PER", "Tom": "PER", "Bank": "ORG", "Lisbon": "LOC", "New": "LOC", "Oslo": "LOC"}
ENTITY = re.compile("Ada Brandt|Tom|Harbour Bank|Lisbon|New Zealand|Oslo|<b>[^ ]*")
TOPICS = ["food", "service", "price", "room", "noise", "location"]


def model(name: str, task: str, **more: Any) -> dict[str, Any]:
  """Returns an entry of GET /v1/models."""
  known = {"object": "model", "created": 0, "owned_by": "local", "labels": None}
  return {"id": name, "task": task, "max_seq_length": 128, "engine": "fake", **known, **more}


MODELS = [
  model("reviews", "classifier", kind="one_label", labels=["positive", "negative"]),
  model("topics", "classifier", kind="labels", labels=TOPICS),
  model("stars", "classifier", kind="number"),
  model("questions", "span"),
  model("names", "tags", labels=["O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"]),
  model("words", "tags", labels=["ADJ", "NOUN", "VERB"]),
  model("stories", "choice"),
  model("masks", "masked_lm"),
  model("vectors", "encoder"),
]


class Reply(NamedTuple):
  """What the service answers once in place of its own answer; `delay` is in seconds."""

  status: int = 200
  body: Any = ""
  headers: dict[str, str] = {}  # noqa: RUF012, never changed
  delay: float = 0


class Request(NamedTuple):
  """A request that came in; `body` is None for a GET."""

  path: str
  headers: dict[str, str]
  body: Any


def answer(name: str, instance: Any) -> Any:
  """Returns the prediction of a model for an instance, as the service forms it."""
  return {
    "reviews": _class,
    "topics": _topics,
    "stars": lambda instance: {"value": 3.14159, "truncated": False},
    "questions": _span,
    "names": _entities,
    "words": _words,
    "stories": _choice,
    "masks": _masks,
    "vectors": _vector,
  }[name](instance)


def _class(instance):
  text = instance if isinstance(instance, str) else instance["text"]
  shares = {"positive": 0.2704, "negative": 0.7296}
  return {"label": "negative", "probabilities": shares, "truncated": len(text) > 600}


def _topics(instance):
  shares = dict(zip(TOPICS, (0.94, 0.71, 0.0004, 0.62, 0.08, 0.0)))
  return {"labels": ["food", "service", "room"], "probabilities": shares, "truncated": False}


def _span(instance):
  question, context = instance["question"], instance["context"]
  wanted = ANSWERS.get(question, question[5:] if question.startswith("find ") else "")
  start = context.find(wanted) if wanted else -1
  found = start >= 0
  return {
    "answer": wanted if found else "",
    "probability": 0.9312 if found else 0.81,
    "start_char": start if found else None,
    "end_char": start + len(wanted) if found else None,
    "null_odds": -3.0 if found else 2.0,
    "windows": 1 + len(context) // 1000,
  }


def _entities(text):
  entities = [
    {
      "text": found.group(),
      "type": TYPES.get(found.group().split()[0], "<i>x</i>"),
      "start_char": found.start(),
      "end_char": found.end(),
    }
    for found in ENTITY.finditer(text)
  ]
  words = text.split()
  return {
    "text": text,
    "words": words,
    "tags": ["O"] * len(words),
    "entities": entities,
    "windows": 1 + len(text) // 1000,
  }


def _words(text):
  words = re.findall(r"\w+|[^\w\s]", text)
  tags = [("NOUN", "VERB", "ADJ")[len(word) % 3] if word.isalnum() else "." for word in words]
  return {"text": text, "words": words, "tags": tags, "windows": 1}


def _choice(instance):
  total = sum(range(1, len(instance["choices"]) + 1))
  shares = [(place + 1) / total for place in range(len(instance["choices"]))]
  return {"choice": instance["choices"][-1], "probabilities": shares, "truncated": False}


def _masks(text):
  words = [("lamp", 0.41), ("book", 0.22), ("##s", 0.05), ("<b>", 0.011), ("cup", 0.0004)]
  one = [{"token": token, "probability": share} for token, share in words]
  return {"masks": [one] * text.count("[MASK]")}


def _vector(text):
  counts = [1.0 + text.lower().count(letter) for letter in "aeioutrnsm"]
  return counts


class Service:
  """A server on a free port. It is a context manager.

  Attributes:
    url: of the page.
    models: what GET /v1/models lists.
    key: if not "", each request for models needs it.
    replies: path -> replies that are given once each, before the service's own.
    requests: those that came in since it was emptied.
  """

  def __init__(self) -> None:
    """Starts the server."""
    self.models = list(MODELS)
    self.key = ""
    self.replies: dict[str, list[Reply]] = {}
    self.requests: list[Request] = []
    self._server: Optional[http.server.ThreadingHTTPServer] = None
    self._port = 0
    self.start()
    self.url = f"http://127.0.0.1:{self._port}/"

  def start(self) -> None:
    """Starts the server, again on the port that it had."""
    service = self

    class Handler(_Handler):
      owner = service

    self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
    self._port = self._server.server_address[1]
    threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

  def stop(self) -> None:
    """Stops the server: it cannot be reached."""
    if self._server:
      self._server.shutdown()
      self._server.server_close()
    self._server = None

  def __enter__(self) -> "Service":
    return self

  def __exit__(self, *_: object) -> None:
    self.stop()

  def reply_to(self, request: Request) -> Reply:
    """Returns the reply to a request."""
    waiting = self.replies.get(request.path, [])
    if waiting:
      return waiting.pop(0)
    if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
      return Reply(401, {"error": "the API key is missing or wrong"})
    if request.path == "/v1/models":
      return Reply(body={"object": "list", "data": self.models})
    name, verb = request.path.rsplit("/", 1)[-1].rsplit(":", 1)
    assert verb == "predict"
    return Reply(body={"predictions": [answer(name, one) for one in request.body["instances"]]})


class _Handler(http.server.BaseHTTPRequestHandler):
  owner: Service

  def log_message(self, *_):
    pass

  def do_GET(self):
    if self.path == "/":
      text = PAGE.read_text("utf-8")
      policy = page.policy(text)
      headers = {"Content-Security-Policy": policy, "Content-Type": "text/html; charset=utf-8"}
      self._send(Reply(200, text, headers))
    else:
      self._answer(None)

  def do_POST(self):
    self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

  def _answer(self, body):
    headers = {name.lower(): value for name, value in self.headers.items()}
    request = Request(urllib.parse.unquote(self.path), headers, body)
    self.owner.requests.append(request)
    self._send(self.owner.reply_to(request))

  def _send(self, reply):
    time.sleep(reply.delay)
    text = reply.body if isinstance(reply.body, str) else json.dumps(reply.body)
    try:
      self.send_response(reply.status)
      for name, value in {"Content-Type": "application/json", **reply.headers}.items():
        self.send_header(name, value)
      self.end_headers()
      self.wfile.write(text.encode())
    except OSError:
      pass  # cancelled in the browser
