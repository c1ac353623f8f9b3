"""Pre-training in TensorFlow: masked language model and next sentence, and their records."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Optional

import tensorflow.compat.v1 as tf

import modeling
import optimization
from toolkit.records import input_pipeline, tf_records
from toolkit.support import files
from toolkit.tasks import pretraining

# Metrics of training and evaluation, in this order.
SCORES = ("masked_lm_accuracy", "masked_lm_loss", "next_sentence_accuracy", "next_sentence_loss")
# The mean of the batches' losses, weighted by their examples, unlike the mean of an estimator.
BATCH_LOSS = "batch_loss"


def gather_indexes(sequence_tensor: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
  """Picks vectors out of sequences.

  Args:
    sequence_tensor: float32 [B, S, H].
    positions: int32 [B, P], places in the sequences.

  Returns:
    float32 [B * P, H].
  """
  picked = tf.gather(sequence_tensor, positions, batch_dims=1)  # [B, P, H]
  return modeling.reshape_to_matrix(picked)


def masked_lm_logits(
  bert_config: modeling.BertConfig, hidden: tf.Tensor, output_weights: tf.Tensor
) -> tf.Tensor:
  """Builds the logits of the masked language model's head (Devlin et al. 2018, section 3.1).

  Args:
    bert_config: the encoder's.
    hidden: float32 [N, H], outputs of the encoder.
    output_weights: [V, H], the table of word embeddings, which the head shares.

  Returns:
    float32 [N, V].
  """
  width = bert_config.hidden_size
  initializer = modeling.create_initializer(bert_config.initializer_range)
  activation = modeling.get_activation(bert_config.hidden_act) or tf.identity
  with tf.variable_scope("cls/predictions"):
    with tf.variable_scope("transform"):
      kernel = tf.get_variable("dense/kernel", [width, width], initializer=initializer)
      bias = tf.get_variable("dense/bias", [width], initializer=tf.zeros_initializer())
      hidden = modeling.layer_norm(activation(tf.matmul(hidden, kernel) + bias))
    bias = tf.get_variable(
      "output_bias", [bert_config.vocab_size], initializer=tf.zeros_initializer()
    )
  return tf.matmul(hidden, output_weights, transpose_b=True) + bias


def get_masked_lm_output(
  bert_config: modeling.BertConfig,
  input_tensor: tf.Tensor,
  output_weights: tf.Tensor,
  positions: Optional[tf.Tensor],
  label_ids: tf.Tensor,
  label_weights: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Builds the masked language model's head over masked places, and its loss.

  Args:
    bert_config: the encoder's.
    input_tensor: float32 [B, S, H], outputs of the encoder; or [B, P, H], those at `positions`.
    output_weights: [V, H], the table of word embeddings.
    positions: int32 [B, P], places of the masked word pieces; None if input_tensor has no others.
    label_ids: int32 [B, P], their ids.
    label_weights: float32 [B, P], 0.0 for padding.

  Returns:
    float32 scalar, the mean loss by weight; float32 [B * P], cross-entropies in nats;
    float32 [B * P, V], log probabilities.
  """
  if positions is None:
    hidden = modeling.reshape_to_matrix(input_tensor)  # [B * P, H]
  else:
    hidden = gather_indexes(input_tensor, positions)
  logits = masked_lm_logits(bert_config, hidden, output_weights)  # [B * P, V]
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=tf.reshape(label_ids, [-1]), logits=logits
  )
  loss = _weighted_mean(losses, tf.reshape(label_weights, [-1]))
  return loss, losses, tf.nn.log_softmax(logits)


def _weighted_mean(values, weights):
  """Returns the mean of float32 [N] by weight; 0 where all weights are 0."""
  return tf.reduce_sum(values * weights) / _total_weight(weights)


def _total_weight(weights):
  """Returns the denominator of a mean by weight, above 0."""
  return tf.reduce_sum(weights) + 1e-5


