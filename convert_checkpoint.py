"""Converts models of HuggingFace and TensorFlow Hub to TensorFlow checkpoints, and back.

  python convert_checkpoint.py --mode=from_huggingface \\
    --input=bert-base-uncased --output=/tmp/converted
  python convert_checkpoint.py --mode=to_huggingface \\
    --input=/tmp/reviews --output=/tmp/reviews_hf

  --mode              --input                 writes into --output
  from_huggingface    HuggingFace directory   bert_model.ckpt, bert_config.json, vocab.txt,
                                              label_list.txt where there are labels
  to_huggingface      TensorFlow checkpoint   model.safetensors, config.json, vocab.txt,
                                              tokenizer_config.json where the casing is known
  from_hub            module of TensorFlow    bert_model.ckpt, bert_config.json, vocab.txt
                      Hub, or its .tar.gz
  strip               training checkpoint     bert_model.ckpt without optimizer slots, averages and
                                              step, and the descriptions beside the checkpoint

What is converted, with HuggingFace both ways: the encoder, and these heads.

  HuggingFace                                           script that uses it
  BertForPreTraining, BertForMaskedLM                   run_pretraining.py
  BertForNextSentencePrediction                         as a start for run_pretraining.py
  BertForSequenceClassification                         run_classifier.py
  BertForQuestionAnswering                              run_squad.py
  BertForTokenClassification                            run_ner.py
  BertForMultipleChoice                                 run_multiple_choice.py
  DistilBertForMaskedLM, ForQuestionAnswering, ForTokenClassification: as those of BERT

DistilBERT becomes a BERT whose token types are all zeros, and returns to DistilBERT as long as they
are. For a directory that a script has trained, --input needs only its name: its checkpoint is the
best one, in best/, if that is kept, or the last.

TensorFlow Hub: modules of its first version (saved_model.pb, tfhub_module.pb) and encoders of
TensorFlow 2, with the head of the masked language model if they have it. Nothing in them is run.

A scope that all names of the encoder are in, such as module/ or module., is taken off.

Values are copied bit by bit, 16-bit floats widened to 32. PyTorch is needed for pytorch_model.bin
alone; nothing in it is run.

What HuggingFace's files say and BERT's configuration has no place for is kept in bert_config.json
under the key "huggingface", and returns to them with --mode=to_huggingface:

  {"vocab_size": 30522, ..., "hidden_act": "gelu",
   "huggingface": {"config": {"hidden_act": "gelu_new", "pad_token_id": 0, ...},
                   "tokenizer_config": {"do_lower_case": true, ...}}}

"gelu" names two functions: the tanh form in BERT's configuration, the exact one in HuggingFace's,
which calls the tanh form "gelu_new". The name under "huggingface" is used again as long as it
converts to the present hidden_act, and the model has not been trained since (there is no run.json).
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import json
import os
from collections.abc import Callable
from typing import NamedTuple, Optional

import numpy as np
import safetensors.numpy
import tensorflow.compat.v1 as tf
from absl import logging

import tokenization
from toolkit.formats import (
  checkpoints,
  hub_modules,
  huggingface_config,
  huggingface_names,
  model_directory,
  variable_names,
)
from toolkit.formats.checkpoints import (  # noqa: F401, public names of this module
  is_training_state,
  read_checkpoint,
)
from toolkit.formats.huggingface_files import SAFETENSORS, bad_type, read_object, read_weights
from toolkit.formats.huggingface_names import BERT, DISTILBERT, HEADS, NO_HEAD, TOKEN_TYPES, Family
from toolkit.formats.model_directory import LABEL_FILE, RUN_FILE
from toolkit.formats.model_files import CONFIG_FILE, VOCAB_FILE
from toolkit.support import command_line, files, logs

CHECKPOINT = "bert_model.ckpt"

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_enum(
  "mode",
  None,
  ["from_huggingface", "to_huggingface", "from_hub", "strip"],
  "Conversion. from_huggingface: HuggingFace directory to TensorFlow checkpoint. to_huggingface: "
  "the other direction. from_hub: module of TensorFlow Hub to TensorFlow checkpoint. strip: remove "
  "optimizer slots and global_step from a checkpoint.",
  group="essential",
)
flags.DEFINE_string(
  "input",
  None,
  "HuggingFace directory; directory or .tar.gz archive of a module of TensorFlow Hub; or a "
  "checkpoint: its prefix (bert_model.ckpt) or its directory. Of an --output_dir of training with "
  "best/, it is the best checkpoint.",
  group="essential",
)
flags.DEFINE_string(
  "output", None, "Directory of the result, which is created if needed.", group="essential"
)
flags.DEFINE_string(
  "bert_config_file",
  None,
  "Configuration of a checkpoint. Default: the bert_config.json beside it.",
  group="essential",
)
flags.DEFINE_string(
  "vocab_file", None, "Vocabulary. Default: the one beside the weights.", group="essential"
)
flags.DEFINE_bool(
  "do_lower_case",
  None,
  "Mark the model as uncased in the output. Default: the casing in the input's files.",
  group="essential",
)
flags.DEFINE_bool(
  "allow_unplaced",
  False,
  "Leave out variables without a counterpart in the output: heads, and additions to the encoder. "
  "By default they are an error.",
  group="essential",
)
flags.DEFINE_bool("overwrite", False, "Replace a model in --output.", group="essential")

# The flags of a mode besides --input, --output and --overwrite.
MODE_FLAGS = {
  "from_huggingface": ("vocab_file", "do_lower_case", "allow_unplaced"),
  "to_huggingface": ("bert_config_file", "vocab_file", "do_lower_case", "allow_unplaced"),
  "from_hub": ("vocab_file", "do_lower_case", "allow_unplaced"),
  "strip": ("bert_config_file", "vocab_file"),
}


# ---- The conversions ----------------------------------------------------------------------------


# The source of a tensor, its shape, the target and its shape; None for a tensor that is left out.
Row = tuple[str, tuple[int, ...], str, Optional[tuple[int, ...]]]


class Conversion(NamedTuple):
  """A converted model, complete and checked, to be written.

  Attributes:
    weights: file name of the weights, CHECKPOINT or SAFETENSORS.
    tensors: name -> array.
    texts: file name -> content, None for a file that the model lacks; the configuration, without
      which a directory is no model, comes last.
    rows: the conversions.
    ignored: number of slots, steps, buffers and copies that are in no row.
  """

  weights: str
  tensors: dict[str, np.ndarray]
  texts: dict[str, Optional[str]]
  rows: list[Row]
  ignored: int


def from_huggingface(
  directory: str,
  vocab_file: Optional[str] = None,
  do_lower_case: Optional[bool] = None,
  allow_unplaced: bool = False,
) -> Conversion:
  """Converts a HuggingFace directory to a checkpoint with float32 arrays.

  Args:
    directory: with the weights (see huggingface_files.read_weights), config.json and vocab.txt (or
      tokenizer.json).
    vocab_file: the vocabulary if it is elsewhere.
    do_lower_case: the casing if tokenizer_config.json lacks it, or has it wrong.
    allow_unplaced: leave out heads that cannot be converted, and what the encoder has in addition,
      instead of raising an error.

  Raises:
    files.InputError: a file is missing or damaged, the model is neither BERT nor DistilBERT,
      tensors are missing, have no place, or contradict the configuration.
  """
  config_path = os.path.join(directory, "config.json")
  config = huggingface_config.read_config(config_path)
  family, described = huggingface_config.origin_of(config)
  vocab = _read_vocab(vocab_file or _find_vocab(directory), config.vocab_size)
  tokenizer = huggingface_config.read_tokenizer_config(directory, do_lower_case)
  vars(config)["huggingface"]["tokenizer_config"] = tokenizer
  path, tensors = _read_huggingface(directory)
  ignored = _drop_copies(tensors, family, path)
  plan = _plan_from_huggingface(tensors, config)
  ignored += _drop_cancelled(tensors, plan)
  labels = huggingface_config.find_labels(described, plan.num_labels, config_path)
  converted, rows = convert_tensors(
    tensors, plan, path, allow_unplaced, _unplaced_reason(family, described)
  )
  rows += _add_token_types(converted, config)
  texts = {
    VOCAB_FILE: vocab,
    LABEL_FILE: labels and "".join(label + "\n" for label in labels),
    CONFIG_FILE: config.to_json_string(),
  }
  return Conversion(CHECKPOINT, converted, texts, rows, ignored)


def to_huggingface(
  checkpoint: str,
  bert_config_file: Optional[str] = None,
  vocab_file: Optional[str] = None,
  do_lower_case: Optional[bool] = None,
  allow_unplaced: bool = False,
) -> Conversion:
  """Converts a checkpoint to a HuggingFace directory for from_pretrained; float32 arrays.

  Args:
    checkpoint: prefix of the checkpoint or its directory.
    bert_config_file, vocab_file: default those beside the checkpoint.
    do_lower_case: the casing if neither the run.json beside the checkpoint nor bert_config.json has
      it.
    allow_unplaced: leave out heads that cannot be converted, and what the encoder has in addition,
      instead of raising an error.

  Raises:
    files.InputError: see from_huggingface.
  """
  prefix, directory = find_checkpoint(checkpoint)
  config = model_directory.read_config(
    bert_config_file or _beside(directory, CONFIG_FILE, "bert_config_file")
  )
  vocab = _read_vocab(vocab_file or _beside(directory, VOCAB_FILE, "vocab_file"), config.vocab_size)
  tensors, ignored = read_checkpoint(prefix)
  plan = _plan_to_huggingface(tensors, config)
  ignored += _drop_lacking(tensors, plan.family)
  converted, rows = convert_tensors(tensors, plan, prefix, allow_unplaced)
  rows += _add_untied_copies(converted, config, plan)
  rows += _add_cancelled(converted, plan)
  trained = _trained_flags(directory)
  if do_lower_case is None:
    do_lower_case = trained.get("do_lower_case")
  tokenizer = huggingface_config.make_tokenizer_config(config, plan.family, do_lower_case)
  labels = _read_labels(directory, plan)
  description = huggingface_config.make_config(
    config, plan.family, plan.head, plan.num_labels, labels, trained
  )
  texts = {
    VOCAB_FILE: vocab,
    "tokenizer_config.json": _json_text(tokenizer) if tokenizer else None,
    "config.json": _json_text(description),
  }
  return Conversion(SAFETENSORS, converted, texts, rows, ignored)


def from_hub(
  path: str,
  vocab_file: Optional[str] = None,
  do_lower_case: Optional[bool] = None,
  allow_unplaced: bool = False,
) -> Conversion:
  """Converts a module of TensorFlow Hub to a checkpoint with float32 arrays.

  Args:
    path: the module's directory or .tar.gz archive; see hub_modules.opened.
    vocab_file: the vocabulary if it is not among the module's assets.
    do_lower_case: the casing if the module does not tell, or has it wrong.
    allow_unplaced: see from_huggingface.

  Raises:
    files.InputError: the module is damaged or no BERT, or see from_huggingface.
  """
  with hub_modules.opened(path, "input") as module:
    config, tensors = module.config, module.tensors
    vocab = _read_vocab(module.required_vocab(vocab_file), config.vocab_size)
  casing = module.do_lower_case if do_lower_case is None else do_lower_case
  hub_modules.keep_casing(config, casing)
  plan = _plan_to_huggingface(tensors, config)
  routes = [route._replace(target=route.source, transposed=False) for route in plan.routes]
  converted, rows = convert_tensors(tensors, plan._replace(routes=routes), path, allow_unplaced)
  rows = [(*module.sources[source], target, shape) for source, _, target, shape in rows]
  texts = {VOCAB_FILE: vocab, CONFIG_FILE: config.to_json_string()}
  return Conversion(CHECKPOINT, converted, texts, rows, module.num_ignored)


def strip(
  checkpoint: str, bert_config_file: Optional[str] = None, vocab_file: Optional[str] = None
) -> Conversion:
  """Removes training state from a checkpoint, see checkpoints; keeps its description files.

  Args:
    checkpoint: prefix of the checkpoint or its directory.
    bert_config_file, vocab_file: default those beside the checkpoint, if any.

  Raises:
    files.InputError: the checkpoint or a description cannot be read, or it has several encoders.
  """
  prefix, directory = find_checkpoint(checkpoint)
  tensors, ignored = read_checkpoint(prefix)
  given = {VOCAB_FILE: vocab_file, CONFIG_FILE: bert_config_file}
  paths = {
    name: given.get(name) or os.path.join(directory, name)
    for name in (LABEL_FILE, RUN_FILE, VOCAB_FILE, CONFIG_FILE)
  }
  texts = {
    name: _read_exactly(path)
    for name, path in paths.items()
    if given.get(name) or files.exists(path)
  }
  rows: list[Row] = [(name, v.shape, name, v.shape) for name, v in tensors.items()]
  return Conversion(CHECKPOINT, tensors, texts, rows, ignored)


def find_checkpoint(path: str) -> tuple[str, str]:
  """Finds the checkpoint of --input, the best one of a directory that keeps it.

  Returns:
    Its prefix, and the directory with the files that describe it.

  Raises:
    files.InputError: there is no checkpoint; see checkpoints.resolve_checkpoint.
  """
  prefix = checkpoints.resolve_checkpoint(model_directory.trained_checkpoint(path) or path, "input")
  logs.notice("The checkpoint is %s", prefix)
  directory = os.path.dirname(prefix)
  is_best = os.path.basename(directory) == model_directory.BEST
  if is_best and not files.exists(os.path.join(directory, CONFIG_FILE)):
    directory = os.path.dirname(directory)
  return prefix, directory


# ---- The structure of a model -------------------------------------------------------------------


class Plan(NamedTuple):
  """The conversion of a model.

  Attributes:
    head: key of huggingface_names.HEADS.
    num_labels: number of the head's labels; None for a head that has no labels.
  """

  family: Family
  head: str
  num_labels: Optional[int]
  routes: list[huggingface_names.Route]


def _plan_from_huggingface(tensors, config):
  family, described = huggingface_config.origin_of(config)
  # Two names for the same tensor leave one of them without a route, which is an error.
  in_file = {family.canonical_name(name): name for name in tensors}
  head = family.head_of(in_file, huggingface_config.architectures(described))
  num_labels = _num_labels(head, 1, {name: tensors[in_file[name]] for name in in_file})
  routes = [route.reversed() for route in family.routes(config, head, num_labels)]
  routes = [route._replace(source=in_file.get(route.source, route.source)) for route in routes]
  return Plan(family, head, num_labels, routes)


def _plan_to_huggingface(tensors, config):
  head = huggingface_names.head_of_checkpoint(tensors)
  family = _find_family(config, tensors, head)
  num_labels = _num_labels(head, 0, tensors)
  routes = family.routes(config, head, num_labels)
  if head == NO_HEAD:
    base = family.model_type + "."
    routes = [route._replace(target=route.target.removeprefix(base)) for route in routes]
  return Plan(family, head, num_labels, routes)


def _num_labels(head, side, tensors):
  """Returns the number of a head's labels or None; `side` is 0 for TensorFlow's names, else 1."""
  names = huggingface_names.label_bias(head)
  return tensors[names[side]].size if names else None


def _unplaced_reason(family, described):
  """Returns the reason why tensors on top of a HuggingFace encoder have no place."""
  architectures = huggingface_config.architectures(described)
  if family is DISTILBERT and "DistilBertForSequenceClassification" in architectures:
    return "its classifier has a layer with ReLU where BERT's has the pooler with tanh"
  return f"config.json has {', '.join(map(str, architectures)) or 'no architecture'}"


def _read_huggingface(directory):
  """Reads weights as read_weights does, to names without the scope that all of them may be in."""
  path, tensors = read_weights(directory)
  names = variable_names.resolve(tensors, variable_names.HUGGINGFACE, path)
  names.log(path)
  return path, {name: tensors[source] for name, source in names.sources.items()}


def _drop_copies(tensors, family, origin):
  """Removes buffers and copies of other tensors; returns their number.

  A copy whose original is not in the file takes its place.
  """
  before = len(tensors)
  in_file = {family.canonical_name(name): name for name in tensors}
  tensors.pop(in_file.get(family.rename(huggingface_names.POSITION_IDS)), None)
  for copy, name in family.copies().items():
    if copy in in_file:
      value = tensors.pop(in_file[copy])
      original = tensors.setdefault(in_file.get(name, name), value)
      if original.tobytes() != value.tobytes():
        raise files.InputError(
          f"{origin}: {in_file[copy]} differs from {in_file[name]}, where BERT has one table for "
          "both; such a head cannot be converted"
        )
  return before - len(tensors)


def _add_untied_copies(converted, config, plan):
  """Adds the copies that a configuration without tied weights requires; returns their rows."""
  _, described = huggingface_config.origin_of(config)
  if "masked_lm" not in HEADS[plan.head] or described.get("tie_word_embeddings") is not False:
    return []
  copies = plan.family.copies()
  converted.update({copy: converted[name] for copy, name in copies.items()})
  return [(f"({name})", None, copy, converted[copy].shape) for copy, name in copies.items()]


def _drop_cancelled(tensors, plan):
  """Removes the bias of the choices, which has no effect; returns the number of tensors removed."""
  if "choices" not in HEADS[plan.head]:
    return 0
  return int(tensors.pop(huggingface_names.CHOICES_BIAS, None) is not None)


def _add_cancelled(converted, plan):
  """Adds the bias of the choices to HuggingFace's tensors, as zeros; returns its row."""
  if "choices" not in HEADS[plan.head]:
    return []
  converted[huggingface_names.CHOICES_BIAS] = np.zeros([1], np.float32)
  return [("(zeros)", None, huggingface_names.CHOICES_BIAS, (1,))]


