"""ONNX graphs of BERT with a head, made from the variables of a checkpoint.

A graph computes what modeling.BertModel and the heads of toolkit/tasks compute without dropout. It
has standard operators alone, in the forms that ONNX Runtime fuses into operators of its own. The
shapes beside the steps have the letters of modeling.py, and P positions and L labels.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from toolkit.formats import model_heads
from toolkit.formats.model_heads import POSITIONS, Head
from toolkit.support import files

OPSET = 17  # the first with LayerNormalization; later ones bring nothing that runs faster
IR_VERSION = 8  # the format of the file, of the time of OPSET
MASKED_SCORE = -10000.0  # as in modeling.py
LAYER_NORM_EPSILON = 1e-12  # as in modeling.py
MOST_BYTES = 2**31 - 2**20  # protobuf's limit, less some room for the nodes

Variable = tuple[str, tuple[int, ...]]  # name and shape

# ---- Variables ----------------------------------------------------------------------------------

_POOLER = "bert/pooler/dense"


def needed(config: Mapping[str, Any], head: Head) -> list[Variable]:
  """Lists the variables that `build` reads.

  Args:
    config: keys of bert_config.json.
    head: the head; of "encoder" the pooler is in `optional`.

  Returns:
    Pairs of name and shape, in the order of the graph.
  """
  width, inner = config["hidden_size"], config["intermediate_size"]
  table = "bert/embeddings/"
  found: list[Variable] = [
    (f"{table}word_embeddings", (config["vocab_size"], width)),
    (f"{table}token_type_embeddings", (config.get("type_vocab_size", 16), width)),
    (f"{table}position_embeddings", (config.get("max_position_embeddings", 512), width)),
    *_layer_norm(table, width),
  ]
  for layer in range(config["num_hidden_layers"]):
    scope = f"bert/encoder/layer_{layer}/"
    for name in ("query", "key", "value"):
      found += _dense(f"{scope}attention/self/{name}", width, width)
    found += _dense(f"{scope}attention/output/dense", width, width)
    found += _layer_norm(f"{scope}attention/output/", width)
    found += _dense(f"{scope}intermediate/dense", width, inner)
    found += _dense(f"{scope}output/dense", inner, width)
    found += _layer_norm(f"{scope}output/", width)
  return found + _needed_by_head(config, head)


def optional(config: Mapping[str, Any], head: Head) -> list[Variable]:
  """Lists the variables that `build` reads if they are there, all of them: an encoder's pooler."""
  return _dense(_POOLER, *[config["hidden_size"]] * 2) if head.name == model_heads.ENCODER else []


def _needed_by_head(config, head):
  width, labels = config["hidden_size"], head.num_labels
  pooler = _dense(_POOLER, width, width)
  transform = "cls/predictions/transform/"
  return {
    model_heads.CLASSIFIER: [
      *pooler,
      ("output_weights", (labels, width)),
      ("output_bias", (labels,)),
    ],
    model_heads.CHOICE: [*pooler, ("cls/multiple_choice/output_weights", (1, width))],
    model_heads.SPAN: [("cls/squad/output_weights", (2, width)), ("cls/squad/output_bias", (2,))],
    model_heads.TAGS: [
      ("cls/ner/output_weights", (labels, width)),
      ("cls/ner/output_bias", (labels,)),
    ],
    model_heads.MASKED_LM: [
      *_dense(f"{transform}dense", width, width),
      *_layer_norm(transform, width),
      ("cls/predictions/output_bias", (config["vocab_size"],)),
    ],
    model_heads.ENCODER: [],
  }[head.name]


def _dense(scope, inputs, outputs):
  return [(f"{scope}/kernel", (inputs, outputs)), (f"{scope}/bias", (outputs,))]


def _layer_norm(scope, width):
  return [(f"{scope}LayerNorm/gamma", (width,)), (f"{scope}LayerNorm/beta", (width,))]


# ---- The graph ----------------------------------------------------------------------------------


def build(
  weights: Mapping[str, np.ndarray], config: Mapping[str, Any], head: Head
) -> onnx.ModelProto:
  """Builds the graph of a model; equal weights give equal bytes.

  Args:
    weights: the variables of `needed`, and those of `optional` that there are, by name. Halves
      (float16, bfloat16) become float32.
    config: keys of bert_config.json.
    head: see Head for inputs and outputs. B, S and P are free; an S above
      max_position_embeddings fails when the graph runs.

  Raises:
    files.InputError: a variable is missing or of another shape, the activation is unknown, or the
      model is too large for a file of ONNX.
  """
  graph = _Graph(_checked(weights, config, head))
  _Model(graph, config).add(head)
  axes = {name: ["batch", "length"] for name in head.inputs()}
  if POSITIONS in axes:
    axes[POSITIONS] = ["batch", "positions"]
  model = helper.make_model(
    helper.make_graph(
      graph.nodes,
      "bert",
      [helper.make_tensor_value_info(name, onnx.TensorProto.INT32, axes[name]) for name in axes],
      graph.outputs,
      list(graph.constants.values()),
    ),
    opset_imports=[helper.make_opsetid("", OPSET)],
    ir_version=IR_VERSION,
    producer_name="bert",
  )
  onnx.checker.check_model(model, full_check=True)
  return model


