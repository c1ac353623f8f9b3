"""config.json and tokenizer_config.json: reading, writing and refusals."""

import pytest
from tiny_huggingface import CONFIG, DISTILBERT_CONFIG, labels_of, write_json

import modeling
from toolkit.formats import huggingface_config
from toolkit.formats.huggingface_names import BERT, DISTILBERT
from toolkit.support import files

PLAIN = modeling.BertConfig(11, type_vocab_size=2)


def read(tmp_path, values):
  path = tmp_path / "config.json"
  write_json(path, values)
  return huggingface_config.read_config(str(path))


def described(**values):
  """A BertConfig made from a config.json with some keys."""
  config = modeling.BertConfig(11, type_vocab_size=2)
  config.huggingface = {"config": {"hidden_act": "gelu_new", **values}}
  return config


def test_plain_configuration():
  want = {**PLAIN.to_dict(), "hidden_act": "gelu_new"}
  want.update(model_type="bert", architectures=["BertModel"])
  assert huggingface_config.make_config(PLAIN) == want


def test_distilbert(tmp_path):
  config = read(tmp_path, DISTILBERT_CONFIG)
  assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (4, 2, 6)
  assert (config.type_vocab_size, config.hidden_act) == (2, "gelu")
  assert (config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.1, 0.2)
  assert huggingface_config.make_config(config, DISTILBERT) == DISTILBERT_CONFIG
  as_bert = huggingface_config.make_config(config)
  others = {"qa_dropout", "sinusoidal_pos_embds"}
  assert {key: value for key, value in as_bert.items() if key not in others} == {
    key: value for key, value in CONFIG.items() if key not in ("layer_norm_eps", "pad_token_id")
  }


def test_distilbert_has_six_layers_by_default(tmp_path):
  assert read(tmp_path, {"model_type": "distilbert"}).num_hidden_layers == 6
  assert read(tmp_path, {"model_type": "bert"}).num_hidden_layers == 12


def test_what_changed_since_overrides_what_was_said():
  config = described(hidden_act="gelu", dtype="float16", label=1)
  config.hidden_act = "relu"
  got = huggingface_config.make_config(config)
  assert (got["hidden_act"], got["dtype"], got["label"]) == ("relu", "float32", 1)


@pytest.mark.parametrize(
  ("before", "trained", "after"),
  [
    ("gelu", {}, "gelu"),
    ("gelu", {"do_lower_case": True}, "gelu_new"),
    ("gelu_pytorch_tanh", {"do_lower_case": True}, "gelu_pytorch_tanh"),
  ],
)
def test_training_makes_the_exact_gelu_the_tanh_form(before, trained, after):
  config = described(hidden_act=before)
  got = huggingface_config.make_config(config, trained=trained)
  assert got["hidden_act"] == after


@pytest.mark.parametrize(
  ("before", "family", "head", "after"),
  [
    ("BertForMaskedLM", BERT, "ForPreTraining", "BertForMaskedLM"),  # often has the whole head
    ("BertForPreTraining", BERT, "ForMaskedLM", "BertForMaskedLM"),
    ("BertModel", BERT, "ForQuestionAnswering", "BertForQuestionAnswering"),
    ("BertForRanking", BERT, "Model", "BertModel"),
    ("DistilBertForMaskedLM", BERT, "ForMaskedLM", "BertForMaskedLM"),
    ("DistilBertForMaskedLM", DISTILBERT, "ForMaskedLM", "DistilBertForMaskedLM"),
  ],
)
def test_architectures(before, family, head, after):
  config = described(architectures=[before])
  assert huggingface_config.make_config(config, family, head)["architectures"] == [after]


# ---- Labels -------------------------------------------------------------------------------------

THREE = labels_of(["a", "b", "c"])
CLASSIFIER = "BertForSequenceClassification"


@pytest.mark.parametrize(
  ("before", "num_labels", "labels", "after"),
  [
    (THREE, 3, ["a", "b", "c"], THREE),
    (THREE, 3, None, THREE),
    (THREE, 3, ["c", "b", "a"], labels_of(["c", "b", "a"])),
    (THREE, 2, ["no", "yes"], labels_of(["no", "yes"])),
    ({**THREE, "num_labels": 3}, 2, None, {}),
    ({}, 2, None, {}),
    ({}, 1, None, labels_of(["LABEL_0"])),
    ({}, 2, ["0", "1"], labels_of(["0", "1"])),
    ({"num_labels": 3}, 3, None, {"num_labels": 3}),
    ({"problem_type": "regression", **labels_of(["x"])}, 2, ["0", "1"], labels_of(["0", "1"])),
  ],
)
def test_labels_to_huggingface(before, num_labels, labels, after):
  config = described(architectures=[CLASSIFIER], **before)
  got = huggingface_config.make_config(
    config, BERT, "ForSequenceClassification", num_labels, labels
  )
  keys = huggingface_config.LABEL_KEYS
  assert {key: got[key] for key in keys if key in got} == after


