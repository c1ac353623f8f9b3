"""The modules as a library: in notebooks, from other programs, and as the package bert."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf
from tiny_runs import SPECIAL, config_of, save_model

import modeling
import optimization
import run_classifier
import run_classifier_with_tfhub
import tokenization
from toolkit.support import files

ROOT = pathlib.Path(__file__).resolve().parent.parent
WORDS = ["the", "old", "hat", "good", "bad", "un", "##able"]


def run_python(*arguments, directory, path):
  """Runs Python in a directory with one on its path; returns its output."""
  done = subprocess.run(
    [sys.executable, *map(str, arguments)],
    cwd=directory,
    env={**os.environ, "PYTHONPATH": str(path)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


# ---- Flat modules -------------------------------------------------------------------------------

NOTEBOOK = """
import importlib
import sys

sys.argv = ["ipykernel_launcher.py", "-f", "kernel.json"]

import create_pretraining_data, extract_features, modeling, optimization, tokenization
import run_classifier, run_classifier_with_tfhub, run_ner, run_pretraining, run_squad
import run_multiple_choice
import tensorflow as tf
import absl.flags

scripts = [
  create_pretraining_data, extract_features, run_classifier, run_ner, run_pretraining, run_squad
]
for _ in range(2):
  assert run_squad.FLAGS.doc_stride == 128 and run_classifier.FLAGS.max_seq_length == 128
  assert run_squad.FLAGS.max_seq_length == 384 and extract_features.FLAGS.layers == "-1,-2,-3,-4"
  for script in scripts:
    importlib.reload(script)

from run_classifier import *

example = InputExample(guid=0, text_a="The hat", label="0")
tokenizer = tokenization.FullTokenizer("vocab.txt")
(feature,) = convert_examples_to_features([example], ["0", "1"], 8, tokenizer)
assert feature.input_ids == [2, 5, 7, 3, 0, 0, 0, 0] and feature.label_id == 0
assert ColaProcessor().get_labels() == ["0", "1"]

question = run_squad.SquadExample("q", "what ?", ["The", "old", "hat"])
features = []
run_squad.convert_examples_to_features(
  [question], tokenizer, 16, 8, 4, is_training=False, output_fn=features.append
)
start, end = [0.0] * 16, [0.0] * 16
start[features[0].tokens.index("old")] = end[features[0].tokens.index("hat")] = 5.0
result = run_squad.RawResult(unique_id=features[0].unique_id, start_logits=start, end_logits=end)
run_squad.write_predictions(
  [question], features, [result], 3, 10, True, "predictions.json", "nbest.json", "odds.json"
)

