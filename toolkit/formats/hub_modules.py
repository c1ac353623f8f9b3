"""Modules of TensorFlow Hub as files: those of its first version, and encoders of TensorFlow 2.

  saved_model.pb     the graphs, of which only the number of heads, the activation and the casing
                     are read; nothing in them is run
  variables/         the weights, a checkpoint
  assets/vocab.txt   the vocabulary

A module of the first version has the names of a checkpoint. An encoder of TensorFlow 2 has others:

  transformer/layer_0/self_attention/query/kernel [H, N, D]
    -> bert/encoder/layer_0/attention/self/query/kernel [H, N * D]
"""

import atexit
import contextlib
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow.compat.v1 as tf
from absl import logging
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2, trackable_object_graph_pb2

import modeling
import tokenization
from toolkit.formats import (
  checkpoint_files,
  checkpoints,
  huggingface_config,
  huggingface_names,
  model_directory,
  model_files,
  variable_names,
)
from toolkit.support import archives, files, logs

SAVED_MODEL = "saved_model.pb"
ASSETS = "assets"
EXTRA = "assets.extra"  # files beside a SavedModel that are not part of its graph
_OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_CASING = "do_lower_case"
_USUAL_HEAD_SIZE = 64  # of all released models

# The names of TensorFlow 2's encoders, behind any scope, and those of a checkpoint. The first
# encoders had bert_model/ and embedding_postprocessor/.
_RENAMED = [
  (re.compile(rf"^(?:[\w.]+/)*?{old}"), new)
  for old, new in (
    (r"word_embeddings/embeddings$", "bert/embeddings/word_embeddings"),
    (
      r"(?:embedding_postprocessor/)?type_embeddings(?:/embeddings)?$",
      "bert/embeddings/token_type_embeddings",
    ),
    (
      r"(?:position_embedding|embedding_postprocessor)/(?:position_)?embeddings$",
      "bert/embeddings/position_embeddings",
    ),
    (r"(?:embeddings|embedding_postprocessor)/layer_norm/", "bert/embeddings/LayerNorm/"),
    (r"pooler_transform/", "bert/pooler/dense/"),
    (
      r"(layer_\d+)/self_attention(?:/attention)?_output/",
      r"bert/encoder/\1/attention/output/dense/",
    ),
    (r"(layer_\d+)/self_attention_layer_norm/", r"bert/encoder/\1/attention/output/LayerNorm/"),
    (r"(layer_\d+)/self_attention/", r"bert/encoder/\1/attention/self/"),
    (r"(layer_\d+)/intermediate/", r"bert/encoder/\1/intermediate/dense/"),
    (r"(layer_\d+)/output_layer_norm/", r"bert/encoder/\1/output/LayerNorm/"),
    (r"(layer_\d+)/output/", r"bert/encoder/\1/output/dense/"),
    (r"cls/predictions/output_bias/bias$", "cls/predictions/output_bias"),
    (r"cls/predictions/", "cls/predictions/"),
  )
]
# The beginnings of names that are those of a checkpoint already.
_KNOWN = ("bert/embeddings/", "bert/encoder/", "bert/pooler/")


class Module(NamedTuple):
  """A module that was read.

  Attributes:
    tensors: name, as in a checkpoint -> array of that shape.
    sources: the same names -> name in the module, and shape there.
    num_ignored: number of variables that are no weights, such as steps and the casing.
    config: rebuilt from shapes and graphs, or that of an export of this project.
    vocab_file: path, within the directory of the module; None for a module without one.
    do_lower_case: None if the module does not tell.
  """

  tensors: dict[str, np.ndarray]
  sources: dict[str, tuple[str, tuple[int, ...]]]
  num_ignored: int
  config: modeling.BertConfig
  vocab_file: Optional[str]
  do_lower_case: Optional[bool]

  def required_vocab(self, given: Optional[str] = None) -> str:
    """Returns the path of the vocabulary, `given` if that is one.

    Raises:
      files.InputError: there is none.
    """
    path = given or self.vocab_file
    if path is None:
      raise files.InputError(
        f"the module has no vocabulary (no {ASSETS}/{model_files.VOCAB_FILE}); give --vocab_file"
      )
    return path


def keep_casing(config: modeling.BertConfig, do_lower_case: Optional[bool]) -> None:
  """Puts the casing of a module into a configuration, as a conversion from HuggingFace does."""
  kept = vars(config).setdefault("huggingface", {})
  kept["tokenizer_config"] = huggingface_config.make_tokenizer_config(
    config, do_lower_case=do_lower_case
  )
  if do_lower_case is False:
    logs.notice("The model is cased: give --nodo_lower_case to the scripts")


