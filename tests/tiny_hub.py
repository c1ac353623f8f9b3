"""Modules of TensorFlow Hub, as its package and TensorFlow's encoders write them, but tiny."""

import os

import numpy as np
import tensorflow as tf2
import tensorflow.compat.v1 as tf
from tiny_heads import VOCAB
from tiny_runs import config_of

import modeling


def save_first_version(directory, vocab=VOCAB, do_lower_case=True, **changes):
  """Writes a module of the first version: saved_model.pb, tfhub_module.pb, variables/, assets/.

  Args:
    directory: pathlib.Path, not existing.
    vocab: list of word pieces.
    do_lower_case: None for a module that does not tell.
    changes: of the configuration.

  Returns:
    Dict of name -> array of the variables.
  """
  config = modeling.BertConfig.from_dict(config_of(vocab, **changes))
  vocab_file = directory.parent / "vocab.txt"
  vocab_file.write_text("".join(f"{piece}\n" for piece in vocab))
  builder = tf.saved_model.Builder(str(directory))
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(1)
    names = ("input_ids", "input_mask", "segment_ids")
    inputs = {name: tf.placeholder(tf.int32, [None, None], name) for name in names}
    model = modeling.BertModel(config, False, *inputs.values())
    outputs = {
      "sequence_output": model.get_sequence_output(),
      "pooled_output": model.get_pooled_output(),
    }
    path = tf.constant(str(vocab_file), name="vocab_file")
    tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, path)
    told = {"vocab_file": path}
    if do_lower_case is not None:
      told["do_lower_case"] = tf.constant(do_lower_case)
    session.run(tf.global_variables_initializer())
    values = {v.op.name: session.run(v) for v in tf.trainable_variables()}
    builder.add_meta_graph_and_variables(
      session,
      [],
      {"tokens": _signature(inputs, outputs), "tokenization_info": _signature({}, told)},
      assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS),
    )
    builder.save()
  (directory / "tfhub_module.pb").write_bytes(b"\x08\x03")
  vocab_file.unlink()
  return values


def _signature(inputs, outputs):
  infos = [
    {name: tf.saved_model.build_tensor_info(tensor) for name, tensor in tensors.items()}
    for tensors in (inputs, outputs)
  ]
  return tf.saved_model.build_signature_def(*infos, "signature")


# Names of the encoders of TensorFlow 2, by those of a checkpoint.
SECOND_VERSION = (
  ("bert/embeddings/word_embeddings", "word_embeddings/embeddings"),
  ("bert/embeddings/token_type_embeddings", "type_embeddings/embeddings"),
  ("bert/embeddings/position_embeddings", "position_embedding/embeddings"),
  ("bert/embeddings/LayerNorm", "embeddings/layer_norm"),
  ("bert/pooler/dense", "pooler_transform"),
  ("bert/encoder", "transformer"),
  ("attention/self", "self_attention"),
  ("attention/output/dense", "self_attention/attention_output"),
  ("attention/output/LayerNorm", "self_attention_layer_norm"),
  ("intermediate/dense", "intermediate"),
  ("output/dense", "output"),
  ("output/LayerNorm", "output_layer_norm"),
  ("cls/predictions/output_bias", "bert/cls/predictions/output_bias/bias"),
  ("cls/predictions/transform", "bert/cls/predictions/transform"),
)
# Names of the first encoders of TensorFlow 2.
EARLIEST = (
  ("bert/embeddings/word_embeddings", "bert_model/word_embeddings/embeddings"),
  (
    "bert/embeddings/token_type_embeddings",
    "bert_model/embedding_postprocessor/type_embeddings",
  ),
  (
    "bert/embeddings/position_embeddings",
    "bert_model/embedding_postprocessor/position_embeddings",
  ),
  ("bert/embeddings/LayerNorm", "bert_model/embedding_postprocessor/layer_norm"),
  ("bert/pooler/dense", "bert_model/pooler_transform"),
  ("bert/encoder", "bert_model/encoder"),
  ("attention/self", "self_attention"),
  ("attention/output/dense", "self_attention_output"),
  *SECOND_VERSION[8:12],
)


def save_encoder(directory, values, names=SECOND_VERSION, num_heads=2, vocab=VOCAB, scope=""):
  """Writes an encoder of TensorFlow 2 without a graph that could be called.

  Args:
    directory: pathlib.Path.
    values: name, as in a checkpoint -> array.
    names: SECOND_VERSION or EARLIEST.
    num_heads: N of the shapes [H, N, D].
    vocab: list of word pieces, or None.
    scope: before the names.
  """
  with tf2.__internal__.eager_context.eager_mode():
    root = tf2.train.Checkpoint()
    variables = []
    for name, value in values.items():
      value = with_heads(name, value, num_heads)
      for old, new in names:
        name = name.replace(old, new)
      variables.append(tf2.Variable(value, name=scope + name))
    root.variables = variables
    root.do_lower_case = tf2.Variable(False, trainable=False)
    if vocab:
      path = directory.parent / "vocab.txt"
      path.write_text("".join(f"{piece}\n" for piece in vocab))
      root.vocab_file = tf2.saved_model.Asset(str(path))
    tf2.saved_model.save(root, str(directory))
    if vocab:
      os.remove(path)


def with_heads(name, value, num_heads):
  """Gives a weight of attention an axis for the heads."""
  if "/attention/self/" in name:
    return value.reshape([*value.shape[:-1], num_heads, -1])
  if name.endswith("/attention/output/dense/kernel"):
    return value.reshape([num_heads, -1, value.shape[-1]])
  return value


def random_encoder(seed=0, **changes):
  """Dict of name -> array of an encoder with the vocabulary of tiny_heads."""
  config = modeling.BertConfig.from_dict(config_of(VOCAB, **changes))
  random = np.random.default_rng(seed)
  with tf.Graph().as_default():
    modeling.BertModel(config, False, tf.zeros([1, 1], tf.int32))
    shapes = {v.op.name: v.shape.as_list() for v in tf.trainable_variables()}
  return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
