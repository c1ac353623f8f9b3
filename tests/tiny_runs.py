"""A model so small that a whole run takes seconds, and checks of the scripts' runs."""

import contextlib
import json
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import modeling
from toolkit.formats import model_directory
from toolkit.serving import tensorflow_engine
from toolkit.support import files
from toolkit.training import hooks

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def keep_all(shape, seed):
  """Replaces modeling._random_uint16: dropout keeps all, and only scales.

  A replaced modeling.dropout would turn the fast forms off.
  """
  del seed
  return tf.fill(shape, tf.constant(2**16 - 1, tf.uint16))


@contextlib.contextmanager
def without_dropout():
  """What is trained within it learns surely, whatever the seed and the rounding of the CPU."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(modeling, "_random_uint16", keep_all)
    yield


def config_of(vocab, **changes):
  """Dict of the configuration of a model with 2 layers, 16 wide, for a list of word pieces."""
  return {
    "vocab_size": len(vocab),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 32,
    "type_vocab_size": 2,
    "initializer_range": 0.1,
    **changes,
  }


def save_model(directory, vocab, **changes):
  """Writes bert_config.json, vocab.txt and an untrained bert_model.ckpt."""
  config = config_of(vocab, **changes)
  (directory / "bert_config.json").write_text(json.dumps(config))
  (directory / "vocab.txt").write_text("\n".join(vocab) + "\n")
  save_encoder(directory / "bert_model.ckpt", config)


def start_flags(directory):
  """The flags that name the files of save_model."""
  return {
    "bert_config_file": directory / "bert_config.json",
    "vocab_file": directory / "vocab.txt",
    "init_checkpoint": directory / "bert_model.ckpt",
  }


def save_checkpoint(prefix, variables):
  """Writes a checkpoint of a dict of name -> array."""
  with tf.Graph().as_default(), tf.Session() as session:
    for name, value in variables.items():
      tf.get_variable(name, initializer=value)
    session.run(tf.global_variables_initializer())
    return tf.train.Saver().save(session, str(prefix), write_state=False, write_meta_graph=False)


def save_encoder(prefix, config):
  """Writes a checkpoint of an untrained encoder."""
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(1)
    modeling.BertModel(
      modeling.BertConfig.from_dict(config), False, input_ids=tf.zeros([1, 1], tf.int32)
    )
    session.run(tf.global_variables_initializer())
    return tf.train.Saver().save(session, str(prefix), write_state=False, write_meta_graph=False)


def encoder_layers(model, vocab, inputs):
  """Yields the layers' outputs [layers, T, H] for lists of tokens, by BertModel, one at a time."""
  config = modeling.BertConfig.from_json_file(str(model / "bert_config.json"))
  with tf.Graph().as_default(), tf.Session() as session:
    input_ids, type_ids = (tf.placeholder(tf.int32, [1, None]) for _ in range(2))
    bert = modeling.BertModel(config, False, input_ids, token_type_ids=type_ids)
    tf.train.Saver().restore(session, str(model / "bert_model.ckpt"))
    for tokens in inputs:
      ids = [vocab.index(token) for token in tokens]
      types_ = [int("[SEP]" in tokens[:place]) for place in range(len(tokens))]
      layers = session.run(bert.get_all_encoder_layers(), {input_ids: [ids], type_ids: [types_]})
      yield np.concatenate(layers)


def copied(directory, tmp_path):
  return pathlib.Path(shutil.copytree(directory, tmp_path / "copy"))


def checkpoint_steps(directory):
  return sorted(int(path.stem.split("-")[1]) for path in directory.glob("model.ckpt-*.index"))


def weights(directory):
  """Dict of name -> array of the last checkpoint, the optimizer's variables among them."""
  reader = tf.train.load_checkpoint(str(directory))
  return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_best_is_used(directory, metric, steps, sign=1):
  """Checks that a directory was evaluated at steps, and at the end with the best of them.

  Args:
    directory: pathlib.Path, of a run with --eval_steps, --keep_best and --do_eval.
    metric: str, the deciding metric; sign 1 if larger is better, else -1.
    steps: list of int.
  """
  lines = (directory / "eval_history.jsonl").read_text().splitlines()
  history = [json.loads(line) for line in lines]
  assert [entry["step"] for entry in history] == steps
  best = max(history, key=lambda entry: (sign * entry[metric], -entry.get("loss", 0)))
  assert json.loads((directory / "best" / "best.json").read_text()) == {**best, "metric": metric}
  metrics = json.loads((directory / "eval_metrics.json").read_text())
  assert metrics["global_step"] == best["step"]
  assert abs(metrics[metric] - best[metric]) < 1e-5


def snapshot(directory):
  """Files of a directory: dict of path -> content."""
  paths = sorted(directory.rglob("*")) if directory.is_dir() else []
  return {str(path): path.read_bytes() for path in paths if path.is_file()}


class Refusal:
  """Function that checks that a command is refused with a message and writes nothing."""

  def __init__(self, run, start, output_dir, *switches):
    """Makes one for a script.

    Args:
      run: function of an output directory, switches and flags that runs the script's main.
      start: function of changed flags to a dict of the flags of a training run.
      output_dir: pathlib.Path, default output directory of a call.
      switches: default switches of a call.
    """
    self._run = run
    self._start = start
    self._output_dir = output_dir
    self._switches = switches

  def __call__(self, match, *switches, output_dir=None, **flags):
    output_dir = output_dir or self._output_dir
    before = snapshot(output_dir)
    with pytest.raises(files.InputError, match=match) as caught:
      self._run(output_dir, *(switches or self._switches), **self._start(**flags))
    assert "\n" not in str(caught.value)
    assert snapshot(output_dir) == before
    assert before or not output_dir.exists()


def send_once(monkeypatch, number, at_step):
  """Makes the process send itself a signal after a step of training."""
  after_run = hooks.ProgressHook.after_run

  def after_run_with_signal(self, *arguments):
    after_run(self, *arguments)
    if self._step == at_step:
      os.kill(os.getpid(), number)

  monkeypatch.setattr(hooks.ProgressHook, "after_run", after_run_with_signal)


def save_trained(directory, script, head, vocab, flags, labels=None, step=5, seed=1, **changes):
  """Writes a directory as a script leaves it, with an untrained model.

  Args:
    directory: pathlib.Path, made if it is not there.
    script: its name, without .py.
    head: model_heads.Head.
    vocab, changes: see config_of.
    flags, labels: of run.json and label_list.txt.
    step, seed: of the checkpoint and of its random values.
  """
  directory.mkdir(exist_ok=True)
  config = config_of(vocab, **changes)
  (directory / "start.json").write_text(json.dumps(config))
  (directory / "start.txt").write_text("\n".join(vocab) + "\n")
  names = (str(directory / "start.json"), str(directory / "start.txt"))
  model_directory.save(str(directory), *names, labels, script, flags)
  build = tensorflow_engine.builder(head, modeling.BertConfig.from_dict(config))
  with tf.Graph().as_default(), tf.Session() as session:
    tf.set_random_seed(seed)
    build(*(tf.zeros([1, 1], tf.int32) for _ in head.inputs()))
    tf.train.create_global_step()
    session.run(tf.global_variables_initializer())
    rng = np.random.default_rng(seed)
    for variable in tf.trainable_variables():  # biases start with zeros
      variable.load(variable.eval() + 0.1 * rng.standard_normal(variable.shape), session)
    tf.train.Saver().save(session, str(directory / "model.ckpt"), step, write_meta_graph=False)
  return directory
