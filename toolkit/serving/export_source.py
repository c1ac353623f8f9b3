"""The models that exports are made of: those of trained directories, and encoders."""

from typing import NamedTuple, Optional

import modeling
from toolkit.formats import checkpoints, model_directory
from toolkit.formats.exported_model import ENCODER_SCRIPT, Description
from toolkit.formats.model_heads import ENCODER, Head
from toolkit.serving import (
  chooser,
  classifier,
  encoder_files,
  engines,
  loading,
  mask_filler,
  question_answerer,
  tagger,
)
from toolkit.support import files

_TRAINED = {
  module.SOURCE.script: module.SOURCE
  for module in (classifier, chooser, mask_filler, question_answerer, tagger)
}
_ENCODER = engines.Source(
  ENCODER_SCRIPT, lambda found: (Head(ENCODER), {}), encoder_files.load_trained
)


class Original(NamedTuple):
  """A model with a checkpoint, of which an export is made.

  Attributes:
    flag: the flag that gave its directory, for messages.
    description: what an export needs beside the graph.
    config: of the encoder.
    vocab_file: path of the vocabulary.
    checkpoint: prefix of the checkpoint, the best one where it is kept.
  """

  flag: str
  description: Description
  config: modeling.BertConfig
  vocab_file: str
  checkpoint: str

  @property
  def head(self) -> Head:
    """The outputs of the model."""
    return self.description.head

  def has_pooler(self) -> bool:
    """Returns whether the checkpoint has the pooler, which some encoders lack."""
    saved = checkpoints.read_saved(self.checkpoint, self.flag)
    return any(name.startswith(checkpoints.POOLER) for name in saved.shapes)

  def encoder(self) -> "Original":
    """Returns the same model without its head."""
    flags = {"do_lower_case": self.description.flags["do_lower_case"]}
    description = self.description._replace(
      script=ENCODER_SCRIPT, flags=flags, labels=None, head=Head(ENCODER)
    )
    return self._replace(description=description)

  def quantized(self, quantization: Optional[str]) -> "Original":
    """Returns the same model for an export with such a quantization; None for float32."""
    return self._replace(description=self.description._replace(quantization=quantization))


def read_trained(output_dir: str) -> Original:
  """Reads the model of a finished output directory.

  Raises:
    files.InputError: the directory is not complete, or of a script whose models have no export.
  """
  script = loading.script_of(output_dir)
  if script not in _TRAINED:
    raise files.InputError(
      f"--output_dir: {output_dir} has no run.json, which a finished training has; give it as "
      "--model_dir to export the encoder alone"
    )
  return _read(output_dir, "output_dir", _TRAINED[script])


def read_encoder(model_dir: str) -> Original:
  """Reads the encoder in a directory of a pre-trained or finished model.

  Raises:
    files.InputError: a file is missing, or cannot be used.
  """
  return _read(model_dir, "model_dir", _ENCODER)


def _read(directory, flag, source):
  """Reads the model of an engines.Source; `flag` is that of the directory."""
  load = source.load or model_directory.load_trained
  found = load(directory, source.script)
  checkpoint = checkpoints.resolve_checkpoint(directory, flag)
  problem = model_directory.vocab_problem(found.make_tokenizer().vocab, found.config.vocab_size)
  if problem:
    raise files.InputError(
      f"{found.vocab_file}: has {problem[0]}, where the model has {found.config.vocab_size}; "
      f"{problem[1]}"
    )
  description = engines.description_of(found, source, checkpoint)
  return Original(flag, description, found.config, found.vocab_file, checkpoint)
