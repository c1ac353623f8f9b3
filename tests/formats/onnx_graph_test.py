"""ONNX graphs against the TensorFlow graphs of the tasks, on random weights."""

import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow.compat.v1 as tf

import modeling
from toolkit.formats import model_heads, onnx_graph
from toolkit.formats.model_heads import INPUTS, Head
from toolkit.support import files
from toolkit.tasks import (
  classification,
  classification_head,
  multiple_choice_head,
  pretraining_head,
  squad_head,
  tagging_head,
)

CONFIG = {
  "vocab_size": 40,
  "hidden_size": 24,
  "num_hidden_layers": 3,
  "num_attention_heads": 3,
  "intermediate_size": 56,
  "hidden_act": "gelu",
  "max_position_embeddings": 20,
  "type_vocab_size": 2,
}


def _classifier(kind, num_labels, activation):
  def build(config, ids, mask, segments):
    outputs = classification_head.create_model(
      config, False, ids, mask, segments, None, num_labels, False, kind
    )
    logits, probabilities = outputs[2:]
    return {"logits": logits, **({"probabilities": probabilities} if activation else {})}

  return Head("classifier", num_labels, activation), build


def _choice(config, *inputs):
  return {"scores": multiple_choice_head.choice_scores(config, False, *inputs)[:, 0]}


def _span(config, *inputs):
  outputs = squad_head.create_model(config, False, *inputs, False)
  return dict(zip(("start_logits", "end_logits"), outputs))


def _tags(config, *inputs):
  return {"logits": tagging_head.logits(config, 5, False, *inputs)}


def _masked_lm(config, ids, mask, segments):
  positions = tf.constant(POSITIONS)
  model = modeling.BertModel(config, False, ids, mask, segments)
  hidden = pretraining_head.gather_indexes(model.get_sequence_output(), positions)
  logits = pretraining_head.masked_lm_logits(config, hidden, model.get_embedding_table())
  return {"masked_lm_logits": tf.reshape(logits, [*POSITIONS.shape, -1])}


def _encoder(config, *inputs):
  model = modeling.BertModel(config, False, *inputs)
  return {
    "sequence_output": model.get_sequence_output(),
    "pooled_output": model.get_pooled_output(),
    "layer_0": model.get_all_encoder_layers()[0],
    "layer_1": model.get_all_encoder_layers()[1],
  }


POSITIONS = np.array([[3, 1, 0], [0, 5, 2], [4, 4, 1], [6, 0, 0]], np.int32)
MODELS = {
  "one_label": _classifier(classification.CLASSES, 3, "softmax"),
  "several_labels": _classifier(classification.LABELS, 4, "sigmoid"),
  "number": _classifier(classification.NUMBER, 1, None),
  "choice": (Head("choice"), _choice),
  "span": (Head("span"), _span),
  "tags": (Head("tags", 5), _tags),
  "masked_lm": (Head("masked_lm"), _masked_lm),
  "encoder": (Head("encoder", layers=(-1, 0, -2)), _encoder),
}


def random_inputs(rng, num_rows=4, longest=14):
  """Rows of random lengths, from 7; one of them fills the batch's length."""
  lengths = rng.integers(7, longest + 1, num_rows)
  lengths[rng.integers(num_rows)] = longest
  mask = (np.arange(longest) < lengths[:, np.newaxis]).astype(np.int32)
  ids = rng.integers(0, CONFIG["vocab_size"], mask.shape).astype(np.int32) * mask
  segments = rng.integers(0, 2, mask.shape).astype(np.int32) * mask
  return dict(zip(INPUTS, (ids, mask, segments)))


def random_weights(rng, config, head, spread=0.3):
  """Weights by name; with this spread each of them matters."""
  variables = onnx_graph.needed(config, head) + onnx_graph.optional(config, head)
  return {
    name: rng.normal(1.0 if name.endswith("gamma") else 0.0, spread, shape).astype(np.float32)
    for name, shape in variables
  }


def from_tensorflow(config, build, weights, inputs):
  """The outputs of a graph whose variables are the weights, and a pooler that is not read."""
  with tf.Graph().as_default(), tf.Session() as session:
    outputs = build(modeling.BertConfig.from_dict(config), *map(tf.constant, inputs.values()))
    variables = {v.op.name: v for v in tf.trainable_variables()}
    assert set(weights) <= set(variables)
    assert all("/pooler/" in name for name in set(variables) - set(weights))
    session.run(tf.global_variables_initializer())
    for name in weights:
      assert tuple(variables[name].shape) == weights[name].shape
      variables[name].load(weights[name], session)
    return session.run(outputs)


def run(model, inputs):
  """The outputs of an ONNX graph by name."""
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  )
  if any(each.name == model_heads.POSITIONS for each in session.get_inputs()):
    inputs = {**inputs, model_heads.POSITIONS: POSITIONS}
  names = [output.name for output in session.get_outputs()]
  return dict(zip(names, session.run(names, inputs)))


