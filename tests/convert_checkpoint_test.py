"""Conversions in both directions with a tiny random model, and refusals."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import tensorflow.compat.v1 as tf
from tiny_huggingface import (
  HEAD_SHAPES,
  HEADS,
  INNER,
  LAYERS,
  PIECES,
  H,
  P,
  V,
  assert_identical,
  labels_of,
  random_tensors,
  read_bytes,
  read_json,
  shapes_of,
  write_huggingface,
  write_json,
)

import convert_checkpoint
import modeling
import run_classifier
import run_ner
import run_pretraining
import run_squad
from toolkit.formats import checkpoints, model_directory
from toolkit.support import command_line, files
from toolkit.tasks import multiple_choice_head, pretraining_head

LABELS = {
  "BertForSequenceClassification": ["no", "maybe", "yes"],
  "BertForTokenClassification": ["O", "B-A", "B-B", "I-A", "I-B"],
  "DistilBertForTokenClassification": ["O", "B-A", "B-B", "I-A", "I-B"],
}


def with_labels(architecture):
  return labels_of(LABELS[architecture]) if architecture in LABELS else {}


def written(conversion, directory, **options):
  convert_checkpoint.write(conversion, str(directory), **options)
  return str(directory)


@pytest.fixture(name="huggingface")
def _huggingface(tmp_path):
  return write_huggingface(tmp_path / "huggingface")


@pytest.fixture(name="checkpoint")
def _checkpoint(huggingface, tmp_path):
  conversion = convert_checkpoint.from_huggingface(huggingface)
  return os.path.join(written(conversion, tmp_path / "bert"), "bert_model.ckpt")


def saved_tensors(prefix):
  reader = tf.train.load_checkpoint(prefix)
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def add_tensors(prefix, **extra):
  """The checkpoint with more variables; `__` stands for / in their names."""
  extra = {name.replace("__", "/"): np.asarray(value) for name, value in extra.items()}
  checkpoints.save_checkpoint(prefix, {**saved_tensors(prefix), **extra})


# ---- An encoder in NumPy, by HuggingFace's names ------------------------------------------------


def linear(w, name, x):
  return x @ w[name + ".weight"].T.astype(np.float64) + w[name + ".bias"]


def normalise(w, name, x):
  x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
  return x * w[name + ".weight"] + w[name + ".bias"]


def gelu(x):
  return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def encode(w, ids, types):
  """(sequence output [S, H], pooled output [H]) of one sequence, float64."""

  def heads(name, x):
    return linear(w, name, x).reshape(len(x), HEADS, -1).transpose(1, 0, 2)  # [N, S, D]

  def attention(name, x):
    q, k, v = (heads(f"{name}.self.{kind}", x) for kind in ("query", "key", "value"))
    context = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(H // HEADS)) @ v
    return linear(w, name + ".output.dense", context.transpose(1, 0, 2).reshape(len(x), H))

  tables = [
    w[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "token_type", "position")
  ]
  x = sum(t[i] for t, i in zip(tables, (ids, types, range(len(ids)))))
  x = normalise(w, "embeddings.LayerNorm", x)
  for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
    attended = x + attention(layer + ".attention", x)
    x = normalise(w, layer + ".attention.output.LayerNorm", attended)
    inner = gelu(linear(w, layer + ".intermediate.dense", x))
    x = normalise(w, layer + ".output.LayerNorm", x + linear(w, layer + ".output.dense", inner))
  return x, np.tanh(linear(w, "pooler.dense", x[0])) if "pooler.dense.bias" in w else None


def masked_lm(w, x):
  """Logits [S, V] of the masked language model."""
  x = gelu(linear(w, "cls.predictions.transform.dense", x))
  x = normalise(w, "cls.predictions.transform.LayerNorm", x)
  return x @ w["embeddings.word_embeddings.weight"].T + w["cls.predictions.bias"]


# ---- From HuggingFace ---------------------------------------------------------------------------


def test_converted_model_computes_the_same(checkpoint):
  ids, types = [2, 5, 8, 3, 6, 3], [0, 0, 0, 0, 1, 1]
  config = modeling.BertConfig.from_json_file(
    os.path.join(os.path.dirname(checkpoint), "bert_config.json")
  )
  with tf.Graph().as_default(), tf.Session() as session:
    model = modeling.BertModel(config, False, tf.constant([ids]), None, tf.constant([types]))
    shapes = {v.op.name: tuple(v.shape) for v in tf.trainable_variables()}
    tf.train.Saver().restore(session, checkpoint)
    got = session.run([model.get_sequence_output(), model.get_pooled_output()])
  sequence, pooled = encode(random_tensors(), ids, types)
  np.testing.assert_allclose(got[0][0], sequence, atol=1e-5)
  np.testing.assert_allclose(got[1][0], pooled, atol=1e-5)
  assert {name: v.shape for name, v in saved_tensors(checkpoint).items()} == shapes


def test_dense_weights_are_transposed(checkpoint):
  got, w = saved_tensors(checkpoint), random_tensors()
  for tensorflow, huggingface in (
    ("bert/encoder/layer_1/attention/self/key/kernel", "encoder.layer.1.attention.self.key.weight"),
    ("bert/encoder/layer_0/intermediate/dense/kernel", "encoder.layer.0.intermediate.dense.weight"),
    ("bert/pooler/dense/kernel", "pooler.dense.weight"),
  ):
    np.testing.assert_array_equal(got[tensorflow], w[huggingface].T)
  name = "embeddings.token_type_embeddings"
  np.testing.assert_array_equal(got["bert/embeddings/token_type_embeddings"], w[f"{name}.weight"])


def test_old_names_of_distilbert_give_the_same(tmp_path):
  respelled = {}
  for name, value in random_tensors("DistilBertForMaskedLM").items():
    old = {"weight": "gamma", "bias": "beta"} if "norm" in name.lower() else {}
    *scopes, last = name.split(".")
    respelled[".".join([*scopes, old.get(last, last)])] = value
  assert "distilbert.transformer.layer.0.sa_layer_norm.gamma" in respelled
  other = write_huggingface(tmp_path / "other", respelled, "DistilBertForMaskedLM")
  plain = write_huggingface(tmp_path / "plain", architecture="DistilBertForMaskedLM")
  assert_identical(
    convert_checkpoint.from_huggingface(other).tensors,
    convert_checkpoint.from_huggingface(plain).tensors,
  )


def test_other_spellings_of_names_give_the_same(huggingface, tmp_path):
  old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
  respelled = {}
  for name, value in random_tensors().items():
    for new_part, old_part in old.items():
      name = name.replace(new_part, old_part)
    respelled["bert." + name] = value
  other = write_huggingface(tmp_path / "other", respelled)
  assert_identical(
    convert_checkpoint.from_huggingface(other).tensors,
    convert_checkpoint.from_huggingface(huggingface).tensors,
  )


def test_position_ids_are_dropped(tmp_path):
  buffer = {"embeddings.position_ids": np.arange(P)[None]}
  directory = write_huggingface(tmp_path / "other", {**random_tensors(), **buffer})
  conversion = convert_checkpoint.from_huggingface(directory)
  assert len(conversion.tensors) == 39
  assert conversion.ignored == 1


def test_16_bit_floats_are_widened(tmp_path):
  half = write_huggingface(tmp_path / "half", random_tensors(dtype=np.float16))
  got = convert_checkpoint.from_huggingface(half).tensors["bert/pooler/dense/kernel"]
  want = random_tensors(dtype=np.float16)["pooler.dense.weight"].T.astype(np.float32)
  assert_identical({"kernel": got}, {"kernel": want})


def test_vocabulary_out_of_tokenizer_json(huggingface, checkpoint):
  vocab = os.path.join(os.path.dirname(checkpoint), "vocab.txt")
  want = read_bytes(vocab)
  os.remove(os.path.join(huggingface, "vocab.txt"))
  numbered = {piece: i for i, piece in reversed(list(enumerate(PIECES)))}
  tokenizer = {"model": {"type": "WordPiece", "vocab": numbered}}
  write_json(os.path.join(huggingface, "tokenizer.json"), tokenizer)
  assert convert_checkpoint.from_huggingface(huggingface).texts["vocab.txt"].encode() == want


@pytest.mark.parametrize(
  ("lines", "warning"),
  [
    ([*PIECES, " ", "\u3000", ""], None),
    ([*PIECES[:-3], "\u2028", " ", PIECES[-1]], None),
    ([*PIECES[:-2], PIECES[5], PIECES[-1]], f"line 6, {PIECES[5]!r}, which is on line {V - 1}"),
    ([*PIECES[:-2], "", PIECES[-1], PIECES[-2]], "word pieces on 12 lines"),
    ([*PIECES[:-1]], "the model 11"),
    ([*PIECES, "more"], "word pieces on 12 lines"),
    ([*PIECES[:-1], "two", "more"], "has 12 word pieces, where the model has 11: they belong"),
  ],
)
def test_blank_and_repeated_lines_of_a_vocabulary(huggingface, caplog, lines, warning):
  path = os.path.join(huggingface, "vocab.txt")
  files.write_text(path, "".join(f"{line}\n" for line in lines))
  try:
    convert_checkpoint.from_huggingface(huggingface)
    found = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
  except files.InputError as error:
    found = [str(error)]
  assert len(found) == bool(warning)
  assert not warning or (warning in found[0] and found[0].startswith(path))


def test_numbers_without_a_piece_in_tokenizer_json(huggingface):
  os.remove(os.path.join(huggingface, "vocab.txt"))
  path = os.path.join(huggingface, "tokenizer.json")
  numbered = {piece: i for i, piece in enumerate(PIECES) if i != 6}
  write_json(path, {"model": {"type": "WordPiece", "vocab": numbered}})
  text = convert_checkpoint.from_huggingface(huggingface).texts["vocab.txt"]
  assert text.split("\n") == [*PIECES[:6], "", *PIECES[7:], ""]
  for wrong in ({**numbered, "x": 1}, {**numbered, "x": -1}, {**numbered, "x": "7"}, {"x": 10**9}):
    write_json(path, {"model": {"type": "WordPiece", "vocab": wrong}})
    with pytest.raises(files.InputError, match="holds no word pieces numbered from 0"):
      convert_checkpoint.from_huggingface(huggingface)


@pytest.mark.parametrize(
  ("config", "warning"),
  [
    ({"hidden_act": "gelu_new"}, None),
    ({"hidden_act": "gelu_pytorch_tanh"}, None),
    ({"hidden_act": "gelu"}, "exact GELU"),
    ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05"),
  ],
)
def test_deviations_are_warned_of(tmp_path, caplog, config, warning):
  conversion = convert_checkpoint.from_huggingface(write_huggingface(tmp_path / "x", **config))
  assert json.loads(conversion.texts["bert_config.json"])["hidden_act"] == "gelu"
  messages = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
  assert len(messages) == (warning is not None)
  assert warning is None or warning in messages[0]


# ---- In both directions -------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
def test_huggingface_and_back_is_identical(tmp_path, activation):
  first = write_huggingface(tmp_path / "first", hidden_act=activation)
  middle = written(convert_checkpoint.from_huggingface(first), tmp_path / "middle")
  last = written(convert_checkpoint.to_huggingface(middle), tmp_path / "last")
  got = safetensors.numpy.load_file(os.path.join(last, "model.safetensors"))
  assert_identical(got, random_tensors())
  for name in ("config.json", "tokenizer_config.json"):
    assert read_json(os.path.join(last, name)) == read_json(os.path.join(first, name))
  for directory in (middle, last):
    vocab = os.path.join(directory, "vocab.txt")
    assert read_bytes(vocab) == read_bytes(os.path.join(first, "vocab.txt"))


def test_tensorflow_and_back_is_identical(checkpoint, tmp_path):
  there = written(convert_checkpoint.to_huggingface(checkpoint), tmp_path / "there")
  back = written(convert_checkpoint.from_huggingface(there), tmp_path / "back")
  got = saved_tensors(os.path.join(back, "bert_model.ckpt"))
  assert_identical(got, saved_tensors(checkpoint))
  assert sorted(os.listdir(back)) == [
    "bert_config.json",
    "bert_model.ckpt.data-00000-of-00001",
    "bert_model.ckpt.index",
    "vocab.txt",
  ]


def test_casing_by_flag_then_training_then_huggingface(checkpoint, caplog):
  def casing(**options):
    texts = convert_checkpoint.to_huggingface(checkpoint, **options).texts
    return json.loads(texts["tokenizer_config.json"] or "{}").get("do_lower_case")

  directory = os.path.dirname(checkpoint)
  assert casing() is False
  write_json(os.path.join(directory, "run.json"), {"flags": {"do_lower_case": True}})
  assert casing() is True
  assert casing(do_lower_case=False) is False
  assert "not known" not in caplog.text
  os.remove(os.path.join(directory, "run.json"))
  config = read_json(os.path.join(directory, "bert_config.json"))
  del config["huggingface"]
  write_json(os.path.join(directory, "bert_config.json"), config)
  assert casing() is None
  assert "not known whether the model is uncased" in caplog.text


@pytest.mark.parametrize("convert", [convert_checkpoint.to_huggingface, convert_checkpoint.strip])
def test_training_state_goes_nowhere(checkpoint, convert):
  want = convert(checkpoint).tensors
  value = np.ones([H], np.float32)
  kinds = ("adam_m", "adam_v", "Adam", "Adam_1", "lamb_m", "LAMB_1", "ExponentialMovingAverage")
  state = {f"bert__pooler__dense__bias__{kind}": value for kind in kinds}
  add_tensors(checkpoint, global_step=np.int64(3), beta1_power=np.float32(0.9), **state)
  conversion = convert(checkpoint)
  assert_identical(conversion.tensors, want)
  assert conversion.ignored == 2 + len(kinds)


# ---- Heads --------------------------------------------------------------------------------------


def by_berts_names(w):
  """Parameters of a model with a head, by the names of BertModel and of the head in BERT."""
  names = {
    "transformer.layer": "encoder.layer",
    "q_lin": "self.query",
    "k_lin": "self.key",
    "v_lin": "self.value",
    "out_lin": "output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
    "vocab_transform": "cls.predictions.transform.dense",
    "vocab_layer_norm": "cls.predictions.transform.LayerNorm",
    "vocab_projector": "cls.predictions",
  }
  renamed = {"embeddings.token_type_embeddings.weight": np.zeros([2, H])}
  for name, value in w.items():
    name = name.removeprefix("bert.").removeprefix("distilbert.")
    for its_part, part in names.items():
      name = name.replace(its_part, part)
    renamed[name] = value
  return renamed


def wanted_logits(w, ids, types):
  """Results of a model with a head for one sequence, by the names of the head's scopes."""
  w = by_berts_names(w)
  sequence, pooled = encode(w, ids, types)
  logits = {}
  if "cls.predictions.bias" in w:
    logits["masked_lm"] = masked_lm(w, sequence)
  if "cls.seq_relationship.bias" in w:
    logits["next_sentence"] = np.log(softmax(linear(w, "cls.seq_relationship", pooled)))
  if "qa_outputs.bias" in w:
    logits["answers"] = linear(w, "qa_outputs", sequence).T
  if "classifier.bias" in w and len(w["classifier.bias"]) == 3:
    logits["classes"] = linear(w, "classifier", pooled)
  elif "classifier.bias" in w and len(w["classifier.bias"]) == 1:
    logits["choices"] = linear(w, "classifier", pooled)
  elif "classifier.bias" in w:
    logits["tags"] = linear(w, "classifier", sequence)
  return logits


