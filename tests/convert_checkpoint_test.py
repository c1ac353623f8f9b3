"""Conversions there and back with a tiny random model, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import tensorflow.compat.v1 as tf

import common_flags
import convert_checkpoint
import files
import modeling

V, T, P, H, INNER, LAYERS, HEADS = 11, 2, 7, 4, 6, 2, 2
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##d", "é", "\u2028"]
CONFIG = {
  "architectures": ["BertModel"],
  "model_type": "bert",
  "vocab_size": V,
  "hidden_size": H,
  "num_hidden_layers": LAYERS,
  "num_attention_heads": HEADS,
  "intermediate_size": INNER,
  "hidden_act": "gelu_new",
  "hidden_dropout_prob": 0.1,
  "attention_probs_dropout_prob": 0.2,
  "max_position_embeddings": P,
  "type_vocab_size": T,
  "initializer_range": 0.03,
  "layer_norm_eps": 1e-12,
  "pad_token_id": 0,
  "id2label": {"0": "no", "1": "yes"},
}
TOKENIZER_CONFIG = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}


def dense(name, inputs, outputs):
  return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name):
  return {f"{name}.LayerNorm.weight": (H,), f"{name}.LayerNorm.bias": (H,)}


def huggingface_shapes():
  """What transformers' BertModel of these sizes saves."""
  shapes = {
    "embeddings.word_embeddings.weight": (V, H),
    "embeddings.position_embeddings.weight": (P, H),
    "embeddings.token_type_embeddings.weight": (T, H),
    **norm("embeddings"),
    **dense("pooler.dense", H, H),
  }
  for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
    for name in ("query", "key", "value"):
      shapes.update(dense(f"{layer}.attention.self.{name}", H, H))
    shapes.update(dense(f"{layer}.attention.output.dense", H, H))
    shapes.update(norm(f"{layer}.attention.output"))
    shapes.update(dense(f"{layer}.intermediate.dense", H, INNER))
    shapes.update(dense(f"{layer}.output.dense", INNER, H))
    shapes.update(norm(f"{layer}.output"))
  return shapes


def random_tensors(dtype=np.float32):
  rng = np.random.default_rng(7)
  return {
    name: rng.normal(size=shape).astype(dtype) for name, shape in huggingface_shapes().items()
  }


def write_json(path, value):
  with open(path, "w", encoding="utf-8") as f:
    json.dump(value, f)


def read_json(path):
  with open(path, encoding="utf-8") as f:
    return json.load(f)


def read_bytes(path):
  with open(path, "rb") as f:
    return f.read()


def write_huggingface(directory, tensors=None, tokenizer=TOKENIZER_CONFIG, **config):
  directory.mkdir()
  safetensors.numpy.save_file(tensors or random_tensors(), directory / "model.safetensors")
  write_json(directory / "config.json", {**CONFIG, **config})
  if tokenizer is not None:
    write_json(directory / "tokenizer_config.json", tokenizer)
  (directory / "vocab.txt").write_bytes("".join(p + "\n" for p in PIECES).encode())
  return str(directory)


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
  convert_checkpoint.save_checkpoint(prefix, {**saved_tensors(prefix), **extra})


def assert_identical(got, want):
  assert got.keys() == want.keys()
  for name, value in want.items():
    assert (got[name].dtype, got[name].shape) == (value.dtype, value.shape), name
    assert got[name].tobytes() == value.tobytes(), name


