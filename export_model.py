"""Exports a trained model, or an encoder without a head, for use outside of these scripts.

  python export_model.py --output_dir=/tmp/reviews --format=onnx \\
    --export_dir=/tmp/export
  python export_model.py --model_dir=$BERT --format=hub --export_dir=/tmp/hub

--output_dir is a finished directory of run_classifier.py, run_multiple_choice.py, run_squad.py,
run_ner.py or run_pretraining.py. --model_dir is any directory of a model, of which the encoder
alone is exported.

  --format     content of --export_dir
  saved_model  1/, a SavedModel with the signature serving_default, for TensorFlow Serving,
               saved_model_cli and tf.saved_model.load; inputs are input_ids, input_mask and
               segment_ids, int32 [B, S] for any B and S
  hub          a SavedModel of the encoder with the interface of TensorFlow Hub's text encoders,
               which hub.KerasLayer(trainable=True) trains further
  onnx         model.onnx, model.json and vocab.txt, for serve.py and the loaded models (Classifier
               and others) without TensorFlow, and for ONNX Runtime; inputs as of saved_model

The outputs of saved_model and onnx, float32:

  run_classifier       logits [B, L], and probabilities [B, L] unless the model gives a number
  run_multiple_choice  scores [B], one per choice
  run_squad            start_logits, end_logits [B, S]
  run_ner              logits [B, S, L]
  run_pretraining      masked_lm_logits [B, P, V], at the fourth input masked_lm_positions [B, P]
  --model_dir          sequence_output [B, S, H], and pooled_output [B, H] if there is a pooler

TensorFlow Serving takes a directory of numbered versions, such as the --export_dir of saved_model.
For another version, end the name in its number: --export_dir=/tmp/export/2.

The export is loaded again, and its outputs are compared with the checkpoint's. Only then it gets
its name, so a command that was stopped leaves no part of it there.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple, Optional

from absl import logging

from toolkit.serving import (
  dev_metric,
  engines,
  export_check,
  export_source,
  hub_encoder,
  loading,
  onnx_directory,
  saved_model,
)
from toolkit.serving.dev_metric import DevMetric
from toolkit.serving.export_check import Comparison, Run
from toolkit.serving.export_source import Original
from toolkit.support import command_line, directories, files, processes


class Format(NamedTuple):
  """A format of exports.

  Attributes:
    select: returns the part of a model that is exported.
    export: writes a model into an empty directory.
    loaded: context with the function that runs the model in a directory.
    is_versioned: whether the directory is that of a number.
  """

  select: Callable[[Original], Original]
  export: Callable[[Original, str], None]
  loaded: Callable[[str], contextlib.AbstractContextManager[Run]]
  is_versioned: bool = False


FORMATS = {
  "saved_model": Format(
    lambda original: original, saved_model.export, saved_model.loaded, is_versioned=True
  ),
  "hub": Format(hub_encoder.select, hub_encoder.export, hub_encoder.loaded),
  "onnx": Format(lambda original: original, onnx_directory.export, onnx_directory.loaded),
}
FIRST_VERSION = "1"
# What an export consists of, which --overwrite replaces.
WRITTEN = (FIRST_VERSION, *saved_model.WRITTEN, *onnx_directory.WRITTEN)
# A loss of the metric by weights of 8 bits, in points of 100, above which there is a warning.
USUAL_LOSS = 0.5

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_string(
  "output_dir",
  None,
  "Finished --output_dir of a training. Its best checkpoint is exported if it is kept, else the "
  "last one.",
  group="essential",
)
flags.DEFINE_string(
  "model_dir",
  None,
  "Directory with bert_config.json, vocab.txt and a checkpoint, in place of --output_dir. The "
  "encoder is exported.",
  group="essential",
)
flags.DEFINE_enum(
  "format", None, list(FORMATS), "Format of the export; see above.", group="essential"
)
flags.DEFINE_string(
  "export_dir",
  None,
  "Directory of the export, a new or an empty one. saved_model goes into the version "
  f"--export_dir/{FIRST_VERSION}, unless the name ends in a number, which is the version.",
  group="essential",
)
flags.DEFINE_enum(
  "quantize",
  None,
  ["int8"],
  "Weights of 8 bits, a quarter of the size, and products of 8 bits; for --format=onnx.",
  group="essential",
)
flags.DEFINE_string(
  "data_dir",
  None,
  "With --quantize: directory of the task's data, as in training. The metric of its dev set is "
  "shown for the checkpoint and for the export.",
  group="essential",
)
flags.DEFINE_string(
  "predict_file",
  None,
  "The same for run_squad.py: a file of questions with answers.",
  group="essential",
)
flags.DEFINE_bool("overwrite", False, "Replace an export in --export_dir.", group="essential")


def main(_: list[str]) -> None:
  """Exports a model by the flags."""
  processes.prepare_process()
  settings = flags.settings()
  settings.require(["format", "export_dir"], "an export")
  directories.check_new(settings.export_dir, "export_dir", settings.overwrite, WRITTEN)
  metric = read_metric(settings)
  if settings.format == "onnx":
    engines.choose(engines.ONNXRUNTIME)  # refuses packages that are not installed
  chosen = FORMATS[settings.format]
  original = chosen.select(read_original(settings)).quantized(settings.quantize)
  path = settings.export_dir
  version = version_of(path) if chosen.is_versioned else ""
  with directories.new_directory(path, "export_dir") as made:
    found = export(original, chosen, os.path.join(made, version))
    scores = metric and compare(metric, settings.output_dir, made)
  path = os.path.join(path, version) if version else path
  line = found.line(is_quantized=settings.quantize is not None)
  print(f"{path}: {settings.format} of {original.checkpoint}; {line}")
  if scores:
    print(scores)


def read_metric(settings: command_line.Settings) -> Optional[DevMetric]:
  """Reads the dev set to compare a quantized model by, if it is given.

  Raises:
    files.InputError: it cannot be used, or flags do not go together.
  """
  if settings.quantize and settings.format != "onnx":
    raise files.InputError(f"--quantize is for --format=onnx, not for {settings.format}")
  given = [name for name in ("data_dir", "predict_file") if settings[name]]
  if not given:
    return None
  if not settings.quantize or not settings.output_dir:
    raise files.InputError(f"--{given[0]} is for --quantize with --output_dir; leave it out")
  return dev_metric.read(settings.output_dir, settings.data_dir, settings.predict_file)


def compare(metric: DevMetric, output_dir: str, export_dir: str) -> str:
  """Returns a line with the metric of a model and of its export; warns of a loss."""
  values = [
    metric.score(loading.load(*each)) for each in ((output_dir, engines.TENSORFLOW), (export_dir,))
  ]
  lost = (values[0] - values[1]) * (1 if metric.is_percent else 100)
  if lost > USUAL_LOSS:
    logging.warning("The export loses %.2f points of %s on the dev set", lost, metric.name)
  shown = " -> ".join(f"{value:.4g}" for value in values)
  return f"{metric.name} of {metric.size} examples of the dev set: {shown}"


def read_original(settings: command_line.Settings) -> Original:
  """Reads the model of --output_dir or --model_dir.

  Raises:
    files.InputError: none of them is given, or both; or the model cannot be used.
  """
  given = [name for name in ("output_dir", "model_dir") if settings[name]]
  if len(given) != 1:
    raise files.InputError("give --output_dir=DIR of a training, or --model_dir=DIR of an encoder")
  (flag,) = given
  files.check_name(settings[flag], flag)
  read = {"output_dir": export_source.read_trained, "model_dir": export_source.read_encoder}
  return read[flag](settings[flag])


def version_of(path: str) -> str:
  """Returns the directory of the version below --export_dir; "" if that is one itself."""
  name = os.path.basename(os.path.normpath(path))
  return "" if name.isascii() and name.isdigit() else FIRST_VERSION


def export(original: Original, chosen: Format, directory: str) -> Comparison:
  """Writes a model into a directory, loads it again and compares it with its checkpoint.

  Raises:
    files.InputError: the checkpoint cannot be used, or the outputs differ.
  """
  expected = export_check.expected_outputs(original)
  files.make_directory(directory, "export_dir")
  chosen.export(original, directory)
  with chosen.loaded(directory) as run:
    found = export_check.compare(original, expected, run)
  if original.description.quantization is None:
    export_check.check(found)
  return found


if __name__ == "__main__":
  command_line.run(main, flags)
