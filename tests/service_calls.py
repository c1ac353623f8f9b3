"""A service of made-up models, called without a network."""

import asyncio
import json
import types
from typing import NamedTuple

import numpy as np

from toolkit.formats import model_heads
from toolkit.formats.model_heads import Head
from toolkit.serving.chooser import Choice
from toolkit.serving.classifier import Prediction
from toolkit.serving.feature_extractor import Embedding
from toolkit.serving.predictor import Facts
from toolkit.serving.service import app
from toolkit.serving.service.metrics import Metrics
from toolkit.serving.service.models import Models
from toolkit.serving.service.refusals import Limits
from toolkit.serving.service.scheduling import Scheduler
from toolkit.serving.service.tasks import Model
from toolkit.tasks.squad_answers import BestAnswer

CONFIG = types.SimpleNamespace(
  vocab_size=100, type_vocab_size=2, max_position_embeddings=16, hidden_size=2
)
LENGTH = 8  # max_seq_length


class _Runner:
  """Stands for predictor.Predictor."""

  def __init__(self, outputs):
    self._outputs = outputs

  def run(self, rows):
    longest = max(len(row[0]) for row in rows)
    return [self._outputs(row, longest) for row in rows]


def _padded(values, length):
  return np.pad(np.array(values, np.float32), [(0, length - len(values))])


class _Fake:
  """A predictor whose answers are made of the texts."""

  engine = "onnxruntime"

  def __init__(self, head, outputs, labels=None):
    self.facts = Facts(_Runner(outputs), head, CONFIG, LENGTH, labels)


class Classifier(_Fake):
  """Finds "good" where the text has it; BAD fails."""

  def __init__(self, activation="softmax"):
    head = Head(model_heads.CLASSIFIER, 2, activation)
    super().__init__(
      head, lambda row, _: {"logits": np.array([sum(row[0]), 1.5], np.float32)}, ["bad", "good"]
    )
    self.batches = []

  def classify(self, texts):
    self.batches.append(list(texts))
    if any("BAD" in text for text in texts):
      raise ValueError(f"cannot classify {texts}")
    found = [" ".join([text] if isinstance(text, str) else text) for text in texts]
    return [self._prediction(text) for text in found]

  def _prediction(self, text):
    share = 0.75 if "good" in text else 0.25
    shares = {"bad": 1 - share, "good": share}
    value = {"softmax": "good" if share > 0.5 else "bad", "sigmoid": ("good",), None: 2.5}
    found = value[self.facts.head.activation]
    prediction = Prediction(found, {} if found == 2.5 else shares)
    prediction.truncated = len(text.split()) > LENGTH - 2
    return prediction


class Answerer(_Fake):
  """Answers with the first word."""

  def __init__(self):
    super().__init__(
      Head(model_heads.SPAN),
      lambda row, longest: {
        "start_logits": _padded(row[0], longest),
        "end_logits": _padded(row[1], longest),
      },
    )

  def ask_all(self, pairs):
    return [self._answer(context.split()[0]) for _, context in pairs]

  def _answer(self, word):
    if word == "none":
      return BestAnswer("", 0.5, None, None, 2.0)
    answer = BestAnswer(word, 0.75, 0, len(word), None)
    answer.num_windows = 3
    return answer


class Tagger(_Fake):
  """Tags each word as a place."""

  def __init__(self):
    super().__init__(
      Head(model_heads.TAGS, 2),
      lambda row, longest: {"logits": np.ones([longest, 2], np.float32)},
      ["O", "B-LOC"],
    )

  def tag_windows(self, texts):
    return [
      (
        {
          "text": text,
          "words": text.split(),
          "tags": ["B-LOC"] * len(text.split()),
          "entities": [],
        },
        1,
      )
      for text in texts
    ]


class Chooser(_Fake):
  """Chooses the longest choice."""

  def __init__(self):
    super().__init__(Head(model_heads.CHOICE), lambda row, _: {"scores": np.float32(len(row[0]))})

  def choose_all(self, questions):
    found = [
      [Choice(text, len(text) / sum(map(len, choices))) for text in choices]
      for choices, _, _ in questions
    ]
    return [sorted(each, key=lambda choice: -choice.probability) for each in found]


