"""The heads of models in use: which outputs a graph has, in TensorFlow and in ONNX."""

from typing import NamedTuple, Optional

CLASSIFIER = "classifier"
CHOICE = "choice"
SPAN = "span"
TAGS = "tags"
MASKED_LM = "masked_lm"
ENCODER = "encoder"
NAMES = (CLASSIFIER, CHOICE, SPAN, TAGS, MASKED_LM, ENCODER)

# Inputs of each graph, int32 [B, S], and that of masked_lm, int32 [B, P].
INPUTS = ("input_ids", "input_mask", "segment_ids")
POSITIONS = "masked_lm_positions"


class Head(NamedTuple):
  """A head over BERT. Outputs by name, float32:

    classifier  logits [B, L]; with an activation also probabilities [B, L]
    choice      scores [B], one per choice
    span        start_logits, end_logits [B, S]
    tags        logits [B, S, L]
    masked_lm   masked_lm_logits [B, P, V], at the positions of the input masked_lm_positions
    encoder     sequence_output [B, S, H] of the last layer; pooled_output [B, H], where the
                checkpoint has a pooler; layer_N [B, S, H] for the other layers

  Attributes:
    name: member of NAMES.
    num_labels: L of classifier and tags.
    activation: "softmax" for one label, "sigmoid" for several, None for a number.
    layers: of an encoder; 0 is the first, -1 the last.
  """

  name: str
  num_labels: int = 0
  activation: Optional[str] = None
  layers: tuple[int, ...] = (-1,)

  def inputs(self) -> tuple[str, ...]:
    """Returns the names of the graph's inputs."""
    return (*INPUTS, POSITIONS) if self.name == MASKED_LM else INPUTS

  def other_layers(self, num_layers: int) -> list[int]:
    """Returns the layers of an encoder but the last one, counted from 0, in their order."""
    return sorted({layer % num_layers for layer in self.layers} - {num_layers - 1})
