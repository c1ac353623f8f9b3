"""Tables of the names of tensors in TensorFlow's checkpoints and in HuggingFace's files.

bert/encoder/layer_0/output/dense/kernel [I, H] -> bert.encoder.layer.0.output.dense.weight [H, I]
                                    DistilBERT: -> distilbert.transformer.layer.0.ffn.lin2.weight
cls/squad/output_weights [2, H]                 -> qa_outputs.weight [2, H]

Names on HuggingFace's side are BERT's with the prefix "bert."; Family.rename returns DistilBERT's.
"""

import re
from collections.abc import Collection
from typing import Any, NamedTuple, Optional

import modeling


class Tensor(NamedTuple):
  """A row of the table of names.

  Attributes:
    scope: key in SCOPES.
    tensorflow: name of the variable in its scope.
    huggingface: name of the parameter in its scope.
    shape: of the variable, one letter per dimension; see SIZES.
    transposed: True if the parameter is the transposed variable. TensorFlow's dense layers multiply
      by [inputs, outputs], PyTorch's by [outputs, inputs].
  """

  scope: str
  tensorflow: str
  huggingface: str
  shape: str
  transposed: bool = False


SIZES = {  # L is the number of labels, and digits are themselves
  "V": "vocab_size",
  "T": "type_vocab_size",
  "P": "max_position_embeddings",
  "H": "hidden_size",
  "I": "intermediate_size",
}

SCOPES = {  # {} is the number of the layer
  "embeddings": ("bert/embeddings/", "bert.embeddings."),
  "layer": ("bert/encoder/layer_{}/", "bert.encoder.layer.{}."),
  "pooler": ("bert/pooler/", "bert.pooler."),
  "masked_lm": ("cls/predictions/", "cls.predictions."),
  "next_sentence": ("cls/seq_relationship/", "cls.seq_relationship."),
  "classes": ("", "classifier."),
  "answers": ("cls/squad/", "qa_outputs."),
  "tags": ("cls/ner/", "classifier."),
  "choices": ("cls/multiple_choice/", "classifier."),
}

# The architecture of HuggingFace, without its prefix -> the scopes of its head.
NO_HEAD = "Model"
HEADS = {
  NO_HEAD: (),
  "ForPreTraining": ("masked_lm", "next_sentence"),
  "ForMaskedLM": ("masked_lm",),
  "ForNextSentencePrediction": ("next_sentence",),
  "ForSequenceClassification": ("classes",),
  "ForQuestionAnswering": ("answers",),
  "ForTokenClassification": ("tags",),
  "ForMultipleChoice": ("choices",),
}
ENCODER_SCOPES = ("embeddings", "layer", "pooler")
HEAD_SCOPES = tuple(scope for scope in SCOPES if scope not in ENCODER_SCOPES)
OVER_POOLER = {"next_sentence", "classes", "choices"}
_SAME_NAMES = {"classes", "tags", "choices"}  # on HuggingFace's side


def _dense(scope, outputs):
  """Returns the rows of an output layer, whose weights have PyTorch's order on both sides."""
  return (
    Tensor(scope, "output_weights", "weight", outputs + "H"),
    Tensor(scope, "output_bias", "bias", outputs),
  )


TENSORS = (
  Tensor("embeddings", "word_embeddings", "word_embeddings.weight", "VH"),
  Tensor("embeddings", "token_type_embeddings", "token_type_embeddings.weight", "TH"),
  Tensor("embeddings", "position_embeddings", "position_embeddings.weight", "PH"),
  Tensor("embeddings", "LayerNorm/beta", "LayerNorm.bias", "H"),
  Tensor("embeddings", "LayerNorm/gamma", "LayerNorm.weight", "H"),
  Tensor("layer", "attention/self/query/kernel", "attention.self.query.weight", "HH", True),
  Tensor("layer", "attention/self/query/bias", "attention.self.query.bias", "H"),
  Tensor("layer", "attention/self/key/kernel", "attention.self.key.weight", "HH", True),
  Tensor("layer", "attention/self/key/bias", "attention.self.key.bias", "H"),
  Tensor("layer", "attention/self/value/kernel", "attention.self.value.weight", "HH", True),
  Tensor("layer", "attention/self/value/bias", "attention.self.value.bias", "H"),
  Tensor("layer", "attention/output/dense/kernel", "attention.output.dense.weight", "HH", True),
  Tensor("layer", "attention/output/dense/bias", "attention.output.dense.bias", "H"),
  Tensor("layer", "attention/output/LayerNorm/beta", "attention.output.LayerNorm.bias", "H"),
  Tensor("layer", "attention/output/LayerNorm/gamma", "attention.output.LayerNorm.weight", "H"),
  Tensor("layer", "intermediate/dense/kernel", "intermediate.dense.weight", "HI", True),
  Tensor("layer", "intermediate/dense/bias", "intermediate.dense.bias", "I"),
  Tensor("layer", "output/dense/kernel", "output.dense.weight", "IH", True),
  Tensor("layer", "output/dense/bias", "output.dense.bias", "H"),
  Tensor("layer", "output/LayerNorm/beta", "output.LayerNorm.bias", "H"),
  Tensor("layer", "output/LayerNorm/gamma", "output.LayerNorm.weight", "H"),
  Tensor("pooler", "dense/kernel", "dense.weight", "HH", True),
  Tensor("pooler", "dense/bias", "dense.bias", "H"),
  Tensor("masked_lm", "transform/dense/kernel", "transform.dense.weight", "HH", True),
  Tensor("masked_lm", "transform/dense/bias", "transform.dense.bias", "H"),
  Tensor("masked_lm", "transform/LayerNorm/beta", "transform.LayerNorm.bias", "H"),
  Tensor("masked_lm", "transform/LayerNorm/gamma", "transform.LayerNorm.weight", "H"),
  Tensor("masked_lm", "output_bias", "bias", "V"),
  *_dense("next_sentence", "2"),
  *_dense("classes", "L"),
  *_dense("answers", "2"),
  *_dense("tags", "L"),
  Tensor("choices", "output_weights", "weight", "1H"),
)

