"""The encoder: recorded outputs of the classic implementation, variables, and refusals."""

import contextlib
import itertools
import json
import logging
import os
import re

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import keep_all

import modeling

RECORDED = os.path.join(os.path.dirname(__file__), "data", "recorded_model")
CHECKPOINT = os.path.join(RECORDED, "bert_model.ckpt")


def recorded(name):
  return np.load(os.path.join(RECORDED, name + ".npz"))


def recorded_config():
  return modeling.BertConfig.from_json_file(os.path.join(RECORDED, "bert_config.json"))


def tiny_config(**changes):
  values = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
    "type_vocab_size": 2,
  }
  return modeling.BertConfig(**{**values, **changes})


def run_recorded(columns=None, **options):
  """The recorded model's tensors on the recorded batch, of which `columns` columns are taken."""
  with tf.Graph().as_default(), tf.Session() as session:
    batch = {
      k: v[:, :columns] for k, v in recorded("inputs").items() if k.startswith(("input", "seg"))
    }
    model = modeling.BertModel(
      recorded_config(),
      is_training=False,
      input_ids=tf.constant(batch["input_ids"]),
      input_mask=tf.constant(batch["input_mask"]),
      token_type_ids=tf.constant(batch["segment_ids"]),
      **options,
    )
    mapping, _ = modeling.get_assignment_map_from_checkpoint(tf.trainable_variables(), CHECKPOINT)
    tf.train.init_from_checkpoint(CHECKPOINT, mapping)
    session.run(tf.global_variables_initializer())
    tensors = {
      "embedding_output": model.get_embedding_output(),
      "sequence_output": model.get_sequence_output(),
      "pooled_output": model.get_pooled_output(),
    }
    for i, layer in enumerate(model.get_all_encoder_layers()):
      tensors[f"encoder_layer_{i}"] = layer
    return session.run(tensors)


@pytest.mark.parametrize("one_hot", [False, True])
def test_outputs_equal_the_recorded_ones(one_hot):
  mask = recorded("inputs")["input_mask"].astype(bool)
  outputs = run_recorded(use_one_hot_embeddings=one_hot)
  assert len(outputs) == 6
  for name, got in outputs.items():
    want = recorded("pretraining_outputs")[name]
    if name != "pooled_output":
      got, want = got[mask], want[mask]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-5, err_msg=name)


def test_cutting_off_padding_changes_nothing():
  mask = recorded("inputs")["input_mask"]
  longest = int(mask.sum(axis=1).max())
  whole, cut = run_recorded(), run_recorded(columns=longest)
  real = mask.astype(bool)
  np.testing.assert_allclose(cut["pooled_output"], whole["pooled_output"], atol=1e-5)
  np.testing.assert_allclose(
    cut["sequence_output"][real[:, :longest]], whole["sequence_output"][real], atol=1e-5
  )


def test_variables_have_the_names_shapes_and_order_of_released_checkpoints():
  with open(os.path.join(RECORDED, "variables.json"), encoding="utf-8") as f:
    want = [(name, shape) for name, shape in json.load(f) if name.startswith("bert/")]
  with tf.Graph().as_default():
    modeling.BertModel(recorded_config(), False, tf.zeros([1, 2], tf.int32))
    got = [(v.name[:-2], v.shape.as_list()) for v in tf.trainable_variables()]
  assert sorted(got) == sorted(want)
  assert [name for name, _ in got[:5]] == [
    "bert/embeddings/word_embeddings",
    "bert/embeddings/token_type_embeddings",
    "bert/embeddings/position_embeddings",
    "bert/embeddings/LayerNorm/beta",
    "bert/embeddings/LayerNorm/gamma",
  ]
  assert [name for name, _ in got[5:7]] == [
    "bert/encoder/layer_0/attention/self/query/kernel",
    "bert/encoder/layer_0/attention/self/query/bias",
  ]