class Converted(NamedTuple):
  """A module that was converted to the files of a pre-trained model.

  Attributes:
    config: of the model.
    bert_config_file, vocab_file: paths.
    init_checkpoint: prefix of the checkpoint.
    do_lower_case: the casing.
  """

  config: modeling.BertConfig
  bert_config_file: str
  vocab_file: str
  init_checkpoint: str
  do_lower_case: bool

  def flags(self) -> dict[str, Any]:
    """Returns the flags of a training that starts from the model, by name."""
    return {name: value for name, value in self._asdict().items() if name != "config"}


@functools.cache
def convert(path: str, flag: str) -> Converted:
  """Converts a module to files that are deleted at the end of the process; each module once.

  Args:
    path, flag: see opened, also for errors.
  """
  directory = tempfile.mkdtemp(prefix="bert_hub_")
  atexit.register(shutil.rmtree, directory, ignore_errors=True)
  names = (model_files.CONFIG_FILE, model_files.VOCAB_FILE, model_files.CHECKPOINT)
  config_file, vocab_file, checkpoint = (os.path.join(directory, name) for name in names)
  with opened(path, flag) as module:
    files.write_bytes(vocab_file, files.read_bytes(module.required_vocab()))
  files.write_text(config_file, module.config.to_json_string())
  checkpoints.save_checkpoint(checkpoint, module.tensors)
  casing = module.do_lower_case
  if casing is None:
    guess = tokenization.guess_lower_case(tokenization.load_vocab(vocab_file))
    casing = True if guess is None else guess
    logs.notice("%s does not tell its casing; %s is taken", path, "uncased" if casing else "cased")
  return Converted(module.config, config_file, vocab_file, checkpoint, casing)


# ---- The module as a whole ----------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: str, flag: str) -> Iterator[Module]:
  """Context with a module; its vocabulary can be read within.

  Args:
    path: the directory of the module, one with the module in it, or a .tar.gz archive.
    flag: the flag that gave it, for messages.

  Raises:
    files.InputError: there is no module, it is damaged, or no BERT.
  """
  if path.startswith(("http://", "https://")):
    raise files.InputError(
      f"--{flag}: {path} is an address; download the archive of the module, and give that file, or "
      "the directory to which it was unpacked"
    )
  with contextlib.ExitStack() as stack:
    directory = path
    if not files.is_directory(path):
      if not files.exists(path):
        raise files.InputError(
          f"--{flag}: there is no {path}; give the directory or the .tar.gz archive of a module of "
          "TensorFlow Hub"
        )
      directory = stack.enter_context(archives.unpacked(path, flag))
    yield _read(_find_root(directory, path, flag), f"--{flag}: {path}")


def _find_root(directory, path, flag):
  """Returns the directory with the graph: the given one, or the only one in it."""
  inner = [os.path.join(directory, name) for name in files.list_names(directory)]
  inner = [each for each in inner if files.is_directory(each)]
  for each in (directory, *(inner if len(inner) == 1 else ())):
    if files.exists(os.path.join(each, SAVED_MODEL)):
      return each
  raise files.InputError(
    f"--{flag}: {path} is no module of TensorFlow Hub: it has no {SAVED_MODEL}"
  )


def _read(directory, place):
  """Reads the module in a directory; `place` names it in messages."""
  graph = _read_graph(os.path.join(directory, SAVED_MODEL))
  values = _read_values(directory, place)
  tensors, sources = _rename(values, place)
  num_ignored = len(values) - len(tensors)
  config = _make_config(directory, graph, tensors, place)
  tensors = {name: _flat(name, value) for name, value in tensors.items()}
  _check_weights(tensors, config, place)
  casing = values.get(_CASING, _casing_of(graph))
  casing = None if casing is None else bool(casing)
  return Module(tensors, sources, num_ignored, config, _find_vocab(directory), casing)


def _read_graph(path):
  """Reads the first graph of a SavedModel, a MetaGraphDef."""
  try:
    return saved_model_pb2.SavedModel.FromString(files.read_bytes(path)).meta_graphs[0]
  except (DecodeError, IndexError) as error:
    raise files.InputError(f"{path} is damaged or no SavedModel; fetch it again") from error


