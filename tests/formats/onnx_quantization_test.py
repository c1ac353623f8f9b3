"""Weights of 8 bits: what becomes integers, how far outputs move, and the size of the file."""

import collections

import numpy as np
import onnx
import onnx_graph_test as graphs
import pytest
from onnx import numpy_helper

from toolkit.formats import onnx_graph, onnx_quantization
from toolkit.formats.model_heads import Head

CONFIG = graphs.CONFIG


def make(head, config=CONFIG):
  """Weights, and the graphs of them in float32 and of 8 bits."""
  weights = graphs.random_weights(np.random.default_rng(1), config, head, spread=0.1)
  model = onnx_graph.build(weights, config, head)
  return weights, model, onnx_quantization.quantize(model)


@pytest.mark.parametrize("name", graphs.MODELS)
def test_outputs_stay_near(name):
  _, model, quantized = make(graphs.MODELS[name][0])
  inputs = graphs.random_inputs(np.random.default_rng(2))
  want, found = graphs.run(model, inputs), graphs.run(quantized, inputs)
  assert [o.name for o in quantized.graph.output] == [o.name for o in model.graph.output]
  for output, values in want.items():
    assert found[output].shape == values.shape and found[output].dtype == np.float32
    error = np.sqrt(np.mean((found[output] - values) ** 2))
    assert 0 < error < 0.1 * np.sqrt(np.mean(values**2)), output


def test_only_products_with_weights_of_the_encoder_are_of_integers():
  _, _, quantized = make(Head("classifier", 3, "softmax"))
  count = collections.Counter(node.op_type for node in quantized.graph.node)
  assert count["MatMulInteger"] == 6 * CONFIG["num_hidden_layers"]
  # Attention has two products per layer; the pooler and the head have one.
  assert count["MatMul"] == 2 * CONFIG["num_hidden_layers"] + 2
  # Queries of the last layer have an input of their own.
  assert count["DynamicQuantizeLinear"] == 4 * CONFIG["num_hidden_layers"] + 1
  assert {node.domain for node in quantized.graph.node} == {""}


def test_weights_have_a_scale_per_column_and_embeddings_one_per_row():
  weights, _, quantized = make(Head("encoder"))
  found = {each.name: numpy_helper.to_array(each) for each in quantized.graph.initializer}
  for name, axis in (
    ("bert/embeddings/word_embeddings", 1),
    ("bert/encoder/layer_1/output/dense/kernel", 0),
  ):
    assert name not in found
    integers, scale = found[f"{name}/int8"], found[f"{name}/scale"]
    largest = np.abs(weights[name]).max(axis=axis, keepdims=True)
    np.testing.assert_allclose(np.broadcast_to(scale * 127, largest.shape), largest, rtol=1e-6)
    assert integers.dtype == np.int8 and (np.abs(integers).max(axis=axis) == 127).all()
    assert (np.abs(integers * scale - weights[name]) <= 0.5001 * scale).all()


def test_rows_and_columns_of_zeros_stay_zeros():
  head = Head("span")
  weights = graphs.random_weights(np.random.default_rng(3), CONFIG, head)
  weights["bert/embeddings/word_embeddings"][4] = 0
  weights["bert/encoder/layer_0/intermediate/dense/kernel"][:, 5] = 0
  inputs = graphs.random_inputs(np.random.default_rng(4))
  quantized = onnx_quantization.quantize(onnx_graph.build(weights, CONFIG, head))
  assert np.isfinite(graphs.run(quantized, inputs)["start_logits"]).all()


@pytest.mark.parametrize("head", [Head("encoder"), Head("masked_lm")])
def test_the_file_has_at_most_three_tenths_of_the_size(head):
  sizes = {"vocab_size": 8000, "hidden_size": 192, "intermediate_size": 768}
  config = {**CONFIG, **sizes}
  _, model, quantized = make(head, config)
  assert quantized.ByteSize() <= 0.3 * model.ByteSize()


def test_the_same_bytes_and_an_argument_that_stays():
  _, model, quantized = make(Head("tags", 5))
  before = model.SerializeToString()
  again = onnx_quantization.quantize(model)
  assert again.SerializeToString() == quantized.SerializeToString()
  assert model.SerializeToString() == before
  onnx.checker.check_model(again, full_check=True)
