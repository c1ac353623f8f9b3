"""The training step against arithmetic done by hand, on one and two replicas."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import optimization

RATE, STEPS, WARMUP = 0.1, 20, 4


def scheduled(step):
  return RATE * step / WARMUP if step < WARMUP else RATE * (1 - step / STEPS)


def adam_by_hand(weights, gradient_of, steps, decay=0.01, clip=1.0, rate=scheduled):
  """The docstring's three formulas in float64; `decay` is one number or one a weight."""
  weights = np.array(weights, np.float64)
  m, v = np.zeros_like(weights), np.zeros_like(weights)
  for step in range(1, steps + 1):
    gradient = gradient_of(weights)
    if clip:
      gradient = gradient * min(1.0, clip / np.linalg.norm(gradient))
    m = 0.9 * m + 0.1 * gradient
    v = 0.999 * v + 0.001 * gradient**2
    weights = weights - rate(step) * (m / (np.sqrt(v) + 1e-6) + decay * weights)
  return weights, m, v


def variable_values(session):
  return {variable.name: session.run(variable) for variable in tf.global_variables()}


def test_warmup_and_decay_by_hand():
  with tf.Graph().as_default(), tf.Session() as session:
    rates = [
      session.run(optimization.learning_rate_schedule(1.0, 10, 4, tf.constant(step, tf.int64)))
      for step in range(1, 12)
    ]
  want = [0.25, 0.5, 0.75, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0]
  np.testing.assert_allclose(rates, want, atol=1e-6)


@pytest.mark.parametrize("warmup", [0, None])
def test_without_warmup_the_decay_is_all(warmup):
  with tf.Graph().as_default(), tf.Session() as session:
    rate = optimization.learning_rate_schedule(1.0, 10, warmup, tf.constant(1, tf.int64))
    assert session.run(rate) == pytest.approx(0.9)


@pytest.mark.parametrize("use_resource", [True, False])
def test_training_steps_equal_those_by_hand(use_resource):
  start = [1.0, 2.0, -3.0, 0.5]
  with tf.Graph().as_default(), tf.Session() as session:
    weights = tf.get_variable("w", initializer=start[:3], use_resource=use_resource)
    bias = tf.get_variable("output_bias", initializer=start[3:], use_resource=use_resource)
    unused = tf.get_variable("unused", initializer=[7.0], use_resource=use_resource)
    loss = tf.reduce_sum(weights**2) + tf.reduce_sum(bias**2)
    train_op = optimization.create_optimizer(loss, RATE, STEPS, WARMUP, False)
    session.run(tf.global_variables_initializer())
    for _ in range(8):
      session.run(train_op)
    values = variable_values(session)
  want, m, v = adam_by_hand(start, lambda w: 2 * w, 8, decay=np.array([0.01, 0.01, 0.01, 0.0]))
  np.testing.assert_allclose(values["w:0"], want[:3], rtol=1e-4)
  np.testing.assert_allclose(values["output_bias:0"], want[3:], rtol=1e-4)
  np.testing.assert_allclose(values["w/adam_m:0"], m[:3], rtol=1e-4)
  np.testing.assert_allclose(values["w/adam_v:0"], v[:3], rtol=1e-4)
  assert values["unused:0"] == [7.0] and unused is not None
  assert values["global_step:0"] == 8


def test_repeated_rows_of_an_embedding_are_summed_before_the_norm_is_taken():
  """Rows [0, 0]: the gradient is 2 a row, so 4 at row 0; its norm is 4 * sqrt(2), clipped to 1."""
  with tf.Graph().as_default(), tf.Session() as session:
    table = tf.get_variable("table", [3, 2], initializer=tf.ones_initializer())
    loss = tf.reduce_sum(2.0 * tf.gather(table, [0, 0]))
    train_op = optimization.create_optimizer(loss, RATE, STEPS, WARMUP, False)
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    moment = variable_values(session)["table/adam_m:0"]
  want = np.zeros([3, 2])
  want[0] = 0.1 / np.sqrt(2)
  np.testing.assert_allclose(moment, want, rtol=1e-5)


