"""Converts encoders between HuggingFace directories and TensorFlow checkpoints, and strips them.

  --mode              --input                 writes into --output
  from_huggingface    HuggingFace directory   bert_model.ckpt, bert_config.json, vocab.txt
  to_huggingface      TensorFlow checkpoint   model.safetensors, config.json, vocab.txt,
                                              tokenizer_config.json where the casing is known
  strip               training checkpoint     bert_model.ckpt without optimizer slots and step, and
                                              the descriptions that lie beside the checkpoint

Values are copied bit by bit, 16-bit floats widened to 32. PyTorch is not needed.

What HuggingFace's files say and BERT's configuration has no place for is kept in bert_config.json
under the key "huggingface", and returns to them with --mode=to_huggingface:

  {"vocab_size": 30522, ..., "hidden_act": "gelu",
   "huggingface": {"config": {"hidden_act": "gelu_new", "pad_token_id": 0, ...},
                   "tokenizer_config": {"do_lower_case": true, ...}}}

"gelu" names two functions: the tanh form in BERT's configuration, the exact one in HuggingFace's,
which calls the tanh form "gelu_new". The name under "huggingface" is used again as long as it
converts to the present hidden_act.
"""

import quiet_start  # noqa: F401, first of all  # isort: skip

import json
import os
import re
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
import tensorflow.compat.v1 as tf
from absl import flags, logging

import common_flags
import estimators
import files
import modeling
from model_directory import CONFIG_FILE, LABEL_FILE, RUN_FILE, VOCAB_FILE

CHECKPOINT = "bert_model.ckpt"
SAFETENSORS = "model.safetensors"

FLAGS = flags.FlagValues()
flags.DEFINE_enum(
  "mode",
  None,
  ["from_huggingface", "to_huggingface", "strip"],
  "from_huggingface: HuggingFace directory to TensorFlow checkpoint; to_huggingface: the way back; "
  "strip: leave optimizer slots and global_step out of a checkpoint.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "input",
  None,
  "HuggingFace directory, or a checkpoint: its prefix (bert_model.ckpt) or its directory.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "output", None, "Directory to write into; made when it does not exist.", flag_values=FLAGS
)
flags.DEFINE_string(
  "bert_config_file",
  None,
  "For a checkpoint: its configuration. Default: the bert_config.json beside it.",
  flag_values=FLAGS,
)
flags.DEFINE_string(
  "vocab_file", None, "The vocabulary. Default: the one beside the weights.", flag_values=FLAGS
)
flags.DEFINE_bool(
  "do_lower_case",
  None,
  "Whether the model is uncased, to be noted in the output. Default: what the input says.",
  flag_values=FLAGS,
)
flags.DEFINE_bool(
  "allow_unplaced",
  False,
  "Leave out heads (what stands on top of the encoder) instead of refusing them.",
  flag_values=FLAGS,
)
flags.DEFINE_bool("overwrite", False, "Replace a model in --output.", flag_values=FLAGS)
common_flags.finish(FLAGS)

# The flags that a mode takes besides --input, --output and --overwrite.
MODE_FLAGS = {
  "from_huggingface": ("vocab_file", "do_lower_case", "allow_unplaced"),
  "to_huggingface": ("bert_config_file", "vocab_file", "do_lower_case", "allow_unplaced"),
  "strip": ("bert_config_file", "vocab_file"),
}


# ---- The table of names -------------------------------------------------------------------------


class Tensor(NamedTuple):
  """A row of the table of names.

  Attributes:
    scope: key in SCOPES.
    tensorflow: name of the variable in its scope.
    huggingface: name of the parameter in its scope.
    shape: of the variable, a letter a dimension; see SIZES.
    transposed: whether the parameter is the transposed variable. TensorFlow's dense layers multiply
      by [inputs, outputs], PyTorch's by [outputs, inputs].
  """

  scope: str
  tensorflow: str
  huggingface: str
  shape: str
  transposed: bool = False


SIZES = {
  "V": "vocab_size",
  "T": "type_vocab_size",
  "P": "max_position_embeddings",
  "H": "hidden_size",
  "I": "intermediate_size",
}