def build_logits(scope, config, inputs):
  """Results of the scripts' graphs for a batch, by the same names."""
  ids = inputs[0]
  if scope == "answers":
    return tf.stack(run_squad.create_model(config, False, *inputs, False), axis=1)
  if scope == "classes":
    return run_classifier.create_model(config, False, *inputs, ids[:, 0], 3, False)[2]
  if scope == "tags":
    return run_ner.create_model(config, False, *inputs, ids, ids, 5, False)[2]
  if scope == "choices":
    return multiple_choice_head.choice_scores(config, False, *inputs)
  model = modeling.BertModel(config, False, *inputs)
  if scope == "next_sentence":
    pooled = model.get_pooled_output()
    return run_pretraining.get_next_sentence_output(config, pooled, ids[:, 0] * 0)[2]
  hidden = model.get_sequence_output()[0]  # of the only sequence
  return pretraining_head.masked_lm_logits(config, hidden, model.get_embedding_table())[tf.newaxis]


def scripts_logits(scope, directory, ids, types):
  """The same of the model in a directory. Only an unused pooler may be missing."""
  config = modeling.BertConfig.from_json_file(os.path.join(directory, "bert_config.json"))
  prefix = os.path.join(directory, "bert_model.ckpt")
  with tf.Graph().as_default(), tf.Session() as session:
    inputs = [tf.constant([row]) for row in (ids, [1] * len(ids), types)]
    logits = build_logits(scope, config, inputs)
    saved = saved_tensors(prefix)
    variables = [v for v in tf.trainable_variables() if v.op.name in saved]
    missing = {v.op.name for v in tf.trainable_variables()} - saved.keys()
    assert all("pooler" in name for name in missing)
    session.run(tf.global_variables_initializer())
    tf.train.Saver(variables).restore(session, prefix)
    return session.run(logits)[0]