def _find_vocab(directory):
  """Returns the path of the vocabulary among the assets, or None."""
  paths = files.list_paths(os.path.join(directory, ASSETS), "*")
  paths += files.list_paths(os.path.join(directory, EXTRA), model_files.VOCAB_FILE)
  by_name = [path for path in paths if os.path.basename(path) == model_files.VOCAB_FILE]
  texts = [path for path in paths if path.endswith(".txt")]
  return next(iter([*by_name, *(texts if len(texts) == 1 else [])]), None)


# ---- Weights ------------------------------------------------------------------------------------


def _read_values(directory, place):
  """Reads all variables: dict of the name that the program gave it -> array."""
  prefix = os.path.join(directory, "variables", "variables")
  if not checkpoint_files.exists(prefix):
    raise files.InputError(
      f"{place} has no variables (no file {prefix}{checkpoint_files.INDEX}); it is no encoder"
    )
  try:
    reader = checkpoint_files.open_reader(prefix)
    names = {name: name for name in sorted(reader.get_variable_to_shape_map())}
    if _OBJECT_GRAPH in names:
      names = _names_of_objects(reader.get_tensor(_OBJECT_GRAPH))
    return {name: np.asarray(reader.get_tensor(key)) for name, key in names.items()}
  except (*checkpoint_files.READ_ERRORS, DecodeError) as error:
    raise files.InputError(
      f"{place}: its variables are damaged: {files.describe(error)}; fetch it again"
    ) from error


def _names_of_objects(data):
  """Returns variable names -> keys in a checkpoint of TensorFlow 2, by its graph of objects.

  The casing has the name of its place, as programs give it none.
  """
  graph = trackable_object_graph_pb2.TrackableObjectGraph.FromString(data)
  names: dict[str, str] = {}
  for attribute in (attribute for node in graph.nodes for attribute in node.attributes):
    key = attribute.checkpoint_key
    name = _CASING if key.startswith(f"{_CASING}/") else attribute.full_name
    names[key if name in ("", *names) else name] = key
  return names


def _rename(values, place):
  """Renames the weights among variables to those of a checkpoint.

  Returns:
    Name -> array as it is in the module, and name -> (name in the module, shape).
  """
  weights = [
    name
    for name, value in values.items()
    if value.dtype.kind in "fV" and not variable_names.is_training_state(name)
  ]
  names = variable_names.resolve(weights, variable_names.TENSORFLOW, place)
  names.log(place)
  tensors: dict[str, np.ndarray] = {}
  sources: dict[str, tuple[str, tuple[int, ...]]] = {}
  for own, source in names.sources.items():
    name = own if own.startswith(_KNOWN) else _renamed(own)
    if name in tensors:
      raise files.InputError(
        f"{place}: has {sources[name][0]} and {source}, which both stand for {name}"
      )
    tensors[name] = values[source]
    sources[name] = (source, values[source].shape)
  return tensors, sources


def _renamed(name):
  """Returns the name of a checkpoint for one of TensorFlow 2; any other name as it is."""
  for pattern, new in _RENAMED:
    renamed, count = pattern.subn(new, name)
    if count:
      return renamed
  return name


def _flat(name, value):
  """Joins the axes of heads and of their width, [N, D], which a checkpoint has not."""
  if value.ndim == 3 and name.endswith("/attention/output/dense/kernel"):
    return value.reshape(-1, value.shape[-1])
  if "/attention/self/" in name and value.ndim == (3 if name.endswith("/kernel") else 2):
    return value.reshape(*value.shape[:-2], -1)
  return value


def _check_weights(tensors, config, place):
  """Checks that an encoder has all weights of its configuration but the pooler's."""
  for route in huggingface_names.routes(config):
    found = tensors.get(route.source)
    if found is None and not route.source.startswith(checkpoints.POOLER):
      raise files.InputError(f"{place} is not the whole of an encoder: it has no {route.source}")
    if found is not None and found.shape != route.shape:
      raise files.InputError(
        f"{place}: {route.source} has shape {list(found.shape)}, where the configuration has "
        f"{list(route.shape)}"
      )


# ---- The configuration --------------------------------------------------------------------------