SCOPES = {  # {} is the number of the layer
  "embeddings": ("bert/embeddings/", "bert.embeddings."),
  "layer": ("bert/encoder/layer_{}/", "bert.encoder.layer.{}."),
  "pooler": ("bert/pooler/", "bert.pooler."),
}

TENSORS = (
  Tensor("embeddings", "word_embeddings", "word_embeddings.weight", "VH"),
  Tensor("embeddings", "token_type_embeddings", "token_type_embeddings.weight", "TH"),
  Tensor("embeddings", "position_embeddings", "position_embeddings.weight", "PH"),
  Tensor("embeddings", "LayerNorm/beta", "LayerNorm.bias", "H"),
  Tensor("embeddings", "LayerNorm/gamma", "LayerNorm.weight", "H"),
  Tensor("layer", "attention/self/query/kernel", "attention.self.query.weight", "HH", True),
  Tensor("layer", "attention/self/query/bias", "attention.self.query.bias", "H"),
  Tensor("layer", "attention/self/key/kernel", "attention.self.key.weight", "HH", True),
  Tensor("layer", "attention/self/key/bias", "attention.self.key.bias", "H"),
  Tensor("layer", "attention/self/value/kernel", "attention.self.value.weight", "HH", True),
  Tensor("layer", "attention/self/value/bias", "attention.self.value.bias", "H"),
  Tensor("layer", "attention/output/dense/kernel", "attention.output.dense.weight", "HH", True),
  Tensor("layer", "attention/output/dense/bias", "attention.output.dense.bias", "H"),
  Tensor("layer", "attention/output/LayerNorm/beta", "attention.output.LayerNorm.bias", "H"),
  Tensor("layer", "attention/output/LayerNorm/gamma", "attention.output.LayerNorm.weight", "H"),
  Tensor("layer", "intermediate/dense/kernel", "intermediate.dense.weight", "HI", True),
  Tensor("layer", "intermediate/dense/bias", "intermediate.dense.bias", "I"),
  Tensor("layer", "output/dense/kernel", "output.dense.weight", "IH", True),
  Tensor("layer", "output/dense/bias", "output.dense.bias", "H"),
  Tensor("layer", "output/LayerNorm/beta", "output.LayerNorm.bias", "H"),
  Tensor("layer", "output/LayerNorm/gamma", "output.LayerNorm.weight", "H"),
  Tensor("pooler", "dense/kernel", "dense.weight", "HH", True),
  Tensor("pooler", "dense/bias", "dense.bias", "H"),
)


class Route(NamedTuple):
  """The way of one tensor: names, the shape at its source, and whether it is transposed."""

  source: str
  target: str
  shape: tuple
  transposed: bool

  def reversed(self):
    """The way back."""
    shape = self.shape[::-1] if self.transposed else self.shape
    return Route(self.target, self.source, shape, self.transposed)


def encoder_routes(config):
  """The routes of all tensors of an encoder from TensorFlow to HuggingFace.

  bert/encoder/layer_0/output/dense/kernel [I, H] -> bert.encoder.layer.0.output.dense.weight [H, I]

  Args:
    config: modeling.BertConfig.

  Returns:
    List of Route, from the embeddings up.
  """
  sizes = {letter: getattr(config, key) for letter, key in SIZES.items()}
  return [
    Route(
      scope_tf.format(number) + row.tensorflow,
      scope_hf.format(number) + row.huggingface,
      tuple(sizes[letter] for letter in row.shape),
      row.transposed,
    )
    for scope, (scope_tf, scope_hf) in SCOPES.items()
    for number in range(config.num_hidden_layers if scope == "layer" else 1)
    for row in TENSORS
    if row.scope == scope
  ]


def canonical_name(name):
  """The name that a parameter has in the table.

  encoder.layer.0.output.LayerNorm.gamma -> bert.encoder.layer.0.output.LayerNorm.weight
  cls.predictions.bias                   -> cls.predictions.bias
  """
  name = re.sub(r"^(embeddings|encoder|pooler)\.", r"bert.\1.", name)
  return re.sub(
    r"\bLayerNorm\.(gamma|beta)$",
    lambda match: "LayerNorm." + {"gamma": "weight", "beta": "bias"}[match[1]],
    name,
  )