def _checked(weights, config, head):
  """Returns the variables that the graph reads, float32, by name; see build."""
  extra = optional(config, head)
  found = needed(config, head) + (extra if all(name in weights for name, _ in extra) else [])
  for name, shape in found:
    actual = tuple(weights[name].shape) if name in weights else "not there"
    if actual != shape:
      raise files.InputError(f"the model's {name} is {actual}, and should be {shape}")
  size = sum(4 * math.prod(shape) for _, shape in found)
  if size > MOST_BYTES:
    raise files.InputError(
      f"the model has {size / 2**30:.1f} GiB of weights, and a file of ONNX holds less than 2"
    )
  return {name: np.asarray(weights[name]).astype(np.float32) for name, _ in found}


class _Graph:
  """The parts of a graph.

  Attributes:
    nodes: in the order of computation.
    constants: tensors by name.
    outputs: descriptions of the outputs.
  """

  def __init__(self, variables):
    self.variables = variables
    self.nodes, self.constants, self.outputs = [], {}, []

  def constant(self, name, value, dtype=np.float32):
    """Adds a constant; returns its name."""
    if name not in self.constants:
      array = np.ascontiguousarray(value, dtype) if np.ndim(value) else np.array(value, dtype)
      self.constants[name] = numpy_helper.from_array(array, name)
    return name

  def variable(self, name):
    return self.constant(name, self.variables[name])

  def add(self, operator, name, *inputs, **attributes):
    """Adds a node with one output, both of one name; returns that."""
    self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
    return name

  def output(self, name, *axes):
    """Makes the node `name` an output, float32 of these axes."""
    info = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, axes)
    self.outputs.append(info)