def test_optimizer_alone_takes_slices_and_leaves_the_global_step():
  with tf.Graph().as_default(), tf.Session() as session:
    table = tf.get_variable("table", [3, 1], initializer=tf.ones_initializer())
    other = tf.get_variable("other", [1], initializer=tf.ones_initializer())
    step = tf.train.get_or_create_global_step()
    optimizer = optimization.AdamWeightDecayOptimizer(0.5)
    slices = tf.IndexedSlices(tf.constant([[1.0], [2.0]]), tf.constant([1, 1]), tf.constant([3, 1]))
    train_op = optimizer.apply_gradients([(slices, table), (None, other)], global_step=step)
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    assert session.run(step) == 0
    assert session.run(other) == [1.0]
    moment = variable_values(session)["table/adam_m:0"]
    np.testing.assert_allclose(moment, [[0.0], [0.3], [0.0]], rtol=1e-6)
    assert session.run(optimizer.apply_gradients([(None, other)])) is None


def test_optimizer_reaches_a_target():
  target = np.array([0.4, 0.2, -0.5])
  with tf.Graph().as_default(), tf.Session() as session:
    weights = tf.get_variable("w", initializer=[0.1, -0.2, -0.1])
    loss = tf.reduce_mean((weights - target.astype("f4")) ** 2)
    optimizer = optimization.AdamWeightDecayOptimizer(learning_rate=0.2)
    train_op = optimizer.apply_gradients([(tf.gradients(loss, weights)[0], weights)])
    session.run(tf.global_variables_initializer())
    for _ in range(100):
      session.run(train_op)
    np.testing.assert_allclose(session.run(weights), target, atol=1e-2)


def test_names_decide_about_weight_decay():
  optimizer = optimization.AdamWeightDecayOptimizer(
    0.1, weight_decay_rate=0.01, exclude_from_weight_decay=["LayerNorm", "bias"]
  )
  assert optimizer._do_use_weight_decay("bert/pooler/dense/kernel")
  assert not optimizer._do_use_weight_decay("bert/embeddings/LayerNorm/gamma")
  assert not optimizer._do_use_weight_decay("output_bias")
  assert not optimization.AdamWeightDecayOptimizer(0.1)._do_use_weight_decay("kernel")
  assert optimizer._get_variable_name("bert/x:0") == "bert/x"


def _model_fn(features, labels, mode, params):
  """A linear model over features["x"], with an embedding that several rows share."""
  del labels, params
  table = tf.get_variable("table", [3, 2], initializer=tf.ones_initializer())
  kernel = tf.get_variable("kernel", [2, 1], initializer=tf.constant_initializer([[0.3], [-0.2]]))
  output = tf.matmul(features["x"] + tf.gather(table, features["id"]), kernel)
  loss = tf.reduce_mean((output[:, 0] - features["y"]) ** 2)
  train_op = optimization.create_optimizer(loss, RATE, STEPS, WARMUP, False)
  return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _data():
  rng = np.random.default_rng(3)
  return {
    "x": rng.normal(size=(16, 2)).astype("f4") * 3,
    "id": np.array([0, 1, 1, 2] * 4, np.int32),
    "y": rng.normal(size=16).astype("f4") * 5,
  }


def _trained_weights(directory, strategy, batch_size):
  config = tf.estimator.RunConfig(train_distribute=strategy, tf_random_seed=1)
  estimator = tf.estimator.Estimator(_model_fn, str(directory), config)
  estimator.train(
    lambda: tf.data.Dataset.from_tensor_slices(_data()).repeat().batch(batch_size, True),
    max_steps=6,
  )
  checkpoint = tf.train.load_checkpoint(str(directory))
  return {name: checkpoint.get_tensor(name) for name, _ in tf.train.list_variables(str(directory))}


def test_two_replicas_train_like_one(tmp_path):
  """Two replicas with 4 examples each make the steps of one with 8."""
  one = _trained_weights(tmp_path / "one", None, batch_size=8)
  strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
  two = _trained_weights(tmp_path / "two", strategy, batch_size=4)
  assert sorted(one) == sorted(two)
  assert two["global_step"] == 6
  for name, value in one.items():
    np.testing.assert_allclose(two[name], value, rtol=2e-5, atol=1e-6, err_msg=name)
  assert np.abs(one["kernel"] - [[0.3], [-0.2]]).max() > 0.05