def _add_token_types(converted, config):
  """Adds the token types that DistilBERT lacks to a checkpoint, as zeros; returns their row."""
  if TOKEN_TYPES in converted:
    return []
  converted[TOKEN_TYPES] = np.zeros([config.type_vocab_size, config.hidden_size], np.float32)
  return [("(zeros)", None, TOKEN_TYPES, converted[TOKEN_TYPES].shape)]


def _find_family(config, tensors, head):
  """Returns the original family of a checkpoint if it still has its form, else BERT."""
  family, _ = huggingface_config.origin_of(config)
  extra = [name for name in _lacking(tensors, family) if tensors[name].any()]
  if family is DISTILBERT and (extra or head not in family.heads):
    logging.warning(
      "The model was a DistilBERT and has become a BERT by training (%s); it is written as BERT",
      _enumerate(extra or [f"head {head}"]),
    )
    return BERT
  return family


def _lacking(tensors, family):
  """Returns the names of the encoder's variables that a family lacks."""
  prefixes = tuple(prefix.replace(".", "/") for prefix in family.lacks)
  return [name for name in tensors if (name + "/").startswith(prefixes)]


def _drop_lacking(tensors, family):
  """Removes the variables that a family lacks, all zeros; returns their number."""
  names = _lacking(tensors, family)
  for name in names:
    del tensors[name]
  return len(names)


