"""A model that is loaded once and called often."""

import concurrent.futures
import os
import shutil

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import SPECIAL, config_of, save_checkpoint, save_encoder

import modeling
from toolkit.formats import checkpoints
from toolkit.serving.tensorflow_engine import TensorFlowEngine, load_predictor
from toolkit.support import files, precision, processes

VOCAB = [*SPECIAL, *"abcdefgh"]


def build(input_ids, input_mask, segment_ids):
  config = modeling.BertConfig.from_dict(config_of(VOCAB))
  model = modeling.BertModel(config, False, input_ids, input_mask, segment_ids)
  return {"sequence": model.get_sequence_output(), "pooled": model.get_pooled_output()}


@pytest.fixture(name="checkpoint", scope="module")
def _checkpoint(tmp_path_factory):
  return save_encoder(tmp_path_factory.mktemp("model") / "bert_model.ckpt", config_of(VOCAB))


def rows_of(lengths):
  rng = np.random.default_rng(0)
  return [
    (rng.integers(1, len(VOCAB), length).tolist(), [i % 2] * length)
    for i, length in enumerate(lengths)
  ]


def test_the_same_as_a_plain_session(checkpoint):
  (row,) = rows_of([7])
  with tf.Graph().as_default(), tf.Session() as session:
    ids, segments = (tf.constant([part]) for part in row)
    outputs = build(ids, tf.ones_like(ids), segments)
    tf.train.Saver().restore(session, checkpoint)
    want = session.run(outputs)
  (got,) = load_predictor(build, checkpoint).run([row])
  assert got.keys() == want.keys()
  for name, value in got.items():
    np.testing.assert_allclose(value, want[name][0], atol=1e-5)


@pytest.mark.parametrize("name_in_file", ["module/{}", "a/b/{}:0", "{}:0"])
def test_a_model_in_a_scope_gives_the_same(checkpoint, tmp_path, log, name_in_file):
  reader = tf.train.load_checkpoint(checkpoint)
  names = sorted(reader.get_variable_to_shape_map())
  scoped = {name_in_file.format(name): reader.get_tensor(name) for name in names}
  prefix = str(tmp_path / "scoped")
  checkpoints.save_checkpoint(prefix, scoped)
  rows = rows_of([3, 7])
  for got, want in zip(
    load_predictor(build, prefix).run(rows), load_predictor(build, checkpoint).run(rows)
  ):
    for name, value in want.items():
      np.testing.assert_array_equal(got[name], value)
  scope = name_in_file[: name_in_file.index("{")]
  wanted = f"The names of {len(names)} variables in {prefix} begin with {scope}, which is taken off"
  assert [m for m in log.messages if "taken off" in m] == ([wanted] if scope else [])


def test_mixed_precision_changes_little(checkpoint):
  rows = rows_of([7, 30])
  config = precision.Plan(precision.BFLOAT16).session_config(is_training=False)
  mixed = load_predictor(build, checkpoint, session_config=config).run(rows)
  for got, want in zip(mixed, load_predictor(build, checkpoint).run(rows)):
    for name, value in got.items():
      assert value.dtype == np.float32
      np.testing.assert_allclose(value, want[name], atol=0.1)  # of values of about 1


def test_any_lengths_in_any_order_give_what_each_gives_alone(checkpoint):
  model = load_predictor(build, checkpoint, batch_size=3)
  rows = rows_of([5, 20, 1, 9, 30, 2, 17])
  together = model.run(rows)
  assert model.run([]) == []
  for row, got in zip(rows, together):
    (alone,) = model.run([row])
    length = len(row[0])
    np.testing.assert_allclose(got["pooled"], alone["pooled"], atol=1e-5)
    np.testing.assert_allclose(got["sequence"][:length], alone["sequence"][:length], atol=1e-5)