class _Model:
  """The parts of BERT; methods add nodes to a graph, and take and return names of tensors."""

  def __init__(self, graph, config):
    self._graph = graph
    self._width = config["hidden_size"]
    self._num_heads = config["num_attention_heads"]
    self._num_layers = config["num_hidden_layers"]
    self._activation = config.get("hidden_act", "gelu")
    self._vocab_size = config["vocab_size"]

  # ---- Layers

  def _dense(self, x, scope):
    """Adds a dense layer: [..., K] -> [..., M]."""
    add, variable = self._graph.add, self._graph.variable
    product = add("MatMul", f"{scope}/MatMul", x, variable(f"{scope}/kernel"))
    return add("Add", f"{scope}/Add", product, variable(f"{scope}/bias"))

  def _layer_norm(self, x, scope):
    names = [self._graph.variable(f"{scope}LayerNorm/{name}") for name in ("gamma", "beta")]
    name = f"{scope}LayerNorm"
    epsilon = LAYER_NORM_EPSILON
    return self._graph.add("LayerNormalization", name, x, *names, axis=-1, epsilon=epsilon)

  def _activate(self, x, scope):
    """Adds the activation of the configuration; see modeling.get_activation."""
    name = (self._activation or "").lower()
    if name in ("", "linear"):
      return x
    if name in ("relu", "tanh"):
      return self._graph.add(name.capitalize(), f"{scope}/{name}", x)
    if name == "gelu":
      return self._gelu(x, f"{scope}/gelu")
    raise files.InputError(f"hidden_act {self._activation!r} is none of linear, relu, gelu, tanh")

  def _gelu(self, x, scope):
    """Adds the tanh form of GELU, step for step as ONNX Runtime looks for it."""
    add, constant = self._graph.add, self._graph.constant
    cube = add("Pow", f"{scope}/cube", x, constant("gelu/three", 3.0))
    scaled = add("Mul", f"{scope}/scaled", cube, constant("gelu/cubic", 0.044715))
    inner = add("Add", f"{scope}/inner", x, scaled)
    inner = add("Mul", f"{scope}/argument", inner, constant("gelu/linear", math.sqrt(2 / math.pi)))
    gate = add("Add", f"{scope}/gate", add("Tanh", f"{scope}/tanh", inner), constant("one", 1.0))
    half = add("Mul", f"{scope}/half", x, constant("gelu/half", 0.5))
    return add("Mul", scope, half, gate)

  # ---- The encoder

  def embeddings(self):
    """Adds the sum of the embeddings, normalised: [B, S, H]."""
    graph, scope = self._graph, "bert/embeddings/"
    words, types, places = [
      graph.variable(f"{scope}{name}_embeddings") for name in ("word", "token_type", "position")
    ]
    length = graph.add("Shape", f"{scope}length", "input_ids", start=1, end=2)
    bounds = [graph.constant("zeros", [0], np.int64), length]
    position = graph.add("Slice", f"{scope}positions", places, *bounds)
    word = graph.add("Gather", f"{scope}words", words, "input_ids")
    segment = graph.add("Gather", f"{scope}segments", types, "segment_ids")
    total = graph.add("Add", f"{scope}words_and_segments", word, segment)
    return self._layer_norm(graph.add("Add", f"{scope}sum", total, position), scope)

  def masked_scores(self):
    """Adds what the scores of attention are raised by: [B, 1, 1, S]."""
    add, constant = self._graph.add, self._graph.constant
    mask = add("Unsqueeze", "mask/axes", "input_mask", constant("axes_1_2", [1, 2], np.int64))
    mask = add("Cast", "mask/float", mask, to=onnx.TensorProto.FLOAT)
    hidden = add("Sub", "mask/hidden", constant("one", 1.0), mask)
    return add("Mul", "mask/scores", hidden, constant("masked_score", MASKED_SCORE))

  def block(self, x, layer, mask, queries=None):
    """Adds a Transformer block.

    Args:
      x: [B, S, H].
      layer: its number.
      mask: of masked_scores.
      queries: [B, F, H], the rows of x to compute; default: all.

    Returns:
      [B, F, H].
    """
    graph, scope = self._graph, f"bert/encoder/layer_{layer}/"
    rows = x if queries is None else queries
    context = self._attend(rows, x, mask, f"{scope}attention/self/")
    output = self._dense(context, f"{scope}attention/output/dense")
    total = graph.add("Add", f"{scope}attention/output/sum", output, rows)
    attended = self._layer_norm(total, f"{scope}attention/output/")
    wide = self._dense(attended, f"{scope}intermediate/dense")
    wide = self._activate(wide, f"{scope}intermediate")
    output = self._dense(wide, f"{scope}output/dense")
    total = graph.add("Add", f"{scope}output/sum", output, attended)
    return self._layer_norm(total, f"{scope}output/")

  def _attend(self, rows, x, mask, scope):
    """Adds attention of `rows`, [B, F, H], to x, [B, S, H] -> [B, F, H]."""
    add, constant = self._graph.add, self._graph.constant
    size = self._width // self._num_heads
    split = constant("split", [0, 0, self._num_heads, size], np.int64)

    def heads(tensor, name, perm):
      tensor = add("Reshape", f"{scope}{name}/split", self._dense(tensor, f"{scope}{name}"), split)
      return add("Transpose", f"{scope}{name}/heads", tensor, perm=perm)

    query = heads(rows, "query", [0, 2, 1, 3])  # [B, N, F, D]
    key = heads(x, "key", [0, 2, 3, 1])  # [B, N, D, S]
    value = heads(x, "value", [0, 2, 1, 3])  # [B, N, S, D]
    scores = add("MatMul", f"{scope}scores", query, key)  # [B, N, F, S]
    scores = add("Div", f"{scope}scaled", scores, constant("scale", math.sqrt(size)))
    scores = add("Add", f"{scope}masked", scores, mask)
    probabilities = add("Softmax", f"{scope}probabilities", scores, axis=-1)
    context = add("MatMul", f"{scope}context", probabilities, value)  # [B, N, F, D]
    context = add("Transpose", f"{scope}context/rows", context, perm=[0, 2, 1, 3])
    return add(
      "Reshape", f"{scope}context/join", context, constant("join", [0, 0, self._width], np.int64)
    )

  def encode(self, queries=None):
    """Adds the encoder.

    Args:
      queries: function that adds the rows of the last block to compute, [B, S, H] -> [B, F, H];
        default: all.

    Returns:
      The outputs of the blocks, [B, S, H]; of the last one [B, F, H].
    """
    layers, mask = [self.embeddings()], self.masked_scores()
    for layer in range(self._num_layers):
      is_last = layer == self._num_layers - 1
      rows = queries(layers[-1]) if queries and is_last else None
      layers.append(self.block(layers[-1], layer, mask, rows))
    return layers[1:]

  def _first(self, x):
    """Adds the selection of [CLS]: [B, S, H] -> [B, 1, H]."""
    constant = self._graph.constant
    bounds = [constant(name, [value], np.int64) for name, value in (("zeros", 0), ("ones", 1))]
    return self._graph.add("Slice", "first", x, *bounds, bounds[1])

  def _at_positions(self, x):
    """Adds the selection of the places of POSITIONS: [B, S, H] -> [B, P, H]."""
    add = self._graph.add
    places = add("Cast", "positions/long", POSITIONS, to=onnx.TensorProto.INT64)
    axes = self._graph.constant("axes_2", [2], np.int64)
    places = add("Unsqueeze", "positions/indices", places, axes)  # [B, P, 1]
    return add("GatherND", "positions/rows", x, places, batch_dims=1)

  def _pool(self, first, name=f"{_POOLER}/Tanh"):
    """Adds the pooler: [B, 1, H] -> [B, H]."""
    axes = self._graph.constant("ones", [1], np.int64)
    first = self._graph.add("Squeeze", f"{_POOLER}/rows", first, axes)
    return self._graph.add("Tanh", name, self._dense(first, _POOLER))

  # ---- Heads

  def add(self, head):
    """Adds the encoder and a head, and the outputs."""
    getattr(self, f"_add_{head.name}")(head)

  def _logits(self, x, scope, name, bias=True):
    """Adds the layer over x, [..., H], whose weights are [L, H] -> [..., L]."""
    graph = self._graph
    kernel = graph.constant(f"{scope}output_weights", graph.variables[f"{scope}output_weights"].T)
    if not bias:
      return graph.add("MatMul", name, x, kernel)
    product = graph.add("MatMul", f"{scope}head/MatMul", x, kernel)
    return graph.add("Add", name, product, graph.variable(f"{scope}output_bias"))

  def _add_classifier(self, head):
    graph, axes = self._graph, ("batch", head.num_labels)
    pooled = self._pool(self.encode(self._first)[-1])
    graph.output(self._logits(pooled, "", "logits"), *axes)
    kind = {None: None, "softmax": "Softmax", "sigmoid": "Sigmoid"}[head.activation]
    if kind:
      attributes = {"axis": -1} if kind == "Softmax" else {}
      graph.output(graph.add(kind, "probabilities", "logits", **attributes), *axes)

  def _add_choice(self, head):
    del head
    graph, scope = self._graph, "cls/multiple_choice/"
    pooled = self._pool(self.encode(self._first)[-1])
    scores = self._logits(pooled, scope, f"{scope}scores", bias=False)  # [B, 1]
    axes = graph.constant("ones", [1], np.int64)
    graph.output(graph.add("Squeeze", "scores", scores, axes), "batch")

  def _add_span(self, head):
    del head
    graph, scope = self._graph, "cls/squad/"
    logits = self._logits(self.encode()[-1], scope, f"{scope}logits")  # [B, S, 2]
    for place, name in enumerate(("start_logits", "end_logits")):
      index = graph.constant(f"{scope}{name}/place", place, np.int64)
      graph.output(graph.add("Gather", name, logits, index, axis=2), "batch", "length")

  def _add_tags(self, head):
    logits = self._logits(self.encode()[-1], "cls/ner/", "logits")
    self._graph.output(logits, "batch", "length", head.num_labels)

  def _add_masked_lm(self, head):
    del head
    graph, scope = self._graph, "cls/predictions/"
    transform = f"{scope}transform/"
    hidden = self._dense(self.encode(self._at_positions)[-1], f"{transform}dense")  # [B, P, H]
    hidden = self._layer_norm(self._activate(hidden, f"{transform}dense"), transform)
    words = graph.variable("bert/embeddings/word_embeddings")
    kernel = graph.add("Transpose", f"{scope}output_weights", words, perm=[1, 0])
    product = graph.add("MatMul", f"{scope}MatMul", hidden, kernel)
    name = graph.add("Add", "masked_lm_logits", product, graph.variable(f"{scope}output_bias"))
    graph.output(name, "batch", "positions", self._vocab_size)

  def _add_encoder(self, head):
    graph, layers = self._graph, self.encode()
    outputs = {"sequence_output": layers[-1]}
    for layer in head.other_layers(self._num_layers):
      outputs[f"layer_{layer}"] = layers[layer]
    for name, layer in outputs.items():
      graph.output(graph.add("Identity", name, layer), "batch", "length", self._width)
    if f"{_POOLER}/kernel" in graph.variables:
      first = self._first(layers[-1])
      graph.output(self._pool(first, "pooled_output"), "batch", self._width)