# ---- Tensors ------------------------------------------------------------------------------------


def convert_tensors(
  tensors: dict[str, np.ndarray], plan: Plan, origin: str, allow_unplaced: bool, reason: str = ""
) -> tuple[dict[str, np.ndarray], list[Row]]:
  """Converts tensors by the routes of a plan.

  Args:
    tensors: source name -> array.
    plan: of the model.
    origin: the path of the tensors, for messages.
    allow_unplaced: leave out heads that have no routes, and what the encoder has in addition,
      instead of raising an error.
    reason: the cause of such, for the message.

  Returns:
    Target name -> float32 array, and the rows of the conversion.

  Raises:
    files.InputError: tensors are missing, have no place, or have a wrong shape or type.
  """
  routes = _without_missing_pooler(tensors, plan, origin)
  unplaced = [name for name in tensors if name not in {route.source for route in routes}]
  _check_unplaced(unplaced, plan, origin, allow_unplaced, reason)
  converted = {}
  for route in routes:
    value = _widen(tensors[route.source], f"{origin}: {route.source}")
    if value.shape != route.shape:
      raise files.InputError(
        f"{origin}: {route.source} has shape {list(value.shape)}, where the configuration has "
        f"{list(route.shape)}"
      )
    converted[route.target] = np.ascontiguousarray(value.T if route.transposed else value)
  if plan.head == NO_HEAD and not any("pooler" in name for name in converted):
    logging.warning("%s has no pooler, so neither has the output", origin)
  rows: list[Row] = [(r.source, r.shape, r.target, converted[r.target].shape) for r in routes]
  rows += [(name, tensors[name].shape, "(left out)", None) for name in unplaced]
  return converted, rows