@pytest.mark.parametrize("architecture", HEAD_SHAPES)
def test_heads_compute_the_same(tmp_path, architecture):
  ids, types = [2, 5, 8, 3, 6, 3], [0, 0, 0, 0, 1, 1]
  directory = write_huggingface(tmp_path / "huggingface", architecture=architecture)
  bert = written(convert_checkpoint.from_huggingface(directory), tmp_path / "bert")
  wanted = wanted_logits(random_tensors(architecture), ids, types)
  assert wanted
  for scope, logits in wanted.items():
    got = scripts_logits(scope, bert, ids, types)
    np.testing.assert_allclose(got, logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["DistilBertModel", *HEAD_SHAPES])
def test_heads_there_and_back_are_identical(tmp_path, architecture):
  labels = with_labels(architecture)
  first = write_huggingface(tmp_path / "first", architecture=architecture, **labels)
  conversion = convert_checkpoint.from_huggingface(first)
  bert = written(conversion, tmp_path / "bert")
  last = written(convert_checkpoint.to_huggingface(bert), tmp_path / "last")
  got = safetensors.numpy.load_file(os.path.join(last, "model.safetensors"))
  assert_identical(got, random_tensors(architecture))
  for name in ("config.json", "tokenizer_config.json"):
    assert read_json(os.path.join(last, name)) == read_json(os.path.join(first, name))
  again = convert_checkpoint.from_huggingface(last)
  assert_identical(again.tensors, conversion.tensors)
  assert again.texts == conversion.texts
  assert model_directory.read_labels(bert) == LABELS.get(architecture)


