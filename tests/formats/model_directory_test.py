"""The description of a model in its output directory."""

import json
import logging
import platform

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from toolkit.formats import model_directory
from toolkit.support import files

VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "film", "##s"]
CONFIG = {
  "vocab_size": 8,
  "hidden_size": 4,
  "num_hidden_layers": 1,
  "num_attention_heads": 2,
  "intermediate_size": 8,
  "max_position_embeddings": 16,
  "type_vocab_size": 2,
}


@pytest.fixture(name="model")
def _model(tmp_path):
  """Function of a configuration and a vocabulary that writes them, and returns their paths."""

  def model(config=CONFIG, vocab=VOCAB):
    paths = tmp_path / "config_in.json", tmp_path / "vocab_in.txt"
    paths[0].write_text(json.dumps(config))
    paths[1].write_text("".join(f"{token}\n" for token in vocab))
    return [str(path) for path in paths]

  return model


def load(model, do_lower_case=True, max_seq_length=16, init_checkpoint=None):
  return model_directory.load_model(*model, do_lower_case, max_seq_length, init_checkpoint)


def save_checkpoint(directory, *names):
  with tf.Graph().as_default(), tf.Session() as session:
    for name in names:
      tf.get_variable(name, initializer=[0.0])
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, str(directory / "model.ckpt"), global_step=3)


def test_what_is_saved_is_read_back(model, tmp_path):
  directory = tmp_path / "out"
  directory.mkdir()
  labels = ["z", "a b", "\u2028é"]
  model_directory.save(str(directory), *model(), labels, "run_x", {"seed": 3, "name": None})
  assert sorted(path.name for path in directory.iterdir()) == [
    "bert_config.json",
    "label_list.txt",
    "run.json",
    "vocab.txt",
  ]
  assert model_directory.read_labels(str(directory)) == labels
  assert model_directory.load_flags(str(directory), "run_x") == {"seed": 3, "name": None}
  assert json.loads((directory / "run.json").read_text())["versions"] == {
    "python": platform.python_version(),
    "tensorflow": tf.__version__,
    "numpy": np.__version__,
  }
  config, tokenizer = load([str(directory / name) for name in ("bert_config.json", "vocab.txt")])
  assert config.hidden_size == 4
  assert list(tokenizer.vocab) == VOCAB and tokenizer.tokenize("The films") == VOCAB[5:]


def test_a_trained_model(model, tmp_path):
  model_directory.save(str(tmp_path), *model(), ["a", "b"], "run_x", {"seed": 3, "name": None})
  found = model_directory.load_trained(str(tmp_path), "run_x")
  assert found.config.hidden_size == 4 and found.labels == ["a", "b"]
  assert files.read_text(found.vocab_file).split() == VOCAB
  assert found.flags_among(["seed", "other"]) == {"seed": 3}
  with pytest.raises(files.InputError, match=r"was made by run_x.py, not by run_y.py"):
    model_directory.load_trained(str(tmp_path), "run_y")
  (tmp_path / "run.json").unlink()
  found = model_directory.load_trained(str(tmp_path), "run_y")
  assert found.flags == {} and list(found.make_tokenizer().vocab) == VOCAB
  with pytest.raises(files.InputError, match=r"has no label_list.txt; train a model there first"):
    found._replace(labels=None).required_labels()
  (tmp_path / "vocab.txt").write_text("")
  with pytest.raises(files.InputError, match=r"vocab.txt: is empty"):
    model_directory.load_trained(str(tmp_path), "run_y")


def test_saving_into_the_directory_that_was_read(model, tmp_path):
  model_directory.save(str(tmp_path), *model(), None, "run_x", {})
  paths = [str(tmp_path / name) for name in ("bert_config.json", "vocab.txt")]
  model_directory.save(str(tmp_path), *paths, None, "run_x", {})
  assert json.loads((tmp_path / "bert_config.json").read_text()) == CONFIG


def test_a_directory_that_says_nothing(tmp_path):
  assert model_directory.load_flags(str(tmp_path), "run_x") == {}
  assert model_directory.read_labels(str(tmp_path)) is None
  model_directory.check_head(str(tmp_path), "run_classifier")


def test_a_directory_of_another_script(model, tmp_path):
  model_directory.save(str(tmp_path), *model(), None, "run_x", {})
  with pytest.raises(
    files.InputError, match=r"--output_dir: .* made by run_x\.py, not by run_y\.py"
  ):
    model_directory.load_flags(str(tmp_path), "run_y")


