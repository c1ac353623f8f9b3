"""Export of a model to ONNX, with all that its predictor needs; see exported_model."""

import contextlib
from collections.abc import Iterator

from toolkit.formats import exported_model, onnx_export
from toolkit.serving.export_check import Run
from toolkit.serving.export_source import Original
from toolkit.serving.onnx_engine import OnnxEngine

# The names in a directory of an export.
WRITTEN = (
  exported_model.MODEL_FILE,
  exported_model.DESCRIPTION_FILE,
  exported_model.VOCAB_FILE,
)


def export(original: Original, directory: str) -> None:
  """Writes a model into an empty directory.

  Raises:
    files.InputError: the checkpoint cannot be read, or the directory not be written.
  """
  onnx_export.write(
    directory, original.description, original.vocab_file, original.checkpoint, original.config
  )


@contextlib.contextmanager
def loaded(directory: str) -> Iterator[Run]:
  """Context with the function that runs the model in a directory."""
  path, _ = exported_model.check_model(directory)
  engine = OnnxEngine(path, path)
  yield engine.run
  engine.close()