def test_the_bias_of_choices_has_no_effect(tmp_path):
  tensors = random_tensors("BertForMultipleChoice")
  directory = write_huggingface(
    tmp_path / "x",
    {**tensors, "classifier.bias": np.ones([1], np.float32)},
    "BertForMultipleChoice",
  )
  conversion = convert_checkpoint.from_huggingface(directory)
  assert conversion.ignored == 1
  assert conversion.tensors["cls/multiple_choice/output_weights"].shape == (1, H)
  bert = written(conversion, tmp_path / "bert")
  back = convert_checkpoint.to_huggingface(bert)
  assert_identical(back.tensors, tensors)
  assert ("(zeros)", None, "classifier.bias", (1,)) in back.rows


def test_masked_lm_with_the_whole_head_of_pretraining(tmp_path):
  tensors = random_tensors("BertForPreTraining")
  tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
  tensors["cls.predictions.decoder.bias"] = tensors.pop("cls.predictions.bias")
  directory = write_huggingface(tmp_path / "x", tensors, "BertForMaskedLM")
  conversion = convert_checkpoint.from_huggingface(directory)
  assert conversion.ignored == 1  # the weight; the bias stands for the missing one
  bert = written(conversion, tmp_path / "bert")
  back = convert_checkpoint.to_huggingface(bert)
  assert_identical(back.tensors, random_tensors("BertForPreTraining"))
  assert json.loads(back.texts["config.json"])["architectures"] == ["BertForMaskedLM"]


@pytest.mark.parametrize("architecture", ["BertForMaskedLM", "DistilBertForMaskedLM"])
def test_untied_decoder(tmp_path, architecture):
  tensors = random_tensors(architecture)
  copies = {
    "BertForMaskedLM": {
      "cls.predictions.decoder.weight": tensors.get("bert.embeddings.word_embeddings.weight"),
      "cls.predictions.decoder.bias": tensors.get("cls.predictions.bias"),
    },
    "DistilBertForMaskedLM": {
      "vocab_projector.weight": tensors.get("distilbert.embeddings.word_embeddings.weight")
    },
  }[architecture]
  untied = {"architecture": architecture, "tie_word_embeddings": False}
  directory = write_huggingface(tmp_path / "same", {**tensors, **copies}, **untied)
  bert = written(convert_checkpoint.from_huggingface(directory), tmp_path / "bert")
  back = convert_checkpoint.to_huggingface(bert)
  assert_identical(back.tensors, {**tensors, **copies})
  for name, value in copies.items():
    other = {**tensors, **copies, name: value + 1}
    directory = write_huggingface(tmp_path / name, other, **untied)
    with pytest.raises(files.InputError, match=f": {name} differs from .*; such a head cannot be"):
      convert_checkpoint.from_huggingface(directory)


def test_trained_distilbert_is_a_bert(tmp_path, caplog):
  directory = write_huggingface(tmp_path / "x", architecture="DistilBertForQuestionAnswering")
  bert = written(convert_checkpoint.from_huggingface(directory), tmp_path / "bert")
  types = np.array([[0] * H, [0.5] * H], np.float32)
  prefix = os.path.join(bert, "bert_model.ckpt")
  add_tensors(prefix, bert__embeddings__token_type_embeddings=types)
  there = written(convert_checkpoint.to_huggingface(bert), tmp_path / "there")
  assert "was a DistilBERT and has become a BERT" in caplog.text
  config = read_json(os.path.join(there, "config.json"))
  assert (config["model_type"], config["hidden_size"], config["type_vocab_size"]) == ("bert", H, 2)
  assert config["architectures"] == ["BertForQuestionAnswering"]
  back = convert_checkpoint.from_huggingface(there)
  assert_identical(back.tensors, saved_tensors(prefix))


# ---- Finished directories -----------------------------------------------------------------------


def finish(bert, tensors, step, labels=None, **flags):
  """Makes a converted model an output directory of a training with its last checkpoint."""
  for path in ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001"):
    os.remove(os.path.join(bert, path))
  paths = [os.path.join(bert, name) for name in ("bert_config.json", "vocab.txt")]
  flags = {"do_lower_case": True, **flags}
  model_directory.save(bert, *paths, labels, "run_classifier", flags)
  save_training(bert, tensors, step)


def save_training(directory, tensors, step):
  prefix = os.path.join(directory, f"model.ckpt-{step}")
  slots = {"output_bias/adam_m": tensors["output_bias"], "global_step": np.int64(step)}
  checkpoints.save_checkpoint(prefix, {**tensors, **slots})
  tf.train.update_checkpoint_state(directory, f"model.ckpt-{step}")