TOKEN_TYPES = "bert/embeddings/token_type_embeddings"
POSITION_IDS = "bert.embeddings.position_ids"  # a buffer: 0, 1, 2, ...
# The beginning of the names of an encoder's tensors, on both sides.
ENCODER_NAME = re.compile(r"bert/|(distil)?bert\.|(embeddings|encoder|transformer|pooler)\.")
_LAYER = re.compile(r"(?:(?:distil)?bert[/.])?(?:encoder|transformer)[/.]layer[_.](\d+)[/.]")

# Tensors of HuggingFace's that are copies of others, and that many files leave out.
COPIES = {
  "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
  "cls.predictions.decoder.bias": "cls.predictions.bias",
}


# A bias of HuggingFace's, [1], that is the same for all choices of a question: softmax cancels it.
CHOICES_BIAS = "classifier.bias"


class Family(NamedTuple):
  """A kind of HuggingFace model that is a BERT with other names.

  Attributes:
    model_type: the value in config.json.
    prefix: the beginning of the names of its architectures.
    heads: the keys of HEADS that compute the same as in BERT.
    keys: BERT's key in the configuration -> a different one of the family, None where it has none.
    defaults: BERT's key -> a default that differs from BERT's.
    parts: pairs (part of a BERT name, the family's), to be replaced in this order.
    lacks: the beginnings of BERT names of tensors that the family does not have.
  """

  model_type: str
  prefix: str
  heads: tuple[str, ...]
  keys: dict[str, Optional[str]]
  defaults: dict[str, Any]
  parts: tuple[tuple[str, str], ...]
  lacks: tuple[str, ...]

  def rename(self, name: str) -> str:
    """Returns the family's name for a HuggingFace name of BERT."""
    for part, its_part in self.parts:
      name = name.replace(part, its_part)
    return name

  def canonical_name(self, name: str) -> str:
    """Returns the name in the table for a tensor of a file.

    encoder.layer.0.output.LayerNorm.gamma -> bert.encoder.layer.0.output.LayerNorm.weight
    cls.predictions.bias                   -> cls.predictions.bias
    """
    name = re.sub(r"^(embeddings|encoder|transformer|pooler)\.", rf"{self.model_type}.\1.", name)
    return re.sub(
      r"(\bLayerNorm|layer_norm)\.(gamma|beta)$",
      lambda match: f"{match[1]}." + {"gamma": "weight", "beta": "bias"}[match[2]],
      name,
    )

  def copies(self) -> dict[str, str]:
    """Returns COPIES by the family's names."""
    pairs = [(self.rename(copy), self.rename(name)) for copy, name in COPIES.items()]
    return {copy: name for copy, name in pairs if copy != name}

  def head_of(self, names: Collection[str], architectures: list[str]) -> str:
    """Returns the head of a HuggingFace model, a key of HEADS; NO_HEAD for none of the family's.

    Args:
      names: canonical names of its tensors.
      architectures: those of config.json, to distinguish the heads that share names.
    """
    declared = {scope for name in architectures for scope in self.scopes_of(name) or ()}
    scopes = _scopes_with(names, lambda row: self.rename(_full_name(row, 1)))
    head = _head_with(scopes - (_SAME_NAMES - declared))
    return head if head in self.heads else NO_HEAD

  def scopes_of(self, architecture: str) -> Optional[tuple[str, ...]]:
    """Returns the scopes of a head: BertForMaskedLM -> (masked_lm,); None for an unknown one."""
    begins = architecture.startswith(self.prefix)
    return HEADS.get(architecture[len(self.prefix) :]) if begins else None

  def routes(
    self, config: modeling.BertConfig, head: str, num_labels: Optional[int]
  ) -> "list[Route]":
    """Returns the routes of a model's tensors to HuggingFace; see the function routes."""
    return [
      route._replace(target=self.rename(route.target))
      for route in routes(config, head, num_labels)
      if not route.target.startswith(self.lacks)
    ]


