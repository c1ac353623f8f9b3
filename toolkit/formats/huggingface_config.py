"""Reads and writes HuggingFace's descriptions of a model.

config.json has its architecture and labels, tokenizer_config.json its casing.

Both survive the conversion to BERT's configuration and back: the other keys are kept in its
attribute `huggingface`, {"config": {...}, "tokenizer_config": {...}}.
"""

import os
from typing import Any, Optional

from absl import logging

import modeling
from toolkit.formats.huggingface_files import read_object
from toolkit.formats.huggingface_names import BERT, FAMILIES, HEADS, NO_HEAD, Family
from toolkit.formats.model_directory import LABEL_FILE
from toolkit.support import files

# ---- Configurations -----------------------------------------------------------------------------

# HuggingFace's names of activations -> BERT's.
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate", "gelu_fast")
EXACT_GELUS = ("gelu", "gelu_python")
ACTIVATIONS = {
  **dict.fromkeys(TANH_GELUS + EXACT_GELUS, "gelu"),
  **{name: name for name in ("relu", "tanh", "linear")},
}

# Values that a HuggingFace model may have; others compute something else than BERT's encoder.
NECESSARY_SETTINGS = {
  "model_type": tuple(FAMILIES),
  "position_embedding_type": ("absolute",),
  "is_decoder": (False,),
  "add_cross_attention": (False,),
}


def read_config(path: str) -> modeling.BertConfig:
  """Reads config.json.

  Returns:
    The configuration with the attribute `huggingface`, a dict whose "config" has the keys that are
    not BERT's, and the original hidden_act.

  Raises:
    files.InputError: the file is missing or damaged, or the model is not equivalent to a BERT.
  """
  values = read_object(path)
  _check_settings(values, path)
  family = FAMILIES[values.get("model_type", "bert")]
  # Keys that are not in config.json have HuggingFace's defaults: those of BERT-base, uncased.
  defaults = modeling.BertConfig(vocab_size=30522, type_vocab_size=2, **family.defaults).to_dict()
  keys = {key: family.keys.get(key, key) for key in defaults}
  present = {key: values[its_key] for key, its_key in keys.items() if its_key in values}
  config = modeling.BertConfig.from_dict({**defaults, **present})
  activation = config.hidden_act
  config.hidden_act = _activation(activation, path)
  try:
    config.validate()
  except ValueError as error:
    raise files.InputError(f"{path}: {error}") from error
  others = {key: value for key, value in values.items() if key not in keys.values()}
  vars(config)["huggingface"] = {"config": {**others, "hidden_act": activation}}
  return config


def _check_settings(values, path):
  for key, allowed in NECESSARY_SETTINGS.items():
    if values.get(key, allowed[0]) not in allowed:
      raise files.InputError(
        f"{path}: {key} is {values[key]!r}, but only models with "
        f"{' or '.join(map(repr, allowed))} can be converted"
      )
  epsilon = values.get("layer_norm_eps", modeling.LAYER_NORM_EPSILON)
  if epsilon != modeling.LAYER_NORM_EPSILON:
    logging.warning(
      "%s: layer_norm_eps is %s, but BERT computes with %s: activations differ slightly",
      *(path, epsilon, modeling.LAYER_NORM_EPSILON),
    )


def _activation(activation, path):
  if activation in EXACT_GELUS:
    logging.warning(
      "%s: hidden_act %s is the exact GELU, for which BERT computes its tanh form: activations "
      "differ slightly, each by less than 0.001",
      *(path, activation),
    )
  try:
    return ACTIVATIONS[str(activation)]
  except KeyError:
    raise files.InputError(
      f"{path}: hidden_act is {activation!r}, but BERT has only {', '.join(ACTIVATIONS)}"
    ) from None


def origin_of(config: modeling.BertConfig) -> tuple[Family, dict[str, Any]]:
  """Returns the family of a converted model, BERT by default, and the kept part of config.json."""
  described = getattr(config, "huggingface", {}).get("config", {})
  return FAMILIES.get(described.get("model_type"), BERT), described