def get_next_sentence_output(
  bert_config: modeling.BertConfig, input_tensor: tf.Tensor, labels: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """Builds the classifier of second segments, following the first or random, and its loss.

  Args:
    bert_config: the encoder's.
    input_tensor: float32 [B, H], the pooled output of the encoder.
    labels: int32 [B] or [B, 1], 0 if it follows, 1 if it is a random one.

  Returns:
    float32 scalar, the mean loss; float32 [B], cross-entropies in nats; float32 [B, 2],
    log probabilities.
  """
  with tf.variable_scope("cls/seq_relationship"):
    weights = tf.get_variable(
      "output_weights",
      [2, bert_config.hidden_size],
      initializer=modeling.create_initializer(bert_config.initializer_range),
    )
    bias = tf.get_variable("output_bias", [2], initializer=tf.zeros_initializer())
  logits = tf.matmul(input_tensor, weights, transpose_b=True) + bias  # [B, 2]
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
    labels=tf.reshape(labels, [-1]), logits=logits
  )
  return tf.reduce_mean(losses), losses, tf.nn.log_softmax(logits)


# float32 scalar, the mean loss; the losses; the log probabilities.
HeadOutput = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


def heads(
  bert_config: modeling.BertConfig,
  features: dict[str, tf.Tensor],
  is_training: bool,
  use_one_hot_embeddings: bool,
) -> tuple[HeadOutput, HeadOutput]:
  """Builds the encoder with both heads from the columns of pretraining.record_features.

  Returns the results of get_masked_lm_output and get_next_sentence_output.
  """
  inputs = [features[name] for name in tf_records.INPUTS]
  inputs.append(use_one_hot_embeddings)
  model = modeling.BertModel(bert_config, is_training, *inputs)
  positions = features["masked_lm_positions"]
  if hasattr(model, "get_output_at"):
    hidden, positions = model.get_output_at(positions), None
  else:  # a class of the classic methods, in place of BertModel
    hidden = model.get_sequence_output()
  masked = get_masked_lm_output(
    bert_config,
    hidden,
    model.get_embedding_table(),
    positions,
    features["masked_lm_ids"],
    features["masked_lm_weights"],
  )
  following = get_next_sentence_output(
    bert_config, model.get_pooled_output(), features["next_sentence_labels"]
  )
  return masked, following


def objective(
  features: dict[str, tf.Tensor],
  masked_loss: tf.Tensor,
  following_loss: tf.Tensor,
  scores: dict[str, tuple[tf.Tensor, tf.Tensor]],
) -> optimization.Objective:
  """Returns the sum of both heads' mean losses, float32 scalars, and the values of `scores`."""
  num_masked = _total_weight(features["masked_lm_weights"])
  return optimization.Objective(
    [
      optimization.Mean(masked_loss, num_masked),
      optimization.mean_of_examples(following_loss, features["next_sentence_labels"]),
    ],
    shown={
      name: optimization.Mean(_weighted_mean(values, weights), _total_weight(weights))
      for name, (values, weights) in scores.items()
    },
  )


def scores(
  features: dict[str, tf.Tensor], masked: HeadOutput, following: HeadOutput
) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
  """Returns values and weights, float32 [N], of each of SCORES for a batch, from the `heads`.

  Examples that only fill the batch have no real token, and the weight 0.
  """
  is_real = tf.cast(tf.reduce_max(features["input_mask"], axis=1), tf.float32)  # [B]
  weights = tf.reshape(features["masked_lm_weights"], [-1])  # [B * P]
  columns = []
  for (_, losses, log_probs), labels, label_weights in (
    (masked, features["masked_lm_ids"], weights),
    (following, features["next_sentence_labels"], is_real),
  ):
    predicted = tf.argmax(log_probs, axis=-1, output_type=tf.int32)
    hits = tf.cast(tf.equal(predicted, tf.reshape(labels, [-1])), tf.float32)
    columns += [(hits, label_weights), (losses, label_weights)]
  return dict(zip(SCORES, columns))


def metrics(*columns: tf.Tensor) -> dict[str, tuple[tf.Tensor, tf.Operation]]:
  """Returns the metrics of an EVAL graph; `columns` are values and weights of each of SCORES."""
  scores = dict(zip(SCORES, zip(columns[::2], columns[1::2])))
  batch_loss = _weighted_mean(*scores["masked_lm_loss"])
  batch_loss += _weighted_mean(*scores["next_sentence_loss"])
  _, is_real = scores["next_sentence_loss"]
  means = {name: tf.metrics.mean(*column) for name, column in scores.items()}
  return {**means, BATCH_LOSS: tf.metrics.mean(batch_loss, tf.reduce_sum(is_real))}