# ---- An encoder in NumPy, by HuggingFace's names ------------------------------------------------


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def encode(w, ids, types):
  """(sequence output [S, H], pooled output [H]) of one sequence, float64."""

  def linear(name, x):
    return x @ w[name + ".weight"].T.astype(np.float64) + w[name + ".bias"]

  def normalise(name, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    return x * w[name + ".LayerNorm.weight"] + w[name + ".LayerNorm.bias"]

  def heads(name, x):
    return linear(name, x).reshape(len(x), HEADS, -1).transpose(1, 0, 2)  # [N, S, D]

  def attention(name, x):
    q, k, v = (heads(f"{name}.self.{kind}", x) for kind in ("query", "key", "value"))
    context = softmax(q @ k.transpose(0, 2, 1) / np.sqrt(H // HEADS)) @ v
    return linear(name + ".output.dense", context.transpose(1, 0, 2).reshape(len(x), H))

  def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

  tables = [
    w[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "token_type", "position")
  ]
  x = normalise("embeddings", sum(t[i] for t, i in zip(tables, (ids, types, range(len(ids))))))
  for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
    x = normalise(layer + ".attention.output", x + attention(layer + ".attention", x))
    inner = gelu(linear(layer + ".intermediate.dense", x))
    x = normalise(layer + ".output", x + linear(layer + ".output.dense", inner))
  return x, np.tanh(linear("pooler.dense", x[0]))


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


def test_routes_of_base():
  config = modeling.BertConfig(vocab_size=30522, type_vocab_size=2)
  routes = convert_checkpoint.encoder_routes(config)
  assert len(routes) == 199
  assert sum(np.prod(route.shape) for route in routes) == 109_482_240
  assert routes[-5] == convert_checkpoint.Route(
    "bert/encoder/layer_11/output/dense/bias",
    "bert.encoder.layer.11.output.dense.bias",
    (768,),
    False,
  )
  assert all(route.reversed().reversed() == route for route in routes)


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


def save_as_bfloat16(path, tensors):
  """Writes the upper halves of float32 numbers, which are bfloat16 numbers."""
  halves = {name: (t.view(np.uint32) >> 16).astype(np.uint16) for name, t in tensors.items()}
  entries = {
    name: {"dtype": "bfloat16", "shape": t.shape, "data": t.tobytes()} for name, t in halves.items()
  }
  safetensors.serialize_file(entries, path)
  return {name: (t.astype(np.uint32) << 16).view(np.float32) for name, t in halves.items()}


def test_16_bit_floats_are_widened(tmp_path):
  half = write_huggingface(tmp_path / "half", random_tensors(np.float16))
  brain = write_huggingface(tmp_path / "brain")
  brain_values = save_as_bfloat16(tmp_path / "brain" / "model.safetensors", random_tensors())
  for directory, values in ((half, random_tensors(np.float16)), (brain, brain_values)):
    converted = convert_checkpoint.from_huggingface(directory).tensors
    got, want = converted["bert/pooler/dense/kernel"], values["pooler.dense.weight"]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, want.T.astype(np.float32))


def test_vocabulary_out_of_tokenizer_json(huggingface, checkpoint):
  vocab = os.path.join(os.path.dirname(checkpoint), "vocab.txt")
  want = read_bytes(vocab)
  os.remove(os.path.join(huggingface, "vocab.txt"))
  numbered = {piece: i for i, piece in reversed(list(enumerate(PIECES)))}
  tokenizer = {"model": {"type": "WordPiece", "vocab": numbered}}
  write_json(os.path.join(huggingface, "tokenizer.json"), tokenizer)
  assert convert_checkpoint.from_huggingface(huggingface).texts["vocab.txt"].encode() == want


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


# ---- There and back -----------------------------------------------------------------------------


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


def test_plain_configuration_to_huggingface():
  config = modeling.BertConfig(V, type_vocab_size=2)
  got = convert_checkpoint.config_to_huggingface(config)
  want = {**config.to_dict(), "hidden_act": "gelu_new"}
  assert got == {**want, "model_type": "bert", "architectures": ["BertModel"]}


def test_what_changed_since_overrides_what_huggingface_said():
  config = modeling.BertConfig(V, hidden_act="relu")
  config.huggingface = {"config": {"hidden_act": "gelu", "dtype": "float16", "label": 1}}
  got = convert_checkpoint.config_to_huggingface(config)
  assert (got["hidden_act"], got["dtype"], got["label"]) == ("relu", "float32", 1)


def test_casing_by_flag_then_training_then_huggingface(checkpoint, caplog):
  def casing(**options):
    texts = convert_checkpoint.to_huggingface(checkpoint, **options).texts
    return json.loads(texts.get("tokenizer_config.json", "{}")).get("do_lower_case")

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


def test_slots_and_step_do_not_go_to_huggingface(checkpoint):
  slot = np.ones([H], np.float32)
  add_tensors(checkpoint, global_step=np.int64(3), bert__pooler__dense__bias__adam_m=slot)
  conversion = convert_checkpoint.to_huggingface(checkpoint)
  assert conversion.tensors.keys() == random_tensors().keys()
  assert conversion.ignored == 2


# ---- Heads and missing parts --------------------------------------------------------------------


def test_heads_are_refused_by_name_or_left_out(checkpoint, tmp_path):
  head = np.zeros([2, H], np.float32)
  heads = {"cls.predictions.bias": head[0], "classifier.weight": head}
  directory = write_huggingface(tmp_path / "heads", {**random_tensors(), **heads})
  add_tensors(checkpoint, output_weights=head, cls__squad__output_bias=head[0])
  for convert, source, names in (
    (convert_checkpoint.from_huggingface, directory, list(heads)),
    (convert_checkpoint.to_huggingface, checkpoint, ["output_weights", "cls/squad/output_bias"]),
  ):
    with pytest.raises(files.InputError) as refusal:
      convert(source)
    assert all(name in str(refusal.value) for name in [*names, "--allow_unplaced"])
    lines = convert_checkpoint.table(convert(source, allow_unplaced=True))
    left_out = [line.split() for line in lines if line.endswith("-> (left out)")]
    assert sorted(words[0] for words in left_out) == sorted(names)
    assert lines[-1].startswith("converted 39 tensors, 416 parameters; left out 2;")


def test_parts_of_another_encoder_are_never_left_out(tmp_path):
  extra = {"encoder.layer.2.output.dense.bias": np.zeros(H, np.float32)}
  directory = write_huggingface(tmp_path / "x", {**random_tensors(), **extra})
  with pytest.raises(files.InputError, match=r"has no encoder\.layer\.2\.output\.dense\.bias$"):
    convert_checkpoint.from_huggingface(directory, allow_unplaced=True)


def test_one_tensor_under_two_names_is_refused(tmp_path):
  extra = {"bert.pooler.dense.bias": np.zeros(H, np.float32)}
  directory = write_huggingface(tmp_path / "x", {**random_tensors(), **extra})
  with pytest.raises(files.InputError, match=r"has no (bert\.)?pooler\.dense\.bias$"):
    convert_checkpoint.from_huggingface(directory)


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
  monkeypatch.setattr(convert_checkpoint, "save_checkpoint", full_disk)
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
    ({"hidden_act": "silu"}, "hidden_act is 'silu', but BERT knows only"),
    ({"num_attention_heads": 3}, "config.json: "),
    ({"vocab_size": "many"}, "config.json: vocab_size is 'many'"),
    ({"vocab_size": V - 1}, "vocab.txt: has 11 word pieces, where the model has 10"),
    ({"num_hidden_layers": LAYERS + 1}, "lacks bert.encoder.layer.2.attention.self.query.weight"),
    (
      {"intermediate_size": INNER + 1},
      "encoder.layer.0.intermediate.dense.weight has shape [6, 4], where the configuration says "
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
  weights = {name: np.ones(shape, np.int64) for name, shape in huggingface_shapes().items()}
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
    "converted 1 tensors, 1,200 parameters; left out 1; ignored 1 (slots, steps, buffers)",
  ]


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    (["--mode=strip", "--input=x"], "--output is missing"),
    (["--mode=strip", "--input=x", "--output=y", "--do_lower_case"], "--do_lower_case means not"),
    (["--mode=strip", "--input=x", "--output=y"], "--input: there is no checkpoint x"),
  ],
)
def test_wrong_flags(arguments, message):
  common_flags.parse(convert_checkpoint.FLAGS, arguments)
  try:
    with pytest.raises(files.InputError, match=f"^{message}"):
      convert_checkpoint.main([])
  finally:
    common_flags.parse(convert_checkpoint.FLAGS, [])


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