def architectures(described: dict[str, Any]) -> list[str]:
  """Returns the architectures in config.json."""
  names = described.get("architectures")
  return [str(name) for name in names] if isinstance(names, list) else []


def make_config(
  config: modeling.BertConfig,
  family: Family = BERT,
  head: str = NO_HEAD,
  num_labels: Optional[int] = None,
  labels: Optional[list[str]] = None,
  trained: Optional[dict[str, Any]] = None,
) -> dict[str, Any]:
  """Returns the content of config.json for a model, with the kept keys of its original.

  Args:
    config: the model's.
    family: the kind of model to write.
    head: key of huggingface_names.HEADS.
    num_labels: of the head; None for a head that has no labels.
    labels: None where they are not known.
    trained: flags of a script that has trained the model since; None or empty without.
  """
  values = config.to_dict()
  original = values.pop("huggingface", {}).get("config", {})
  values.update(original, model_type=family.model_type)
  values["architectures"] = _architectures_now(original, family, head)
  values["hidden_act"] = _activation_now(original, config.hidden_act, bool(trained))
  for key in {"dtype", "torch_dtype"} & values.keys():  # the type of the weights in the file
    values[key] = "float32"
  num_labels = NUM_LABELS.get(head, num_labels)
  if num_labels is not None:
    is_same = values["architectures"] == architectures(original)
    _set_labels(values, num_labels, labels, is_same)
  if head == "ForSequenceClassification" and trained:
    values["problem_type"] = _problem_type(num_labels, trained)
  named = {family.keys.get(key, key): value for key, value in values.items()}
  return {key: value for key, value in named.items() if key is not None}


def _architectures_now(original, family, head):
  """Returns the original architectures if they still apply, else the model's.

  Files of BertForMaskedLM often have the whole head of pre-training.
  """
  for name in architectures(original):
    scopes = family.scopes_of(name)
    if scopes == HEADS[head] or (scopes and set(scopes) < set(HEADS[head])):
      return architectures(original)
  return [family.prefix + head]


def _activation_now(original, hidden_act, is_trained):
  """Returns the original activation if the model still computes it, else the present one.

  The scripts train with the tanh GELU in place of the exact one.
  """
  activation = str(hidden_act or "linear").lower()
  before = original.get("hidden_act")
  if ACTIVATIONS.get(before) == activation and not (is_trained and before in EXACT_GELUS):
    return before
  return {"gelu": "gelu_new"}.get(activation, activation)


# ---- Labels -------------------------------------------------------------------------------------

DEFAULT_NUM_LABELS = 2  # where config.json has none
NUM_LABELS = {"ForQuestionAnswering": 2}  # the first and the last place of an answer
MULTI_LABEL = "multi_label_classification"  # a problem_type
LABEL_KEYS = ("id2label", "label2id", "num_labels", "_num_labels", "problem_type")


def find_labels(
  values: dict[str, Any], num_labels: Optional[int], path: str
) -> Optional[list[str]]:
  """Returns the labels of a head in the order of their ids.

  {"id2label": {"0": "no", "1": "yes"}} -> ["no", "yes"]

  Args:
    values: content of config.json.
    num_labels: number of the head's labels; None for a head that has no labels.
    path: that of config.json, for messages.

  Returns:
    None for a head without labels, for the one output of regression, and for HuggingFace's
    placeholders LABEL_0, LABEL_1.

  Raises:
    files.InputError: the labels are not those of the head, or impossible in label_list.txt.
  """
  is_multi_label = values.get("problem_type") == MULTI_LABEL
  if num_labels is None or (num_labels == 1 and not is_multi_label):
    return None
  if is_multi_label:
    logging.warning(
      "%s: multi-label, any number of labels per text: run_classifier.py --multi_label", path
    )
  id2label = values.get("id2label") or {}
  if not isinstance(id2label, dict):
    raise files.InputError(f"{path}: id2label is no JSON object")
  labels = _named_labels(values) if id2label else _placeholders(num_labels)
  if len(labels) != num_labels:
    raise files.InputError(f"{path}: id2label does not name the {num_labels} labels of the head")
  if len(set(labels)) < num_labels or any(set(label) & set("\r\n") for label in labels):
    raise files.InputError(
      f"{path}: id2label has a label twice, or of several lines; give each a name of its own"
    )
  if labels == _placeholders(num_labels):
    logging.warning(
      "%s does not name the %d labels (id2label): write them into %s, one per line, if they are "
      "not those of the task",
      *(path, num_labels, LABEL_FILE),
    )
    return None
  return labels