def _make_config(directory, graph, tensors, place):
  """Returns the configuration of an export of this project, or rebuilds that of another module."""
  path = os.path.join(directory, EXTRA, model_files.CONFIG_FILE)
  if files.exists(path):
    return model_directory.read_config(path)
  words, positions, types, query, wide = (
    _weight(tensors, name, place)
    for name in (
      "bert/embeddings/word_embeddings",
      "bert/embeddings/position_embeddings",
      "bert/embeddings/token_type_embeddings",
      "bert/encoder/layer_0/attention/self/query/kernel",
      "bert/encoder/layer_0/intermediate/dense/kernel",
    )
  )
  matches = (re.match(r"bert/encoder/layer_(\d+)/", name) for name in tensors)
  hidden_size = words.shape[-1]
  config = modeling.BertConfig(
    vocab_size=words.shape[0],
    hidden_size=hidden_size,
    num_hidden_layers=1 + max(int(match[1]) for match in matches if match),
    num_attention_heads=_num_heads(graph, query, hidden_size, place),
    intermediate_size=wide.shape[-1],
    hidden_act=_activation(graph, place),
    max_position_embeddings=positions.shape[0],
    type_vocab_size=types.shape[0],
  )
  try:
    config.validate()
  except ValueError as error:
    raise files.InputError(f"{place}: {error}") from error
  return config


def _weight(tensors, name, place):
  if name not in tensors or tensors[name].ndim < 2:
    found = ", ".join(sorted(tensors)[:3])
    raise files.InputError(
      f"{place} is no BERT that is known here: it has no {name}, but {found or 'no weights'}"
    )
  return tensors[name]


def _num_heads(graph, query, hidden_size, place):
  """Returns the number of heads: by the shape of a kernel, or by that of a step of the graph."""
  if query.ndim == 3:
    return query.shape[1]
  for shape in _shapes_in_attention(graph):
    if len(shape) >= 4 and shape[-1] and shape[-2] and shape[-1] * shape[-2] == hidden_size:
      return shape[-2]
  number = max(1, hidden_size // _USUAL_HEAD_SIZE)
  logs.notice(
    "%s does not tell the number of its attention heads; %d is taken, for a width of %d each",
    *(place, number, hidden_size // number),
  )
  return number


def _shapes_in_attention(graph):
  """Yields the shapes to which tensors of the first layer's attention are brought, 0 for unknown.

  A graph has such a shape as one constant, or as a pack of numbers of which some are constants.
  """
  nodes = {node.name: node for node in graph.graph_def.node}

  def constant(name):
    node = nodes.get(name.partition(":")[0])
    if node is None or node.op != "Const":
      return None
    return tf.make_ndarray(node.attr["value"].tensor)

  for node in nodes.values():
    if node.op != "Reshape" or "layer_0/attention/self/" not in node.name or len(node.input) < 2:
      continue
    whole, pack = constant(node.input[1]), nodes.get(node.input[1].partition(":")[0])
    if whole is not None:
      yield [int(size) for size in whole.reshape(-1)]
    elif pack is not None and pack.op == "Pack":
      sizes = [constant(name) for name in pack.input if not name.startswith("^")]
      yield [0 if size is None or size.ndim else int(size) for size in sizes]


_FEED_FORWARD = re.compile(r"(?:^|/)layer_0/(?:intermediate|\w*activation\w*)/")


def _activation(graph, place):
  """Returns the activation of the feed-forward layers, by the operations of the first one."""
  nodes = [*graph.graph_def.node]
  nodes += [node for function in graph.graph_def.library.function for node in function.node_def]
  found = [node for node in nodes if _FEED_FORWARD.search(node.name)]
  kinds = {node.op for node in found}
  if kinds & {"Erf", "Erfc"}:
    logging.warning(
      "%s computes the exact GELU, for which BERT computes its tanh form: activations differ "
      "slightly, each by less than 0.001",
      place,
    )
    return "gelu"
  if "Relu" in kinds:
    return "relu"
  if "Tanh" in kinds and not kinds & {"Pow", "Cube"} and not _mentions_gelu(found):
    return "tanh"
  if not kinds & {"Tanh", "Gelu"}:
    logs.notice("%s does not tell its activation; gelu is taken", place)
  return "gelu"


def _mentions_gelu(nodes):
  return any("gelu" in node.name.lower() for node in nodes)


def _casing_of(graph):
  """Returns the casing that a module of the first version tells by a constant, or None."""
  signature = graph.signature_def.get("tokenization_info")
  if signature is None or _CASING not in signature.outputs:
    return None
  name = signature.outputs[_CASING].name.partition(":")[0]
  for node in graph.graph_def.node:
    if node.name == name and node.op == "Const":
      return bool(tf.make_ndarray(node.attr["value"].tensor).reshape(-1)[0])
  return None
