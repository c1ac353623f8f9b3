"""The training step against arithmetic done by hand, on one and two replicas."""

import numpy as np
import pytest

import optimization
from toolkit.support.tensorflow_versions import tf

RATE, STEPS, WARMUP = 0.1, 20, 4


def scheduled(step):
  return RATE * step / WARMUP if step < WARMUP else RATE * (1 - step / STEPS)


def adam_by_hand(weights, gradient_of, steps, decay=0.01, clip=1.0, rate=scheduled):
  """The docstring's three formulas in float64; `decay` is one number or one per weight."""
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
  np.testing.assert_allclose(rates, want, atol=1e-5)


@pytest.mark.parametrize("warmup", [0, None])
def test_without_warmup_the_decay_is_all(warmup):
  with tf.Graph().as_default(), tf.Session() as session:
    rate = optimization.learning_rate_schedule(1.0, 10, warmup, tf.constant(1, tf.int64))
    assert session.run(rate) == pytest.approx(0.9, rel=1e-5)


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
  """Rows [0, 0]: gradients of 2 per row, so 4 at row 0; its norm is 4 * sqrt(2), clipped to 1."""
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
    np.testing.assert_allclose(moment, [[0.0], [0.3], [0.0]], rtol=1e-5)
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


def _trained_weights(directory, strategy, batch_size, model_fn=_model_fn):
  config = tf.estimator.RunConfig(train_distribute=strategy, tf_random_seed=1)
  estimator = tf.estimator.Estimator(model_fn, str(directory), config)
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
    np.testing.assert_allclose(two[name], value, rtol=2e-5, atol=1e-5, err_msg=name)
  assert np.abs(one["kernel"] - [[0.3], [-0.2]]).max() > 0.05


def test_means_over_unequal_numbers_of_tokens():
  """Means 2 over 30 tokens and 5 over 10: 110 / 40 = 2.75."""
  strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
  with tf.Graph().as_default(), strategy.scope():

    def replica():
      place = tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group)
      mean = optimization.Mean([2.0, 5.0][place], tf.constant([30.0, 10.0][place]))
      (whole,) = optimization.replica_sum([mean.count])
      share = mean.share(whole)
      return [share, *optimization.replica_sum([share])]

    results = strategy.extended.call_for_each_replica(replica)
    results = [strategy.experimental_local_results(each) for each in results]
    with tf.Session() as session:
      share, mean = session.run(results)
  assert (share, mean) == ((1.5, 1.25), (2.75, 2.75))


# ---- Schedules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("schedule", "warmup", "want"),
  [
    ("constant", 4, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1, 1]),
    ("constant", 0, [1] * 11),
    ("cosine", 4, [0.25, 0.5, 0.75, 1, 0.933, 0.75, 0.5, 0.25, 0.067, 0, 0]),
    ("cosine", None, [0.976, 0.905, 0.794, 0.655, 0.5, 0.345, 0.206, 0.095, 0.024, 0, 0]),
    ("cosine", 10, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1]),  # nothing but warm-up
    ("linear", None, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0, 0]),
  ],
)
def test_schedules(schedule, warmup, want):
  with tf.Graph().as_default(), tf.Session() as session:
    step = tf.placeholder(tf.int64, [])
    rate = optimization.learning_rate_schedule(2.0, 10, warmup, step, schedule)
    rates = [session.run(rate, {step: number}) for number in range(1, 12)]
  np.testing.assert_allclose(rates, 2 * np.array(want), atol=2e-3)


def test_an_unknown_schedule():
  with pytest.raises(ValueError, match="unknown schedule 'poly'; known are linear, constant, cos"):
    optimization.learning_rate_schedule(1.0, 10, 0, tf.constant(1, tf.int64), "poly")


# ---- Frozen variables and layers' rates ---------------------------------------------------------

LAYERED = {  # variable -> how many times the decay is applied to its learning rate
  "bert/embeddings/LayerNorm/gamma": 3,
  "bert/encoder/layer_0/output/dense/kernel": 2,
  "bert/encoder/layer_1/output/dense/kernel": 1,
  "bert/pooler/dense/kernel": 0,
  "output_weights": 0,
}


def _layered_loss(x, width=2):
  """A chain of products with one matrix for each of LAYERED."""
  for place, name in enumerate(LAYERED):
    start = np.eye(width) + 0.1 * np.cos(np.arange(width**2) + place).reshape(width, width)
    x = tf.matmul(x, tf.get_variable(name, initializer=start.astype("f4")), name=f"product_{place}")
  return tf.reduce_mean(x**2)