@pytest.mark.parametrize(
  "config, variables, parameters",
  [
    (modeling.BertConfig(30522, type_vocab_size=2), 199, 109_482_240),
    (modeling.BertConfig(28996, type_vocab_size=2), 199, 108_310_272),
    (
      modeling.BertConfig(
        30522,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        type_vocab_size=2,
      ),
      391,
      335_141_888,
    ),
    (
      modeling.BertConfig(
        30522,
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=512,
        type_vocab_size=2,
      ),
      39,
      4_385_920,
    ),
  ],
  ids=["base uncased", "base cased", "large", "tiny"],
)
def test_released_models_have_their_known_size(config, variables, parameters):
  with tf.Graph().as_default():
    modeling.BertModel(config, False, tf.zeros([1, 2], tf.int32))
    trainable = tf.trainable_variables()
    assert len(trainable) == variables
    assert sum(int(np.prod(v.shape.as_list())) for v in trainable) == parameters


def test_second_model_in_a_graph_has_variables_of_its_own():
  with tf.Graph().as_default():
    for _ in range(2):
      modeling.BertModel(tiny_config(), False, tf.zeros([1, 2], tf.int32))
    scopes = {v.name.split("/")[0] for v in tf.trainable_variables()}
  assert scopes == {"bert", "bert_1"}


def test_shapes_may_be_unknown_when_the_graph_is_built():
  with tf.Graph().as_default(), tf.Session() as session:
    ids = tf.placeholder(tf.int32, [None, None])
    model = modeling.BertModel(tiny_config(), True, ids)
    session.run(tf.global_variables_initializer())
    for shape in ([2, 3], [1, 20]):
      output = session.run(model.get_sequence_output(), {ids: np.ones(shape)})
      assert output.shape == (*shape, 16)
    with pytest.raises(
      tf.errors.InvalidArgumentError, match="longer than max_position_embeddings 20"
    ):
      session.run(model.get_sequence_output(), {ids: np.ones([1, 21])})


def test_dropout_acts_in_training_alone():
  with tf.Graph().as_default(), tf.Session() as session:
    ids = tf.constant([[1, 2, 3]])
    with tf.variable_scope("shared", reuse=tf.AUTO_REUSE):
      training = modeling.BertModel(tiny_config(), True, ids, scope="bert").get_pooled_output()
      inference = modeling.BertModel(tiny_config(), False, ids, scope="bert").get_pooled_output()
    session.run(tf.global_variables_initializer())
    assert np.any(session.run(training) != session.run(training))
    np.testing.assert_array_equal(session.run(inference), session.run(inference))


# ---- The same for programs that replace functions -----------------------------------------------


@pytest.fixture(name="form", params=["plain", "fast"])
def _form(request):
  """A context in which a model is built: none, or the one of the scripts."""
  return contextlib.nullcontext if request.param == "plain" else modeling.fast_forms


def set_weights(session):
  """Sets the trainable variables to values that do not depend on the rest of the graph."""
  for place, variable in enumerate(tf.trainable_variables()):
    variable.load(np.random.default_rng(place).normal(size=variable.shape) * 0.2, session)