def _without_missing_pooler(tensors, plan, origin):
  """Returns the routes with a source. The whole pooler may be missing if no head uses it."""
  missing = [route for route in plan.routes if route.source not in tensors]
  if not missing:
    return plan.routes
  is_needed = huggingface_names.OVER_POOLER & set(HEADS[plan.head])
  if is_needed or missing != [route for route in plan.routes if "pooler" in route.source]:
    raise files.InputError(
      f"{origin}: lacks {_enumerate([route.source for route in missing])}, which the configuration "
      f"describes{variable_names.foreign_format(tensors)}"
    )
  return [route for route in plan.routes if route not in missing]


def _check_unplaced(unplaced, plan, origin, allow_unplaced, reason):
  """Checks that names without a route may be left out, and warns of what that means.

  What contradicts the configuration may not: a layer that it does not count is a part of the
  encoder, without which all vectors are others; of one tensor under two names, none is known to be
  the right one.
  """
  encoder = [name for name in unplaced if huggingface_names.ENCODER_NAME.match(name)]
  heads = [name for name in unplaced if name not in encoder]
  _check_contradictions(encoder, plan, origin)
  if encoder and not allow_unplaced:
    raise files.InputError(
      f"{origin}: the encoder that the configuration describes has no {_enumerate(encoder)}; give "
      "--allow_unplaced to leave it out, if the model is the same without it"
    )
  if heads and not allow_unplaced:
    raise files.InputError(
      f"{origin}: {_enumerate(heads)} is not the whole of a head that can be converted"
      f"{reason and f' ({reason})'}; give --allow_unplaced to leave it out"
    )
  if encoder:
    logging.warning("%s is left out: the encoder is used without it", _enumerate(encoder))
  if heads:
    logging.warning("%s is left out: training starts such a head anew", _enumerate(heads))