# ---- The three conversions ----------------------------------------------------------------------


class Conversion(NamedTuple):
  """A converted model, complete and checked, to be written.

  Attributes:
    weights: file name of the weights, CHECKPOINT or SAFETENSORS.
    tensors: dict of name -> array.
    texts: dict of file name -> content; the configuration, without which a directory is no model,
      comes last.
    rows: the table of what went where, tuples (source, its shape, target, its shape).
    ignored: int, slots, steps and buffers that are in no row.
  """

  weights: str
  tensors: dict
  texts: dict
  rows: list
  ignored: int


def from_huggingface(directory, vocab_file=None, do_lower_case=None, allow_unplaced=False):
  """Converts a HuggingFace directory to a checkpoint.

  Args:
    directory: str, with model.safetensors, config.json and vocab.txt (or tokenizer.json).
    vocab_file: str, the vocabulary if it is elsewhere.
    do_lower_case: bool, the casing if tokenizer_config.json does not say it, or says it wrongly.
    allow_unplaced: bool, leave out heads instead of refusing them.

  Returns:
    Conversion with float32 arrays.

  Raises:
    files.InputError: a file is missing or damaged, the model is no BERT encoder, tensors are
      missing, have no place, or contradict the configuration.
  """
  config = config_from_huggingface(os.path.join(directory, "config.json"))
  vocab = _read_vocab(vocab_file or _find_vocab(directory), config.vocab_size)
  config.huggingface["tokenizer_config"] = _read_tokenizer_config(directory, do_lower_case)
  path = os.path.join(directory, SAFETENSORS)
  tensors = read_safetensors(path)
  buffers = [name for name in tensors if canonical_name(name) == "bert.embeddings.position_ids"]
  for name in buffers:
    del tensors[name]
  # Two names for the same tensor leave one of them without a route, which is an error.
  in_file = {canonical_name(name): name for name in tensors}
  routes = [route.reversed() for route in encoder_routes(config)]
  routes = [route._replace(source=in_file.get(route.source, route.source)) for route in routes]
  converted, rows = carry(tensors, routes, path, allow_unplaced)
  texts = {VOCAB_FILE: vocab, CONFIG_FILE: config.to_json_string()}
  return Conversion(CHECKPOINT, converted, texts, rows, len(buffers))


def to_huggingface(
  checkpoint, bert_config_file=None, vocab_file=None, do_lower_case=None, allow_unplaced=False
):
  """Converts a checkpoint to a HuggingFace directory that BertModel.from_pretrained reads.

  Args:
    checkpoint: str, prefix of the checkpoint or its directory.
    bert_config_file: str, default the bert_config.json beside the checkpoint.
    vocab_file: str, default the vocab.txt beside the checkpoint.
    do_lower_case: bool, the casing if neither the run.json beside the checkpoint nor
      bert_config.json knows it.
    allow_unplaced: bool, leave out heads instead of refusing them.

  Returns:
    Conversion with float32 arrays.

  Raises:
    files.InputError: see from_huggingface.
  """
  prefix = estimators.resolve_checkpoint(checkpoint, "input")
  directory = os.path.dirname(prefix)
  config = modeling.BertConfig.from_json_file(
    bert_config_file or _beside(directory, CONFIG_FILE, "bert_config_file")
  )
  vocab = _read_vocab(vocab_file or _beside(directory, VOCAB_FILE, "vocab_file"), config.vocab_size)
  tensors, ignored = read_checkpoint(prefix)
  routes = [
    route._replace(target=route.target.removeprefix("bert.")) for route in encoder_routes(config)
  ]
  converted, rows = carry(tensors, routes, prefix, allow_unplaced)
  if do_lower_case is None:
    do_lower_case = _trained_casing(directory)
  tokenizer = tokenizer_config_to_huggingface(config, do_lower_case)
  texts = {
    VOCAB_FILE: vocab,
    **({"tokenizer_config.json": _json_text(tokenizer)} if tokenizer else {}),
    "config.json": _json_text(config_to_huggingface(config)),
  }
  return Conversion(SAFETENSORS, converted, texts, rows, ignored)