def outputs_of(is_training, form, ids=((7, 8, 9), (7, 3, 0)), mask=((1, 1, 1), (1, 1, 0))):
  """Sequence output of a tiny model, whose weights are always the same, by unknown shapes."""
  with tf.Graph().as_default(), tf.Session() as session, form():
    inputs = [tf.placeholder(tf.int32, [None, None]) for _ in range(2)]
    config = tiny_config(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = modeling.BertModel(config, is_training, *inputs)
    read = [model.get_sequence_output(), model.get_pooled_output()]
    set_weights(session)
    return session.run(read, dict(zip(inputs, (ids, mask))))


def no_dropout(input_tensor, dropout_prob):
  del dropout_prob
  return input_tensor


def causal_mask(from_tensor, to_mask):
  length = tf.shape(to_mask)[1]
  lower = tf.linalg.band_part(tf.ones([length, length]), -1, 0)
  return lower * tf.cast(to_mask, tf.float32)[:, tf.newaxis, :] + 0.0 * tf.cast(
    from_tensor[:, :, tf.newaxis], tf.float32
  )


def mean_attention(
  from_tensor,
  to_tensor,
  attention_mask=None,
  num_attention_heads=1,
  size_per_head=512,
  query_act=None,
  key_act=None,
  value_act=None,
  attention_probs_dropout_prob=0.0,
  initializer_range=0.02,
  do_return_2d_tensor=False,
  batch_size=None,
  from_seq_length=None,
  to_seq_length=None,
):
  return from_tensor


def doubling_stack(
  input_tensor,
  attention_mask=None,
  hidden_size=768,
  num_hidden_layers=12,
  num_attention_heads=12,
  intermediate_size=3072,
  intermediate_act_fn=modeling.gelu,
  hidden_dropout_prob=0.1,
  attention_probs_dropout_prob=0.1,
  initializer_range=0.02,
  do_return_all_layers=False,
):
  layers = [input_tensor * 2.0**layer for layer in range(1, num_hidden_layers + 1)]
  return layers if do_return_all_layers else layers[-1]


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize(
  ("name", "function"),
  [
    ("gelu", lambda x: x),
    ("create_attention_mask_from_input_mask", causal_mask),
    ("attention_layer", mean_attention),
    ("transformer_model", doubling_stack),
  ],
)
def test_replaced_functions_take_effect(name, function, is_training, form, monkeypatch):
  monkeypatch.setattr(modeling, "_random_uint16", keep_all)
  before, _ = outputs_of(is_training, form)
  monkeypatch.setattr(modeling, name, function)
  after, pooled = outputs_of(is_training, form)
  assert np.abs(after - before)[:, 0].max() > 1e-3
  assert np.isfinite(pooled).all()
  if name == "create_attention_mask_from_input_mask":  # what comes later changes nothing
    longer, _ = outputs_of(is_training, form, ids=((7, 8, 5), (7, 3, 9)))
    np.testing.assert_allclose(longer[:, :2], after[:, :2], atol=1e-5)


def test_a_replaced_dropout_takes_effect(form, monkeypatch):
  dropped, _ = outputs_of(True, form)
  monkeypatch.setattr(modeling, "dropout", no_dropout)
  kept, _ = outputs_of(True, form)
  want, _ = outputs_of(False, form)
  np.testing.assert_allclose(kept, want, atol=1e-5)
  assert np.abs(dropped - kept)[:, 0].max() > 1e-2
  monkeypatch.setattr(modeling, "dropout", lambda input_tensor, dropout_prob: input_tensor * 0.5)
  assert np.abs(outputs_of(False, form)[0] - want).max() > 1e-2  # called in evaluation, too


# ---- The plain form -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, bool])
def test_masks_may_be_of_any_type(dtype, form):
  mask = np.array([[1, 1, 1], [1, 1, 0]])
  with tf.Graph().as_default(), tf.Session() as session, form():
    tf.set_random_seed(1)
    ids = tf.placeholder(tf.int32, [None, None])
    typed = tf.placeholder(dtype, [None, None])
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with tf.variable_scope("shared", reuse=tf.AUTO_REUSE):
      want = modeling.BertModel(config, False, ids, tf.constant(mask), scope="bert")
      got = modeling.BertModel(config, True, ids, typed, scope="bert")
    session.run(tf.global_variables_initializer())
    values = {ids: [[7, 8, 9], [7, 3, 5]], typed: mask.astype(dtype)}
    got, want = session.run([got.get_sequence_output(), want.get_sequence_output()], values)
  np.testing.assert_allclose(got[mask > 0], want[mask > 0], atol=1e-5)


@pytest.mark.parametrize("shape", [[2, 3], [None, None]])
def test_padding_is_the_same_function_in_training_and_evaluation(shape):
  with tf.Graph().as_default(), tf.Session() as session:
    inputs = [tf.placeholder(tf.int32, shape) for _ in range(2)]
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    with tf.variable_scope("shared", reuse=tf.AUTO_REUSE):
      outputs = [
        modeling.BertModel(config, is_training, *inputs, scope="bert").get_all_encoder_layers()
        for is_training in (True, False)
      ]
    session.run(tf.global_variables_initializer())
    values = dict(zip(inputs, ([[7, 8, 9], [7, 0, 0]], [[1, 1, 1], [1, 0, 0]])))
    training, evaluation = session.run(outputs, values)
  np.testing.assert_allclose(training, evaluation, atol=1e-5)
  assert np.abs(np.array(training)[:, 1, 1:]).min(axis=(0, 1)).max() > 0


@pytest.mark.parametrize("shape", [[2, 3], [None, None]])
def test_pooled_output_is_computed_from_the_sequence_output(shape):
  with tf.Graph().as_default(), tf.Session() as session:
    ids = tf.placeholder(tf.int32, shape)
    model = modeling.BertModel(tiny_config(), True, ids)
    sequence, pooled = model.get_sequence_output(), model.get_pooled_output()
    (gradient,) = tf.gradients(pooled, sequence)
    read = model.get_output_at(tf.constant([[2, 0], [1, 1]]))
    session.run(tf.global_variables_initializer())
    with tf.variable_scope("bert/pooler/dense", reuse=True):
      weights = [tf.get_variable("kernel"), tf.get_variable("bias")]
    values = {ids: [[7, 8, 9], [7, 3, 4]]}
    fetches = [sequence, pooled, gradient, read, weights]
    sequence, pooled, gradient, read, (kernel, bias) = session.run(fetches, values)
  np.testing.assert_allclose(pooled, np.tanh(sequence[:, 0] @ kernel + bias), atol=1e-5)
  np.testing.assert_array_equal(read, sequence[[[0], [1]], [[2, 0], [1, 1]]])
  assert np.any(gradient[:, 0]) and not np.any(gradient[:, 1:])


def test_operations_have_the_names_that_clients_read(form):
  with tf.Graph().as_default() as graph, form():
    modeling.BertModel(tiny_config(), False, tf.placeholder(tf.int32, [None, None]))
    names = {op.name for op in graph.get_operations()}
  assert {"bert/pooler/dense/Tanh", "bert/pooler/Squeeze"} <= names
  for layer in ("bert/encoder/layer_0", "bert/encoder/layer_1"):
    assert f"{layer}/attention/self/Softmax" in names
    for part in ("attention/output/dense", "intermediate/dense", "output/dense"):
      assert f"{layer}/{part}/BiasAdd" in names


@pytest.mark.parametrize("is_training", [True, False])
def test_all_operations_are_reachable_from_the_outputs(is_training):
  with tf.Graph().as_default() as graph:
    ids = tf.placeholder(tf.int32, [13, 7])
    model = modeling.BertModel(tiny_config(), is_training, ids, ids, ids)
    layers = model.get_all_encoder_layers()
    outputs = [model.get_embedding_output(), model.get_sequence_output(), model.get_pooled_output()]
    waiting = [tensor.op for tensor in (*outputs, *layers)]
    waiting += [tf.global_variables_initializer()]
    found = set()
    while waiting:
      op = waiting.pop()
      if op not in found:
        found.add(op)
        waiting += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    left = {op.name for op in graph.get_operations() if op not in found}
  # A resource variable has a reading, and a test whether it is initialised, of its own.
  of_variables = re.compile(r".*/(Read/ReadVariableOp|IsInitialized/VarIsInitializedOp)$")
  assert not [name for name in left if not of_variables.match(name)]


# ---- The fast forms -----------------------------------------------------------------------------


def trained_on(shape, mask):
  """Outputs of real tokens, and all gradients, in training with inputs of a declared shape."""
  ids = np.random.default_rng(0).integers(5, 50, mask.shape)
  with tf.Graph().as_default(), tf.Session() as session, modeling.fast_forms():
    inputs = [tf.placeholder(tf.int32, shape) for _ in range(2)]
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = modeling.BertModel(config, True, *inputs)
    outputs = tf.boolean_mask(tf.stack(model.get_all_encoder_layers(), 2), inputs[1])
    loss = tf.reduce_sum(outputs**3) + tf.reduce_sum(model.get_pooled_output())
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, tf.trainable_variables())]
    set_weights(session)
    return session.run([outputs, *gradients], dict(zip(inputs, (ids, mask))))