@pytest.mark.parametrize(("variable", "owner"), model_directory.HEADS.items())
def test_a_checkpoint_of_another_script(tmp_path, variable, owner):
  save_checkpoint(tmp_path, "bert/x", variable)
  model_directory.check_head(str(tmp_path), owner)
  with pytest.raises(files.InputError, match=rf"has the variable {variable} of {owner}\.py"):
    model_directory.check_head(str(tmp_path), "another_script")


def test_sizes_that_do_not_go_together(model):
  with pytest.raises(files.InputError, match=r"has 9 word pieces, and the vocab_size is 8 in "):
    load(model(vocab=[*VOCAB, "more"]))
  load(model(vocab=[*VOCAB, "", " ", "\u3000"]))  # lines without a piece at the end
  for vocab in ([*VOCAB[:5], "", *VOCAB[5:]], [VOCAB[5], *VOCAB]):
    with pytest.raises(
      files.InputError,
      match=r"has 8 word pieces on 9 lines, and the vocab_size is 8 in \S+; blank and repeated "
      "lines before the last piece count: take out those that were added, or else",
    ):
      load(model(vocab=vocab))
  load(model(vocab=VOCAB[:-1]))  # released models too have unused rows at times
  with pytest.raises(files.InputError, match=r"--max_seq_length=17 is more than the 16 positions"):
    load(model(), max_seq_length=17)
  with pytest.raises(files.InputError, match=r"vocab_in\.txt: has no \[UNK\]"):
    load(model(vocab=[token for token in VOCAB if token != "[UNK]"]))


@pytest.mark.parametrize(
  ("change", "match"),
  [
    ({"hidden_size": 5}, r"config_in\.json: hidden_size 5 is not divisible by"),
    ({"num_hidden_layers": 0}, r"config_in\.json: num_hidden_layers is 0"),
    ({"hidden_act": "swoosh"}, r"config_in\.json: .*swoosh"),
  ],
)
def test_configurations_of_no_model(model, change, match):
  with pytest.raises(files.InputError, match=match):
    load(model(config={**CONFIG, **change}))


@pytest.mark.parametrize(
  ("words", "do_lower_case", "warning"),
  [
    (["the", "film"], False, "looks like the vocabulary of an uncased model"),
    (["The", "Film"], True, "looks like the vocabulary of a cased model"),
    (["the", "film"], True, None),
    (["The", "Film"], False, None),
    (["1", "2"], False, None),
  ],
)
def test_a_vocabulary_of_the_other_casing_is_warned_of(
  model, caplog, words, do_lower_case, warning
):
  caplog.set_level(logging.INFO, logger="absl")
  load(model(vocab=[*VOCAB[:5], *words]), do_lower_case=do_lower_case)
  warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
  assert len(warnings) == bool(warning)
  assert not warning or (warning in warnings[0] and f"={do_lower_case}," in warnings[0])


def test_the_name_of_a_released_model_contradicts(model):
  with pytest.raises(files.InputError, match="pass --do_lower_case=False"):
    load(model(), True, init_checkpoint="/x/cased_L-12_H-768_A-12/bert_model.ckpt")


def test_clearing_leaves_what_no_run_writes(tmp_path):
  save_checkpoint(tmp_path, "bert/x")
  (tmp_path / "eval").mkdir()
  written = ["train.tf_record", "eval_results_b.txt", "eval_metrics.json", "test_results.tsv"]
  written += ["predictions.tsv", "label_list.txt", "run.json", "graph.pbtxt"]
  written += ["events.out.tfevents.1", "eval/events.out.tfevents.2"]
  kept = ["notes.txt", "train.tsv", "bert_model.ckpt.index", "vocab.txt"]
  for name in written + kept:
    (tmp_path / name).write_text("x")
  model_directory.clear(str(tmp_path), str(tmp_path / "bert_model.ckpt"))
  left = [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()]
  assert sorted(left) == sorted(kept)


def test_clearing_keeps_the_checkpoint_to_start_from(tmp_path):
  save_checkpoint(tmp_path, "bert/x")
  with pytest.raises(files.InputError, match=r"--overwrite_output_dir would delete .*ckpt-3; copy"):
    model_directory.clear(str(tmp_path), str(tmp_path / "model.ckpt-3"))
  assert (tmp_path / "model.ckpt-3.index").exists()


def test_a_model_without_a_vocabulary(model, tmp_path):
  config_file, _ = model()
  config, tokenizer = load([config_file, None])
  assert config.vocab_size == 8 and tokenizer is None
  with pytest.raises(files.InputError, match="--max_seq_length=17 is more than the 16 positions"):
    load([config_file, None], max_seq_length=17)
  directory = tmp_path / "out"
  directory.mkdir()
  model_directory.save(str(directory), config_file, None, None, "run_x", {})
  assert sorted(path.name for path in directory.iterdir()) == ["bert_config.json", "run.json"]
