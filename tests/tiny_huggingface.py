"""HuggingFace directories of a tiny random model, as transformers would write them."""

import json

import numpy as np
import safetensors.numpy

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
}
DISTILBERT_CONFIG = {
  "architectures": ["DistilBertModel"],
  "model_type": "distilbert",
  "vocab_size": V,
  "dim": H,
  "n_layers": LAYERS,
  "n_heads": HEADS,
  "hidden_dim": INNER,
  "activation": "gelu_new",
  "dropout": 0.1,
  "attention_dropout": 0.2,
  "max_position_embeddings": P,
  "initializer_range": 0.03,
  "qa_dropout": 0.1,
  "sinusoidal_pos_embds": False,
}
TOKENIZER_CONFIG = {"do_lower_case": False, "tokenizer_class": "BertTokenizer"}


def dense(name, inputs, outputs):
  return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name):
  return {f"{name}.weight": (H,), f"{name}.bias": (H,)}


def bert_shapes(prefix=""):
  """Shapes of BertModel's parameters; with the prefix "bert." those of a model with a head."""
  shapes = {
    "embeddings.word_embeddings.weight": (V, H),
    "embeddings.position_embeddings.weight": (P, H),
    "embeddings.token_type_embeddings.weight": (T, H),
    **norm("embeddings.LayerNorm"),
    **dense("pooler.dense", H, H),
  }
  for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
    for name in ("query", "key", "value"):
      shapes.update(dense(f"{layer}.attention.self.{name}", H, H))
    shapes.update(dense(f"{layer}.attention.output.dense", H, H))
    shapes.update(norm(f"{layer}.attention.output.LayerNorm"))
    shapes.update(dense(f"{layer}.intermediate.dense", H, INNER))
    shapes.update(dense(f"{layer}.output.dense", INNER, H))
    shapes.update(norm(f"{layer}.output.LayerNorm"))
  return {prefix + name: shape for name, shape in shapes.items()}


def distilbert_shapes(prefix=""):
  """Shapes of DistilBertModel's parameters, for the prefix "distilbert."."""
  shapes = {
    "embeddings.word_embeddings.weight": (V, H),
    "embeddings.position_embeddings.weight": (P, H),
    **norm("embeddings.LayerNorm"),
  }
  for layer in (f"transformer.layer.{i}" for i in range(LAYERS)):
    for name in ("q_lin", "k_lin", "v_lin", "out_lin"):
      shapes.update(dense(f"{layer}.attention.{name}", H, H))
    shapes.update(norm(f"{layer}.sa_layer_norm"))
    shapes.update(dense(f"{layer}.ffn.lin1", H, INNER))
    shapes.update(dense(f"{layer}.ffn.lin2", INNER, H))
    shapes.update(norm(f"{layer}.output_layer_norm"))
  return {prefix + name: shape for name, shape in shapes.items()}


_MASKED_LM = {
  "cls.predictions.bias": (V,),
  **dense("cls.predictions.transform.dense", H, H),
  **norm("cls.predictions.transform.LayerNorm"),
}
_NEXT_SENTENCE = dense("cls.seq_relationship", H, 2)
HEAD_SHAPES = {  # of 3 classes and 5 tags
  "BertForPreTraining": {**_MASKED_LM, **_NEXT_SENTENCE},
  "BertForMaskedLM": _MASKED_LM,
  "BertForNextSentencePrediction": _NEXT_SENTENCE,
  "BertForSequenceClassification": dense("classifier", H, 3),
  "BertForQuestionAnswering": dense("qa_outputs", H, 2),
  "BertForTokenClassification": dense("classifier", H, 5),
  "BertForMultipleChoice": dense("classifier", H, 1),
  "DistilBertForMaskedLM": {
    "vocab_projector.bias": (V,),
    **dense("vocab_transform", H, H),
    **norm("vocab_layer_norm"),
  },
  "DistilBertForQuestionAnswering": dense("qa_outputs", H, 2),
  "DistilBertForTokenClassification": dense("classifier", H, 5),
}
WITHOUT_POOLER = ("BertForMaskedLM", "BertForQuestionAnswering", "BertForTokenClassification")


def shapes_of(architecture):
  """Shapes of the parameters of an architecture."""
  if architecture == "BertModel":
    return bert_shapes()
  if architecture == "DistilBertModel":
    return distilbert_shapes()
  is_bert = architecture.startswith("Bert")
  shapes = bert_shapes("bert.") if is_bert else distilbert_shapes("distilbert.")
  if architecture in WITHOUT_POOLER:
    shapes = {name: shape for name, shape in shapes.items() if "pooler" not in name}
  return {**shapes, **HEAD_SHAPES[architecture]}


def random_tensors(architecture="BertModel", dtype=np.float32):
  rng = np.random.default_rng(7)
  tensors = {
    name: rng.normal(size=shape).astype(dtype) for name, shape in shapes_of(architecture).items()
  }
  if architecture == "BertForMultipleChoice":  # the same for all choices, and so without effect
    tensors["classifier.bias"] *= 0
  return tensors


def labels_of(labels):
  """The keys of config.json for a list of labels."""
  return {
    "id2label": {str(number): label for number, label in enumerate(labels)},
    "label2id": {label: number for number, label in enumerate(labels)},
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


def write_huggingface(
  directory, tensors=None, architecture="BertModel", tokenizer=TOKENIZER_CONFIG, **config
):
  """Writes a model; `config` changes keys of config.json. Returns the directory as str."""
  directory.mkdir()
  tensors = random_tensors(architecture) if tensors is None else tensors
  safetensors.numpy.save_file(tensors, directory / "model.safetensors")
  base = CONFIG if architecture.startswith("Bert") else DISTILBERT_CONFIG
  write_json(directory / "config.json", {**base, "architectures": [architecture], **config})
  if tokenizer is not None:
    write_json(directory / "tokenizer_config.json", tokenizer)
  (directory / "vocab.txt").write_bytes("".join(p + "\n" for p in PIECES).encode())
  return str(directory)


def assert_identical(got, want):
  assert got.keys() == want.keys()
  for name, value in want.items():
    assert (got[name].dtype, got[name].shape) == (value.dtype, value.shape), name
    assert got[name].tobytes() == value.tobytes(), name