# ---- Input --------------------------------------------------------------------------------------


def _decode_record(record, name_to_features):
  """Decodes a tf.train.Example by a dict of tf.FixedLenFeature; integers become int32 for TPUs."""
  example = tf.io.parse_single_example(record, name_to_features)
  return {
    name: tf.cast(value, tf.int32) if value.dtype == tf.int64 else value
    for name, value in example.items()
  }


def input_fn_builder(
  input_files: Sequence[str],
  max_seq_length: int,
  max_predictions_per_seq: int,
  is_training: bool,
  num_cpu_threads: int = 4,
  trim_padding: bool = False,
  seed: Optional[int] = None,
  num_seen: int = 0,
  num_records: Optional[int] = None,
) -> input_pipeline.InputFn:
  """Makes the input_fn that reads the files of create_pretraining_data.py.

  Args:
    input_files: TFRecord files.
    max_seq_length: S.
    max_predictions_per_seq: P.
    is_training: the examples are shuffled and repeated without end, or once and in order.
    num_cpu_threads: files that training reads at a time.
    trim_padding, seed, num_seen, num_records: see input_pipeline.corpus_input_fn.

  Returns:
    Function of params, a dict with "batch_size", to batches with the columns of
    pretraining.record_features.
  """
  features = pretraining.record_features(max_seq_length, max_predictions_per_seq)
  return input_pipeline.corpus_input_fn(
    input_files,
    features,
    is_training,
    num_parallel_files=num_cpu_threads,
    trim_padding=trim_padding,
    seed=seed,
    num_seen=num_seen,
    num_records=num_records,
  )


class RecordSet(NamedTuple):
  """TFRecord files, and the number of their records."""

  paths: Sequence[str]
  num_records: int


def find_records(patterns: str, flag: str) -> list[str]:
  """Lists the TFRecord files of a flag's patterns, without metadata; InputError if none is left."""
  found = files.find(patterns, flag)
  paths = [path for path in found if not path.endswith(pretraining.metadata_path(""))]
  if not paths:
    raise files.InputError(f"--{flag}: {patterns} are metadata; give the TFRecord files themselves")
  return paths


def check_records(paths: Sequence[str], expected: dict[str, Any], vocab_size: int) -> RecordSet:
  """Checks that records fit the model, and counts them.

  Of files without metadata the first records are checked, and all are read to be counted.

  Args:
    paths: TFRecord files.
    expected: entries of the metadata, see pretraining.check_metadata; max_seq_length and
      max_predictions_per_seq among them.
    vocab_size: of the model.

  Raises:
    files.InputError: the records do not fit, are damaged, or there are none.
  """
  pretraining.check_metadata(paths, **expected)
  features = pretraining.record_features(
    expected["max_seq_length"], expected["max_predictions_per_seq"]
  )
  known, num_records = {}, 0
  for path in paths:
    source = pretraining.metadata_path(path)
    if source not in known:
      known[source] = files.read_json(source)["files"] if files.exists(source) else {}
    entry = known[source].get(os.path.basename(path))
    if entry is None:
      check_ids(path, input_pipeline.read_some(path, features), vocab_size)
      num_records += input_pipeline.count_records([path])
    else:
      num_records += entry["records"]
  if not num_records:
    raise files.InputError(f"{', '.join(paths)}: no records; see create_pretraining_data.py")
  return RecordSet(paths, num_records)


def check_ids(path: str, rows: Iterable[dict[str, list[Any]]], vocab_size: int) -> None:
  """Raises files.InputError for records with a word piece that the model does not have."""
  highest = max((max(row["input_ids"] + row["masked_lm_ids"]) for row in rows), default=0)
  if highest >= vocab_size:
    raise files.InputError(
      f"{path}: found word piece {highest}, and vocab_size is {vocab_size} in --bert_config_file; "
      "make the records with the model's vocabulary"
    )
