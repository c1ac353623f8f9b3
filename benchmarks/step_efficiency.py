"""Speed of a training step against that of the dense products of its layers.

  python benchmarks/step_efficiency.py
  python benchmarks/step_efficiency.py --layers=4 --hidden_size=256 --vocab_size=8000 --masked_lm

A step of BERT needs six operations for each weight of its dense layers and each token: two forward
and four backward (Kaplan et al. 2020, section 2.1). Products of the same matrices alone are run in
turns with the whole step, and with the step in plain form; see plain.py. The loss is one of the
pooled output, so the last block need not compute all of them: --all_positions has a loss that reads
the output of each token. Random weights and tokens without padding; the first turn of each warms up
and is not counted.
"""

import argparse
import functools

import plain
import tensorflow.compat.v1 as tf
import turns

import modeling
import optimization
import run_pretraining
from toolkit.support import processes


def dense_weights(config):
  """Weights of the dense layers of all blocks: 12 H^2 per block for a feed-forward layer of 4 H."""
  block = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
  return config.num_hidden_layers * block


def build_products(config, num_tokens):
  """The operation that runs the dense layers' products alone, forward and backward."""
  hidden, wide = config.hidden_size, config.intermediate_size
  shapes = [(hidden, hidden)] * 4 + [(hidden, wide), (wide, hidden)]
  done = []
  for number, (width, units) in enumerate(shapes):
    x = tf.get_variable(f"x{number}", [num_tokens, width])
    kernel = tf.get_variable(f"kernel{number}", [width, units])
    y = tf.get_variable(f"y{number}", [num_tokens, units])  # used as the gradient, too
    for _ in range(config.num_hidden_layers):
      with tf.control_dependencies(done[-3:]):  # one after the other, as in a model
        products = [
          tf.matmul(x, kernel),
          tf.matmul(y, kernel, transpose_b=True),
          tf.matmul(x, y, transpose_a=True),
        ]
      done += [product[0, 0] for product in products]  # TensorFlow would leave out unused ones
  return tf.add_n(done)


def build_step(config, args):
  """The operation that makes a training step, with a loss of the pooled output or masked words."""
  shape = [args.batch_size, args.length]
  ids = tf.random.stateless_uniform(shape, [1, 2], 0, config.vocab_size, tf.int32)
  ones = tf.ones(shape, tf.int32)
  model = modeling.BertModel(config, True, ids, ones, tf.zeros(shape, tf.int32))
  read = model.get_sequence_output() if args.all_positions else model.get_pooled_output()
  loss = tf.reduce_mean(tf.square(read))
  if args.masked_lm:
    shape = [args.batch_size, args.predictions]
    places = tf.tile(tf.range(args.predictions)[tf.newaxis], [args.batch_size, 1])
    masked_loss, *_ = run_pretraining.get_masked_lm_output(
      config,
      model.get_output_at(places),
      model.get_embedding_table(),
      None,
      tf.ones(shape, tf.int32),
      tf.ones(shape),
    )
    loss += masked_loss
  return optimization.create_optimizer(loss, 1e-5, 1000, 100, use_tpu=False)


def main():
  """Prints the times, their ratio, and the share of the products' speed that the step reaches."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  for name, default in (
    ("layers", 12),
    ("hidden_size", 768),
    ("vocab_size", 30522),
    ("batch_size", 32),
    ("length", 128),
    ("predictions", 20),
    ("steps", 1),
    ("turns", 4),
  ):
    parser.add_argument(f"--{name}", type=int, default=default)
  parser.add_argument("--all_positions", action="store_true", help="with a loss that reads them")
  parser.add_argument("--masked_lm", action="store_true", help="with the loss of pre-training")
  args = parser.parse_args()
  processes.prepare_process()
  config = modeling.BertConfig(
    args.vocab_size,
    args.hidden_size,
    args.layers,
    args.hidden_size // 64,
    4 * args.hidden_size,
    type_vocab_size=2,
  )
  num_tokens = args.batch_size * args.length
  build = functools.partial(build_step, config, args)
  sides = {
    "products": plain.Side(functools.partial(build_products, config, num_tokens)),
    "step": plain.Side(build),
    "plain step": plain.Side(build, is_plain=True),
  }
  measures = {name: functools.partial(side.seconds, args.steps) for name, side in sides.items()}
  taken = {name: values[1:] for name, values in turns.take(measures, args.turns).items()}
  operations = 6 * dense_weights(config) * num_tokens * args.steps
  for name, values in taken.items():
    rates = [operations / seconds / 1e9 for seconds in values]
    print(f"{name:12} {turns.spread(values, 2)} s, {turns.spread(rates, 0)} GFLOP/s")
  speeds = {name: [operations / seconds for seconds in values] for name, values in taken.items()}
  turns.print_ratios(speeds, [("step", "products"), ("step", "plain step")])


if __name__ == "__main__":
  main()