BERT = Family("bert", "Bert", tuple(HEADS), keys={}, defaults={}, parts=(), lacks=())

DISTILBERT = Family(
  "distilbert",
  "DistilBert",
  # Its classifier has a layer with ReLU where BERT has the pooler with tanh.
  heads=(NO_HEAD, "ForMaskedLM", "ForQuestionAnswering", "ForTokenClassification"),
  keys={
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "type_vocab_size": None,
  },
  defaults={"num_hidden_layers": 6},
  parts=(
    ("bert.embeddings.", "distilbert.embeddings."),
    ("bert.encoder.layer.", "distilbert.transformer.layer."),
    ("attention.self.query.", "attention.q_lin."),
    ("attention.self.key.", "attention.k_lin."),
    ("attention.self.value.", "attention.v_lin."),
    ("attention.output.dense.", "attention.out_lin."),
    ("attention.output.LayerNorm.", "sa_layer_norm."),
    ("intermediate.dense.", "ffn.lin1."),
    ("output.dense.", "ffn.lin2."),
    ("output.LayerNorm.", "output_layer_norm."),
    ("cls.predictions.transform.dense.", "vocab_transform."),
    ("cls.predictions.transform.LayerNorm.", "vocab_layer_norm."),
    ("cls.predictions.decoder.", "vocab_projector."),
    ("cls.predictions.bias", "vocab_projector.bias"),
  ),
  lacks=("bert.pooler.", "bert.embeddings.token_type_embeddings."),
)

FAMILIES = {family.model_type: family for family in (BERT, DISTILBERT)}


class Route(NamedTuple):
  """The conversion of one tensor: names, the shape of the source, and True to transpose it."""

  source: str
  target: str
  shape: tuple[int, ...]
  transposed: bool

  def reversed(self) -> "Route":
    """Returns the inverse conversion."""
    shape = self.shape[::-1] if self.transposed else self.shape
    return Route(self.target, self.source, shape, self.transposed)


def routes(
  config: modeling.BertConfig, head: str = NO_HEAD, num_labels: Optional[int] = None
) -> list[Route]:
  """Returns the Route of each tensor of a BERT from TensorFlow to HuggingFace, embeddings first.

  `num_labels` are those of the head, a key of HEADS; None for a head without labels.
  """
  sizes = {letter: getattr(config, key) for letter, key in SIZES.items()}
  sizes.update({"L": num_labels, "1": 1, "2": 2})
  return [
    Route(
      _full_name(row, 0).format(number),
      _full_name(row, 1).format(number),
      tuple(sizes[letter] for letter in row.shape),
      row.transposed,
    )
    for scope in (*ENCODER_SCOPES, *HEADS[head])
    for number in range(config.num_hidden_layers if scope == "layer" else 1)
    for row in TENSORS
    if row.scope == scope
  ]


def head_of_checkpoint(names: Collection[str]) -> str:
  """Returns the key of HEADS for a model with these variables; NO_HEAD for none of them."""
  return _head_with(_scopes_with(names, lambda row: _full_name(row, 0)))


def layer_of(name: str) -> Optional[int]:
  """Returns the number of the layer that a tensor is of, on either side; None for others.

  bert/encoder/layer_3/output/dense/bias -> 3
  """
  match = _LAYER.match(name)
  return int(match[1]) if match else None


def label_bias(head: str) -> Optional[tuple[str, str]]:
  """Returns both names of the bias with one number per label; None for other heads."""
  for row in TENSORS:
    if row.scope in HEADS[head] and row.shape == "L":
      return _full_name(row, 0), _full_name(row, 1)
  return None


def _full_name(row, side):
  return SCOPES[row.scope][side] + row[1 + side]


def _scopes_with(names, name_of):
  """Returns the scopes of heads whose tensors are all among the names."""
  lacking = {row.scope for row in TENSORS if name_of(row) not in names}
  return set(HEAD_SCOPES) - lacking


def _head_with(scopes):
  """Returns the head that consists of these scopes, NO_HEAD if there is none."""
  return next((head for head, its_scopes in HEADS.items() if set(its_scopes) == scopes), NO_HEAD)