def _check_contradictions(encoder, plan, origin):
  """Checks that parts of an encoder without a route are neither its layers nor its tensors."""
  layers = {huggingface_names.layer_of(route.source) for route in plan.routes}
  others = [name for name in encoder if huggingface_names.layer_of(name) not in layers]
  if others:
    raise files.InputError(
      f"{origin}: the encoder that the configuration describes has no {_enumerate(others)}; give "
      "the configuration of the model, with the number of its layers"
    )
  sources = {plan.family.canonical_name(route.source): route.source for route in plan.routes}
  for name in encoder:
    other = sources.get(plan.family.canonical_name(name))
    if other:
      raise files.InputError(
        f"{origin}: has {other} and {name}, two names for one tensor; save it without one of them"
      )


def _enumerate(names, most=12):
  """Joins names to one line; with `most` 2, ["a", "b", "c"] -> "a, b and 1 more"."""
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more


def _widen(value, place):
  """Converts an array to float32, which represents every 16-bit float exactly."""
  if value.dtype not in (np.float32, np.float16, tf.bfloat16.as_numpy_dtype):
    raise bad_type(place, value.dtype)
  return value.astype(np.float32, copy=False)


# ---- Texts --------------------------------------------------------------------------------------


def _find_vocab(directory):
  """Returns the path of the vocabulary; recent versions of transformers write only a JSON file."""
  for name in (VOCAB_FILE, "tokenizer.json"):
    path = os.path.join(directory, name)
    if files.exists(path):
      return path
  raise files.InputError(f"{directory}: has no {VOCAB_FILE} nor tokenizer.json; give --vocab_file")