def test_finished_directory_needs_no_other_flag(tmp_path):
  source = write_huggingface(tmp_path / "x", architecture="BertModel", hidden_act="gelu")
  tensors = convert_checkpoint.from_huggingface(source).tensors
  bert = written(convert_checkpoint.from_huggingface(source), tmp_path / "bert")
  head = {"output_weights": np.ones([3, H], np.float32), "output_bias": np.ones(3, np.float32)}
  finish(bert, {**tensors, **head}, 9, ["no", "maybe", "yes"], multi_label=True)
  last = convert_checkpoint.to_huggingface(bert)
  config = json.loads(last.texts["config.json"])
  assert config["architectures"] == ["BertForSequenceClassification"]
  assert config["id2label"] == {"0": "no", "1": "maybe", "2": "yes"}
  assert config["label2id"] == {"no": 0, "maybe": 1, "yes": 2}
  assert config["problem_type"] == "multi_label_classification"
  assert config["hidden_act"] == "gelu_new"  # the length of its training
  assert json.loads(last.texts["tokenizer_config.json"])["do_lower_case"] is True
  np.testing.assert_array_equal(last.tensors["classifier.bias"], head["output_bias"])
  assert last.ignored == 2
  back = convert_checkpoint.from_huggingface(written(last, tmp_path / "last"))
  assert_identical(back.tensors, {**tensors, **head})
  assert back.texts["label_list.txt"] == "no\nmaybe\nyes\n"


@pytest.mark.parametrize("convert", [convert_checkpoint.to_huggingface, convert_checkpoint.strip])
def test_best_checkpoint_is_used_in_place_of_the_last(tmp_path, convert):
  architecture = "BertForSequenceClassification"
  source = write_huggingface(tmp_path / "x", architecture=architecture)
  tensors = convert_checkpoint.from_huggingface(source).tensors
  bert = written(convert_checkpoint.from_huggingface(source), tmp_path / "bert")
  finish(bert, tensors, 9, LABELS[architecture])
  best = os.path.join(bert, "best")
  os.mkdir(best)
  save_training(best, {**tensors, "output_bias": tensors["output_bias"] + 1}, 6)
  bias = "classifier.bias" if convert is convert_checkpoint.to_huggingface else "output_bias"
  from_best = convert(bert)
  np.testing.assert_array_equal(from_best.tensors[bias], tensors["output_bias"] + 1)
  assert convert(os.path.join(best, "model.ckpt-6")).texts == from_best.texts
  last = convert(os.path.join(bert, "model.ckpt-9"))
  np.testing.assert_array_equal(last.tensors[bias], tensors["output_bias"])
  assert last.texts == from_best.texts
  shutil.rmtree(best)
  np.testing.assert_array_equal(convert(bert).tensors[bias], tensors["output_bias"])


def test_labels_of_another_model(tmp_path):
  source = write_huggingface(tmp_path / "x", architecture="BertForTokenClassification")
  bert = written(convert_checkpoint.from_huggingface(source), tmp_path / "bert")
  with open(os.path.join(bert, "label_list.txt"), "w", encoding="utf-8") as f:
    f.write("O\nB-A\n")
  with pytest.raises(
    files.InputError, match=r"label_list\.txt: has 2 labels, where the head has 5;"
  ):
    convert_checkpoint.to_huggingface(bert)


def test_a_score_is_no_label(tmp_path):
  tensors = random_tensors("BertForSequenceClassification")
  tensors.update({"classifier.weight": np.ones([1, H], np.float32), "classifier.bias": np.ones(1)})
  tensors["classifier.bias"] = tensors["classifier.bias"].astype(np.float32)
  score = {"architecture": "BertForSequenceClassification", **labels_of(["LABEL_0"])}
  directory = write_huggingface(tmp_path / "x", tensors, **score)
  conversion = convert_checkpoint.from_huggingface(directory)
  assert conversion.texts["label_list.txt"] is None
  bert = written(conversion, tmp_path / "bert")
  back = json.loads(convert_checkpoint.to_huggingface(bert).texts["config.json"])
  assert back == read_json(os.path.join(directory, "config.json"))


def test_labels_of_an_earlier_model_do_not_stay(huggingface, tmp_path):
  conversion = convert_checkpoint.from_huggingface(huggingface)
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "label_list.txt").write_text("no\nyes\n")
  with pytest.raises(files.InputError, match=r"label_list\.txt exists; give another directory"):
    written(conversion, tmp_path / "out")
  written(conversion, tmp_path / "out", overwrite=True)
  assert not (tmp_path / "out" / "label_list.txt").exists()


# ---- Impossible conversions ---------------------------------------------------------------------


CLASSIFIER = {
  "classifier.weight": np.zeros([2, H], np.float32),
  "classifier.bias": np.zeros(2, "f"),
}
PRE_CLASSIFIER = {"pre_classifier.weight": np.zeros([H, H], np.float32)}


@pytest.mark.parametrize(
  ("architecture", "base", "head", "reason"),
  [
    ("BertForRanking", "BertModel", CLASSIFIER, "config.json has BertForRanking"),
    ("BertModel", "BertModel", {"cls.predictions.bias": np.zeros(V, "f")}, "has BertModel"),
    (
      "DistilBertForSequenceClassification",
      "DistilBertModel",
      {**CLASSIFIER, **PRE_CLASSIFIER},
      "a layer with ReLU where BERT's has the pooler with tanh",
    ),
  ],
)
def test_heads_of_huggingface_are_refused_or_left_out(
  tmp_path, caplog, architecture, base, head, reason
):
  directory = write_huggingface(
    tmp_path / "x", {**random_tensors(base), **head}, base, architectures=[architecture]
  )
  with pytest.raises(files.InputError) as refusal:
    convert_checkpoint.from_huggingface(directory)
  assert all(word in str(refusal.value) for word in [*head, reason, "--allow_unplaced"])
  conversion = convert_checkpoint.from_huggingface(directory, allow_unplaced=True)
  left_out = [row[0] for row in conversion.rows if row[2] == "(left out)"]
  assert sorted(left_out) == sorted(head)
  assert "starts such a head anew" in caplog.text
  plain = convert_checkpoint.from_huggingface(
    write_huggingface(tmp_path / "plain", architecture=base)
  )
  assert_identical(conversion.tensors, plain.tensors)


