"""Graphs of trained models in TensorFlow sessions."""

import os
from collections.abc import Callable
from typing import Any, Optional

import numpy as np
import tensorflow.compat.v1 as tf

import modeling
from toolkit.formats import checkpoint_files, checkpoints
from toolkit.formats.model_heads import Head
from toolkit.records.tf_records import INPUTS
from toolkit.serving.predictor import Arrays, Predictor
from toolkit.support import files, precision, processes
from toolkit.tasks import (
  classification_head,
  multiple_choice_head,
  pretraining_head,
  squad_head,
  tagging_head,
  vectors_head,
)

# The batch size up to which operations are too short for threads of their own.
FEW = 8
# Up to this number of multiplications in the dense layers, waking a second thread takes longer than
# it saves: measured with 6 layers of width 384, where it is 48 tokens. No model is loaded twice for
# inputs of less than SHORT tokens.
ONE_THREAD_PRODUCTS = 5e8
SHORT = 16

# Makes a graph without dropout from tensors in the order of INPUTS and POSITIONS.
Build = Callable[..., dict[str, tf.Tensor]]


# ---- Heads --------------------------------------------------------------------------------------


def builder(head: Head, config: modeling.BertConfig) -> Build:
  """Returns the function that builds the graph of a head; see Head for its outputs."""
  build = _BUILDERS[head.name]

  def built(*inputs):
    return build(head, config, *inputs)

  return built


def _classifier(head, config, *inputs):
  logits = classification_head.create_logits(config, head.num_labels, *inputs)
  outputs = {"logits": logits}
  if head.activation:
    activate = {"softmax": tf.nn.softmax, "sigmoid": tf.nn.sigmoid}[head.activation]
    outputs["probabilities"] = activate(logits)
  return outputs


def _choice(head, config, *inputs):
  del head
  return {"scores": multiple_choice_head.choice_scores(config, False, *inputs)[:, 0]}


def _span(head, config, input_ids, input_mask, segment_ids):
  del head
  logits = squad_head.create_model(config, False, input_ids, input_mask, segment_ids, False)
  return dict(zip(("start_logits", "end_logits"), logits))


def _tags(head, config, *inputs):
  return {"logits": tagging_head.logits(config, head.num_labels, False, *inputs)}


def _masked_lm(head, config, *inputs):
  del head
  *of_encoder, positions = inputs
  model = modeling.BertModel(config, False, *of_encoder)
  hidden = modeling.reshape_to_matrix(model.get_output_at(positions))  # [B * P, H]
  logits = pretraining_head.masked_lm_logits(config, hidden, model.get_embedding_table())
  shape = modeling.get_shape_list(positions)
  return {"masked_lm_logits": tf.reshape(logits, [*shape, config.vocab_size])}


def _encoder(head, config, *inputs):
  model = modeling.BertModel(config, False, *inputs)
  layers = model.get_all_encoder_layers()
  outputs = {f"layer_{layer}": layers[layer] for layer in head.other_layers(len(layers))}
  pooled = model.get_pooled_output()
  return {"sequence_output": model.get_sequence_output(), "pooled_output": pooled, **outputs}


_BUILDERS: dict[str, Callable[..., dict[str, tf.Tensor]]] = {
  "classifier": _classifier,
  "choice": _choice,
  "span": _span,
  "tags": _tags,
  "masked_lm": _masked_lm,
  "encoder": _encoder,
}


# ---- Sessions -----------------------------------------------------------------------------------


def load_predictor(
  build: Build,
  checkpoint: str,
  batch_size: int = 8,
  flag: str = "output_dir",
  session_config: Optional[tf.ConfigProto] = None,
  inputs: tuple[str, ...] = INPUTS,
) -> Predictor:
  """Loads a model into TensorFlow; see TensorFlowEngine for the arguments."""
  engine = TensorFlowEngine(build, checkpoint, batch_size, flag, session_config, inputs)
  return Predictor(engine, batch_size)


def load_encoder(
  config: modeling.BertConfig, checkpoint: str, batch_size: int, amp: bool, **options: Any
) -> Predictor:
  """Loads a model whose outputs are those of vectors_head.create_model.

  Args:
    config: the model's.
    checkpoint, batch_size: see TensorFlowEngine.
    amp: True for mixed precision where that is faster; see precision.
    **options: arguments of create_model behind the inputs.
  """

  def build(*inputs):
    return vectors_head.create_model(config, *inputs, **options)

  plan = precision.find(amp, use_xla=False, use_tpu=False)
  plan.log()
  session_config = plan.session_config(is_training=False)
  return load_predictor(build, checkpoint, batch_size, "init_checkpoint", session_config)


