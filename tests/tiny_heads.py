"""Output directories of each script, with random weights in place of a training."""

import json

import tensorflow.compat.v1 as tf
from tiny_runs import SPECIAL, config_of

import modeling
from toolkit.formats import checkpoint_files
from toolkit.tasks import (
  classification_head,
  multiple_choice_head,
  pretraining_head,
  squad_head,
  tagging_head,
)

VOCAB = [*SPECIAL, "the", "old", "hat", "is", "good", "bad", "?", ".", "un", "##able"]
LABELS = ["good", "bad", "old"]
TAGS = ["O", "B-PER", "I-PER"]


def classifier(config, inputs):
  logits = classification_head.create_model(config, False, *inputs, None, 3, False)[2]
  return {"logits": logits, "probabilities": tf.nn.softmax(logits)}


def labels_of_texts(config, inputs):
  logits = classification_head.create_model(config, False, *inputs, None, 3, False)[2]
  return {"logits": logits, "probabilities": tf.sigmoid(logits)}


def number(config, inputs):
  return {"logits": classification_head.create_model(config, False, *inputs, None, 1, False)[2]}


def choice(config, inputs):
  return {"scores": multiple_choice_head.choice_scores(config, False, *inputs)[:, 0]}


def span(config, inputs):
  start, end = squad_head.create_model(config, False, *inputs, False)
  return {"start_logits": start, "end_logits": end}


def tags(config, inputs):
  zeros = tf.zeros_like(inputs[0])
  return {"logits": tagging_head.create_model(config, False, *inputs, zeros, zeros, 3, False)[2]}


def masked_lm(config, inputs):
  """The outputs at the second and the fourth place."""
  model = modeling.BertModel(config, False, *inputs)
  positions = tf.tile([[1, 3]], [tf.shape(inputs[0])[0], 1])
  hidden = tf.gather(model.get_sequence_output(), positions, batch_dims=1)
  flat = tf.reshape(hidden, [-1, config.hidden_size])
  logits = pretraining_head.masked_lm_logits(config, flat, model.get_embedding_table())
  return {"masked_lm_logits": tf.reshape(logits, [-1, 2, config.vocab_size])}


# Name -> script, labels, flags, and the function that builds the outputs of an export.
MODELS = {
  "one_label": ("run_classifier", LABELS, {"task_name": "tsv"}, classifier),
  "several_labels": (
    "run_classifier",
    LABELS,
    {"task_name": "tsv", "multi_label": True, "label_threshold": 0.4},
    labels_of_texts,
  ),
  "number": ("run_classifier", None, {"task_name": "tsv", "regression": True}, number),
  "choice": ("run_multiple_choice", None, {"task_name": "tsv"}, choice),
  "span": ("run_squad", None, {"doc_stride": 8, "max_query_length": 8}, span),
  "tags": ("run_ner", TAGS, {"tag_scheme": "auto"}, tags),
  "masked_lm": ("run_pretraining", None, {}, masked_lm),
}


def save_trained(directory, name, step=5, **changes):
  """Writes what a training of a member of MODELS leaves in its directory.

  Args:
    directory: pathlib.Path, existing.
    name: key of MODELS.
    step: of the checkpoint.
    changes: of the configuration.
  """
  script, labels, flags, build = MODELS[name]
  config = config_of(VOCAB, **changes)
  (directory / "bert_config.json").write_text(json.dumps(config))
  (directory / "vocab.txt").write_text("\n".join(VOCAB) + "\n")
  if labels:
    (directory / "label_list.txt").write_text("".join(f"{label}\n" for label in labels))
  flags = {"max_seq_length": 16, "do_lower_case": True, **flags}
  (directory / "run.json").write_text(json.dumps({"script": script, "flags": flags}))
  save_weights(directory, build, config, step)


def save_weights(directory, build, config, step=5, seed=1):
  """Writes a checkpoint of a training: random weights, Adam slots and the step."""
  config = modeling.BertConfig.from_dict(config)
  directory.mkdir(exist_ok=True)
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(seed)
    build(config, [tf.ones([1, 4], tf.int32)] * 3)
    for variable in tf.trainable_variables():
      zeros = tf.zeros(variable.shape)
      tf.get_variable(f"{variable.op.name}/adam_m", initializer=zeros, trainable=False)
    tf.get_variable("global_step", initializer=tf.constant(step, tf.int64), trainable=False)
    session.run(tf.global_variables_initializer())
    # New biases are zeros, with which a forgotten one would not be seen.
    for variable in tf.trainable_variables():
      session.run(variable.assign_add(tf.random_normal(variable.shape, stddev=0.1)))
    prefix = str(directory / f"model.ckpt-{step}")
    tf.train.Saver().save(session, prefix, write_state=False, write_meta_graph=False)
  checkpoint_files.write_state(str(directory), [prefix])


def outputs_of(directory, name, inputs):
  """Runs a member of MODELS, in its plain form, on arrays: dict of name -> array."""
  *_, build = MODELS[name]
  config = modeling.BertConfig.from_json_file(str(directory / "bert_config.json"))
  with tf.Graph().as_default(), tf.Session() as session:
    outputs = build(config, [tf.constant(array) for array in inputs])
    tf.train.Saver().restore(session, checkpoint_files.latest(str(directory)))
    return session.run(outputs)