def test_heads_of_a_checkpoint_are_refused_or_left_out(checkpoint):
  head = {"output_weights": np.zeros([2, H], "f"), "output_bias": np.zeros(2, "f")}
  add_tensors(checkpoint, **head, cls__squad__output_bias=np.zeros(2, "f"))
  conversion = convert_checkpoint.to_huggingface(checkpoint, allow_unplaced=True)
  lines = convert_checkpoint.table(conversion)
  assert [line.split()[0] for line in lines if line.endswith("-> (left out)")] == [
    "cls/squad/output_bias"
  ]
  assert lines[-1].startswith("converted 41 tensors, 426 parameters; left out 1;")
  # Two whole heads: HuggingFace has no model with both.
  add_tensors(checkpoint, cls__squad__output_weights=np.zeros([2, H], "f"))
  with pytest.raises(files.InputError) as refusal:
    convert_checkpoint.to_huggingface(checkpoint)
  assert all(word in str(refusal.value) for word in [*head, "cls/squad/output_bias", "--allow_"])
  conversion = convert_checkpoint.to_huggingface(checkpoint, allow_unplaced=True)
  assert_identical(conversion.tensors, random_tensors())


@pytest.mark.parametrize(
  "architecture",
  ["BertForSequenceClassification", "BertForNextSentencePrediction", "BertForMultipleChoice"],
)
def test_heads_over_a_pooler_need_it(tmp_path, architecture):
  tensors = random_tensors(architecture)
  tensors = {name: value for name, value in tensors.items() if "pooler" not in name}
  directory = write_huggingface(tmp_path / "x", tensors, architecture)
  with pytest.raises(files.InputError, match=r"lacks bert\.pooler\.dense\.weight, bert\.pooler"):
    convert_checkpoint.from_huggingface(directory)


def test_parts_of_another_encoder_are_never_left_out(tmp_path):
  extra = {"encoder.layer.2.output.dense.bias": np.zeros(H, np.float32)}
  directory = write_huggingface(tmp_path / "x", {**random_tensors(), **extra})
  with pytest.raises(files.InputError, match=r"has no encoder\.layer\.2\.output\.dense\.bias; "):
    convert_checkpoint.from_huggingface(directory, allow_unplaced=True)


def test_one_tensor_under_two_names_is_refused(tmp_path):
  extra = {"bert.pooler.dense.bias": np.zeros(H, np.float32)}
  directory = write_huggingface(tmp_path / "x", {**random_tensors(), **extra})
  for allow_unplaced in (False, True):
    with pytest.raises(files.InputError, match=r"has .*pooler\.dense\.bias, two names for one"):
      convert_checkpoint.from_huggingface(directory, allow_unplaced=allow_unplaced)


def test_layers_of_another_encoder_are_never_left_out(checkpoint):
  add_tensors(checkpoint, bert__encoder__layer_2__output__dense__bias=np.zeros(H, np.float32))
  match = "has no bert/encoder/layer_2/output/dense/bias; give the configuration of the model"
  for allow_unplaced in (False, True):
    with pytest.raises(files.InputError, match=match):
      convert_checkpoint.to_huggingface(checkpoint, allow_unplaced=allow_unplaced)


def test_additions_to_an_encoder_are_refused_or_left_out(checkpoint, caplog):
  names = ["bert/embeddings/relation_embedding", "bert/encoder/layer_1/adapter/down/kernel"]
  extra = {name.replace("/", "__"): np.ones([3, H], np.float32) for name in names}
  add_tensors(checkpoint, **extra, cls__squad__output_bias=np.zeros(2, np.float32))
  with pytest.raises(files.InputError) as refusal:
    convert_checkpoint.to_huggingface(checkpoint)
  assert all(word in str(refusal.value) for word in [*names, "; give --allow_unplaced to leave"])
  conversion = convert_checkpoint.to_huggingface(checkpoint, allow_unplaced=True)
  assert_identical(conversion.tensors, random_tensors())
  left_out = [row[0] for row in conversion.rows if row[2] == "(left out)"]
  assert left_out == [*names, "cls/squad/output_bias"]
  assert f"{names[0]}, {names[1]} is left out: the encoder is used without it" in caplog.text


def test_additions_to_an_encoder_of_huggingface(tmp_path):
  extra = {"embeddings.relation_embedding.weight": np.ones([3, H], np.float32)}
  directory = write_huggingface(tmp_path / "x", {**random_tensors(), **extra})
  with pytest.raises(files.InputError, match=r"has no embeddings\.relation.* --allow_unplaced"):
    convert_checkpoint.from_huggingface(directory)
  conversion = convert_checkpoint.from_huggingface(directory, allow_unplaced=True)
  assert len(conversion.tensors) == 39


def test_only_the_whole_pooler_may_be_missing(tmp_path, caplog):
  tensors = random_tensors()
  del tensors["pooler.dense.bias"]
  with pytest.raises(files.InputError, match=r"lacks bert\.pooler\.dense\.bias, which"):
    convert_checkpoint.from_huggingface(write_huggingface(tmp_path / "half", tensors))
  del tensors["pooler.dense.weight"]
  directory = write_huggingface(tmp_path / "none", tensors)
  bert = written(convert_checkpoint.from_huggingface(directory), tmp_path / "bert")
  assert "has no pooler" in caplog.text
  assert_identical(convert_checkpoint.to_huggingface(bert).tensors, tensors)


# ---- Names in a scope ---------------------------------------------------------------------------


def in_scope(checkpoint, form="module/{}"):
  """The same checkpoint with names as str.format makes them."""
  tensors = saved_tensors(checkpoint)
  checkpoints.save_checkpoint(checkpoint, {form.format(n): v for n, v in tensors.items()})