def check(config, name, seed):
  rng = np.random.default_rng(seed)
  head, build = MODELS[name]
  weights, inputs = random_weights(rng, config, head), random_inputs(rng)
  want = from_tensorflow(config, build, weights, inputs)
  found = run(onnx_graph.build(weights, config, head), inputs)
  assert set(found) == set(want)
  for output, values in want.items():
    assert found[output].dtype == np.float32
    np.testing.assert_allclose(found[output], values, rtol=1e-5, atol=1e-5, err_msg=output)


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_the_task(name):
  check(CONFIG, name, seed=1)


@pytest.mark.parametrize("activation", ["relu", "GELU", "tanh", "linear", "", None])
@pytest.mark.parametrize("name", ["one_label", "masked_lm"])
def test_each_activation(name, activation):
  check({**CONFIG, "hidden_act": activation}, name, seed=2)


def test_one_layer_and_defaults_of_the_configuration():
  config = {name: CONFIG[name] for name in list(CONFIG)[:5]}
  check({**config, "num_hidden_layers": 1}, "one_label", seed=3)


def test_any_batch_and_length_without_influence_of_padding():
  rng = np.random.default_rng(4)
  weights = random_weights(rng, CONFIG, Head("encoder"))
  model = onnx_graph.build(weights, CONFIG, Head("encoder"))
  together = random_inputs(rng)
  for number, length in enumerate(together["input_mask"].sum(axis=1)):
    alone = {name: rows[number : number + 1, :length] for name, rows in together.items()}
    for name, values in run(model, alone).items():
      want = run(model, together)[name][number : number + 1]
      want = want[:, :length] if name == "sequence_output" else want
      np.testing.assert_allclose(values, want, rtol=1e-4, atol=1e-5)


def test_halves_become_float32():
  rng = np.random.default_rng(5)
  head, inputs = Head("tags", 5), random_inputs(rng)
  weights = random_weights(rng, CONFIG, head)
  for dtype in (np.float16, tf.bfloat16.as_numpy_dtype):
    halves = {name: value.astype(dtype) for name, value in weights.items()}
    same = {name: value.astype(np.float32) for name, value in halves.items()}
    model = onnx_graph.build(halves, CONFIG, head)
    assert model == onnx_graph.build(same, CONFIG, head)
    assert run(model, inputs)["logits"].dtype == np.float32


def test_an_encoder_without_pooler_has_no_pooled_output():
  weights = random_weights(np.random.default_rng(6), CONFIG, Head("encoder"))
  weights = {name: value for name, value in weights.items() if "/pooler/" not in name}
  model = onnx_graph.build(weights, CONFIG, Head("encoder"))
  assert [output.name for output in model.graph.output] == ["sequence_output"]


@pytest.mark.parametrize("name", MODELS)
def test_standard_operators_and_the_same_bytes(name):
  head, _ = MODELS[name]
  weights = random_weights(np.random.default_rng(7), CONFIG, head)
  model = onnx_graph.build(weights, CONFIG, head)
  onnx.checker.check_model(model, full_check=True)
  assert {node.domain for node in model.graph.node} == {""}
  assert {opset.domain for opset in model.opset_import} == {""}
  shuffled = dict(reversed(weights.items()))
  again = onnx_graph.build(shuffled, CONFIG, head)
  assert again.SerializeToString() == model.SerializeToString()


def test_word_embeddings_are_stored_once():
  weights = random_weights(np.random.default_rng(8), CONFIG, Head("masked_lm"))
  model = onnx_graph.build(weights, CONFIG, Head("masked_lm"))
  stored = sum(int(np.prod(each.dims)) for each in model.graph.initializer)
  assert stored < sum(value.size for value in weights.values()) + 50


def test_what_does_not_fit_is_named():
  weights = random_weights(np.random.default_rng(9), CONFIG, Head("span"))
  name = "bert/encoder/layer_1/output/dense/bias"
  with pytest.raises(files.InputError, match=rf"{name} is \(3,\), and should be \(24,\)"):
    onnx_graph.build({**weights, name: np.zeros(3)}, CONFIG, Head("span"))
  del weights[name]
  with pytest.raises(files.InputError, match=f"{name} is not there"):
    onnx_graph.build(weights, CONFIG, Head("span"))


def test_unknown_activation():
  weights = random_weights(np.random.default_rng(10), CONFIG, Head("span"))
  with pytest.raises(files.InputError, match="hidden_act 'swish' is none of"):
    onnx_graph.build(weights, {**CONFIG, "hidden_act": "swish"}, Head("span"))


def test_too_large_for_a_file():
  config = {**CONFIG, "vocab_size": 2**25}
  table = np.broadcast_to(np.float32(0), (2**25, CONFIG["hidden_size"]))
  weights = random_weights(np.random.default_rng(11), CONFIG, Head("span"))
  weights["bert/embeddings/word_embeddings"] = table
  with pytest.raises(files.InputError, match=r"has 3\.0 GiB of weights"):
    onnx_graph.build(weights, config, Head("span"))
