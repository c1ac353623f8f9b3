"""Trained models of any task, loaded once."""

import os
from typing import Any, Union

from toolkit.formats import exported_model
from toolkit.formats.exported_model import ENCODER_SCRIPT
from toolkit.serving import engines
from toolkit.serving.chooser import Chooser
from toolkit.serving.classifier import Classifier
from toolkit.serving.feature_extractor import FeatureExtractor
from toolkit.serving.mask_filler import MaskFiller
from toolkit.serving.question_answerer import QuestionAnswerer
from toolkit.serving.tagger import Tagger
from toolkit.support import files

Loaded = Union[Classifier, Chooser, QuestionAnswerer, Tagger, MaskFiller, FeatureExtractor]

PREDICTORS: dict[str, Any] = {
  "run_classifier": Classifier,
  "run_multiple_choice": Chooser,
  "run_squad": QuestionAnswerer,
  "run_ner": Tagger,
  "run_pretraining": MaskFiller,
  ENCODER_SCRIPT: FeatureExtractor,
}


def script_of(directory: str) -> str:
  """Returns the script that a directory is of, without .py; that of an encoder without run.json.

  Raises:
    files.InputError: there is no such directory, or no predictor for its script.
  """
  if not files.is_directory(directory):
    raise files.InputError(f"there is no directory {directory}")
  if exported_model.is_export(directory):
    script = exported_model.read_description(directory).script
    path = os.path.join(directory, exported_model.DESCRIPTION_FILE)
  else:
    path = os.path.join(directory, "run.json")
    if not files.exists(path):
      return ENCODER_SCRIPT
    run = files.read_json(path)
    script = run.get("script", "") if isinstance(run, dict) else ""
  if script not in PREDICTORS:
    raise files.InputError(f"{path}: found the script {script}, which has no predictor")
  return script


def load(directory: str, engine: str = engines.AUTO) -> Loaded:
  """Loads the model of a directory, for its task.

  Args:
    directory: an output directory of training, an encoder, or an export of one of them.
    engine: member of engines.ENGINES.

  Raises:
    files.InputError: the directory is not complete, or the engine is not installed.
  """
  return PREDICTORS[script_of(directory)].from_directory(directory, engine=engine)