def test_short_inputs_run_in_one_thread(checkpoint, monkeypatch):
  rows = rows_of([3, 16, 17, 30])
  shared = load_predictor(build, checkpoint)
  want = [shared.run([row])[0] for row in rows]
  monkeypatch.setenv(processes.OWN_THREADS, "1")
  products = 16 * sum(kernel_sizes(config_of(VOCAB)))
  monkeypatch.setattr("toolkit.serving.tensorflow_engine.ONE_THREAD_PRODUCTS", products)
  own = load_predictor(build, checkpoint)
  used = []
  run = tf.Session.run
  monkeypatch.setattr(tf.Session, "run", lambda s, *args: used.append(s) or run(s, *args))
  for row, its in zip(rows, want):
    (got,) = own.run([row])
    for name, value in got.items():
      np.testing.assert_allclose(value, its[name], atol=1e-5)
  assert [s._config.intra_op_parallelism_threads for s in used] == [1, 1, 0, 0]
  own.run(rows[:2])  # as one batch of 32 tokens
  assert used[-1] is used[-2]
  monkeypatch.setattr("toolkit.serving.tensorflow_engine.ONE_THREAD_PRODUCTS", products - 1)
  assert TensorFlowEngine(build, checkpoint)._one_thread_tokens == 0  # less than SHORT


def kernel_sizes(config):
  """Numbers of weights of the layers of `build`."""
  width = config["hidden_size"]
  for _ in range(config["num_hidden_layers"]):
    yield 4 * width**2 + 2 * width * config["intermediate_size"]
  yield 3 * width**2  # the last one's projections for the pooler, which are not joined
  yield width**2  # the pooler


def test_calls_from_several_threads(checkpoint):
  model = load_predictor(build, checkpoint)
  rows = rows_of(range(1, 25))
  want = [result["pooled"] for result in model.run(rows)]
  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    got = [result["pooled"] for (result,) in pool.map(lambda row: model.run([row]), rows)]
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_each_batch_is_reported(checkpoint):
  sizes = []
  load_predictor(build, checkpoint, batch_size=3).run(rows_of([4] * 7), on_batch=sizes.append)
  assert sizes == [3, 3, 1]


def test_a_checkpoint_of_another_model(checkpoint):
  def with_head(*inputs):
    return {"head": build(*inputs)["pooled"] * tf.get_variable("head", [16])}

  with pytest.raises(
    files.InputError, match=r"does not fit the model: head is not there, should be \[16\]"
  ):
    load_predictor(with_head, checkpoint)


def test_a_checkpoint_of_a_model_with_other_projections(checkpoint, tmp_path):
  reader = tf.train.load_checkpoint(checkpoint)
  saved = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
  name = "bert/encoder/layer_1/attention/self/key/kernel"
  narrow = save_checkpoint(tmp_path / "narrow", {**saved, name: saved[name][:, :8]})
  with pytest.raises(files.InputError, match=rf"{name} has shape \[16, 8\] .* \[16, 16\] by"):
    load_predictor(build, narrow)


def test_a_checkpoint_of_16_bits(checkpoint, tmp_path):
  reader = tf.train.load_checkpoint(checkpoint)
  names = reader.get_variable_to_shape_map()
  half = {name: reader.get_tensor(name).astype(np.float16) for name in names}
  checkpoints.save_checkpoint(str(tmp_path / "half"), half)
  match = r"^--my_flag: bert/\S+ is of type float16 in \S+half, where the model has float32; save"
  with pytest.raises(files.InputError, match=match):
    load_predictor(build, str(tmp_path / "half"), flag="my_flag")


def test_what_no_output_needs_may_be_missing(checkpoint):
  def with_unused_head(*inputs):
    tf.get_variable("head", [16])
    return build(*inputs)

  assert len(load_predictor(with_unused_head, checkpoint).run(rows_of([3]))) == 1


def test_a_damaged_checkpoint(checkpoint, tmp_path):
  for kind in ("index", "data-00000-of-00001"):
    shutil.copy(f"{checkpoint}.{kind}", tmp_path / f"model.{kind}")
  data = tmp_path / "model.data-00000-of-00001"
  data.write_bytes(data.read_bytes()[:-100])
  with pytest.raises(files.InputError, match="model is damaged: "):
    load_predictor(build, str(tmp_path / "model"))


def test_a_fork_of_the_process_is_refused_at_once(checkpoint):
  predictor = load_predictor(build, checkpoint)
  rows = rows_of([3])
  predictor.run(rows)
  reading, writing = os.pipe()
  child = os.fork()
  if not child:
    try:
      predictor.run(rows)
    except RuntimeError as error:
      os.write(writing, str(error).encode())
    os._exit(0)
  os.waitpid(child, 0)
  os.close(writing)
  with os.fdopen(reading) as pipe:
    message = pipe.read()
  assert "\n" not in message
  assert f"loaded in process {os.getpid()} and" in message and f"its fork {child}: load" in message
  predictor.run(rows)
