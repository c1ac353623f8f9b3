"""Each classic module works when it is copied alone into an empty folder."""

import os
import shutil
import subprocess
import sys

import modeling

TOP = os.path.dirname(modeling.__file__)

BUILD = """
import tensorflow.compat.v1 as tf
import modeling

open("bert_config.json", "w").write('{"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 2, '
  '"num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 5}')
config = modeling.BertConfig.from_json_file("bert_config.json")
with tf.Graph().as_default(), tf.Session() as session:
  model = modeling.BertModel(config, True, tf.constant([[1, 2, 3], [4, 5, 0]]))
  session.run(tf.global_variables_initializer())
  print(session.run(model.get_pooled_output()).shape)
try:
  modeling.BertConfig.from_json_file("missing.json")
except ValueError as error:
  print(error)
"""

TRAIN = """
import tensorflow.compat.v1 as tf
import optimization

with tf.Graph().as_default(), tf.Session() as session:
  weights = tf.get_variable("w", initializer=[1.0, -2.0])
  loss = tf.reduce_mean(weights**2)
  train_op = optimization.create_optimizer(loss, 0.1, 20, 2, False)
  session.run(tf.global_variables_initializer())
  before = session.run(loss)
  for _ in range(10):
    session.run(train_op)
  print(session.run(loss) < before, session.run(tf.train.get_global_step()))
"""

TOKENIZE = """
import sys
sys.modules["tensorflow"] = None
import tokenization

open("vocab.txt", "w").write("[UNK]\\n[CLS]\\n[SEP]\\nplay\\n##ing\\n!\\n")
tokenization.validate_vocab("vocab.txt")
print(tokenization.FullTokenizer("vocab.txt").tokenize("Playing!"))
try:
  tokenization.load_vocab("missing.txt")
except ValueError as error:
  print(error)
"""


def run_alone(name, code, directory):
  """Output of code in a directory with one module, and nothing else of this project."""
  shutil.copy(os.path.join(TOP, f"{name}.py"), directory)
  done = subprocess.run(
    [sys.executable, "-c", code],
    cwd=directory,
    env={**os.environ, "PYTHONPATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines()


def test_modeling(tmp_path):
  missing = "missing.json: cannot be read: No such file or directory"
  assert run_alone("modeling", BUILD, tmp_path) == ["(2, 4)", missing]


def test_optimization(tmp_path):
  assert run_alone("optimization", TRAIN, tmp_path) == ["True 10"]


def test_tokenization(tmp_path):
  missing = "missing.txt: cannot be read: No such file or directory"
  assert run_alone("tokenization", TOKENIZE, tmp_path) == ["['play', '##ing', '!']", missing]