def strip(checkpoint, bert_config_file=None, vocab_file=None):
  """Leaves out of a training checkpoint what only the training that wrote it needs.

  Args:
    checkpoint: str, prefix of the checkpoint or its directory.
    bert_config_file, vocab_file: str, to go with it; default those beside the checkpoint, if any.

  Returns:
    Conversion with all other tensors as they are, and the files of model_directory that are there.

  Raises:
    files.InputError: the checkpoint or a description cannot be read.
  """
  prefix = estimators.resolve_checkpoint(checkpoint, "input")
  tensors, ignored = read_checkpoint(prefix)
  given = {VOCAB_FILE: vocab_file, CONFIG_FILE: bert_config_file}
  paths = {
    name: given.get(name) or os.path.join(os.path.dirname(prefix), name)
    for name in (LABEL_FILE, RUN_FILE, VOCAB_FILE, CONFIG_FILE)
  }
  texts = {
    name: _read_exactly(path)
    for name, path in paths.items()
    if given.get(name) or files.exists(path)
  }
  rows = [(name, value.shape, name, value.shape) for name, value in tensors.items()]
  return Conversion(CHECKPOINT, tensors, texts, rows, ignored)


# ---- Tensors on their way -----------------------------------------------------------------------


def carry(tensors, routes, origin, allow_unplaced):
  """Sends tensors along their routes.

  Args:
    tensors: dict of source name -> array.
    routes: list of Route.
    origin: str, where the tensors come from, for messages.
    allow_unplaced: bool, leave out heads instead of refusing them.

  Returns:
    A pair: dict of target name -> float32 array, and the rows of the table (see Conversion).

  Raises:
    files.InputError: tensors are missing, have no place, or have a wrong shape or type.
  """
  routes = _without_missing_pooler(tensors, routes, origin)
  left_out = _find_unplaced(tensors, routes, origin, allow_unplaced)
  converted = {}
  for route in routes:
    value = _widen(tensors[route.source], f"{origin}: {route.source}")
    if value.shape != route.shape:
      raise files.InputError(
        f"{origin}: {route.source} has shape {list(value.shape)}, where the configuration says "
        f"{list(route.shape)}"
      )
    converted[route.target] = np.ascontiguousarray(value.T if route.transposed else value)
  rows = [(r.source, r.shape, r.target, converted[r.target].shape) for r in routes]
  rows += [(name, tensors[name].shape, "(left out)", None) for name in left_out]
  return converted, rows


def _without_missing_pooler(tensors, routes, origin):
  """The routes whose sources exist; only the pooler may be missing, as there are such models."""
  missing = [route for route in routes if route.source not in tensors]
  if not missing:
    return routes
  if missing != [route for route in routes if "pooler" in route.source]:
    raise files.InputError(
      f"{origin}: lacks {_enumerate([route.source for route in missing])}, which the configuration "
      "describes"
    )
  logging.warning("%s has no pooler, so neither has the output", origin)
  return [route for route in routes if route not in missing]


def _find_unplaced(tensors, routes, origin, allow_unplaced):
  """Names without a route. Heads may be left out; an encoder without a part of it is another."""
  sources = {route.source for route in routes}
  unplaced = [name for name in tensors if name not in sources]
  encoder = [name for name in unplaced if canonical_name(name).startswith(("bert.", "bert/"))]
  if encoder:
    raise files.InputError(
      f"{origin}: the encoder that the configuration describes has no {_enumerate(encoder)}"
    )
  if unplaced and not allow_unplaced:
    raise files.InputError(
      f"{origin}: only encoders can be converted, and {_enumerate(unplaced)} belongs to none; give "
      "--allow_unplaced to leave it out"
    )
  return unplaced


def _enumerate(names, most=12):
  """Names in one line; with `most` 2, ["a", "b", "c"] -> "a, b and 1 more"."""
  more = f" and {len(names) - most} more" if len(names) > most else ""
  return ", ".join(names[:most]) + more


def _widen(value, place):
  """An array as float32, which holds every 16-bit float exactly."""
  if value.dtype not in (np.float32, np.float16, tf.bfloat16.as_numpy_dtype):
    raise _bad_type(place, value.dtype)
  return value.astype(np.float32, copy=False)