def _read_vocab(path, vocab_size):
  """Returns the text of a vocab.txt, or of one for the word pieces in a tokenizer.json."""
  if path.endswith(".json"):
    text = _vocab_of_tokenizer(path)
  else:
    with files.input_checks():
      tokenization.validate_vocab(path, required=())
    text = _read_exactly(path)
  lines = text.rstrip("\r\n").split("\n")
  vocab = {line.strip(): number for number, line in enumerate(lines)}
  problem = model_directory.vocab_problem(vocab, vocab_size)
  if problem:
    raise files.InputError(
      f"{path}: has {problem[0]}, where the model has {vocab_size}: {problem[1]}"
    )
  if len(lines) < vocab_size:
    logging.warning("%s has %d word pieces, the model %d", path, len(lines), vocab_size)
  return text


def _vocab_of_tokenizer(path):
  """Reads {"model": {"type": "WordPiece", "vocab": {"b": 1, "a": 0}}} to "a\\nb\\n".

  A number without a piece is a blank line: vocabularies with a piece on two lines have such.
  """
  model = read_object(path).get("model") or {}
  vocab = model.get("vocab") or {}
  pieces = {number: piece for piece, number in vocab.items()}
  are_numbers = len(pieces) == len(vocab) and all(type(n) is int and n >= 0 for n in pieces)
  if model.get("type") != "WordPiece" or not are_numbers or max(pieces, default=0) > 2 * len(vocab):
    raise files.InputError(f"{path}: holds no word pieces numbered from 0; give --vocab_file")
  return "".join(pieces.get(number, "") + "\n" for number in range(max(pieces, default=-1) + 1))


