"""Frozen and trained variables, from flags to the checkpoint, with a tiny model of 2 layers."""

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import SPECIAL, copied, save_model, snapshot, start_flags, weights

import optimization
import run_classifier
import run_pretraining
from toolkit.records import tf_records
from toolkit.support import command_line, files
from toolkit.tasks import pretraining

VOCAB = [*SPECIAL, "good", "bad", "film", "."]
LENGTH, NUM_EXAMPLES, BATCH_SIZE = 8, 8, 4
LOWER = ("bert/embeddings/", "bert/encoder/layer_0/")
FROZEN = {"freeze_layers": 1, "freeze_embeddings": True}
ALL_FLAGS = {
  **FROZEN,
  "lr_schedule": "cosine",
  "layerwise_lr_decay": 0.8,
  "gradient_clip_norm": 0.5,
  "num_warmup_steps": 1,
  "num_accumulation_steps": 2,
  "recompute_activations": True,
}
ALL_OPTIONS = optimization.Options(0.5, "cosine", 0.8, 1, True)


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
  """A directory with a model to start from, and the data of two tasks."""
  directory = tmp_path_factory.mktemp("model")
  save_model(directory, VOCAB)
  rows = [f"{word} film .\t{word}\n" for word in ("good", "bad")] * (NUM_EXAMPLES // 2)
  (directory / "train.tsv").write_text("sentence\tlabel\n" + "".join(rows))
  ids = [2, 5, 4, 8, 3, 6, 3, 0]  # [CLS] good [MASK] . [SEP] bad [SEP]
  record = {
    "input_ids": ids,
    "input_mask": [1] * 7 + [0],
    "segment_ids": [0] * 5 + [1] * 2 + [0],
    "masked_lm_positions": [2],
    "masked_lm_ids": [7],
    "masked_lm_weights": [1.0],
    "next_sentence_labels": [0],
  }
  features = pretraining.record_features(LENGTH, 1)
  tf_records.write_records(str(directory / "records"), [record] * NUM_EXAMPLES, features)
  return directory


def run(script, output_dir, model, **flags):
  """Trains as a command line would."""
  flags = {
    **start_flags(model),
    "output_dir": output_dir,
    "max_seq_length": LENGTH,
    "train_batch_size": BATCH_SIZE,
    "learning_rate": 0.01,
    **flags,
  }
  named = [f"--{name}={value}" for name, value in flags.items()]
  command_line.parse(script.flags, ["--do_train", *named])
  script.main([])


def classify(output_dir, model, epochs=1, **flags):
  run(
    run_classifier,
    output_dir,
    model,
    task_name="tsv",
    data_dir=model,
    num_train_epochs=epochs,
    **flags,
  )


def pretrain(output_dir, model, **flags):
  flags = {"num_warmup_steps": 1, **flags}
  run(
    run_pretraining,
    output_dir,
    model,
    input_file=model / "records",
    max_predictions_per_seq=1,
    num_train_steps=2,
    **flags,
  )


@pytest.fixture(name="frozen", scope="module")
def _frozen(model, tmp_path_factory):
  """The output directory of an epoch of FROZEN. Tests copy it before they change it."""
  directory = tmp_path_factory.mktemp("run") / "frozen"
  classify(directory, model, **FROZEN)
  return directory


def changed(model, directory):
  """Names of the variables that differ from those of the first model."""
  reader = tf.train.load_checkpoint(str(model / "bert_model.ckpt"))
  after = weights(directory)
  return {
    name
    for name in reader.get_variable_to_shape_map()
    if reader.get_tensor(name).tobytes() != after[name].tobytes()
  }


def with_slots(directory):
  suffix = "/adam_m"
  return {name[: -len(suffix)] for name in weights(directory) if name.endswith(suffix)}


def test_frozen_variables_keep_their_bytes_and_have_no_slots(model, frozen):
  values = weights(frozen)
  names = {name for name in values if not name.endswith(("adam_m", "adam_v", "global_step"))}
  trained = {name for name in names if not name.startswith(LOWER)}
  assert with_slots(frozen) == trained
  assert changed(model, frozen) == {name for name in trained if name.startswith("bert/")}
  assert len(names) - len(trained) == 5 + 16
  assert values["global_step"] == NUM_EXAMPLES // BATCH_SIZE


@pytest.mark.parametrize("train", [classify, pretrain])
def test_flags_reach_the_training_step(model, tmp_path, monkeypatch, train):
  train_step, calls = optimization.train_step, []

  def noted(*arguments):
    calls.append(arguments)
    return train_step(*arguments)

  monkeypatch.setattr(optimization, "train_step", noted)
  train(tmp_path, model, **ALL_FLAGS)
  ((batch, *rest),) = calls
  assert rest == [0.01, 2, 1, False, ALL_OPTIONS]
  assert (batch._num_parts, batch._recompute) == (2, True)
  touched = with_slots(tmp_path) | changed(model, tmp_path)
  assert "bert/pooler/dense/kernel" in touched
  assert not {name for name in touched if name.startswith(LOWER)}


# ---- Going on with others frozen ----------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
def test_the_same_or_more_frozen_goes_on(model, frozen, tmp_path, layers):
  directory = copied(frozen, tmp_path)
  before = weights(frozen)
  classify(directory, model, epochs=2, freeze_layers=layers, freeze_embeddings=True)
  after = weights(directory)
  assert after["global_step"] == 2 * before["global_step"]
  key = "bert/encoder/layer_1/attention/self/key/kernel"
  assert np.array_equal(before[key], after[key]) == (layers == 2)
  assert not np.array_equal(before["output_weights"], after["output_weights"])


@pytest.mark.parametrize(
  ("flags", "match"),
  [
    ({}, r"has no Adam slots of 21 variables to train, such as bert/embeddings/LayerNorm/beta"),
    ({"freeze_layers": 1}, r"5 variables to train, such as bert/embeddings/LayerNorm/beta"),
    ({"freeze_embeddings": True}, r"16 variables to train, such as bert/encoder/layer_0/att"),
  ],
)
def test_less_frozen_is_one_line_and_changes_nothing(model, frozen, tmp_path, flags, match):
  directory = copied(frozen, tmp_path)
  before = snapshot(directory)
  with pytest.raises(files.InputError, match=match) as caught:
    classify(directory, model, epochs=2, **flags)
  message = str(caught.value)
  assert "\n" not in message
  assert message.startswith(f"--output_dir: {directory}/model.ckpt-2 has no")
  assert message.endswith(f"--init_checkpoint={directory}/model.ckpt-2")
  assert snapshot(directory) == before


def test_less_frozen_works_from_the_checkpoint_in_a_new_directory(model, frozen, tmp_path):
  checkpoint = tf.train.latest_checkpoint(str(frozen))
  classify(tmp_path, model, init_checkpoint=checkpoint)
  assert LOWER[0] + "word_embeddings" in changed(model, tmp_path)


def test_a_stripped_checkpoint_is_one_line_with_everything_frozen(model, frozen, tmp_path):
  directory = copied(frozen, tmp_path)
  values = {k: v for k, v in weights(directory).items() if not k.endswith(("adam_m", "adam_v"))}
  with tf.Graph().as_default(), tf.Session() as session:
    for name, value in values.items():
      tf.get_variable(name, initializer=value)
    session.run(tf.global_variables_initializer())
    tf.train.Saver().save(session, str(directory / "model.ckpt"), global_step=2)
  with pytest.raises(
    files.InputError, match=r"1 variables to train, such as output_weights: .*str"
  ):
    classify(directory, model, epochs=2, freeze_layers=2, freeze_embeddings=True)


# ---- Memory and hardware ------------------------------------------------------------------------


def test_checkpoints_know_nothing_of_parts_and_hardware(model, frozen, tmp_path, log):
  flags = {"num_accumulation_steps": 4, "recompute_activations": True, "amp": True}
  directory = copied(frozen, tmp_path)
  classify(directory, model, epochs=2, use_xla=True, **FROZEN, **flags)
  assert "Gradients are added up over 4 parts of 1 examples" in log.text
  assert "Layers are computed again in the backward pass" in log.text
  for name in ("Mixed precision (--amp): o", "XLA (--use_xla): o"):
    assert sum(name in message for message in log.messages) == 1
  before, after = weights(frozen), weights(directory)
  assert {n: v.shape for n, v in after.items()} == {n: v.shape for n, v in before.items()}
  assert after["global_step"] == 2 * before["global_step"]


# ---- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("train", [classify, pretrain])
def test_more_layers_than_there_are(model, tmp_path, train):
  with pytest.raises(
    files.InputError, match="--freeze_layers=3 is more than the 2 layers of the m"
  ):
    train(tmp_path / "out", model, freeze_layers=3)
  assert not snapshot(tmp_path)


def test_more_warmup_than_steps(model, tmp_path):
  with pytest.raises(files.InputError, match="--num_warmup_steps=3 is more than the 2 steps"):
    classify(tmp_path, model, num_warmup_steps=3)
  assert tf.train.latest_checkpoint(str(tmp_path)) is None


def test_layers_frozen_above_embeddings_that_train_are_warned_of(model, tmp_path, log):
  classify(tmp_path, model, freeze_layers=2)
  assert "--freeze_layers without --freeze_embeddings: gradients are still computed" in log.text
  assert {name for name in changed(model, tmp_path) if name.startswith("bert/encoder/")} == set()
  assert LOWER[0] + "word_embeddings" in changed(model, tmp_path)


@pytest.mark.parametrize("train", [classify, pretrain])
def test_parts_that_do_not_divide_a_batch(model, tmp_path, train):
  match = (
    r"--num_accumulation_steps=3: --train_batch_size=4 cannot be divided .*; give a multiple of 3"
  )
  with pytest.raises(files.InputError, match=match):
    train(tmp_path / "out", model, num_accumulation_steps=3)
  assert not snapshot(tmp_path)
