"""Quantization of exported models: weights of 8 bits, multiplied with activations of 8 bits."""

import logging
import os
import tempfile

import onnx


def quantize(model: onnx.ModelProto) -> onnx.ModelProto:
  """Returns a model whose dense layers and embeddings have weights of type int8.

  Weights have a scale per output channel, and activations one per batch, found as it runs (dynamic
  quantization). Products of activations, as in attention, stay float32.

  Args:
    model: of onnx_graph.build.
  """
  from onnxruntime import quantization  # only here: it takes a second

  # It advises a step that is for convolutions, by a warning of the root logger.
  logging.getLogger().addFilter(_is_no_advice)

  try:
    return _quantized(model, quantization)
  finally:
    logging.getLogger().removeFilter(_is_no_advice)


def _quantized(model, quantization):
  with tempfile.TemporaryDirectory() as directory:
    path = os.path.join(directory, "model.onnx")
    quantization.quantize_dynamic(
      model,
      path,
      op_types_to_quantize=["MatMul", "Gemm", "Gather"],
      per_channel=True,
      weight_type=quantization.QuantType.QInt8,
      extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    return onnx.load(path)


def _is_no_advice(record):
  return not record.getMessage().startswith("Please consider to run pre-processing")