def _layered_run(options, rate=RATE):
  """Values of all variables before and after three steps, and the names of the operations."""
  with tf.Graph().as_default() as graph, tf.Session() as session:
    loss = _layered_loss(tf.constant([[1.0, -2.0], [0.5, 3.0]]))
    train_op = optimization.create_optimizer(loss, rate, STEPS, WARMUP, False, options)
    session.run(tf.global_variables_initializer())
    before = variable_values(session)
    for _ in range(3):
      session.run(train_op)
    return before, variable_values(session), [op.name for op in graph.get_operations()]


@pytest.mark.parametrize(
  ("layers", "embeddings", "num_frozen"), [(1, True, 2), (2, True, 3), (0, True, 1), (0, False, 0)]
)
def test_frozen_variables_have_no_update_no_slots_and_no_gradient(layers, embeddings, num_frozen):
  options = optimization.Options(freeze_layers=layers, freeze_embeddings=embeddings)
  before, after, operations = _layered_run(options)
  for place, name in enumerate(LAYERED):
    is_frozen = place < num_frozen
    assert np.array_equal(before[f"{name}:0"], after[f"{name}:0"]) == is_frozen
    assert (f"{name}/adam_m:0" in after, f"{name}/adam_v:0" in after) == (not is_frozen,) * 2
    assert any(op.startswith(f"gradients/product_{place}_grad") for op in operations) != is_frozen


def test_layers_frozen_above_embeddings_that_train():
  options = optimization.Options(freeze_layers=2)
  before, after, _ = _layered_run(options)
  changed = [not np.array_equal(before[f"{name}:0"], after[f"{name}:0"]) for name in LAYERED]
  assert changed == [True, False, False, True, True]


def test_frozen_variables_have_no_part_in_the_norm():
  """The gradients are [3, 4] in the head, and [30, 40] in the embeddings if they had any.

  The head's first moment is a tenth of its gradient, whose norm 5 is cut to 2: [0.12, 0.16].
  """
  with tf.Graph().as_default(), tf.Session() as session:
    head = tf.get_variable("head", initializer=[1.0, 1.0])
    table = tf.get_variable("bert/embeddings/table", initializer=[1.0, 1.0])
    loss = tf.reduce_sum((head + 10.0 * table) * [3.0, 4.0])
    options = optimization.Options(clip_norm=2.0, freeze_embeddings=True)
    train_op = optimization.create_optimizer(loss, RATE, STEPS, WARMUP, False, options)
    session.run(tf.global_variables_initializer())
    session.run(train_op)
    values = variable_values(session)
  np.testing.assert_allclose(values["head/adam_m:0"], [0.12, 0.16], rtol=1e-5)


def test_learning_rates_fall_from_layer_to_layer():
  """The same gradient [3] everywhere; by hand each variable has its own rate, weight decay too."""
  names = list(LAYERED)
  with tf.Graph().as_default(), tf.Session() as session:
    variables = [tf.get_variable(name, initializer=[2.0]) for name in names]
    loss = 3.0 * tf.reduce_sum(tf.add_n(variables))
    options = optimization.Options(layerwise_decay=0.5)
    train_op = optimization.create_optimizer(loss, RATE, STEPS, WARMUP, False, options)
    session.run(tf.global_variables_initializer())
    for _ in range(6):
      session.run(train_op)
    values = variable_values(session)
  factors = 0.5 ** np.array(list(LAYERED.values()))
  want, _, _ = adam_by_hand(
    [2.0] * len(names),
    lambda w: np.full_like(w, 3.0),
    6,
    decay=np.array(["LayerNorm" not in name for name in names]) * 0.01,
    rate=lambda step: scheduled(step) * factors,
  )
  np.testing.assert_allclose([values[f"{name}:0"][0] for name in names], want, atol=1e-4)