def test_skipping_padding_changes_nothing():
  mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
  computed, skipped = trained_on([3, 5], mask), trained_on([None, None], mask)
  assert len(computed) == len(skipped) == 40
  for one, other in zip(computed, skipped):
    np.testing.assert_allclose(other, one, atol=1e-5, rtol=1e-4)


def test_training_skips_padding():
  with tf.Graph().as_default(), tf.Session() as session, modeling.fast_forms():
    inputs = [tf.placeholder(tf.int32, [None, None]) for _ in range(2)]
    model = modeling.BertModel(tiny_config(), True, *inputs)
    session.run(tf.global_variables_initializer())
    values = dict(zip(inputs, ([[7, 8, 9], [7, 0, 0]], [[1, 1, 1], [1, 0, 0]])))
    output = session.run(model.get_sequence_output(), values)
  np.testing.assert_array_equal(np.any(output, axis=2), [[True] * 3, [True, False, False]])


def read_at(places, is_cut, recompute=False):
  """Outputs at places of padded sequences, pooled ones, and all gradients, in training.

  Args:
    places: list of lists of int.
    is_cut: bool, whether the last block is computed there alone, and padding is skipped.
    recompute: see modeling.fast_forms.
  """
  mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]])
  ids = np.random.default_rng(0).integers(5, 50, mask.shape)
  form = modeling.fast_forms(recompute=recompute) if is_cut else contextlib.nullcontext()
  with tf.Graph().as_default(), tf.Session() as session, form:
    inputs = [tf.placeholder(tf.int32, [None, None]) for _ in range(2)]
    config = tiny_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = modeling.BertModel(config, True, *inputs)
    if is_cut:
      read, pooled = model.get_output_at(tf.constant(places)), model.get_pooled_output()
    else:
      read = tf.gather(model.get_sequence_output(), places, batch_dims=1)
      with tf.variable_scope("bert/pooler/dense", reuse=True):
        weights, bias = tf.get_variable("kernel"), tf.get_variable("bias")
      pooled = tf.tanh(model.get_sequence_output()[:, 0] @ weights + bias)
    loss = tf.reduce_sum(read**3) + tf.reduce_sum(pooled)
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, tf.trainable_variables())]
    set_weights(session)
    return session.run([read, pooled, *gradients], dict(zip(inputs, (ids, mask))))