def _placeholders(num_labels):
  """Returns HuggingFace's names for labels without a name: LABEL_0, LABEL_1, ..."""
  return [f"LABEL_{number}" for number in range(num_labels)]


def _named_labels(values):
  """Returns the labels in config.json; those without a number from 0 on are left out."""
  id2label = values.get("id2label") or {}
  numbers = [str(number) for number in range(len(id2label))]
  return [str(id2label[number]) for number in numbers if number in id2label]


def _problem_type(num_labels, trained):
  """Returns HuggingFace's name for the kind of output of run_classifier.py."""
  if trained.get("multi_label"):
    return MULTI_LABEL
  return "regression" if num_labels == 1 else "single_label_classification"


def _set_labels(values, num_labels, labels, is_same):
  """Sets the labels (None: unknown) in a config.json unless it has them for the same head."""
  known = _named_labels(values) or _placeholders(values.get("num_labels", DEFAULT_NUM_LABELS))
  if is_same and len(known) == num_labels and labels in (None, known):
    return
  for key in LABEL_KEYS:
    values.pop(key, None)
  if labels or num_labels != DEFAULT_NUM_LABELS:
    labels = labels or _placeholders(num_labels)
    values["id2label"] = {str(number): label for number, label in enumerate(labels)}
    values["label2id"] = {label: number for number, label in enumerate(labels)}


# ---- Tokenizers ---------------------------------------------------------------------------------


def make_tokenizer_config(
  config: modeling.BertConfig, family: Family = BERT, do_lower_case: Optional[bool] = None
) -> dict[str, Any]:
  """Returns the content of tokenizer_config.json, empty when nothing is known.

  `do_lower_case`, unless it is None, overrides the original of the configuration.
  """
  original = getattr(config, "huggingface", {}).get("tokenizer_config", {})
  values = _with_casing(original, do_lower_case)
  if values and not original:
    values["model_max_length"] = config.max_position_embeddings
  tokenizer = values.get("tokenizer_class") or "Bert"
  if not tokenizer.startswith(("Bert", family.prefix)):
    values["tokenizer_class"] = "BertTokenizer"  # others do not read vocab.txt
  return values


def read_tokenizer_config(directory: str, do_lower_case: Optional[bool] = None) -> dict[str, Any]:
  """Reads tokenizer_config.json, and warns of settings that the scripts' tokenizer lacks.

  Args:
    directory: the model's. The result is empty without the file.
    do_lower_case: the casing if the file lacks it, or has it wrong.

  Raises:
    files.InputError: the file is damaged.
  """
  path = os.path.join(directory, "tokenizer_config.json")
  values = _read_if_there(path)
  if do_lower_case is None and "do_lower_case" not in values:
    normalizer = _read_if_there(os.path.join(directory, "tokenizer.json")).get("normalizer") or {}
    do_lower_case = normalizer.get("lowercase")
  values = _with_casing(values, do_lower_case)
  if values.get("strip_accents") not in (None, values.get("do_lower_case")):
    logging.warning("%s: strip_accents is not as do_lower_case, which BERT's scripts assume", path)
  if values.get("tokenize_chinese_chars") is False:
    logging.warning("%s: tokenize_chinese_chars is off, which BERT's tokenization lacks", path)
  return values


def _read_if_there(path):
  return read_object(path) if files.exists(path) else {}


def _with_casing(tokenizer_config, do_lower_case):
  values = dict(tokenizer_config)
  if do_lower_case is not None:
    values["do_lower_case"] = do_lower_case
  if "do_lower_case" not in values:
    logging.warning("It is not known whether the model is uncased; give --do_lower_case")
  return values
