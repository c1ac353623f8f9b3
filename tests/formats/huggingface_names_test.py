"""The table of names: routes, other spellings, and the head of a model."""

import numpy as np
import pytest
from tiny_huggingface import HEAD_SHAPES, shapes_of

import modeling
from toolkit.formats import huggingface_names
from toolkit.formats.huggingface_names import BERT, DISTILBERT, Route

BASE = modeling.BertConfig(vocab_size=30522, type_vocab_size=2)
TINY = modeling.BertConfig(11, 4, 2, 2, 6, max_position_embeddings=7, type_vocab_size=2)
ARCHITECTURES = ("BertModel", "DistilBertModel", *HEAD_SHAPES)


def family_and_head(architecture):
  family = BERT if architecture.startswith("Bert") else DISTILBERT
  return family, architecture[len(family.prefix) :]


def test_routes_of_base():
  routes = huggingface_names.routes(BASE)
  assert len(routes) == 199
  assert sum(np.prod(route.shape) for route in routes) == 109_482_240
  assert routes[-5] == Route(
    "bert/encoder/layer_11/output/dense/bias",
    "bert.encoder.layer.11.output.dense.bias",
    (768,),
    False,
  )
  assert all(route.reversed().reversed() == route for route in routes)


@pytest.mark.parametrize(
  ("head", "num_labels", "route"),
  [
    (
      "ForPreTraining",
      None,
      Route(
        "cls/predictions/transform/dense/kernel",
        "cls.predictions.transform.dense.weight",
        (768, 768),
        True,
      ),
    ),
    (
      "ForMaskedLM",
      None,
      Route("cls/predictions/output_bias", "cls.predictions.bias", (30522,), False),
    ),
    (
      "ForNextSentencePrediction",
      None,
      Route("cls/seq_relationship/output_weights", "cls.seq_relationship.weight", (2, 768), False),
    ),
    ("ForSequenceClassification", 3, Route("output_bias", "classifier.bias", (3,), False)),
    (
      "ForQuestionAnswering",
      None,
      Route("cls/squad/output_weights", "qa_outputs.weight", (2, 768), False),
    ),
    ("ForTokenClassification", 9, Route("cls/ner/output_bias", "classifier.bias", (9,), False)),
  ],
)
def test_route_of_each_head(head, num_labels, route):
  assert route in huggingface_names.routes(BASE, head, num_labels)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_routes_reach_all_that_a_model_saves(architecture):
  family, head = family_and_head(architecture)
  num_labels = {"ForSequenceClassification": 3, "ForTokenClassification": 5}.get(head)
  shapes = {r.target: r.reversed().shape for r in family.routes(TINY, head, num_labels)}
  if "pooler" not in str(shapes_of(architecture)):
    shapes = {name: shape for name, shape in shapes.items() if "pooler" not in name}
  wanted = {family.canonical_name(name): s for name, s in shapes_of(architecture).items()}
  if head == "ForMultipleChoice":
    del wanted[huggingface_names.CHOICES_BIAS]
  assert shapes == wanted


def test_names_of_distilbert():
  renamed = {
    "attention.self.key.bias": "attention.k_lin.bias",
    "attention.output.dense.bias": "attention.out_lin.bias",
    "attention.output.LayerNorm.bias": "sa_layer_norm.bias",
    "intermediate.dense.bias": "ffn.lin1.bias",
    "output.dense.weight": "ffn.lin2.weight",
    "output.LayerNorm.bias": "output_layer_norm.bias",
  }
  for name, its_name in renamed.items():
    got = DISTILBERT.rename("bert.encoder.layer.3." + name)
    assert got == "distilbert.transformer.layer.3." + its_name
  assert DISTILBERT.copies() == {
    "vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"
  }


@pytest.mark.parametrize(
  ("family", "name", "canonical"),
  [
    (
      BERT,
      "encoder.layer.0.output.LayerNorm.gamma",
      "bert.encoder.layer.0.output.LayerNorm.weight",
    ),
    (BERT, "bert.embeddings.LayerNorm.beta", "bert.embeddings.LayerNorm.bias"),
    (BERT, "cls.predictions.bias", "cls.predictions.bias"),
    (
      DISTILBERT,
      "transformer.layer.1.ffn.lin1.bias",
      "distilbert.transformer.layer.1.ffn.lin1.bias",
    ),
  ],
)
def test_canonical_names(family, name, canonical):
  assert family.canonical_name(name) == canonical
  assert family.canonical_name(canonical) == canonical


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_head_by_names(architecture):
  family, head = family_and_head(architecture)
  names = [family.canonical_name(name) for name in shapes_of(architecture)]
  assert family.head_of(names, [architecture]) == head
  variables = [route.source for route in huggingface_names.routes(TINY, head)]
  assert huggingface_names.head_of_checkpoint(variables) == head


@pytest.mark.parametrize(
  ("family", "architectures", "names", "head"),
  [
    (BERT, ["BertForRanking"], ["classifier.weight", "classifier.bias"], "Model"),
    (BERT, [], ["classifier.weight", "classifier.bias"], "Model"),
    (
      BERT,
      ["BertForMultipleChoice"],
      ["classifier.weight", "classifier.bias"],
      "ForMultipleChoice",
    ),
    (BERT, ["BertForQuestionAnswering"], ["qa_outputs.weight"], "Model"),
    (
      BERT,
      ["BertForPreTraining"],
      ["qa_outputs.weight", "qa_outputs.bias"],
      "ForQuestionAnswering",
    ),
    (
      DISTILBERT,
      ["DistilBertForSequenceClassification"],
      ["pre_classifier.weight", "classifier.weight", "classifier.bias"],
      "Model",
    ),
  ],
)
def test_half_a_head_and_other_heads_are_none(family, architectures, names, head):
  assert family.head_of(names, architectures) == head


@pytest.mark.parametrize(
  ("name", "layer"),
  [
    ("bert/encoder/layer_12/output/dense/bias", 12),
    ("bert.encoder.layer.3.output.dense.bias", 3),
    ("encoder.layer.0.output.dense.bias", 0),
    ("distilbert.transformer.layer.1.ffn.lin1.bias", 1),
    ("bert/embeddings/layer_1/x", None),
    ("bert/encoder/layer_shared/bias", None),
  ],
)
def test_layer_of_a_tensor(name, layer):
  assert huggingface_names.layer_of(name) == layer


def test_two_heads_of_a_checkpoint_are_none():
  heads = ["output_weights", "output_bias", "cls/ner/output_weights", "cls/ner/output_bias"]
  assert huggingface_names.head_of_checkpoint(heads[:2]) == "ForSequenceClassification"
  assert huggingface_names.head_of_checkpoint(heads) == "Model"
