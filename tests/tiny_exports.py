"""Exported models so small that they load at once, with random weights; made without TensorFlow."""

import os

import numpy as np
from tiny_runs import SPECIAL, config_of

from toolkit.formats import exported_model, onnx_graph
from toolkit.formats.exported_model import Description
from toolkit.formats.model_heads import Head

WORDS = ["a", "good", "bad", "film", "it", "was", "and", "the", "very", "not", "##s", "."]
VOCAB = [*SPECIAL, *WORDS]
CLASSIFIER = ("run_classifier", Head("classifier", 2, "softmax"), ["negative", "positive"])
ENCODER = ("extract_features", Head("encoder"), None)


def save(directory, kind, seed=1, **changes):
  """Writes an export.

  Args:
    directory: pathlib.Path, which is made.
    kind: CLASSIFIER or ENCODER.
    seed: of the weights.
    **changes: of the configuration; see tiny_runs.config_of.
  """
  script, head, labels = kind
  config = config_of(VOCAB, **{"hidden_act": "gelu", "max_position_embeddings": 128, **changes})
  random = np.random.RandomState(seed)
  needed = {*onnx_graph.needed(config, head), *onnx_graph.optional(config, head)}
  weights = {
    name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in sorted(needed)
  }
  model = onnx_graph.build(weights, config, head).SerializeToString()
  flags = {"task_name": "tsv", "max_seq_length": 16, "do_lower_case": True}
  described = Description(script, flags, labels, config, head, None, "tiny")
  os.makedirs(directory)
  exported_model.write(str(directory), described, model, "\n".join(VOCAB).encode() + b"\n")
  return directory