@pytest.mark.parametrize(
  ("trained", "num_labels", "problem_type"),
  [
    ({"multi_label": True}, 3, "multi_label_classification"),
    ({"multi_label": False}, 3, "single_label_classification"),
    ({"task_name": "sts-b"}, 1, "regression"),
    ({}, 3, "kept"),
  ],
)
def test_what_a_trained_classifier_predicts(trained, num_labels, problem_type):
  config = described(architectures=[CLASSIFIER], problem_type="kept", **THREE)
  head = "ForSequenceClassification"
  got = huggingface_config.make_config(config, BERT, head, num_labels, trained=trained)
  assert got["problem_type"] == problem_type


def test_labels_of_another_head_go():
  config = described(architectures=[CLASSIFIER], **THREE)
  for head in ("ForQuestionAnswering", "ForSequenceClassification"):
    config.huggingface["config"]["architectures"] = ["BertForTokenClassification"]
    assert "id2label" not in huggingface_config.make_config(config, BERT, head, 2)


@pytest.mark.parametrize(
  ("values", "num_labels", "labels"),
  [
    ({"id2label": {"1": "yes", "0": "no"}}, 2, ["no", "yes"]),
    (THREE, None, None),
    ({"id2label": {"0": "score"}}, 1, None),  # a number, not a class
    ({"id2label": {"0": "x"}, "problem_type": "multi_label_classification"}, 1, ["x"]),
  ],
)
def test_labels_from_huggingface(values, num_labels, labels):
  assert huggingface_config.find_labels(values, num_labels, "config.json") == labels


@pytest.mark.parametrize("values", [{}, labels_of(["LABEL_0", "LABEL_1"])])
def test_labels_without_names_are_not_known(values, caplog):
  assert huggingface_config.find_labels(values, 2, "config.json") is None
  assert "does not name the 2 labels" in caplog.text


def test_several_labels_at_once_are_warned_of(caplog):
  values = {**THREE, "problem_type": "multi_label_classification"}
  assert huggingface_config.find_labels(values, 3, "config.json") == ["a", "b", "c"]
  assert "any number of labels per text: run_classifier.py --multi_label" in caplog.text


@pytest.mark.parametrize(
  ("labels", "message"),
  [
    (THREE, "id2label does not name the 2 labels"),
    ({"id2label": {"1": "a", "2": "b"}}, "id2label does not name the 2 labels"),
    ({"id2label": ["no", "yes"]}, "id2label is no JSON object"),
    (labels_of(["a", "b\nc"]), "a label twice, or of several lines"),
    ({"id2label": {"0": "a", "1": "a"}}, "a label twice, or of several lines"),
  ],
)
def test_labels_that_do_not_fit(labels, message):
  with pytest.raises(files.InputError, match=f"^config.json: .*{message}"):
    huggingface_config.find_labels(labels, 2, "config.json")


# ---- Tokenizers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("file", "content", "casing"),
  [
    ("tokenizer_config.json", {"do_lower_case": False}, False),
    ("tokenizer.json", {"normalizer": {"type": "BertNormalizer", "lowercase": True}}, True),
    ("tokenizer.json", {"normalizer": None}, None),
  ],
)
def test_casing_that_the_input_says(tmp_path, caplog, file, content, casing):
  write_json(tmp_path / file, content)
  got = huggingface_config.read_tokenizer_config(str(tmp_path))
  assert got.get("do_lower_case") is casing
  assert ("not known whether the model is uncased" in caplog.text) is (casing is None)


def test_tokenizer_of_a_model_that_huggingface_does_not_know():
  assert huggingface_config.make_tokenizer_config(PLAIN) == {}
  assert huggingface_config.make_tokenizer_config(PLAIN, do_lower_case=True) == {
    "do_lower_case": True,
    "model_max_length": 512,
  }


@pytest.mark.parametrize(
  ("before", "family", "after"),
  [
    ("PreTrainedTokenizerFast", BERT, "BertTokenizer"),
    ("BertTokenizerFast", BERT, "BertTokenizerFast"),
    ("DistilBertTokenizer", BERT, "BertTokenizer"),
    ("DistilBertTokenizer", DISTILBERT, "DistilBertTokenizer"),
  ],
)
def test_tokenizers_that_read_the_vocabulary(before, family, after):
  config = described()
  config.huggingface["tokenizer_config"] = {"tokenizer_class": before, "do_lower_case": True}
  got = huggingface_config.make_tokenizer_config(config, family)
  assert got == {"tokenizer_class": after, "do_lower_case": True}