class TensorFlowEngine:
  """A model in a graph and a session of its own.

  On a CPU, a small model is loaded a second time for short inputs, in a session of one thread.
  """

  name = "tensorflow"

  def __init__(
    self,
    build: Build,
    checkpoint: str,
    batch_size: int = 8,
    flag: str = "output_dir",
    session_config: Optional[tf.ConfigProto] = None,
    inputs: tuple[str, ...] = INPUTS,
  ) -> None:
    """Builds the graph and restores the weights.

    Args:
      build: makes a model's graph without dropout, from int32 [B, S] (and POSITIONS, [B, P]) in
        the order of `inputs`, to name -> tensor [B, ...].
      checkpoint: a path as checkpoints.resolve_checkpoint takes it.
      batch_size: the largest number of inputs that run at once.
      flag: the flag that gave the checkpoint, for messages.
      session_config: such as precision.Plan.session_config gives for mixed precision; default:
        float32.
      inputs: names of the graph's inputs.

    Raises:
      files.InputError: the checkpoint lacks a variable that the outputs depend on, has another
        shape of one, or is damaged.
    """
    graph = tf.Graph()
    with graph.as_default(), modeling.fast_forms(join_projections=True):
      self._inputs = {name: tf.placeholder(tf.int32, [None, None], name=name) for name in inputs}
      self._outputs = build(*self._inputs.values())
      prefix = checkpoints.resolve_checkpoint(checkpoint, flag)
      variables = _variables_behind(self._outputs.values())
      sources = _find_sources(variables, prefix, flag)
      saver = tf.train.Saver({each[0]: var for var, each in sources.items() if len(each) == 1})
    config = _threads(session_config, batch_size)
    self._session = _restored_session(graph, config, saver, sources, prefix)
    self._one_thread_tokens = _one_thread_tokens(variables, batch_size)
    self._short_session = self._session
    if self._one_thread_tokens:
      one_thread = tf.ConfigProto(intra_op_parallelism_threads=1)
      one_thread.MergeFrom(config)
      self._short_session = _restored_session(graph, one_thread, saver, sources, prefix)
    graph.finalize()

  def run(self, inputs: Arrays) -> Arrays:
    """Runs the graph; see predictor.Engine."""
    is_short = inputs["input_ids"].size <= self._one_thread_tokens
    session = self._short_session if is_short else self._session
    feed: dict[Any, np.ndarray] = {self._inputs[name]: value for name, value in inputs.items()}
    try:
      return session.run(self._outputs, feed)
    except tf.errors.ResourceExhaustedError as error:
      raise MemoryError(files.describe(error)) from error

  def close(self) -> None:
    """Frees the memory of the weights."""
    self._session.close()
    self._short_session.close()


def _threads(session_config, batch_size):
  """Copies a tf.ConfigProto, or None, for a session that runs `batch_size` inputs at once.

  For a few inputs, operations run one after another in the calling thread: handing short operations
  to other threads takes longer than running them. Within an operation there are still as many
  threads as processors.
  """
  config = tf.ConfigProto(inter_op_parallelism_threads=-1 if batch_size <= FEW else 0)
  if session_config:
    config.MergeFrom(session_config)
  return config


def _one_thread_tokens(variables, batch_size):
  """Finds the largest batch, in tokens, to run in one thread; 0 for no second session."""
  shares_threads = os.environ.get(processes.OWN_THREADS) != "1"
  if shares_threads or batch_size > FEW or tf.config.list_physical_devices("GPU"):
    return 0
  kernels = [v.shape.num_elements() for v in variables if v.op.name.endswith("/kernel")]
  tokens = int(ONE_THREAD_PRODUCTS / max(sum(kernels), 1))
  return tokens if tokens >= SHORT else 0


def _restored_session(graph, config, saver, sources, prefix):
  """Makes a session in which the variables have the checkpoint's values."""
  session = tf.Session(graph=graph, config=config)
  try:
    with graph.as_default():  # needed where a notebook's eager mode is on
      checkpoint_files.restore(saver, session, prefix)
      _restore_joined(session, sources, prefix)
  except tf.errors.OpError as error:
    raise files.InputError(f"{prefix} is damaged: {files.describe(error)}") from error
  return session


def _variables_behind(tensors):
  """Lists the trainable variables that tensors depend on, so without an unused pooler."""
  found, waiting = set(), [tensor.op for tensor in tensors]
  while waiting:
    op = waiting.pop()
    if op not in found:
      found.add(op)
      waiting.extend(source.op for source in op.inputs)
  return [variable for variable in tf.trainable_variables() if variable.op in found]


def _part_names(name):
  """Returns the names by which a checkpoint has a variable's parts; most have one part."""
  joined = f"/{modeling.JOINED_PROJECTIONS}/"
  if joined not in name:
    return [name]
  return [name.replace(joined, f"/{part}/") for part in modeling.PROJECTIONS]


def _restore_joined(session, sources, prefix):
  """Sets the variables of several parts from a checkpoint."""
  reader = checkpoint_files.open_reader(prefix)
  for variable, names in sources.items():
    if len(names) > 1:
      value = np.concatenate([reader.get_tensor(name) for name in names], axis=-1)
      session.run(variable.initializer, {variable.initial_value: value})


def _find_sources(variables, prefix, flag):
  """Finds variables in a checkpoint: variable -> the names of its parts in the file."""
  parts = {variable: _part_names(variable.op.name) for variable in variables}
  shapes, types = {}, {}
  for variable, names in parts.items():
    *outer, last = variable.shape.as_list()
    shapes.update({name: [*outer, last // len(names)] for name in names})
    types.update(dict.fromkeys(names, variable.dtype.base_dtype))
  saved = checkpoints.read_saved(prefix, flag)
  coverage = saved.compare(shapes, types)
  others = {name: found for name, _, found in coverage.reshaped}
  for name in (*others, *coverage.missing):
    raise files.InputError(
      f"--{flag}: {prefix} does not fit the model: {name} is {others.get(name, 'not there')}, "
      f"should be {shapes[name]}"
    )
  saved.names.log(prefix)
  return {
    variable: [saved.names.sources[name] for name in names] for variable, names in parts.items()
  }
