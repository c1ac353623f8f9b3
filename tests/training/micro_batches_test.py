"""A batch in parts against the batch as a whole: by hand, and with the model of each script."""

import numpy as np
import pytest
from tiny_runs import config_of, keep_all

import modeling
import optimization
import run_classifier
import run_multiple_choice
import run_ner
import run_pretraining
import run_squad
from toolkit.support.tensorflow_versions import tf
from toolkit.training import micro_batches

BATCH_SIZE, LENGTH, NUM_PREDICTIONS, NUM_LABELS = 6, 16, 3, 4
TRAIN = tf.estimator.ModeKeys.TRAIN


def _token_means(features):
  """Means of w x and of w x^2, over different tokens, as terms of a loss."""
  weight = tf.get_variable("w", initializer=2.0)
  tf.get_variable("unused", initializer=1.0)
  x, first, second = features["x"], features["first"], features["second"]
  terms = []
  for values, is_scored in ((weight * x, first), (weight * x**2, second)):
    count = tf.maximum(tf.reduce_sum(is_scored), 1.0)
    terms.append(optimization.Mean(tf.reduce_sum(values * is_scored) / count, count))
  return optimization.Objective(terms, {"second": terms[1]})


@pytest.mark.parametrize("num_parts", [1, 2, 4])
def test_means_over_tokens_add_up(num_parts):
  """Of w x the tokens 1, 2, 4 count: 7/3 w; of w x^2 the tokens 1 and 3: 5 w. In one part none."""
  columns = {"x": [1.0, 2, 3, 4], "first": [1.0, 1, 0, 1], "second": [1.0, 0, 1, 0]}
  with tf.Graph().as_default(), tf.Session() as session:
    features = {name: tf.constant(column)[:, tf.newaxis] for name, column in columns.items()}
    batch = optimization.WholeBatch(_token_means(features))
    if num_parts > 1:
      batch = micro_batches.BatchInParts(batch.objective, _token_means, features, num_parts)
    found, objective = batch.gradients(
      lambda objective: sum(
        mean.share(whole.count) for mean, whole in zip(objective.loss, batch.objective.loss)
      ),
      tf.trainable_variables(),
    )
    assert found[1] is None
    session.run(tf.global_variables_initializer())
    assert session.run(found[0]) == pytest.approx(7 / 3 + 5, rel=1e-5)
    assert session.run(objective.loss_value()) == pytest.approx(2 * (7 / 3 + 5), rel=1e-5)
    assert session.run(objective.shown["second"].value) == pytest.approx(10.0, rel=1e-5)


def test_a_batch_that_cannot_be_divided():
  with tf.Graph().as_default(), pytest.raises(ValueError, match=r"6 examples .* into 4 parts"):
    micro_batches.BatchInParts(None, None, {"x": tf.zeros([6, 2])}, 4)


# ---- The models of the scripts ------------------------------------------------------------------


def _columns():
  """Features of all scripts for BATCH_SIZE examples; the last three are the longest."""
  rng = np.random.default_rng(5)
  lengths = np.array([3, 8, 5, 12, 16, 9])[:, np.newaxis]
  mask = (np.arange(LENGTH) < lengths).astype("i4")
  scored = mask * rng.integers(0, 2, mask.shape)
  scored[:3] = 0  # nothing to tag in the first half
  scored[4, :2] = 1
  return {
    "input_ids": mask * rng.integers(1, 20, mask.shape),
    "input_mask": mask,
    "segment_ids": mask * rng.integers(0, 2, mask.shape),
    "label_mask": scored,
    "label_ids": rng.integers(0, NUM_LABELS, mask.shape),
    "masked_lm_positions": rng.integers(0, 3, [BATCH_SIZE, NUM_PREDICTIONS]),
    "masked_lm_ids": rng.integers(1, 20, [BATCH_SIZE, NUM_PREDICTIONS]),
    "masked_lm_weights": np.array([[1, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 0]] + [[1, 1, 1]] * 2),
    "next_sentence_labels": rng.integers(0, 2, [BATCH_SIZE, 1]),
    "start_positions": rng.integers(0, 3, BATCH_SIZE),
    "end_positions": rng.integers(0, 3, BATCH_SIZE),
  }


def _of_two_choices(columns):
  """Returns the columns of questions, of which half have one choice: [B, S] to [B, S, 2]."""
  inputs = {
    name: np.stack([columns[name], np.roll(columns[name], 2, axis=0)], axis=2)
    for name in ("input_ids", "input_mask", "segment_ids")
  }
  labels = columns["label_ids"][:, 0] % 2
  present = np.stack([labels == 0, np.ones_like(labels)], axis=1) | (labels[:, np.newaxis] == 0)
  return {**inputs, "choice_mask": present.astype("i4"), "label_ids": labels}


PER_TOKEN = ("input_ids", "input_mask", "segment_ids", "label_mask", "label_ids")