def _read_exactly(path):
  """Reads the text of a file with its own newlines, which files.read_text would unify."""
  return files.decode(files.read_bytes(path), path)


def _json_text(value):
  return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _beside(directory, name, flag):
  path = os.path.join(directory, name)
  if not files.exists(path):
    raise files.InputError(f"--{flag}: not given, and there is no {path}")
  return path


def _read_labels(directory, plan):
  """Reads the labels of a checkpoint's head; None where they are not known."""
  has_labels = huggingface_names.label_bias(plan.head) is not None
  labels = model_directory.read_labels(directory) if has_labels else None
  if labels and len(labels) != plan.num_labels:
    raise files.InputError(
      f"{os.path.join(directory, LABEL_FILE)}: has {len(labels)} labels, where the head has "
      f"{plan.num_labels}; it belongs to another model"
    )
  return labels


def _trained_flags(directory):
  """Reads the flags of the training that made a directory; an empty dict without run.json."""
  path = os.path.join(directory, RUN_FILE)
  return read_object(path).get("flags", {}) if files.exists(path) else {}


# ---- Weights on disk ----------------------------------------------------------------------------


def save_safetensors(path: str, tensors: dict[str, np.ndarray]) -> None:
  """Writes contiguous arrays to a HuggingFace safetensors file, whole or not at all."""
  temporary = path + ".tmp"
  with files.open_binary(temporary, "w") as f:
    f.write(safetensors.numpy.save(tensors, metadata={"format": "pt"}))
  tf.io.gfile.rename(temporary, path, overwrite=True)