def _bad_type(place, name):
  return files.InputError(f"{place} is of type {name}; only 32- and 16-bit floats can be converted")


# ---- Configurations -----------------------------------------------------------------------------

# HuggingFace's names of activations -> BERT's.
TANH_GELUS = ("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate", "gelu_fast")
EXACT_GELUS = ("gelu", "gelu_python")
ACTIVATIONS = {
  **dict.fromkeys(TANH_GELUS + EXACT_GELUS, "gelu"),
  **{name: name for name in ("relu", "tanh", "linear")},
}

# Kinds of HuggingFace model whose computation is another one than BERT's encoder's.
NECESSARY_SETTINGS = {
  "model_type": "bert",
  "position_embedding_type": "absolute",
  "is_decoder": False,
  "add_cross_attention": False,
}


def config_from_huggingface(path):
  """Reads a HuggingFace config.json.

  Args:
    path: str.

  Returns:
    modeling.BertConfig with the attribute `huggingface`, a dict whose "config" holds the keys that
    BERT has no place for, and the original hidden_act.

  Raises:
    files.InputError: the file is missing or damaged, or the model is no BERT encoder.
  """
  values = _read_object(path)
  for key, necessary in NECESSARY_SETTINGS.items():
    if values.get(key, necessary) != necessary:
      raise files.InputError(
        f"{path}: {key} is {values[key]!r}, but only models with {necessary!r} can be converted"
      )
  # What config.json does not name has HuggingFace's defaults: those of BERT-base, uncased.
  defaults = modeling.BertConfig(vocab_size=30522, type_vocab_size=2).to_dict()
  activation = values.get("hidden_act", defaults["hidden_act"])
  config = modeling.BertConfig.from_dict(
    {**defaults, **{key: values[key] for key in defaults if key in values}}
  )
  config.hidden_act = _activation_from_huggingface(activation, path)
  try:
    config.validate()
  except ValueError as error:
    raise files.InputError(f"{path}: {error}") from error
  epsilon = values.get("layer_norm_eps", modeling.LAYER_NORM_EPSILON)
  if epsilon != modeling.LAYER_NORM_EPSILON:
    logging.warning(
      "%s: layer_norm_eps is %s, but BERT computes with %s: activations differ slightly",
      *(path, epsilon, modeling.LAYER_NORM_EPSILON),
    )
  others = {key: value for key, value in values.items() if key not in defaults}
  config.huggingface = {"config": {**others, "hidden_act": activation}}
  return config


def _activation_from_huggingface(activation, path):
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
      f"{path}: hidden_act is {activation!r}, but BERT knows only {', '.join(ACTIVATIONS)}"
    ) from None


def config_to_huggingface(config):
  """The content of config.json for an encoder, with what HuggingFace once said of it.

  Args:
    config: modeling.BertConfig.

  Returns:
    Dict.
  """
  values = config.to_dict()
  original = values.pop("huggingface", {}).get("config", {})
  values.update(original, architectures=["BertModel"], model_type="bert")
  activation = str(config.hidden_act or "linear").lower()
  if ACTIVATIONS.get(original.get("hidden_act")) != activation:
    values["hidden_act"] = {"gelu": "gelu_new"}.get(activation, activation)
  for key in {"dtype", "torch_dtype"} & values.keys():  # the type of the weights in the file
    values[key] = "float32"
  return values


def tokenizer_config_to_huggingface(config, do_lower_case=None):
  """The content of tokenizer_config.json, empty when nothing is known.

  Args:
    config: modeling.BertConfig.
    do_lower_case: bool, overrides what HuggingFace once said; None does not.

  Returns:
    Dict.
  """
  original = getattr(config, "huggingface", {}).get("tokenizer_config", {})
  values = _with_casing(original, do_lower_case)
  if not (values.get("tokenizer_class") or "Bert").startswith("Bert"):
    values["tokenizer_class"] = "BertTokenizer"  # others do not read vocab.txt
  return values


