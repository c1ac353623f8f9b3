"""Trained models to ONNX: weights of a checkpoint, and what a predictor needs beside them."""

import modeling
from toolkit.formats import checkpoints, exported_model, onnx_graph, onnx_quantization
from toolkit.formats.exported_model import Description
from toolkit.formats.model_heads import Head
from toolkit.support import files


def make_model(checkpoint: str, config: modeling.BertConfig, head: Head, quantize: bool) -> bytes:
  """Returns the contents of an ONNX file.

  Args:
    checkpoint: its prefix.
    config: the model's.
    head: outputs of the graph.
    quantize: True for weights of 8 bits.

  Raises:
    files.InputError: the checkpoint lacks a variable, or has another shape of one.
  """
  weights, _ = checkpoints.read_checkpoint(checkpoint)
  for name, shape in onnx_graph.needed(config.to_dict(), head):
    found = list(weights[name].shape) if name in weights else "not there"
    if found != list(shape):
      raise files.InputError(
        f"--output_dir: {checkpoint} does not fit the model: {name} is {found}, should be "
        f"{list(shape)}"
      )
  model = onnx_graph.build(weights, config.to_dict(), head)
  if quantize:
    model = onnx_quantization.quantize(model)
  return model.SerializeToString(deterministic=True)


def write(
  directory: str,
  description: Description,
  vocab_file: str,
  checkpoint: str,
  config: modeling.BertConfig,
) -> None:
  """Writes an export into an existing directory; see make_model for its errors."""
  quantize = description.quantization is not None
  model = make_model(checkpoint, config, description.head, quantize)
  exported_model.write(directory, description, model, files.read_bytes(vocab_file))
