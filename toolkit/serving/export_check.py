"""The comparison of an exported model with its checkpoint, on made-up word pieces."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from toolkit.formats.model_heads import CHOICE, CLASSIFIER, ENCODER, MASKED_LM
from toolkit.serving import tensorflow_engine
from toolkit.serving.export_source import Original
from toolkit.serving.predictor import Arrays
from toolkit.support import files

# The largest difference between an output of an export and the checkpoint's.
TOLERANCE = 1e-4
# Lengths of the sequences of a batch, in word pieces, of which the shorter ones are padded.
_LENGTHS = (3, 7, 16, 33, 64, 128)
_SHORTEST = min(_LENGTHS)
# The places that a masked language model is compared at.
_MASKED_PLACES = (1, 2, 0)

# Runs an exported model on arrays by the names of Head.inputs.
Run = Callable[[Arrays], Arrays]


class Comparison(NamedTuple):
  """The result of a comparison.

  Attributes:
    difference: the largest absolute one of a number in an output.
    lengths: of the sequences, in word pieces.
  """

  difference: float
  lengths: list[int]

  def line(self, is_quantized: bool = False) -> str:
    """Formats the comparison for a user; weights of 8 bits have no tolerance."""
    allowed = "" if is_quantized else f" ({TOLERANCE:.0e} is allowed)"
    return (
      f"outputs differ from the checkpoint's by at most {self.difference:.1e}{allowed}, for "
      f"{len(self.lengths)} inputs of {min(self.lengths)} to {max(self.lengths)} word pieces"
    )


class Expected(NamedTuple):
  """The outputs of a checkpoint for one batch.

  Attributes:
    inputs: see predictor.Engine.
    lengths: of the B sequences without padding.
    outputs: name -> float32 [B, ...].
  """

  inputs: Arrays
  lengths: list[int]
  outputs: Arrays


def expected_outputs(original: Original) -> list[Expected]:
  """Runs a model's checkpoint on sequences of several lengths, in batches with padding.

  The longest sequence has as many word pieces as the model has positions.

  Raises:
    files.InputError: the checkpoint cannot be used, or gives numbers that are not finite.
  """
  head, positions = original.head, original.config.max_position_embeddings
  if positions < _SHORTEST:
    raise files.InputError(
      f"--{original.flag}: the model takes {positions} word pieces, too few for a text"
    )
  shorter = [length for length in _LENGTHS[:-1] if length < positions]
  batches = [[*shorter, min(positions, _LENGTHS[-1])], [positions]]
  build = tensorflow_engine.builder(head, original.config)
  # Without a pooler in the checkpoint, there is no output of it.
  left_out = set() if head.name != ENCODER or original.has_pooler() else {"pooled_output"}

  def build_needed(*inputs):
    return {name: value for name, value in build(*inputs).items() if name not in left_out}

  engine = tensorflow_engine.TensorFlowEngine(
    build_needed, original.checkpoint, flag=original.flag, inputs=head.inputs()
  )
  random = np.random.default_rng(0)
  found = []
  for lengths in batches:
    inputs = _make_inputs(original, lengths, random)
    found.append(Expected(inputs, lengths, engine.run(inputs)))
  engine.close()
  for name, values in ((n, v) for each in found for n, v in each.outputs.items()):
    if not np.isfinite(values).all():
      raise files.InputError(
        f"--{original.flag}: {original.checkpoint} is broken: its {name} are not finite numbers; "
        "train the model anew with a lower --learning_rate"
      )
  return found


def _make_inputs(original, lengths, random):
  """Makes the inputs of a batch of sequences; `random` is a generator of numpy.random."""
  places, ends = np.arange(max(lengths)), np.array(lengths)[:, np.newaxis]
  mask = places < ends
  ids = random.integers(0, original.config.vocab_size, mask.shape) * mask
  # The second segment begins at the middle of a sequence.
  segments = (places >= ends // 2) & mask & (original.config.type_vocab_size > 1)
  arrays = [ids, mask, segments]
  if original.head.name == MASKED_LM:
    arrays.append(np.array([_MASKED_PLACES] * len(lengths)))
  return dict(zip(original.head.inputs(), (array.astype(np.int32) for array in arrays)))


def compare(original: Original, expected: Sequence[Expected], run: Run) -> Comparison:
  """Compares the outputs of an export with those of its checkpoint, without those at padding.

  Args:
    original: the model.
    expected: of expected_outputs.
    run: the export.

  Raises:
    files.InputError: the export lacks an output, or has another shape of one.
  """
  difference = 0.0
  for batch in expected:
    found = run(batch.inputs)
    for name, wanted in batch.outputs.items():
      if name not in found or found[name].shape != wanted.shape:
        shape = list(found[name].shape) if name in found else "not there"
        raise files.InputError(
          f"--export_dir: {name} of the export is {shape}, should be {list(wanted.shape)}"
        )
      distances = np.nan_to_num(np.abs(found[name] - wanted), nan=np.inf)
      if _is_per_token(original.head, name):
        distances = np.concatenate([row[:length] for row, length in zip(distances, batch.lengths)])
      difference = max(difference, float(distances.max()))
  return Comparison(difference, [length for batch in expected for length in batch.lengths])


def _is_per_token(head, output):
  """Returns whether an output has values for each word piece, [B, S, ...]."""
  return head.name not in (CLASSIFIER, CHOICE, MASKED_LM) and output != "pooled_output"


def check(found: Comparison) -> None:
  """Raises files.InputError for a comparison whose difference is above TOLERANCE."""
  if found.difference > TOLERANCE:
    raise files.InputError(f"--export_dir: nothing is kept of the export: {found.line()}")
