"""Export of an encoder to a SavedModel of TensorFlow 2 that can be trained further.

It has the interface of the text encoders of TensorFlow Hub, so hub.KerasLayer takes it:

  encoder = hub.KerasLayer(DIR, trainable=True)
  outputs = encoder({"input_word_ids": ids, "input_mask": mask, "input_type_ids": segments})

The inputs are int32 [B, S]. The outputs are float32: pooled_output [B, H], the same as default;
sequence_output [B, S, H]; and encoder_outputs, a list of [B, S, H] per layer. With training=True
there is dropout. The vocabulary is the asset vocab_file, the casing the variable do_lower_case.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf2
import tensorflow.compat.v1 as tf

import modeling
from toolkit.formats import checkpoint_files, checkpoints
from toolkit.formats.model_heads import ENCODER
from toolkit.records.tf_records import INPUTS
from toolkit.serving import saved_model
from toolkit.serving.export_check import Run
from toolkit.serving.export_source import Original
from toolkit.support import files, logs

# The names of the inputs, in the order of INPUTS.
NAMES = ("input_word_ids", "input_mask", "input_type_ids")


def select(original: Original) -> Original:
  """Returns the encoder of a model.

  Raises:
    files.InputError: it has no pooler.
  """
  if not original.has_pooler():
    raise files.InputError(
      f"--{original.flag}: {original.checkpoint} has no pooler ({checkpoints.POOLER}...), which "
      "--format=hub needs; give --format=saved_model"
    )
  if original.head.name != ENCODER:
    script = original.description.script
    logs.notice("The head of %s.py is left out: the format hub has encoders alone", script)
  return original.encoder()


def export(original: Original, directory: str) -> None:
  """Writes an encoder into an empty directory.

  Raises:
    files.InputError: the checkpoint cannot be read, or the directory not be written.
  """
  with _eager_mode():
    root, signature = _make_module(original)
    with files.converted_write_errors(directory, checkpoint_files.WRITE_ERRORS):
      path = checkpoint_files.for_tensorflow(directory)
      tf2.saved_model.save(root, path, {saved_model.SIGNATURE: signature})
  saved_model.write_extra(original, directory)


@contextlib.contextmanager
def _eager_mode():
  """Context in which operations run at once, as TensorFlow 2 demands for such a SavedModel.

  The scripts turn that off for their process.
  """
  with tf2.__internal__.eager_context.eager_mode():
    yield


def _make_module(original):
  """Makes the module and the function of its signature."""
  values, _ = checkpoints.read_checkpoint(original.checkpoint)
  names = sorted(_encoder_names(original.config))
  variables = {name: tf2.Variable(values.pop(name), name=name) for name in names}

  def encode(inputs, training):
    def find(getter, name, *args, **kwargs):
      del getter, args, kwargs
      return variables[name]

    # In their plain form, models have no gradients of their own, which a file could not keep.
    with tf.variable_scope("", custom_getter=find):
      ids, mask, segments = (inputs[name] for name in NAMES)
      model = modeling.BertModel(original.config, training, ids, mask, segments, scope="bert")
    pooled = model.get_pooled_output()
    return {
      "pooled_output": pooled,
      "default": pooled,
      "sequence_output": model.get_sequence_output(),
      "encoder_outputs": model.get_all_encoder_layers(),
    }

  specs = {name: tf2.TensorSpec([None, None], tf.int32, name) for name in NAMES}
  call = tf2.function(lambda inputs, training=False: encode(inputs, training), autograph=False)
  for training in (True, False):
    call.get_concrete_function(specs, training=training)

  @tf2.function(input_signature=list(specs.values()), autograph=False)
  def serve(input_word_ids, input_mask, input_type_ids):
    outputs = encode(dict(zip(NAMES, (input_word_ids, input_mask, input_type_ids))), False)
    return {name: outputs[name] for name in ("pooled_output", "sequence_output")}

  root: Any = tf2.train.Checkpoint()
  root.variables = list(variables.values())
  root.trainable_variables = list(variables.values())
  root.regularization_losses = []
  root.vocab_file = tf2.saved_model.Asset(original.vocab_file)
  casing = original.description.flags["do_lower_case"]
  root.do_lower_case = tf2.Variable(casing, trainable=False, name="do_lower_case")
  root.__call__ = call
  return root, serve


def _encoder_names(config):
  """Returns the names of an encoder's variables."""
  with tf.Graph().as_default():
    modeling.BertModel(config, False, tf.zeros([1, 1], tf.int32), scope="bert")
    return [variable.op.name for variable in tf.trainable_variables()]


@contextlib.contextmanager
def loaded(directory: str) -> Iterator[Run]:
  """Context with the function that runs the encoder in a directory, without dropout."""
  with _eager_mode():
    encoder = tf2.saved_model.load(checkpoint_files.for_tensorflow(directory))

    def run(feeds):
      inputs = {name: tf2.constant(feeds[own]) for name, own in zip(NAMES, INPUTS)}
      outputs = encoder(inputs)
      return {name: outputs[name].numpy() for name in ("pooled_output", "sequence_output")}

    yield run
