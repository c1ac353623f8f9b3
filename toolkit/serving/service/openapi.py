"""The description of the service's HTTP API, for programs: OpenAPI 3.1."""

from typing import Any

from toolkit.formats import model_heads
from toolkit.serving.service.models import Models

_STRING = {"type": "string"}
_NUMBER = {"type": "number"}
_IDS = {"type": "array", "items": {"type": "integer", "minimum": 0}}
_PAIRS = {"type": "object", "additionalProperties": _NUMBER}


def describe(models: Models) -> dict[str, Any]:
  """Returns the description of a service with its models."""
  paths: dict[str, Any] = {
    "/healthz": {"get": _operation("The process runs.", "text/plain", _STRING)},
    "/readyz": {"get": _operation("The models are loaded.", "text/plain", _STRING)},
    "/metrics": {"get": _operation("Numbers for Prometheus.", "text/plain", _STRING)},
    "/v1/models": {"get": _operation("The models.")},
  }
  for model in models.all:
    path = f"/v1/models/{model.name}"
    paths[path] = {"get": _operation("State of the model.")}
    paths[f"{path}/metadata"] = {"get": _operation("Inputs and outputs of the model.")}
    instance, result = _SHAPES[model.task]
    paths[f"{path}:predict"] = {
      "post": {
        **_operation(f"Predictions of a model of the task {model.task}.", schema=_answers(result)),
        "requestBody": _body(_instances(instance)),
      }
    }
  if any(model.task == model_heads.ENCODER for model in models.all):
    vectors = _object(input=_texts(), model=_STRING, encoding_format={"enum": ["float", "base64"]})
    paths["/v1/embeddings"] = {
      "post": {**_operation("Vectors, as OpenAI's API."), "requestBody": _body(vectors)}
    }
    texts = _object(inputs=_texts(), normalize={"type": "boolean"}, truncate={"type": "boolean"})
    paths["/embed"] = {
      "post": {
        **_operation("Vectors, as text-embeddings-inference."),
        "requestBody": _body(texts),
      }
    }
    paths["/info"] = {"get": _operation("The model of /embed.")}
  keys = {"bearer": {"type": "http", "scheme": "bearer"}}
  return {
    "openapi": "3.1.0",
    "info": {"title": "BERT models", "version": "1"},
    "paths": paths,
    "components": {"securitySchemes": keys},
    "security": [{}, {"bearer": []}],
  }


def _operation(summary, kind="application/json", schema=None):
  content = {kind: {"schema": schema or {"type": "object"}}}
  return {
    "summary": summary,
    "responses": {
      "200": {"description": "The answer.", "content": content},
      "4XX": {"description": "An error of the request; `error` tells which."},
      "429": {"description": "Too many requests wait; Retry-After has seconds."},
    },
  }


def _body(schema):
  return {"required": True, "content": {"application/json": {"schema": schema}}}


def _object(**properties):
  return {"type": "object", "properties": properties}


def _list(items):
  return {"type": "array", "items": items}


def _texts():
  return {"oneOf": [_STRING, _list(_STRING), _IDS, _list(_IDS)]}


def _instances(instance):
  ids = {
    **_object(input_ids=_IDS, input_mask=_IDS, segment_ids=_IDS),
    "required": ["input_ids"],
  }
  return {
    "oneOf": [
      {**_object(instances=_list({"oneOf": [instance, ids]})), "required": ["instances"]},
      {
        **_object(inputs={"description": "The fields of the instances, each a list."}),
        "required": ["inputs"],
      },
    ]
  }


def _answers(result):
  return _object(predictions=_list(result))


_TEXT = {"oneOf": [_STRING, _object(text=_STRING)]}
_CUT = {"type": "boolean", "description": "The text was longer than the model's input."}
_WINDOWS = {"type": "integer", "description": "Windows that the text took."}
_CHAR = {"type": ["integer", "null"], "description": "Place in the text, in characters."}
_ENTITY = _object(text=_STRING, type=_STRING, start_char=_CHAR, end_char=_CHAR)
# Instance and result of each task.
_SHAPES = {
  model_heads.CLASSIFIER: (
    {"oneOf": [_STRING, _object(text=_STRING, text_b=_STRING)]},
    _object(
      label=_STRING, labels=_list(_STRING), value=_NUMBER, probabilities=_PAIRS, truncated=_CUT
    ),
  ),
  model_heads.SPAN: (
    _object(question=_STRING, context=_STRING),
    _object(
      answer={**_STRING, "description": "Empty if the context has no answer."},
      probability=_NUMBER,
      start_char=_CHAR,
      end_char=_CHAR,
      null_odds={"type": ["number", "null"]},
      windows=_WINDOWS,
    ),
  ),
  model_heads.TAGS: (
    _TEXT,
    _object(words=_list(_STRING), tags=_list(_STRING), entities=_list(_ENTITY), windows=_WINDOWS),
  ),
  model_heads.CHOICE: (
    _object(choices=_list(_STRING), question=_STRING, context=_STRING),
    _object(choice=_STRING, probabilities=_list(_NUMBER), truncated=_CUT),
  ),
  model_heads.MASKED_LM: (
    _TEXT,
    _object(masks=_list(_list(_object(token=_STRING, probability=_NUMBER)))),
  ),
  model_heads.ENCODER: (_TEXT, _list(_NUMBER)),
}