class Filler(_Fake):
  """Fills in "dog"."""

  def __init__(self):
    super().__init__(
      Head(model_heads.MASKED_LM),
      lambda row, _: {
        "masked_lm_logits": np.ones([4, CONFIG.vocab_size], np.float32) * len(row[2])
      },
    )

  def fill_all(self, texts):
    return [[[("dog", 0.5)]] * text.count("[MASK]") for text in texts]


class Encoder(_Fake):
  """Gives the number of words and of characters."""

  pooling = "mean"
  tokenizer = types.SimpleNamespace(vocab={"[UNK]": 1, "the": 5, "dog": 6})

  def __init__(self):
    super().__init__(
      Head(model_heads.ENCODER),
      lambda row, longest: {
        "sequence_output": np.ones([longest, 2], np.float32),
        "pooled_output": np.ones([2], np.float32),
      },
    )

  def embed(self, texts):
    return [
      Embedding(
        np.array([len(text.split()), len(text)], np.float32),
        min(len(text.split()) + 2, LENGTH),
        len(text.split()) > LENGTH - 2,
      )
      for text in texts
    ]

  def embed_ids(self, texts):
    return [
      Embedding(np.array([len(ids), sum(ids)], np.float32), len(ids) + 2, False) for ids in texts
    ]


def all_predictors():
  """Dict of name -> predictor, one of each task."""
  return {
    "reviews": Classifier(),
    "squad": Answerer(),
    "ner": Tagger(),
    "choice": Chooser(),
    "masks": Filler(),
    "encoder": Encoder(),
  }


class Answer(NamedTuple):
  """An answer of the service; names of headers are in lower case."""

  status: int
  headers: dict
  body: bytes

  @property
  def json(self):
    return json.loads(self.body)


class Service:
  """The application over predictors.

  Attributes:
    models: the application's.
  """

  def __init__(self, predictors=None, access=None, limits=None, max_waiting=64):
    limits = limits or Limits(body_bytes=4096, body_seconds=0.5, answer_seconds=30, characters=1000)
    found = predictors or all_predictors()
    models = [Model(name, each, limits.characters) for name, each in found.items()]
    self.models = Models(models, Scheduler(max_waiting), limits, Metrics())
    self.app = app.make(self.models, access or app.Access())

  def __call__(self, method, path, body=b"", headers=None, **options):
    """Sends a request; see `send`."""
    return asyncio.run(self.send(method, path, body, headers, **options))

  async def send(self, method, path, body=b"", headers=None, chunks=None, state=None):
    """Sends a request.

    Args:
      method, path: as in HTTP.
      body: bytes, or a value to send as JSON.
      headers: dict of more headers, or of others in place of the usual ones; None leaves one out.
      chunks: parts of the body, in place of it; None in it closes the connection, and the last
        part may be a number of seconds to wait.
      state: of the connection; see connections.Connection.
    """
    if not isinstance(body, bytes):
      body = json.dumps(body).encode()
    chunks = [body] if chunks is None else chunks
    usual = {"host": "localhost:8501", "content-type": "application/json"}
    if all(isinstance(chunk, bytes) for chunk in chunks):
      usual["content-length"] = str(sum(map(len, chunks)))
    names = {
      name: value for name, value in {**usual, **(headers or {})}.items() if value is not None
    }
    path, _, query = path.partition("?")
    scope = {
      "type": "http",
      "http_version": "1.1",
      "method": method,
      "path": path,
      "raw_path": path.encode(),
      "query_string": query.encode(),
      "root_path": "",
      "headers": [(name.encode(), value.encode("latin-1")) for name, value in names.items()],
      "state": state or {},
    }
    waiting, sent = list(chunks), []

    async def receive():
      if waiting and isinstance(waiting[0], (int, float)):
        await asyncio.sleep(waiting.pop(0))
      if not waiting or waiting[0] is None:
        return {"type": "http.disconnect"}
      return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message):
      sent.append(message)

    await self.app(scope, receive, send)
    start = sent[0] if sent else {"status": None, "headers": []}
    found = {name.decode().lower(): value.decode() for name, value in start["headers"]}
    return Answer(start["status"], found, b"".join(each["body"] for each in sent[1:]))

  def predict(self, name, *instances):
    """Returns the predictions of a model."""
    answer = self("POST", f"/v1/models/{name}:predict", {"instances": list(instances)})
    assert answer.status == 200, answer.body
    return answer.json["predictions"]