@pytest.mark.parametrize("recompute", [False, True])
def test_the_last_block_at_some_positions_is_that_of_all(recompute):
  places = [[2, 1, 1], [4, 0, 3], [0, 0, 0]]
  cut, whole = read_at(places, True, recompute), read_at(places, False)
  assert len(cut) == len(whole) == 41
  for one, other in zip(cut, whole):
    np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-4)


def test_transformer_model_is_the_encoder_of_the_model():
  config = tiny_config()
  with tf.Graph().as_default(), tf.Session() as session:
    ids, mask = tf.constant([[7, 8, 9], [7, 3, 0]]), tf.constant([[1, 1, 1], [1, 1, 0]])
    model = modeling.BertModel(config, False, ids, mask)
    sizes = {
      "hidden_size": config.hidden_size,
      "num_hidden_layers": config.num_hidden_layers,
      "num_attention_heads": config.num_attention_heads,
      "intermediate_size": config.intermediate_size,
      "hidden_dropout_prob": 0.0,
      "attention_probs_dropout_prob": 0.0,
    }
    embedded = model.get_embedding_output()
    attended = modeling.create_attention_mask_from_input_mask(ids, mask)
    with tf.variable_scope("bert/encoder", reuse=True):
      layers = modeling.transformer_model(embedded, attended, **sizes, do_return_all_layers=True)
      last = modeling.transformer_model(embedded, attended, **sizes)
    session.run(tf.global_variables_initializer())
    got, want = session.run([[*layers, last], model.get_all_encoder_layers()])
  assert len(got) == 3 and len(want) == 2
  for one, other in zip(got, [*want, want[-1]]):
    np.testing.assert_allclose(one, other, atol=1e-5)