assert tf.executing_eagerly() and not absl.flags.FLAGS.is_parsed()
"""


def test_a_notebook_imports_everything_and_parses_nothing(tmp_path):
  save_model(tmp_path, [*SPECIAL, *WORDS])
  run_python("-c", NOTEBOOK, directory=tmp_path, path=ROOT)
  assert files.read_json(str(tmp_path / "predictions.json")) == {"q": "old hat"}


@pytest.mark.parametrize(
  "script, names",
  [
    ("run_squad", "collections json math os random six"),
    ("run_squad", "_improve_answer_span _check_is_max_context _get_best_indexes _compute_softmax"),
    ("run_classifier", "collections csv os _truncate_seq_pair"),
    ("run_pretraining", "os _decode_record gather_indexes"),
    ("create_pretraining_data", "collections random"),
    ("extract_features", "codecs collections json re _truncate_seq_pair"),
  ],
)
def test_names_of_the_classic_scripts(script, names):
  """Public ones come with an import of everything, the others by name."""
  imported, names = {}, names.split()
  exec(f"from {script} import *", imported)
  assert {name for name in names if not name.startswith("_")} <= imported.keys()
  private = [name for name in names if name.startswith("_")]
  assert all(callable(getattr(sys.modules[script], name)) for name in private)
  assert {"tf", "tokenization", "flags", "FLAGS", "main"} <= imported.keys()
  if script != "create_pretraining_data":
    assert imported["modeling"] is modeling
  if script.startswith("run_"):
    assert imported["optimization"] is optimization


def test_a_notebook_trains_a_model_of_its_own(tmp_path):
  """As in the first notebooks: BertModel, create_optimizer and a plain estimator."""
  tokenizer = tokenization.FullTokenizer(vocab_file=save_vocab(tmp_path), do_lower_case=True)
  texts = [("good hat", 1), ("the bad hat", 0), ("the good old hat", 1), ("bad", 0)]
  examples = [
    run_classifier.InputExample(guid=None, text_a=text, text_b=None, label=label)
    for text, label in texts
  ]
  features = run_classifier.convert_examples_to_features(examples, [0, 1], 8, tokenizer)
  no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
  config = {**config_of([*SPECIAL, *WORDS]), **no_dropout}  # so that four texts are soon learnt

  def model_fn(features, labels, mode, params):
    is_training = mode == tf.estimator.ModeKeys.TRAIN
    model = modeling.BertModel(
      config=modeling.BertConfig.from_dict(config),
      is_training=is_training,
      input_ids=features["input_ids"],
      input_mask=features["input_mask"],
      token_type_ids=features["segment_ids"],
      use_one_hot_embeddings=False,
    )
    assert model.all_encoder_layers[-1] is model.get_sequence_output()
    logits = model.get_pooled_output() @ tf.get_variable("output_weights", [16, 2])
    if mode == tf.estimator.ModeKeys.PREDICT:
      return tf.estimator.EstimatorSpec(mode, predictions={"label": tf.argmax(logits, axis=-1)})
    loss = tf.losses.sparse_softmax_cross_entropy(features["label_ids"], logits)
    train_op = optimization.create_optimizer(loss, 0.005, 200, 20, use_tpu=False)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

  run_config = tf.estimator.RunConfig(str(tmp_path / "out"), tf_random_seed=1)
  estimator = tf.estimator.Estimator(model_fn, config=run_config, params={"batch_size": 4})
  arguments = {"features": features, "seq_length": 8, "drop_remainder": False}
  estimator.train(run_classifier.input_fn_builder(is_training=True, **arguments), max_steps=200)
  rows = estimator.predict(run_classifier.input_fn_builder(is_training=False, **arguments))
  assert [row["label"] for row in rows] == [label for _, label in texts]


REPLACED = """
import tensorflow.compat.v1 as tf
tf.disable_eager_execution()
import modeling, optimization, run_classifier, run_pretraining, run_squad

calls = []

def create_model(bert_config, is_training, input_ids, input_mask, segment_ids, labels, num_labels,
                 use_one_hot_embeddings):
  calls.append("create_model")
  model = modeling.BertModel(bert_config, is_training, input_ids, input_mask, segment_ids)
  logits = tf.matmul(model.get_pooled_output(), tf.get_variable("w", [8, num_labels]))
  losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
  return tf.reduce_mean(losses), losses, logits, tf.nn.softmax(logits)

class Adam(optimization.AdamWeightDecayOptimizer):
  def __init__(self, learning_rate, weight_decay_rate=0.0, beta_1=0.9, beta_2=0.999, epsilon=1e-6,
               exclude_from_weight_decay=None, name="Adam"):
    calls.append("optimizer")
    super().__init__(learning_rate, weight_decay_rate, beta_1, beta_2, epsilon,
                     exclude_from_weight_decay, name)

  def apply_gradients(self, grads_and_vars, global_step=None, name=None):
    return super().apply_gradients(grads_and_vars, global_step, name)

class Bert:
  def __init__(self, config, is_training, input_ids, input_mask=None, token_type_ids=None,
               use_one_hot_embeddings=False, scope=None):
    calls.append("bert")
    self.table = tf.get_variable("table", [20, 8])
    self.vectors = tf.gather(self.table, input_ids)

  def get_pooled_output(self):
    return self.vectors[:, 0]

  def get_sequence_output(self):
    return self.vectors

  def get_embedding_table(self):
    return self.table