@pytest.mark.parametrize("form", ["module/{}", "a/model/{}", "{}:0", "module/{}:0"])
@pytest.mark.parametrize("mode", ["to_huggingface", "strip"])
def test_a_checkpoint_in_a_scope_converts_to_the_same(checkpoint, caplog, mode, form):
  bias = np.zeros([2], np.float32)
  add_tensors(checkpoint, output_weights=np.ones([2, H], np.float32), output_bias=bias)
  convert = getattr(convert_checkpoint, mode)
  want = convert(checkpoint)
  add_tensors(checkpoint, output_bias__adam_m=bias)
  in_scope(checkpoint, form)
  caplog.set_level("INFO")
  got = convert(checkpoint)
  assert_identical(got.tensors, want.tensors)
  assert (got.rows, got.texts, got.ignored) == (want.rows, want.texts, 1)
  assert caplog.text.count("which is taken off") == (form != "{}:0")


@pytest.mark.parametrize("scope", ["module.", "model.", "module.model."])
@pytest.mark.parametrize("architecture", ["BertModel", "DistilBertModel", *HEAD_SHAPES])
def test_huggingface_in_a_scope_converts_to_the_same(tmp_path, caplog, architecture, scope):
  plain = write_huggingface(tmp_path / "plain", architecture=architecture)
  tensors = {scope + name: value for name, value in random_tensors(architecture).items()}
  directory = write_huggingface(tmp_path / "scoped", tensors, architecture)
  want = convert_checkpoint.from_huggingface(plain)
  caplog.set_level("INFO")
  got = convert_checkpoint.from_huggingface(directory)
  assert_identical(got.tensors, want.tensors)
  assert (got.rows, got.texts, got.ignored) == (want.rows, want.texts, want.ignored)
  assert f"The names of {len(tensors)} variables in {directory}" in caplog.text


def test_two_encoders_are_refused(checkpoint, tmp_path):
  tensors = saved_tensors(checkpoint)
  two = {f"{scope}/{n}": v for scope in ("teacher", "student") for n, v in tensors.items()}
  checkpoints.save_checkpoint(checkpoint, two)
  for convert in (convert_checkpoint.to_huggingface, convert_checkpoint.strip):
    with pytest.raises(files.InputError, match=r"2 encoders, student/bert/\w+ and teacher/bert/"):
      convert(checkpoint)
  two = {f"{scope}.{n}": v for scope in ("query", "text") for n, v in random_tensors().items()}
  directory = write_huggingface(tmp_path / "x", two)
  with pytest.raises(files.InputError, match=r"2 encoders, query\.embeddings\S+ and text\.embedd"):
    convert_checkpoint.from_huggingface(directory)


# ---- Strip --------------------------------------------------------------------------------------


def test_strip_leaves_the_rest_as_it_is(checkpoint, tmp_path):
  rest = {
    "output_weights": np.array([[np.nan, -0.0, 1e-45, 3]], np.float32),
    "half": np.ones([2], np.float16),
    "count": np.int32(5),
  }
  add_tensors(checkpoint, **rest)
  want = saved_tensors(checkpoint)
  slots = {f"{name}/{slot}": want[name] for name in want for slot in ("adam_m", "adam_v")}
  add_tensors(checkpoint, global_step=np.int64(99), **slots)
  directory = os.path.dirname(checkpoint)
  with open(os.path.join(directory, "label_list.txt"), "w", encoding="utf-8") as f:
    f.write("no\nyes\n")
  conversion = convert_checkpoint.strip(checkpoint)
  stripped = written(conversion, tmp_path / "stripped")
  assert_identical(saved_tensors(os.path.join(stripped, "bert_model.ckpt")), want)
  assert conversion.ignored == 2 * 42 + 1
  for name in ("bert_config.json", "vocab.txt", "label_list.txt"):
    assert read_bytes(os.path.join(stripped, name)) == read_bytes(os.path.join(directory, name))


def test_strip_in_place(checkpoint):
  want = saved_tensors(checkpoint)
  add_tensors(checkpoint, global_step=np.int64(1))
  written(convert_checkpoint.strip(checkpoint), os.path.dirname(checkpoint), overwrite=True)
  assert_identical(saved_tensors(checkpoint), want)


# ---- Writing ------------------------------------------------------------------------------------


def test_another_model_is_replaced_only_when_told(huggingface, tmp_path):
  first = convert_checkpoint.from_huggingface(huggingface)
  directory = written(first, tmp_path / "out")
  second = first._replace(tensors={name: value + 1 for name, value in first.tensors.items()})
  for mode in ("checkpoint", "configuration"):
    with pytest.raises(files.InputError, match=r"^--output: .* exists; .*--overwrite"):
      written(second, directory)
    prefix = os.path.join(directory, "bert_model.ckpt")
    if mode == "checkpoint":  # the configuration of another model is a reason of its own
      assert_identical(saved_tensors(prefix), first.tensors)
      os.remove(prefix + ".index")
      write_json(os.path.join(directory, "bert_config.json"), {})
  written(second, directory, overwrite=True)
  assert_identical(saved_tensors(prefix), second.tensors)
  assert len(read_json(os.path.join(directory, "bert_config.json"))) == 12


@pytest.mark.parametrize("weights", ["bert_model.ckpt", "model.safetensors"])
def test_interrupted_writing_leaves_no_model(huggingface, tmp_path, monkeypatch, weights):
  def full_disk(*_, **__):
    raise OSError(28, "No space left on device")

  conversion = convert_checkpoint.from_huggingface(huggingface)._replace(weights=weights)
  (tmp_path / "out").mkdir()
  write_json(tmp_path / "out" / "bert_config.json", {"of": "another model"})
  monkeypatch.setattr(checkpoints, "save_checkpoint", full_disk)
  monkeypatch.setattr(safetensors.numpy, "save", full_disk)
  with pytest.raises(files.InputError, match=r"^--output: cannot write in .*: No space left"):
    written(conversion, tmp_path / "out", overwrite=True)
  assert not {"bert_config.json", weights, weights + ".index"} & set(os.listdir(tmp_path / "out"))