def rows_computed(output, layer):
  """Numbers of rows of the products of a block's feed-forward layer that an output depends on."""
  found, waiting = set(), [output.op]
  while waiting:
    op = waiting.pop()
    if op not in found:
      found.add(op)
      waiting.extend(source.op for source in op.inputs)
  products = [op for op in found if op.type == "MatMul" and f"layer_{layer}" in op.name]
  return {op.outputs[0].shape[0] for op in products if "intermediate" in op.name}


def test_the_last_block_is_computed_where_it_is_read():
  with tf.Graph().as_default(), modeling.fast_forms():
    model = modeling.BertModel(tiny_config(), False, tf.ones([2, 7], tf.int32))
    assert rows_computed(model.get_pooled_output(), 0) == {14}
    assert rows_computed(model.get_pooled_output(), 1) == {2}
    assert rows_computed(model.get_output_at(tf.zeros([2, 3], tf.int32)), 1) == {6}
    assert rows_computed(model.get_sequence_output(), 1) == {14}


def dropout_masks(seed, steps):
  """Elements that two dropouts in one graph keep at some steps: [step, dropout, element]."""
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(seed)
    step = tf.train.get_or_create_global_step()
    ones = tf.ones([5000])
    kept = tf.stack([modeling.dropout(ones, 0.2), modeling.dropout(ones, 0.2)])
    session.run(tf.global_variables_initializer())
    masks = []
    for number in steps:
      step.load(number, session)
      masks.append(session.run(kept))
    return np.array(masks)


def test_dropout_is_a_function_of_seed_place_and_step():
  masks = dropout_masks(1, [0, 1, 2])
  np.testing.assert_allclose(np.unique(masks), [0, 1.25], rtol=1e-5)
  np.testing.assert_allclose(masks.mean(axis=2), 1, atol=0.04)  # 0.04 is 5 standard deviations
  flat = masks.reshape(6, -1) > 0
  for one, other in itertools.combinations(flat, 2):  # independent: 0.8 x 0.8 is kept by both
    assert abs((one & other).mean() - 0.64) < 0.04
  np.testing.assert_array_equal(dropout_masks(1, [2, 0]), masks[[2, 0]])
  assert np.any(dropout_masks(2, [0])[0] != masks[0])


def test_dropout_differs_between_replicas():
  strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
  with tf.Graph().as_default(), strategy.scope(), tf.Session() as session:
    tf.set_random_seed(1)
    step = tf.train.get_or_create_global_step()
    seeds = strategy.extended.call_for_each_replica(modeling._dropout_seed)
    session.run(tf.global_variables_initializer())
    session.run(step.assign(3))
    first, second = session.run(strategy.experimental_local_results(seeds))
  assert first[1] == 3  # as on a single replica
  assert second[1] not in (3, 4, 5)


def test_rank_2_and_rank_3_attention_agree():
  values = np.random.default_rng(0).normal(size=(2, 5, 8)).astype("f4")
  mask = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
  with tf.Graph().as_default(), tf.Session() as session:
    full_mask = modeling.create_attention_mask_from_input_mask(
      tf.constant(values), tf.constant(mask)
    )
    options = {"attention_mask": full_mask, "num_attention_heads": 2, "size_per_head": 4}
    with tf.variable_scope("a", reuse=tf.AUTO_REUSE):
      whole = modeling.attention_layer(tf.constant(values), tf.constant(values), **options)
      flat = modeling.attention_layer(
        tf.reshape(values, [10, 8]),
        tf.reshape(values, [10, 8]),
        do_return_2d_tensor=True,
        batch_size=2,
        from_seq_length=5,
        to_seq_length=5,
        **options,
      )
    session.run(tf.global_variables_initializer())
    whole, flat, full_mask = session.run([whole, flat, full_mask])
  np.testing.assert_array_equal(full_mask, np.repeat(mask[:, None], 5, axis=1))
  assert full_mask.dtype == np.float32
  np.testing.assert_allclose(flat.reshape(2, 5, 8), whole, atol=1e-5)