class Doubled(modeling.BertModel):
  def get_sequence_output(self):
    calls.append("doubled")
    return 2.0 * super().get_sequence_output()

def create_optimizer(loss, init_lr, num_train_steps, num_warmup_steps, use_tpu):
  calls.append("create_optimizer")
  return tf.train.GradientDescentOptimizer(init_lr).minimize(loss, tf.train.get_global_step())

def train(model_fn, *more):
  with tf.Graph().as_default(), tf.Session() as session:
    tf.train.create_global_step()
    features = {name: tf.ones([2, 6], tf.int32) for name in ("input_ids", "input_mask")}
    features["segment_ids"] = tf.zeros([2, 6], tf.int32)
    features["label_ids"] = tf.constant([0, 1])
    features["masked_lm_positions"] = features["masked_lm_ids"] = tf.ones([2, 3], tf.int32)
    features["masked_lm_weights"] = tf.ones([2, 3])
    features["next_sentence_labels"] = tf.zeros([2, 1], tf.int32)
    spec = model_fn(features, None, tf.estimator.ModeKeys.TRAIN, {})
    session.run(tf.global_variables_initializer())
    assert session.run([spec.loss, spec.train_op])[0] > 0

config = modeling.BertConfig(20, 8, 1, 2, 16)
steps = (None, 0.1, 10, 2, False, False)
modules = {"create_model": (run_classifier, create_model), "optimizer": (optimization, Adam),
           "bert": (modeling, Bert), "doubled": (modeling, Doubled),
           "create_optimizer": (optimization, create_optimizer)}
names = {"optimizer": "AdamWeightDecayOptimizer", "bert": "BertModel", "doubled": "BertModel"}
for what, (module, replacement) in modules.items():
  name = names.get(what, what)
  original = getattr(module, name)
  setattr(module, name, replacement)
  train(run_classifier.model_fn_builder(config, 2, *steps))
  if what != "create_model":
    train(run_pretraining.model_fn_builder(config, *steps))
  assert what in calls, what
  setattr(module, name, original)
print("replaced")
"""


def test_what_programs_replace_in_the_modules_takes_effect(tmp_path):
  assert run_python("-c", REPLACED, directory=tmp_path, path=ROOT) == "replaced\n"


WITHOUT_V2 = """
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
import modeling, run_classifier

config = modeling.BertConfig(20, 8, 1, 2, 16)
model_fn = run_classifier.model_fn_builder(config, 2, None, 0.1, 10, 2, False, False)
keys = tf.estimator.ModeKeys
for mode in (keys.TRAIN, keys.EVAL, keys.PREDICT):
  with tf.Graph().as_default() as graph:
    tf.train.create_global_step()
    features = {
      name: tf.placeholder(tf.int32, [None, None])
      for name in ("input_ids", "input_mask", "segment_ids")
    }
    if mode != keys.PREDICT:
      features["label_ids"] = tf.placeholder(tf.int32, [None])
    model_fn(features, None, mode, {})
    if mode == keys.TRAIN:  # dense layers skip padding
      assert "Where" in {op.type for op in graph.get_operations()}
print("built")
"""


def test_a_program_of_the_first_version_of_tensorflow(tmp_path):
  """It disables the second one's behaviour, so that sizes are tf.Dimension; no size is known."""
  assert run_python("-c", WITHOUT_V2, directory=tmp_path, path=ROOT) == "built\n"


def save_vocab(directory):
  path = directory / "vocab.txt"
  path.write_text("\n".join([*SPECIAL, *WORDS]))
  return str(path)


def test_what_others_use_of_tokenizers_and_models(tmp_path):
  tokenizer = tokenization.FullTokenizer(save_vocab(tmp_path))
  basic = tokenizer.basic_tokenizer
  assert basic._clean_text("a\tb\0") == "a b"
  assert basic._run_strip_accents("é") == "e"
  assert basic._run_split_on_punc("a-b") == ["a", "-", "b"]
  assert basic._tokenize_chinese_chars("a中") == "a 中 "
  assert basic._is_chinese_char(ord("中")) and not basic._is_chinese_char(ord("a"))
  assert tokenizer.wordpiece_tokenizer.tokenize("unable") == ["un", "##able"]
  assert tokenizer.vocab["the"] == 5 and tokenizer.inv_vocab[5] == "the"


