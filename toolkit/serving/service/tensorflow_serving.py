"""The REST API of TensorFlow Serving: status, metadata and predictions of a model."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from toolkit.formats import model_heads
from toolkit.serving.service import bodies
from toolkit.serving.service.models import Models, is_gone, truncated_places
from toolkit.serving.service.refusals import Refused
from toolkit.serving.service.tasks import Model, kind_of

VERSION = "1"
# Signatures of ids, as export_model.py writes them, and of texts. Both are found by the instances.
_SIGNATURES = ("", "serving_default", "ids", "text")
_KNOWN = {"instances", "inputs", "signature_name"}


def routes(models: Models) -> list[Route]:
  """Returns the routes of /v1/models/NAME, with and without /versions/1."""

  async def status(request: Request) -> Response:
    model = _model(models, request)
    state = {"error_code": "OK", "error_message": ""}
    versions = [{"version": VERSION, "state": "AVAILABLE", "status": state}]
    return bodies.JsonResponse({"model_version_status": versions, **model.describe()})

  async def metadata(request: Request) -> Response:
    return bodies.JsonResponse(_metadata(_model(models, request)))

  async def predict(request: Request) -> Response:
    model = _model(models, request)
    body = await bodies.read_json(request, models.limits)
    instances, is_columnar = _instances(body)
    operation, items = model.read_instances(instances)
    results = await models.run(operation, items, is_gone(request))
    return bodies.JsonResponse(await _answer(results, is_columnar))

  async def other_verb(request: Request) -> Response:
    _model(models, request)
    raise Refused(404, "of the verbs, only :predict is served; send instances or inputs to it")

  found = []
  for prefix in ("/v1/models/{name}", "/v1/models/{name}/versions/{version}"):
    found += [
      Route(f"{prefix}/metadata", metadata, methods=["GET"]),
      Route(f"{prefix}:predict", predict, methods=["POST"]),
      Route(f"{prefix}:{{verb:str}}", other_verb, methods=["POST"]),
      Route(prefix, status, methods=["GET"]),
    ]
  return found


def _model(models, request):
  name = request.path_params["name"]
  if ":" in name:  # of a verb, with another method than its own
    raise Refused(405, "this path takes another method: POST", headers={"Allow": "POST"})
  model = models.find(name)
  if request.path_params.get("version", VERSION) != VERSION:
    raise Refused(404, f"the model has no such version; there is version {VERSION}")
  return model


def _instances(body):
  """Returns the instances of a request's body, and whether they were columns."""
  if not isinstance(body, dict):
    raise Refused(400, f"the body must be an object with instances or inputs, not {kind_of(body)}")
  if not set(body) <= _KNOWN:
    raise Refused(400, f"the body has an unknown field; its fields are {', '.join(sorted(_KNOWN))}")
  if body.get("signature_name", "") not in _SIGNATURES:
    raise Refused(400, "there is no signature of this name; leave signature_name out")
  if ("instances" in body) == ("inputs" in body):
    raise Refused(400, "the body must have either instances or inputs")
  if "instances" in body:
    return body["instances"], False
  return _rows(body["inputs"]), True


def _rows(inputs):
  """Returns the instances of columns; a list is one column."""
  if isinstance(inputs, list):
    return inputs
  if not isinstance(inputs, dict) or not inputs:
    raise Refused(400, f"inputs must be a list or an object of lists, not {kind_of(inputs)}")
  for column in inputs.values():
    if not isinstance(column, list):
      raise Refused(400, f"each of the inputs must be a list, not {kind_of(column)}")
  if len(set(map(len, inputs.values()))) > 1:
    raise Refused(400, "the inputs must be lists of one length")
  return [dict(zip(inputs, row)) for row in zip(*inputs.values())]


async def _answer(results: Sequence[Any], is_columnar: bool) -> bytes:
  """Encodes the results of instances; cut vectors, which cannot tell it, are listed beside them."""
  cut = b""
  if not isinstance(results[0], dict):
    places = truncated_places(results)
    cut = b',"truncated":' + bodies.encode_json(places) if places else b""
    results = [result.vector.tolist() for result in results]
  if not is_columnar or not isinstance(results[0], dict):
    key = b"outputs" if is_columnar else b"predictions"
    return b'{"' + key + b'":' + await bodies.encode_list(results) + cut + b"}"
  columns = []
  for name in results[0]:
    column = await bodies.encode_list([result.get(name) for result in results])
    columns.append(bodies.encode_json(name) + b":" + column)
  return b'{"outputs":{' + b",".join(columns) + b"}}"


# ---- Metadata -----------------------------------------------------------------------------------


def _tensor(name, kind, *sizes):
  dims = [{"size": str(size), "name": ""} for size in sizes]
  shape = {"dim": dims, "unknown_rank": False}
  return {"dtype": kind, "tensor_shape": shape, "name": f"{name}:0"}


_TEXTS = {
  model_heads.CLASSIFIER: ("text",),
  model_heads.SPAN: ("question", "context"),
  model_heads.TAGS: ("text",),
  model_heads.CHOICE: ("question", "context"),
  model_heads.MASKED_LM: ("text",),
  model_heads.ENCODER: ("text",),
}


def _output_shapes(model: Model) -> dict[str, Sequence[int]]:
  """Returns the names and shapes of a graph's outputs; -1 is any size."""
  config, labels = model.facts.config, len(model.facts.labels or [0])
  if model.task == model_heads.CLASSIFIER:
    shapes: dict[str, Sequence[int]] = {"logits": (-1, labels)}
    return {**shapes, "probabilities": (-1, labels)} if model.facts.labels else shapes
  others: dict[str, dict[str, Sequence[int]]] = {
    model_heads.SPAN: {"start_logits": (-1, -1), "end_logits": (-1, -1)},
    model_heads.TAGS: {"logits": (-1, -1, labels)},
    model_heads.CHOICE: {"scores": (-1,)},
    model_heads.MASKED_LM: {"masked_lm_logits": (-1, -1, config.vocab_size)},
    model_heads.ENCODER: {"sequence_output": (-1, -1, config.hidden_size)},
  }
  return others[model.task]


def _metadata(model):
  """Returns the signatures of a model; of its outputs, only those that each model of it has."""
  ids = {name: _tensor(name, "DT_INT32", -1, -1) for name in model.facts.head.inputs()}
  texts = {name: _tensor(name, "DT_STRING", -1) for name in _TEXTS[model.task]}
  if model.task == model_heads.CHOICE:
    texts["choices"] = _tensor("choices", "DT_STRING", -1, -1)
  outputs = {
    name: _tensor(name, "DT_FLOAT", *shape) for name, shape in _output_shapes(model).items()
  }
  method = "tensorflow/serving/predict"
  signatures = {
    "serving_default": {"inputs": ids, "outputs": outputs, "method_name": method},
    "text": {"inputs": texts, "outputs": {}, "method_name": method},
  }
  return {
    "model_spec": {"name": model.name, "signature_name": "", "version": VERSION},
    "metadata": {"signature_def": {"signature_def": signatures}},
  }
