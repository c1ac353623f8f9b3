"""ONNX graphs with weights of 8 bits, which run faster and take a quarter of the space.

The word embeddings, and the weights of the encoder's dense layers, become integers with a scale:

  word embeddings   a scale per row, that is, per word piece
  dense layers      a scale per column; the inputs become integers too, with one scale per call,
                    and the product is one of integers

All else stays float32: the other embeddings, the products of attention, normalisation, the pooler
and the heads, which are a small part of the time and would add about as much error as the encoder.
The masked language model's output matrix is the table of word embeddings, so it has integers.
"""

import numpy as np
import onnx
from onnx import helper, numpy_helper

ENCODER = "bert/encoder/"  # the scope of the dense layers
WORDS = "bert/embeddings/word_embeddings"
# CPUs without VNNI cut sums of two products to 16 bits, which 63 would avoid. The cut was measured
# to cost no more than the lost bit, and the other CPUs would lose that bit as well.
LARGEST = 127


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
  """Returns a graph of onnx_graph.build with weights of 8 bits; the outputs are float32 as before.

  Args:
    model: stays as it is.
  """
  result = onnx.ModelProto()
  result.CopyFrom(model)
  graph = result.graph
  rewriter = _Rewriter({tensor.name: tensor for tensor in graph.initializer})
  for node in graph.node:
    rewriter.add(node)
  read = {name for node in rewriter.nodes for name in node.input}
  del graph.node[:], graph.initializer[:]
  graph.node.extend(rewriter.nodes)
  graph.initializer.extend(c for name, c in rewriter.constants.items() if name in read)
  onnx.checker.check_model(result, full_check=True)
  return result


class _Rewriter:
  """The parts of a graph that is being made from another.

  Attributes:
    nodes: in the order of computation.
    constants: tensors by name, some of which no node reads any more.
  """

  def __init__(self, constants):
    self.nodes, self.constants = [], dict(constants)
    self._transposed = {}  # output of a node -> the table that it transposes
    self._inputs = {}  # tensor -> its integers, their scale, and what stands for 0

  def add(self, node):
    """Adds a node, or those that replace it."""
    if node.op_type == "Gather" and node.input[0] == WORDS:
      self._look_up(node)
    elif node.op_type == "Transpose" and node.input[0] == WORDS:
      self._transpose(node)
    elif node.op_type == "MatMul" and self._weights_of(node):
      self._multiply(node)
    else:
      self.nodes.append(node)

  def _weights_of(self, node):
    """Returns the integers and the scales of a product's weights; None for one to leave."""
    name = node.input[1]
    if name in self._transposed:
      return self._transposed[name]
    if name in self.constants and name.startswith(ENCODER):
      return self._integers(name, axis=0)
    return None

  def _node(self, operator, output, *inputs, **attributes):
    """Adds a node; returns its output."""
    self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
    return output

  def _integers(self, name, axis):
    """Makes constants of a matrix: int8, and float32 scales.

    Args:
      name: of the matrix.
      axis: the one along which values share a scale.

    Returns:
      The names of both.
    """
    names = f"{name}/int8", f"{name}/scale"
    if names[0] not in self.constants:
      matrix = numpy_helper.to_array(self.constants[name])
      scale = np.abs(matrix).max(axis=axis, keepdims=True) / np.float32(LARGEST)
      scale[scale == 0] = 1
      integers = np.rint(matrix / scale).astype(np.int8)
      scale = scale if axis == 1 else scale[0]
      for constant, value in zip(names, (integers, scale)):
        self.constants[constant] = numpy_helper.from_array(value, constant)
    return names

  def _look_up(self, node):
    """Adds the rows of integers times those of scales."""
    table, scales = self._integers(WORDS, axis=1)
    (output,) = node.output
    rows = self._node("Gather", f"{output}/int8", table, node.input[1])
    rows = self._node("Cast", f"{output}/float", rows, to=onnx.TensorProto.FLOAT)
    scale = self._node("Gather", f"{output}/scale", scales, node.input[1])
    self._node("Mul", output, rows, scale)

  def _transpose(self, node):
    """Adds the transposed integers and scales, which ONNX Runtime computes once."""
    (output,) = node.output
    table, scales = self._integers(WORDS, axis=1)
    self._transposed[output] = (
      self._node("Transpose", f"{output}/int8", table, perm=[1, 0]),
      self._node("Transpose", f"{output}/scale", scales, perm=[1, 0]),
    )

  def _multiply(self, node):
    """Adds a product of integers, in the form that ONNX Runtime fuses into one operator."""
    weights, weights_scale = self._weights_of(node)
    (output,) = node.output
    integers, scale, zero = self._quantized(node.input[0])
    product = self._node("MatMulInteger", f"{output}/int32", integers, weights, zero)
    product = self._node("Cast", f"{output}/float", product, to=onnx.TensorProto.FLOAT)
    scale = self._node("Mul", f"{output}/scale", scale, weights_scale)
    self._node("Mul", output, product, scale)

  def _quantized(self, tensor):
    """Adds a tensor's integers, uint8, their scale, and the integer of 0; once for each tensor."""
    if tensor not in self._inputs:
      names = [f"{tensor}/{part}" for part in ("uint8", "scale", "zero")]
      self.nodes.append(helper.make_node("DynamicQuantizeLinear", [tensor], names, name=names[0]))
      self._inputs[tensor] = names
    return self._inputs[tensor]
