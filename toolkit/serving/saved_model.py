"""Export of a model to TensorFlow's SavedModel with one signature over ids.

  DIR/saved_model.pb, DIR/variables/    for TensorFlow Serving, saved_model_cli, tf.saved_model.load
  DIR/assets.extra/                     vocab.txt, bert_config.json, model.json, and label_list.txt
                                        where there are labels

The variables have the names of a checkpoint.
"""

import contextlib
import os
from collections.abc import Iterator

import tensorflow.compat.v1 as tf
from tensorflow.core.framework import variable_pb2
from tensorflow.core.protobuf import saved_model_pb2

import modeling
from toolkit.formats import checkpoint_files, checkpoints
from toolkit.formats.exported_model import DESCRIPTION_FILE
from toolkit.formats.hub_modules import ASSETS, EXTRA, SAVED_MODEL
from toolkit.formats.model_files import CONFIG_FILE, VOCAB_FILE
from toolkit.formats.model_heads import ENCODER
from toolkit.formats.trained_model import LABEL_FILE
from toolkit.serving.export_check import Run
from toolkit.serving.export_source import Original
from toolkit.serving.tensorflow_engine import builder
from toolkit.support import files

# The names in a directory of a SavedModel.
WRITTEN = (SAVED_MODEL, "fingerprint.pb", "variables", ASSETS, EXTRA)
SIGNATURE = tf.saved_model.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY
_TAGS = [tf.saved_model.tag_constants.SERVING]


def export(original: Original, directory: str) -> None:
  """Writes a model into an empty directory.

  Raises:
    files.InputError: the checkpoint cannot be read, or the directory not be written.
  """
  with tf.Graph().as_default() as graph:
    inputs, outputs = _build(original)
    signature = tf.saved_model.predict_signature_def(inputs, outputs)
    variables = _drop_unused_variables(graph, outputs)
    saver = tf.train.Saver(variables)
    with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0})) as session:
      _load(session, original, variables)
      with files.converted_write_errors(directory, checkpoint_files.WRITE_ERRORS):
        builder = tf.saved_model.Builder(checkpoint_files.for_tensorflow(directory))
        builder.add_meta_graph_and_variables(
          session,
          _TAGS,
          {SIGNATURE: signature},
          strip_default_attrs=True,
          clear_devices=True,
          saver=saver,
        )
        builder.save()
  _simplify(os.path.join(directory, SAVED_MODEL), outputs)
  write_extra(original, directory)


def _build(original):
  """Builds the graph; returns the inputs and the outputs, name -> tensor."""
  head = original.head
  inputs = {name: tf.placeholder(tf.int32, [None, None], name) for name in head.inputs()}
  # In its fast form, an encoder with both outputs would have its last block twice.
  form = contextlib.nullcontext() if head.name == ENCODER else modeling.fast_forms()

  def without_random_numbers(getter, name, *args, **kwargs):
    return getter(name, *args, **{**kwargs, "initializer": tf.zeros_initializer()})

  scope = tf.variable_scope("", custom_getter=without_random_numbers, use_resource=True)
  with form, scope:
    outputs = builder(head, original.config)(*inputs.values())
  if head.name == ENCODER and not original.has_pooler():
    del outputs["pooled_output"]
  return inputs, {name: tf.identity(tensor, name) for name, tensor in outputs.items()}


def _drop_unused_variables(graph, outputs):
  """Takes variables that no output needs, such as an unused pooler, out of the graph's lists.

  Returns:
    The other variables.
  """
  names = [tensor.op.name for tensor in outputs.values()]
  needed = {node.name for node in tf.graph_util.extract_sub_graph(graph.as_graph_def(), names).node}
  for key in (tf.GraphKeys.GLOBAL_VARIABLES, tf.GraphKeys.TRAINABLE_VARIABLES):
    listed = graph.get_collection_ref(key)
    listed[:] = [variable for variable in listed if variable.op.name in needed]
  return tf.global_variables()


def _load(session, original, variables):
  """Sets variables to the checkpoint's values."""
  values, _ = checkpoints.read_checkpoint(original.checkpoint)
  feeds = {variable.initial_value: values[variable.op.name] for variable in variables}
  session.run([variable.initializer for variable in variables], feeds)


def _simplify(path, outputs):
  """Leaves in a file what the outputs and the loading of the variables need.

  Custom gradients are functions of the process that wrote the file, so their names are taken off.
  """
  model = saved_model_pb2.SavedModel.FromString(files.read_bytes(path))
  graph = model.meta_graphs[0]
  needed = [tensor.op.name for tensor in outputs.values()]
  saver = graph.saver_def
  tensors = [saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name]
  for data in graph.collection_def[tf.GraphKeys.GLOBAL_VARIABLES].bytes_list.value:
    variable = variable_pb2.VariableDef.FromString(data)
    tensors += [variable.variable_name, variable.initializer_name]
    tensors += [variable.initial_value_name, variable.snapshot_name]
  needed += [name.partition(":")[0] for name in tensors]
  for node in graph.graph_def.node:
    node.attr.pop("_gradient_op_type", None)
  graph.graph_def.CopyFrom(tf.graph_util.extract_sub_graph(graph.graph_def, needed))
  files.write_bytes(path, model.SerializeToString(deterministic=True))


def write_extra(original: Original, directory: str) -> None:
  """Writes the files that describe a model into the SavedModel in a directory."""
  extra = os.path.join(directory, EXTRA)
  files.make_directory(extra, "export_dir")
  files.write_bytes(os.path.join(extra, VOCAB_FILE), files.read_bytes(original.vocab_file))
  files.write_text(os.path.join(extra, CONFIG_FILE), original.config.to_json_string())
  description = original.description
  contents = {**description._asdict(), "head": description.head._asdict()}
  files.write_json(os.path.join(extra, DESCRIPTION_FILE), contents)
  if description.labels is not None:
    text = "".join(f"{label}\n" for label in description.labels)
    files.write_text(os.path.join(extra, LABEL_FILE), text)


@contextlib.contextmanager
def loaded(directory: str) -> Iterator[Run]:
  """Context with the function that runs the model in a directory."""
  with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
    meta_graph = tf.saved_model.load(session, _TAGS, checkpoint_files.for_tensorflow(directory))
    signature = meta_graph.signature_def[SIGNATURE]
    outputs = {name: tensor.name for name, tensor in signature.outputs.items()}

    def run(feeds):
      return session.run(outputs, {signature.inputs[name].name: feeds[name] for name in feeds})

    yield run