# ---- The command --------------------------------------------------------------------------------


def write(conversion: Conversion, directory: str, overwrite: bool = False) -> None:
  """Writes a converted model into a directory, which is made when it does not exist.

  A description of another model is removed first; the new ones are written after the weights. So
  a directory never has parts of two models.

  Raises:
    files.InputError: the directory cannot be written, or has another model and not `overwrite`.
  """
  files.make_directory(directory, "output")
  weights = os.path.join(directory, conversion.weights)
  texts = {os.path.join(directory, name): text for name, text in conversion.texts.items()}
  outdated = [
    path for path, text in texts.items() if files.exists(path) and _read_exactly(path) != text
  ]
  if not overwrite:
    _refuse_existing([*outdated, *filter(files.exists, (weights, weights + ".index"))])
  try:
    for path in outdated:
      files.remove(path)
    save = save_safetensors if conversion.weights == SAFETENSORS else checkpoints.save_checkpoint
    save(weights, conversion.tensors)
    for path, text in texts.items():
      if text is not None:
        files.write_text(path, text)
  except (OSError, tf.errors.OpError) as error:
    raise files.InputError(
      f"--output: cannot write in {directory}: {files.describe(error)}"
    ) from error


def _refuse_existing(paths):
  if paths:
    raise files.InputError(
      f"--output: {_enumerate(paths)} exists; give another directory, or --overwrite to replace it"
    )


def table(conversion: Conversion) -> list[str]:
  """Returns one line per conversion, and a last one with the sums.

  bert.pooler.dense.bias [384] -> bert/pooler/dense/bias [384]
  cls.predictions.bias [30522] -> (left out)
  converted 1 tensors, 384 parameters; left out 1; ignored 1 (slots, steps, buffers, copies)
  """
  sides = [
    (_name_and_shape(source, shape), _name_and_shape(target, target_shape))
    for source, shape, target, target_shape in conversion.rows
  ]
  width = max((len(source) for source, _ in sides), default=0)
  converted = len(conversion.tensors)
  parameters = sum(value.size for value in conversion.tensors.values())
  return [
    *(f"{source:<{width}} -> {target}" for source, target in sides),
    f"converted {converted} tensors, {parameters:,} parameters; left out {len(sides) - converted}; "
    f"ignored {conversion.ignored} (slots, steps, buffers, copies)",
  ]


def _name_and_shape(name, shape):
  return name if shape is None else f"{name} {list(shape)}"


def main(_: list[str]) -> None:
  """Converts a model by the flags."""
  settings = flags.settings()
  settings.require(("mode", "input", "output"), "a conversion")
  conversion = _convert(settings)
  write(conversion, settings.output, settings.overwrite)
  print("\n".join(table(conversion)))


def _convert(settings):
  mode = settings.mode
  options = MODE_FLAGS[mode]
  for name in MODE_FLAGS["to_huggingface"]:  # which has all of them
    if name not in options and settings.is_given(name):
      raise files.InputError(f"--{name} has no effect with --mode={mode}")
  convert: dict[str, Callable[..., Conversion]] = {
    "from_huggingface": from_huggingface,
    "to_huggingface": to_huggingface,
    "from_hub": from_hub,
    "strip": strip,
  }
  return convert[mode](settings.input, **{name: settings[name] for name in options})


if __name__ == "__main__":
  command_line.run(main, flags)