def _read_tokenizer_config(directory, do_lower_case):
  path = os.path.join(directory, "tokenizer_config.json")
  values = _with_casing(_read_object(path) if files.exists(path) else {}, do_lower_case)
  if values.get("strip_accents") not in (None, values.get("do_lower_case")):
    logging.warning("%s: strip_accents is not as do_lower_case, which BERT's scripts assume", path)
  if values.get("tokenize_chinese_chars") is False:
    logging.warning("%s: tokenize_chinese_chars is off, which BERT's tokenization lacks", path)
  return values


def _with_casing(tokenizer_config, do_lower_case):
  values = dict(tokenizer_config)
  if do_lower_case is not None:
    values["do_lower_case"] = do_lower_case
  if "do_lower_case" not in values:
    logging.warning("It is not known whether the model is uncased; give --do_lower_case")
  return values


def _trained_casing(directory):
  """The --do_lower_case of the training that made a directory, or None."""
  path = os.path.join(directory, RUN_FILE)
  run = _read_object(path) if files.exists(path) else {}
  return run.get("flags", {}).get("do_lower_case")


# ---- Texts --------------------------------------------------------------------------------------


def _find_vocab(directory):
  """Path of the vocabulary; recent versions of transformers write tokenizer.json alone."""
  for name in (VOCAB_FILE, "tokenizer.json"):
    path = os.path.join(directory, name)
    if files.exists(path):
      return path
  raise files.InputError(f"{directory}: has no {VOCAB_FILE} nor tokenizer.json; give --vocab_file")


def _read_vocab(path, vocab_size):
  """The text of vocab.txt, also out of a tokenizer.json."""
  text = _vocab_of_tokenizer(path) if path.endswith(".json") else _read_exactly(path)
  pieces = text.rstrip("\r\n").count("\n") + 1 if text.strip() else 0
  if not 0 < pieces <= vocab_size:
    raise files.InputError(
      f"{path}: has {pieces} word pieces, where the model has {vocab_size}: not its vocabulary"
    )
  if pieces < vocab_size:
    logging.warning("%s has %d word pieces, the model %d", path, pieces, vocab_size)
  return text


def _vocab_of_tokenizer(path):
  """{"model": {"type": "WordPiece", "vocab": {"b": 1, "a": 0}}} -> "a\\nb\\n"."""
  model = _read_object(path).get("model") or {}
  vocab = model.get("vocab") or {}
  if model.get("type") != "WordPiece" or sorted(vocab.values()) != list(range(len(vocab))):
    raise files.InputError(f"{path}: holds no word pieces numbered from 0; give --vocab_file")
  return "".join(piece + "\n" for piece in sorted(vocab, key=vocab.get))


def _read_exactly(path):
  """The text of a file with its own newlines; files.read_text would unify them."""
  return files.decode(files.read_bytes(path), path)


def _read_object(path):
  value = files.read_json(path)
  if not isinstance(value, dict):
    raise files.InputError(f"{path}: is no JSON object")
  return value


def _json_text(value):
  return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _beside(directory, name, flag):
  path = os.path.join(directory, name)
  if not files.exists(path):
    raise files.InputError(f"--{flag}: not given, and there is no {path}")
  return path


# ---- Weights on disk ----------------------------------------------------------------------------

SAFETENSORS_TYPES = {
  "F32": np.float32,
  "F16": np.float16,
  "BF16": tf.bfloat16.as_numpy_dtype,
  "I64": np.int64,  # buffers
}


def read_safetensors(path):
  """Reads a safetensors file.

  Args:
    path: str.

  Returns:
    Dict of name -> array, in the types of the file.

  Raises:
    files.InputError: the file is missing, truncated or no safetensors file.
  """
  if not files.exists(path):
    raise files.InputError(
      f"{path}: not found; save the model in one piece with a recent version of transformers"
    )
  try:
    entries = safetensors.deserialize(files.read_bytes(path))
  except safetensors.SafetensorError as error:
    raise files.InputError(
      f"{path}: is damaged or no safetensors file: {files.describe(error)}"
    ) from error
  return {name: _array(entry, f"{path}: {name}") for name, entry in entries}


