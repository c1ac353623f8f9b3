"""Vectors of texts by the APIs of OpenAI and of text-embeddings-inference."""

import base64
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from toolkit.formats import model_heads
from toolkit.serving.service import bodies
from toolkit.serving.service.models import Models, is_gone
from toolkit.serving.service.refusals import Refused
from toolkit.serving.service.tasks import Model, kind_of


def routes(models: Models) -> list[Route]:
  """Returns the routes of /v1/models, /v1/embeddings, /embed and /info."""

  async def list_models(request: Request) -> Response:
    del request
    listed = [model.describe() for model in models.all]
    return bodies.JsonResponse({"object": "list", "data": listed})

  async def embeddings(request: Request) -> Response:
    body = _object(await bodies.read_json(request, models.limits))
    model = _wanted(models, body)
    as_base64 = _read_format(body)
    items = _read_input(model, body.get("input"))
    found = await models.run(model.embeddings, items, is_gone(request))
    data = await bodies.encode_list([_datum(*each, as_base64) for each in enumerate(found)])
    tokens = sum(each.num_tokens for each in found)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    rest = bodies.encode_json({"object": "list", "model": model.name, "usage": usage})
    return bodies.JsonResponse(rest[:-1] + b',"data":' + data + b"}")

  async def embed(request: Request) -> Response:
    body = _object(await bodies.read_json(request, models.limits))
    model = models.first_encoder()
    normalize, truncate = _read_flag(body, "normalize", True), _read_flag(body, "truncate", False)
    if body.get("dimensions") is not None:
      raise _no_dimensions()
    items = _read_input(model, body.get("inputs"), "inputs")
    found = await models.run(model.embeddings, items, is_gone(request))
    for number, each in enumerate(found):
      if each.truncated and not truncate:
        raise Refused(
          413,
          f"input {number} has more word pieces than the limit, {model.max_seq_length}; shorten "
          "it, or send truncate: true",
        )
    rows = [(_unit(each.vector) if normalize else each.vector).tolist() for each in found]
    return bodies.JsonResponse(await bodies.encode_list(rows))

  async def info(request: Request) -> Response:
    del request
    return bodies.JsonResponse(_info(models))

  return [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/embeddings", embeddings, methods=["POST"]),
    Route("/embed", embed, methods=["POST"]),
    Route("/info", info, methods=["GET"]),
  ]


def _object(body):
  if not isinstance(body, dict):
    raise Refused(400, f"the body must be an object, not {kind_of(body)}")
  return body


def _wanted(models, body):
  """Returns the model of a request's body, which must be an encoder."""
  name = body.get("model")
  if not isinstance(name, str):
    raise Refused(400, "model must be the name of a model")
  model = models.find(name)
  if model.task != model_heads.ENCODER:
    raise Refused(400, f"the model {name} gives no vectors of texts; its task is {model.task}")
  return model


def _read_format(body):
  """Returns whether vectors are wanted in base64."""
  if body.get("dimensions") is not None:
    raise _no_dimensions()
  found = body.get("encoding_format", "float")
  if found not in ("float", "base64"):
    raise Refused(400, "encoding_format must be float or base64")
  return found == "base64"


def _no_dimensions():
  return Refused(400, "the vectors of this model cannot be shortened; leave dimensions out")


def _read_flag(body, name, default):
  value = body.get(name)
  if value is None:
    return default
  if not isinstance(value, bool):
    raise Refused(400, f"{name} must be a boolean, not {kind_of(value)}")
  return value


def _read_input(model: Model, value: Any, field: str = "input") -> list[Any]:
  """Returns the texts and lists of ids of a request: one, or a list of them."""
  if isinstance(value, str) or (
    isinstance(value, list) and value and all(type(each) is int for each in value)
  ):
    return [_read_one(model, value, field)]
  if not isinstance(value, list) or not value:
    raise Refused(400, f"{field} must be a string, or a list of strings or of token ids")
  return [_read_one(model, each, f"{field} {number}") for number, each in enumerate(value)]


def _read_one(model, value, place):
  if isinstance(value, list):
    return model.read_token_ids(value, place, model.max_seq_length - 2)
  text = model.read_text(value, place)
  if not text.strip():
    raise Refused(400, f"{place} is empty")
  return text


def _datum(number, found, as_base64):
  """Returns the entry of a vector; the field `truncated` is there if its text was cut."""
  vector: Any = found.vector
  if as_base64:
    vector = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii")
  else:
    vector = vector.tolist()
  cut = {"truncated": True} if found.truncated else {}
  return {"object": "embedding", "index": number, "embedding": vector, **cut}


def _unit(vector):
  return vector / max(float(np.linalg.norm(vector)), 1e-12)


def _info(models):
  model = models.first_encoder()
  return {
    "model_id": model.name,
    "model_sha": None,
    "model_dtype": "float32",
    "model_type": {"embedding": {"pooling": model.predictor.pooling}},
    "max_input_length": model.max_seq_length,
    "max_client_batch_size": models.scheduler.max_items,
    "auto_truncate": False,
    "version": None,
  }
