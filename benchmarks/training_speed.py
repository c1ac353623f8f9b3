"""Training speed of run_classifier.py with padding to the full length and without.

  python benchmarks/training_speed.py --model_dir=quickstart/bert \\
    --data_dir=glue_data/MRPC --task_name=mrpc

Both sides are trained in one process, in turns of --steps steps, on the same batches; what is
printed is the median over the turns. The first turn of each warms up and is not counted.
"""

import os
import sys
import tempfile
import time

import turns

sys.path.insert(0, turns.ROOT)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow.compat.v1 as tf
from absl import flags, logging

import classifier_data
import common_flags
import model_directory
import run_classifier

FLAGS = flags.FlagValues()
flags.DEFINE_string("model_dir", "quickstart/bert", "Pre-trained model.", flag_values=FLAGS)
flags.DEFINE_string("data_dir", "samples/reviews", "Data of the task.", flag_values=FLAGS)
flags.DEFINE_string("task_name", "tsv", "As in run_classifier.py.", flag_values=FLAGS)
flags.DEFINE_integer("max_seq_length", 128, "Length of padded inputs.", flag_values=FLAGS)
flags.DEFINE_integer("batch_size", 32, "Examples a step.", flag_values=FLAGS)
flags.DEFINE_integer("steps", 5, "Steps a turn.", flag_values=FLAGS)
flags.DEFINE_integer("turns", 6, "Turns of each side, the first one included.", flag_values=FLAGS)
common_flags.finish(FLAGS)


class Side:
  """A training step in a graph and session of its own."""

  def __init__(self, config, num_labels, record_file, trim_padding):
    self._graph = tf.Graph()
    with self._graph.as_default():
      tf.set_random_seed(1)
      input_fn = run_classifier.file_based_input_fn_builder(
        record_file, FLAGS.max_seq_length, True, True, trim_padding=trim_padding, seed=1
      )
      dataset = input_fn({"batch_size": FLAGS.batch_size})
      features = tf.data.make_one_shot_iterator(dataset).get_next()
      model_fn = run_classifier.model_fn_builder(
        config,
        num_labels,
        os.path.join(FLAGS.model_dir, "bert_model.ckpt"),
        learning_rate=5e-5,
        num_train_steps=1000,
        num_warmup_steps=100,
        use_tpu=False,
        use_one_hot_embeddings=False,
      )
      self._train_op = model_fn(features, None, tf.estimator.ModeKeys.TRAIN, {}).train_op
      self._session = tf.Session()
      self._session.run(tf.global_variables_initializer())

  def examples_per_second(self):
    start = time.monotonic()
    for _ in range(FLAGS.steps):
      self._session.run(self._train_op)
    return FLAGS.steps * FLAGS.batch_size / (time.monotonic() - start)


def main(_):
  """Prints the speed of both sides and their ratio."""
  logging.set_verbosity(logging.WARNING)
  tf.logging.set_verbosity(tf.logging.ERROR)
  tf.disable_eager_execution()
  config, tokenizer = model_directory.load_model(
    os.path.join(FLAGS.model_dir, model_directory.CONFIG_FILE),
    os.path.join(FLAGS.model_dir, model_directory.VOCAB_FILE),
    True,
    FLAGS.max_seq_length,
    None,
  )
  task = classifier_data.find_task(FLAGS.task_name)
  examples = task.get_train_examples(FLAGS.data_dir)
  labels = task.get_labels(FLAGS.data_dir)
  with tempfile.TemporaryDirectory() as directory:
    record_file = os.path.join(directory, "train.tf_record")
    run_classifier.file_based_convert_examples_to_features(
      examples, labels, FLAGS.max_seq_length, tokenizer, record_file
    )
    sides = {
      name: Side(config, len(labels), record_file, trim).examples_per_second
      for name, trim in (("padded", False), ("cut to the longest", True))
    }
    speeds = turns.take(sides, FLAGS.turns)
  counted = {name: values[1:] for name, values in speeds.items()}
  for name, values in counted.items():
    print(f"{name:20} {turns.spread(values)} examples/s")
  ratios = [cut / padded for padded, cut in zip(*counted.values())]
  print(f"{'ratio':20} {turns.spread(ratios, 2)}")


if __name__ == "__main__":
  common_flags.run(main, FLAGS)