def _features(columns):
  """Tensors of them; those with a value per token have no known length, as input functions cut."""
  features = {}
  for name, column in columns.items():
    dtype = tf.float32 if name == "masked_lm_weights" else tf.int32
    cut = [BATCH_SIZE, None, *column.shape[2:]]
    shape = cut if name in PER_TOKEN and column.ndim > 1 else column.shape
    features[name] = tf.placeholder_with_default(tf.constant(column, dtype), shape)
  return features


def _classifier(*arguments, **named):
  return run_classifier.model_fn_builder(arguments[0], NUM_LABELS, *arguments[1:], **named)


def _tagger(*arguments, **named):
  return run_ner.model_fn_builder(arguments[0], NUM_LABELS, *arguments[1:], **named)


def _chooser(config, *arguments, **named):
  names = ("init_checkpoint", "learning_rate", "num_train_steps", "num_warmup_steps", "use_tpu")
  named.update(zip(names, arguments))
  return run_multiple_choice.model_fn_builder(config, **named)


BUILDERS = {
  "classifier": _classifier,
  "ner": _tagger,
  "choice": _chooser,
  "squad": run_squad.model_fn_builder,
  "pretraining": run_pretraining.model_fn_builder,
}
SLOW = {"ner", "squad", "choice"}  # which have less of their own than the others


def _step(script, options, dropout=0.0, num_steps=1):
  """Trains a tiny model; returns dict of name -> value, the losses as "loss", and the progress."""
  columns = _columns()
  if script == "classifier":
    columns["label_ids"] = columns["label_ids"][:, 0]
  elif script == "choice":
    columns = _of_two_choices(columns)
  config = modeling.BertConfig.from_dict(
    config_of(
      range(20), hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout, hidden_size=8
    )
  )
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(1)
    tf.train.create_global_step()
    model_fn = BUILDERS[script](config, None, 0.01, 10, 0, False, False, options=options)
    # The heads of two scripts have a dropout of their own, which no configuration turns off.
    with pytest.MonkeyPatch.context() as patched:
      if not dropout:
        patched.setattr(modeling, "_random_uint16", keep_all)
      spec = model_fn(_features(columns), None, TRAIN, {})
    shown = dict(tf.get_collection("progress"))
    session.run(tf.global_variables_initializer())
    session.run(tf.local_variables_initializer())
    losses = [session.run([spec.loss, shown, spec.train_op])[:2] for _ in range(num_steps)]
    values = {variable.op.name: session.run(variable) for variable in tf.global_variables()}
  return {**values, **losses[0][1], "loss": [loss for loss, _ in losses]}


def _assert_same(found, want, atol=1e-5):
  assert found.keys() == want.keys()
  assert any(name.endswith("adam_m") for name in want)
  for name, value in want.items():
    # A first moment is a tenth of a gradient.
    tolerance = atol / 10 if name.endswith("adam_m") else atol
    if name.endswith("adam_m") or name in ("loss", "global_step") or "masked" in name:
      np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=tolerance, err_msg=name)


@pytest.mark.parametrize(
  "script",
  [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in BUILDERS],
)
def test_parts_make_the_step_of_the_whole(script):
  want = _step(script, micro_batches.DEFAULTS)
  _assert_same(_step(script, micro_batches.StepOptions(num_parts=3)), want)
  assert np.abs(want["bert/embeddings/word_embeddings/adam_m"]).max() > 1e-4


@pytest.mark.parametrize("num_parts", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_layers_that_are_computed_again_have_the_same_gradients_with_dropout(num_parts):
  want = _step("ner", micro_batches.StepOptions(num_parts=num_parts), dropout=0.3, num_steps=2)
  options = micro_batches.StepOptions(num_parts=num_parts, recompute=True)
  _assert_same(_step("ner", options, dropout=0.3, num_steps=2), want)


def test_frozen_layers_in_parts_and_computed_again():
  update = optimization.Options(freeze_layers=1, freeze_embeddings=True)
  options = micro_batches.StepOptions(update)
  want = _step("pretraining", options)
  both = options._replace(num_parts=2, recompute=True)
  _assert_same(_step("pretraining", both), want)
  assert not any(name.startswith("bert/embeddings") for name in want if name.endswith("adam_m"))


def test_each_part_has_a_dropout_of_its_own():
  masks = []
  for number in (0, 0, 1):
    with tf.Graph().as_default(), tf.Session() as session:
      tf.set_random_seed(1)
      step = tf.train.create_global_step()
      with modeling.fast_forms(micro_batch=tf.constant(number)):
        mask = modeling.dropout(tf.ones([64]), 0.5)
      session.run(step.initializer)
      masks.append(session.run(mask))
  assert np.array_equal(masks[0], masks[1])
  assert 10 < np.sum(masks[0] != masks[2]) < 54