def _array(entry, place):
  """The array of an entry that safetensors.deserialize returns.

  safetensors.numpy.load would do but for bfloat16, which NumPy lacks and TensorFlow has.
  """
  if entry["dtype"] not in SAFETENSORS_TYPES:
    raise _bad_type(place, entry["dtype"])
  return np.frombuffer(entry["data"], SAFETENSORS_TYPES[entry["dtype"]]).reshape(entry["shape"])


def is_training_state(name):
  """Whether a variable of a checkpoint is of use only to the training that wrote it."""
  return name == "global_step" or name.endswith(estimators.SLOT_SUFFIXES)


def read_checkpoint(prefix):
  """Reads all variables of a checkpoint but those of is_training_state.

  Args:
    prefix: str.

  Returns:
    A pair: dict of name -> array, in the types of the checkpoint, and the int number of those not
    read.

  Raises:
    files.InputError: the checkpoint cannot be read.
  """
  try:
    reader = tf.train.load_checkpoint(prefix)
    names = sorted(reader.get_variable_to_shape_map())
    kept = [name for name in names if not is_training_state(name)]
    tensors = {name: np.asarray(reader.get_tensor(name)) for name in kept}
  except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
    # IndexError is what a data file cut short raises.
    raise files.InputError(
      f"{prefix}: is no checkpoint or a damaged one: {files.describe(error)}"
    ) from error
  return tensors, len(names) - len(kept)


def save_checkpoint(prefix, tensors):
  """Writes a checkpoint in TensorFlow's format V2. It appears when it is complete.

  Args:
    prefix: str.
    tensors: dict of variable name -> array.
  """
  with tf.Graph().as_default():
    values = [tf.placeholder(value.dtype, value.shape) for value in tensors.values()]
    save = tf.raw_ops.SaveV2(
      prefix=prefix,
      tensor_names=list(tensors),
      shape_and_slices=[""] * len(tensors),
      tensors=values,
    )
    with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
      session.run(save, dict(zip(values, tensors.values())))


def save_safetensors(path, tensors):
  """Writes a safetensors file as HuggingFace's libraries read it. It appears when it is complete.

  Args:
    path: str.
    tensors: dict of name -> contiguous array.
  """
  temporary = path + ".tmp"
  with files.open_binary(temporary, "w") as f:
    f.write(safetensors.numpy.save(tensors, metadata={"format": "pt"}))
  tf.io.gfile.rename(temporary, path, overwrite=True)


# ---- The command --------------------------------------------------------------------------------


def write(conversion, directory, overwrite=False):
  """Writes a converted model.

  A configuration or vocabulary of another model goes first and the new ones come after the weights,
  so that a directory never holds parts of two models.

  Args:
    conversion: Conversion.
    directory: str, made when it does not exist.
    overwrite: bool, whether a model that is there may be replaced.

  Raises:
    files.InputError: the directory cannot be written, or holds another model.
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
    save = save_safetensors if conversion.weights == SAFETENSORS else save_checkpoint
    save(weights, conversion.tensors)
    for path, text in texts.items():
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


def table(conversion):
  """The lines that say what went where, and a last one with the sums.

  bert.pooler.dense.bias [384] -> bert/pooler/dense/bias [384]
  cls.predictions.bias [30522] -> (left out)
  converted 1 tensors, 384 parameters; left out 1; ignored 1 (slots, steps, buffers)
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
    f"ignored {conversion.ignored} (slots, steps, buffers)",
  ]


def _name_and_shape(name, shape):
  return name if shape is None else f"{name} {list(shape)}"


def main(_):
  """Converts as the flags say."""
  common_flags.require(FLAGS, ("mode", "input", "output"), "a conversion")
  conversion = _convert(FLAGS.mode)
  write(conversion, FLAGS.output, FLAGS.overwrite)
  print("\n".join(table(conversion)))


def _convert(mode):
  options = MODE_FLAGS[mode]
  for name in MODE_FLAGS["to_huggingface"]:  # which takes them all
    if name not in options and FLAGS[name].present:
      raise files.InputError(f"--{name} means nothing with --mode={mode}")
  convert = {"from_huggingface": from_huggingface, "to_huggingface": to_huggingface, "strip": strip}
  return convert[mode](FLAGS.input, **{name: FLAGS[name].value for name in options})


if __name__ == "__main__":
  common_flags.run(main, FLAGS)