@pytest.mark.parametrize(
  ("name", "want"),
  [
    ("bert/embeddings/word_embeddings", True),
    ("bert/embeddings/LayerNorm/beta", True),
    ("bert/encoder/layer_2/attention/self/key/bias", True),
    ("bert/encoder/layer_3/attention/self/key/bias", False),
    ("bert/encoder/layer_10/output/LayerNorm/gamma", False),
    ("bert/pooler/dense/kernel", False),
    ("cls/squad/output_weights", False),
  ],
)
def test_names_decide_about_freezing(name, want):
  options = optimization.Options(freeze_layers=3, freeze_embeddings=True)
  assert optimization.is_frozen(name, options) == want
  assert not optimization.is_frozen(name, optimization.DEFAULTS)


def _layered_model_fn(features, labels, mode, params):
  del labels, params
  loss = _layered_loss(features["x"])
  options = optimization.Options(
    schedule="cosine", layerwise_decay=0.7, freeze_layers=1, freeze_embeddings=True
  )
  train_op = optimization.create_optimizer(loss, RATE, STEPS, WARMUP, False, options)
  return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def test_two_replicas_with_options_train_like_one(tmp_path):
  one = _trained_weights(tmp_path / "one", None, 8, _layered_model_fn)
  strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
  two = _trained_weights(tmp_path / "two", strategy, 4, _layered_model_fn)
  assert sorted(one) == sorted(two)
  assert "bert/encoder/layer_0/output/dense/kernel/adam_m" not in two
  assert "bert/encoder/layer_1/output/dense/kernel/adam_m" in two
  for name, value in one.items():
    np.testing.assert_allclose(two[name], value, rtol=2e-5, atol=1e-5, err_msg=name)


# ---- Loss scale ---------------------------------------------------------------------------------


def _scaled_run(start, num_steps, growth=None, monkeypatch=None):
  """Trains w^2 with float16 gradients; yields values of the variables after each step."""
  if growth:
    monkeypatch.setattr(optimization, "LOSS_SCALE_STEPS", growth)
  with tf.Graph().as_default(), tf.Session() as session:
    weights = tf.get_variable("w", initializer=[1.0, -3.0])
    loss = tf.cast(tf.reduce_sum(tf.cast(weights, tf.float16) ** 2), tf.float32)
    options = optimization.Options(loss_scale=start)
    train_op = optimization.create_optimizer(loss, RATE, STEPS, WARMUP, False, options)
    assert [v.op.name for v in tf.local_variables()] == ["loss_scale", "loss_scale_good_steps"]
    assert not any("loss_scale" in v.op.name for v in tf.global_variables())  # what is saved
    session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    (scale,) = tf.get_collection(optimization.LOSS_SCALE)
    for _ in range(num_steps):
      session.run(train_op)
      yield {**variable_values(session), "scale": session.run(scale)}


def test_a_step_that_overflows_is_left_out_and_halves_the_scale():
  """2 w of w = -3 is 6; times 32768 that is above 65504, the largest float16; so is 6 * 16384."""
  first, second, third, fourth = _scaled_run(2.0**15, 4)
  for values, scale in ((first, 2.0**14), (second, 2.0**13)):
    np.testing.assert_array_equal(values["w:0"], [1.0, -3.0])
    assert not values["w/adam_m:0"].any() and not values["w/adam_v:0"].any()
    assert (values["global_step:0"], values["scale"]) == (0, scale)
  assert [v["global_step:0"] for v in (third, fourth)] == [1, 2]
  assert [v["scale"] for v in (third, fourth)] == [2.0**13] * 2
  want, m, _ = adam_by_hand([1.0, -3.0], lambda w: 2 * w, 2)
  np.testing.assert_allclose(fourth["w:0"], want, rtol=2e-3)  # gradients have 11 bits
  np.testing.assert_allclose(fourth["w/adam_m:0"], m, rtol=2e-3)


def test_the_scale_grows_after_steps_without_an_overflow(monkeypatch):
  runs = _scaled_run(2.0**11, 7, growth=2, monkeypatch=monkeypatch)
  assert [values["scale"] for values in runs] == [2.0**k for k in (11, 12, 12, 13, 13, 14, 14)]


def test_two_replicas_with_a_loss_scale_train_like_one(tmp_path):
  def model_fn(features, labels, mode, params):
    del labels, params
    loss = _layered_loss(features["x"])
    options = optimization.Options(loss_scale=2.0**127)  # too much: the first steps are left out
    train_op = optimization.create_optimizer(loss, RATE, STEPS, WARMUP, False, options)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

  strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
  found = _trained_weights(tmp_path, strategy, 4, model_fn)
  assert found["global_step"] == 6
  assert not any("loss_scale" in name for name in found)