@pytest.mark.parametrize("gelu", [modeling.gelu, modeling._trained_gelu])
def test_gelu_is_the_tanh_form(gelu):
  with tf.Graph().as_default(), tf.Session() as session:
    got = session.run(gelu(tf.constant([-1.0, 0.0, 1.0, 3.0])))
  np.testing.assert_allclose(got, [-0.158808, 0.0, 0.841192, 2.996363], atol=1e-5)


def gradients_of(function, *arrays):
  """The gradients of sum(function(*arrays) * weights), the weights being 0, 1, 2, ... in order."""
  with tf.Graph().as_default(), tf.Session() as session:
    inputs = [tf.constant(array, tf.float32) for array in arrays]
    output = function(*inputs)
    weights = tf.reshape(tf.range(tf.size(output, out_type=tf.int32)), tf.shape(output))
    return session.run(tf.gradients(output * tf.cast(weights, tf.float32), inputs))


def test_gelu_has_the_gradient_of_its_formula():
  x = np.linspace(-6, 6, 25)
  wanted, got = gradients_of(modeling.gelu, x), gradients_of(modeling._trained_gelu, x)
  np.testing.assert_allclose(got, wanted, atol=1e-4)  # the weights go up to 24


@pytest.mark.parametrize("is_training", [True, False])
def test_gelu_becomes_part_of_the_dense_layer_before_where_nothing_trains(is_training):
  with tf.Graph().as_default(), tf.Session() as session, modeling.fast_forms():
    ids = tf.placeholder(tf.int32, [None, None])
    output = modeling.BertModel(tiny_config(), is_training, ids).get_sequence_output()
    session.run(tf.global_variables_initializer())
    options = tf.RunOptions(output_partition_graphs=True)
    metadata = tf.RunMetadata()
    session.run(output, {ids: [[1, 2, 3]]}, options, metadata)
  names = {node.op for graph in metadata.partition_graphs for node in graph.node}
  if "_MklNativeFusedMatMul" not in names:
    pytest.skip("TensorFlow does not use oneDNN here")
  assert ("Sigmoid" in names) == is_training
  assert "Tanh" not in names


def test_layer_norm_has_the_gradients_of_its_formula():
  def plain(x, gamma, beta):
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)

  random = np.random.default_rng(0)
  arrays = random.normal(size=(2, 3, 8)), random.normal(size=8), random.normal(size=8)
  wanted, got = gradients_of(plain, *arrays), gradients_of(modeling._normalize, *arrays)
  for one, other in zip(got, wanted):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


def test_activations_are_found_by_name():
  assert modeling.get_activation("GELU") is modeling.gelu
  assert modeling.get_activation("Relu") is tf.nn.relu
  assert modeling.get_activation("linear") is modeling.get_activation("") is None
  assert modeling.get_activation(None) is None
  assert modeling.get_activation(abs) is abs
  with pytest.raises(ValueError, match="'swish' is none of linear, relu, gelu, tanh"):
    modeling.get_activation("swish")


def test_layer_norm_of_a_known_row():
  with tf.Graph().as_default(), tf.Session() as session:
    output = modeling.layer_norm(tf.constant([[1.0, 2.0, 3.0, 4.0]]))
    names = [v.name for v in tf.trainable_variables()]
    session.run(tf.global_variables_initializer())
    got = session.run(output)
  assert names == ["LayerNorm/beta:0", "LayerNorm/gamma:0"]
  np.testing.assert_allclose(got, [[-1.341641, -0.447214, 0.447214, 1.341641]], atol=1e-5)