@pytest.mark.parametrize("name", ["model_fn_builder", "create_tokenizer_from_hub_module"])
def test_the_address_of_a_module_is_no_module(name):
  """Programs that load modules by their address learn what to do."""
  more = {"create_tokenizer_from_hub_module": ()}.get(name, (2, 2e-5, 10, 1, False))
  with pytest.raises(files.InputError, match=r"is an address; download the archive of the module"):
    getattr(run_classifier_with_tfhub, name)(*more, "https://tfhub.dev/google/bert/1")


# ---- The package bert ---------------------------------------------------------------------------


@pytest.fixture(name="installed", scope="module")
def _installed(tmp_path_factory):
  """A directory with what `pip install` of a copy of this project installs."""
  source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("target")
  for path in (*ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"):
    shutil.copy(path, source)
  shutil.copytree(ROOT / "toolkit", source / "toolkit")
  offline = ["--no-deps", "--no-index", "--no-build-isolation", "--no-compile"]
  command = [
    sys.executable,
    "-m",
    "pip",
    "install",
    "--quiet",
    *offline,
    "--target",
    target,
    source,
  ]
  done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
  assert done.returncode == 0, done.stderr
  return target


IMPORT_ALL = """
import importlib
import pkgutil
import sys

sys.argv = ["ipykernel_launcher.py", "-f", "kernel.json"]

import bert
from bert import modeling, optimization, run_classifier, tokenization

names = [module.name for module in pkgutil.iter_modules(bert.__path__)]
for module in pkgutil.walk_packages(bert.__path__, "bert."):
  importlib.import_module(module.name)
assert not sys.modules.keys() & set(names)
first, second = list("abcd"), list("xyz")
bert.extract_features._truncate_seq_pair(first, second, 4)
assert (first, second) == (["a", "b"], ["x", "y"])
assert run_classifier.modeling is modeling and modeling.__name__ == "bert.modeling"
print(*names)
"""


def test_the_package_has_all_modules_and_nothing_else(installed, tmp_path):
  names = run_python("-c", IMPORT_ALL, directory=tmp_path, path=installed).split()
  assert names == sorted(
    [path.stem for path in ROOT.glob("*.py") if path.stem != "setup"] + ["toolkit"]
  )
  flat = re.compile(rf"^ *(import|from) ({'|'.join(names)})\b", re.MULTILINE)
  assert not any(flat.search(path.read_text("utf-8")) for path in installed.glob("bert/**/*.py"))
  package, metadata = sorted(path.name for path in installed.iterdir())
  assert package == "bert" and metadata.endswith(".dist-info")
  paths = {path.relative_to(installed / "bert") for path in (installed / "bert").rglob("*.py")}
  inner = {path.relative_to(ROOT) for path in (ROOT / "toolkit").rglob("*.py")}
  assert inner < paths
  page = "toolkit/serving/service/page.html"
  assert (installed / "bert" / page).read_bytes() == (ROOT / page).read_bytes()


def test_scripts_of_the_package_run_with_their_worker_processes(installed, tmp_path):
  save_vocab(tmp_path)
  (tmp_path / "text.txt").write_text("the old hat\nthe bad hat\n\nthe good hat\nbad old hat\n" * 2)
  arguments = {
    "input_file": "text.txt",
    "vocab_file": "vocab.txt",
    "output_file": "records",
    "max_seq_length": 16,
    "max_predictions_per_seq": 2,
    "shard_documents": 2,
    "num_workers": 2,
  }
  flags = [f"--{name}={value}" for name, value in arguments.items()]
  module = ["-m", "bert.create_pretraining_data"]
  run_python(*module, *flags, directory=tmp_path, path=installed)
  metadata = files.read_json(str(tmp_path / "records.meta.json"))
  assert metadata["files"]["records"]["records"] > 0