def test_output_that_cannot_be_a_directory(huggingface, tmp_path):
  (tmp_path / "file").write_text("x")
  with pytest.raises(files.InputError, match=r"^--output: cannot write in "):
    written(convert_checkpoint.from_huggingface(huggingface), tmp_path / "file" / "out")


# ---- Bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("config", "message"),
  [
    (
      {"model_type": "roberta"},
      "config.json: model_type is 'roberta', but only models with 'bert'",
    ),
    ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
    ({"is_decoder": True}, "is_decoder is True"),
    ({"hidden_act": "silu"}, "hidden_act is 'silu', but BERT has only"),
    ({"num_attention_heads": 3}, "config.json: "),
    ({"vocab_size": "many"}, "config.json: vocab_size is 'many'"),
    ({"vocab_size": V - 2}, "vocab.txt: has 10 word pieces, where the model has 9"),
    ({"num_hidden_layers": LAYERS + 1}, "lacks bert.encoder.layer.2.attention.self.query.weight"),
    (
      {"intermediate_size": INNER + 1},
      "encoder.layer.0.intermediate.dense.weight has shape [6, 4], where the configuration has "
      "[7, 4]",
    ),
  ],
)
def test_configuration_that_does_not_fit(tmp_path, config, message):
  directory = write_huggingface(tmp_path / "x", **config)
  with pytest.raises(files.InputError) as refusal:
    convert_checkpoint.from_huggingface(directory)
  assert message in str(refusal.value)
  assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.txt"])
def test_missing_and_damaged_files(huggingface, name):
  path = os.path.join(huggingface, name)
  whole = read_bytes(path)
  for damaged in (whole[:-2] if name != "vocab.txt" else b"\xff\n", b"", None):
    if damaged is None:
      os.remove(path)
    else:
      with open(path, "wb") as f:
        f.write(damaged)
    with pytest.raises(files.InputError) as refusal:
      convert_checkpoint.from_huggingface(huggingface)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_integer_weights_are_refused(tmp_path):
  weights = {name: np.ones(shape, np.int64) for name, shape in shapes_of("BertModel").items()}
  with pytest.raises(files.InputError, match=r"word_embeddings\.weight is of type int64; only"):
    convert_checkpoint.from_huggingface(write_huggingface(tmp_path / "x", weights))
  weights = {name: value.astype(np.int8) for name, value in weights.items()}
  with pytest.raises(files.InputError, match="is of type I8; only"):
    convert_checkpoint.from_huggingface(write_huggingface(tmp_path / "y", weights))


@pytest.mark.parametrize("convert", [convert_checkpoint.to_huggingface, convert_checkpoint.strip])
def test_damaged_checkpoints(checkpoint, convert):
  for suffix in (".data-00000-of-00001", ".index"):
    with open(checkpoint + suffix, "r+b") as f:
      f.truncate(60)
    with pytest.raises(files.InputError, match="is no checkpoint or a damaged one: "):
      convert(checkpoint)
  os.remove(checkpoint + ".index")
  with pytest.raises(files.InputError, match=r"^--input: "):
    convert(checkpoint)


def test_checkpoint_without_its_descriptions(checkpoint):
  for name, flag in (("vocab.txt", "vocab_file"), ("bert_config.json", "bert_config_file")):
    os.remove(os.path.join(os.path.dirname(checkpoint), name))
    with pytest.raises(files.InputError, match=f"^--{flag}: not given, and there is no .*{name}$"):
      convert_checkpoint.to_huggingface(checkpoint)
  assert convert_checkpoint.strip(checkpoint).texts == {}


# ---- The command --------------------------------------------------------------------------------


def test_table_of_a_pooler():
  conversion = convert_checkpoint.Conversion(
    weights="bert_model.ckpt",
    tensors={"bert/pooler/dense/kernel": np.zeros((40, 30), np.float32)},
    texts={},
    rows=[
      ("pooler.dense.weight", (30, 40), "bert/pooler/dense/kernel", (40, 30)),
      ("classifier.bias", (2,), "(left out)", None),
    ],
    ignored=1,
  )
  assert convert_checkpoint.table(conversion) == [
    "pooler.dense.weight [30, 40] -> bert/pooler/dense/kernel [40, 30]",
    "classifier.bias [2]          -> (left out)",
    "converted 1 tensors, 1,200 parameters; left out 1; ignored 1 (slots, steps, buffers, copies)",
  ]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--mode=strip", "--input=x"], "--output is missing"),
    (
      ["--mode=strip", "--input=x", "--output=y", "--do_lower_case"],
      "--do_lower_case has no effect",
    ),
    (["--mode=strip", "--input=x", "--output=y"], "--input: there is no checkpoint x"),
  ],
)
def test_wrong_flags(arguments, message):
  command_line.parse(convert_checkpoint.flags, arguments)
  try:
    with pytest.raises(files.InputError, match=f"^{message}"):
      convert_checkpoint.main([])
  finally:
    command_line.parse(convert_checkpoint.flags, [])


def test_command(huggingface, tmp_path):
  script = os.path.join(os.path.dirname(convert_checkpoint.__file__), "convert_checkpoint.py")
  output = str(tmp_path / "out")
  arguments = ["--mode=from_huggingface", f"--input={huggingface}", f"--output={output}"]
  done = subprocess.run(
    [sys.executable, script, *arguments], capture_output=True, text=True, check=True
  )
  lines = done.stdout.splitlines()
  assert lines[0].startswith("embeddings.word_embeddings.weight [11, 4] ")
  assert lines[0].endswith(" -> bert/embeddings/word_embeddings [11, 4]")
  assert lines[-1].startswith("converted 39 tensors, 416 parameters;")
  assert len(saved_tensors(os.path.join(output, "bert_model.ckpt"))) == 39