def test_embedding_lookup_takes_two_and_three_axes():
  with tf.Graph().as_default():
    two, table = modeling.embedding_lookup(tf.zeros([2, 3], tf.int32), 7, 4)
    three, _ = modeling.embedding_lookup(
      tf.zeros([2, 3, 5], tf.int32), 7, 4, word_embedding_name="other"
    )
  assert two.shape.as_list() == [2, 3, 4]
  assert three.shape.as_list() == [2, 3, 20]
  assert table.shape.as_list() == [7, 4]


def test_config_keeps_unknown_keys_and_round_trips(caplog):
  with caplog.at_level(logging.INFO):
    config = modeling.BertConfig.from_dict({"vocab_size": 9, "pooler_fc_size": 768})
  assert config.pooler_fc_size == 768 and config.hidden_size == 768
  assert json.loads(config.to_json_string()) == config.to_dict()
  assert config.to_json_string().startswith('{\n  "attention_probs_dropout_prob": 0.1,\n')
  assert config.to_json_string().endswith("}\n")


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"hidden_size": 18}, "hidden_size 18 is not divisible by num_attention_heads 4"),
    ({"hidden_size": -16}, "hidden_size is -16"),
    ({"vocab_size": None}, "vocab_size is None"),
    ({"num_hidden_layers": 2.5}, "num_hidden_layers is 2.5"),
    ({"hidden_act": "swish"}, "'swish'"),
    ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0"),
    ({"attention_probs_dropout_prob": "no"}, "attention_probs_dropout_prob is 'no'"),
    ({"initializer_range": 0}, "initializer_range is 0"),
  ],
)
def test_impossible_configurations_are_refused(changes, message, tmp_path):
  config = tiny_config(**changes)
  with pytest.raises(ValueError, match=message):
    modeling.BertModel(config, False, tf.zeros([1, 2], tf.int32))
  path = tmp_path / "bert_config.json"
  path.write_text(config.to_json_string())
  with pytest.raises(ValueError, match=f"bert_config.json: .*{message}"):
    modeling.BertConfig.from_json_file(str(path))


def test_broken_configuration_files_are_named(tmp_path):
  path = tmp_path / "bert_config.json"
  for text, message in (
    ('{"vocab_size": 3,\n', r"json:2: is not valid JSON"),
    ("[1]", "no JSON obj"),
  ):
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
      modeling.BertConfig.from_json_file(str(path))
  with pytest.raises(ValueError, match=r"missing\.json: cannot be read: No such file"):
    modeling.BertConfig.from_json_file(str(tmp_path / "missing.json"))


def test_wrong_ranks_and_widths_are_refused():
  with tf.Graph().as_default():
    flat, deep = tf.zeros([6, 8]), tf.zeros([2, 3, 8])
    with pytest.raises(ValueError, match="rank 1"):
      modeling.BertModel(tiny_config(), False, tf.zeros([3], tf.int32))
    with pytest.raises(ValueError, match=r"word_ids.* has rank 2 .*expected 3"):
      modeling.get_shape_list(flat, expected_rank=3, name="word_ids")
    with pytest.raises(ValueError, match="must agree"):
      modeling.attention_layer(deep, flat)
    with pytest.raises(ValueError, match="need batch_size"):
      modeling.attention_layer(flat, flat, batch_size=2)
    with pytest.raises(ValueError, match="8 wide, and hidden_size is 12"):
      modeling.transformer_model(deep, hidden_size=12, num_attention_heads=2)
    with pytest.raises(ValueError, match="rank 2 or more"):
      modeling.reshape_to_matrix(tf.zeros([3]))
    with pytest.raises(ValueError, match="token_type_ids is missing"):
      modeling.embedding_postprocessor(deep, use_token_type=True)
    with pytest.raises(ValueError, match="longer than max_position_embeddings 2: 3"):
      modeling.embedding_postprocessor(deep, max_position_embeddings=2)
