"""Mixed precision and XLA: the offers of hardware and TensorFlow, and sessions that use them.

Both are rewritings of the graph that a session is about to run. Weights, Adam's slots and so
checkpoints stay in float32; a softmax, a loss, sums and means (those of LayerNorm) are computed in
float32 by the lists of TensorFlow's rewriter.
"""

import os
import time
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf
from absl import logging

from toolkit.support import files

FLOAT16, BFLOAT16 = "float16", "bfloat16"

# The loss scale that a training in float16 begins with; see optimization.Options.
START_LOSS_SCALE = 2.0**15
# GPUs from this compute capability on multiply in float16 faster than in float32.
FAST_FLOAT16 = (7, 0)
# The instructions of x86 processors that multiply in bfloat16, as Linux calls them.
BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
# How often faster products in bfloat16 must be to make up for the casts between them.
WORTHWHILE = 1.2
# Rows, width and units of the dense layer whose speed is measured: 1024 tokens of BERT-base.
PROBE_SHAPE = (1024, 768, 768)
PROBE_PRODUCTS = 8
CPU_INFO = "/proc/cpuinfo"
# Without it TensorFlow compiles for GPUs alone.
XLA_ON_CPU = "--tf_xla_cpu_global_jit"


class Plan(NamedTuple):
  """The precision of a session, and its use of XLA.

  Attributes:
    precision: FLOAT16, BFLOAT16, or None for float32 throughout.
    xla: bool.
    lines: one str for each flag that was given: on or off, and why.
  """

  precision: Optional[str] = None
  xla: bool = False
  lines: tuple = ()

  def log(self):
    """Logs the lines."""
    for line in self.lines:
      logging.info("%s", line)

  def loss_scale(self):
    """float, the first loss scale; 0 for none."""
    return START_LOSS_SCALE if self.precision == FLOAT16 else 0.0

  def session_config(self, is_training=True):
    """The configuration of a session.

    Args:
      is_training: bool. XLA is used only in training: the batches of a prediction have many shapes,
        each of which it would compile anew.

    Returns:
      tf.ConfigProto for a tf.Session or a tf.estimator's RunConfig; None for their own.
    """
    use_xla = self.xla and is_training
    if not (self.precision or use_xla):
      return None
    config = tf.ConfigProto(allow_soft_placement=True)
    options = config.graph_options
    options.rewrite_options.meta_optimizer_iterations = options.rewrite_options.ONE
    if self.precision == FLOAT16:
      options.rewrite_options.auto_mixed_precision = options.rewrite_options.ON
    elif self.precision == BFLOAT16:
      options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = options.rewrite_options.ON
    if use_xla:
      options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_2
    return config


def find(amp, use_xla, use_tpu):
  """Finds out what this machine can do.

  Args:
    amp: bool, whether mixed precision is wanted.
    use_xla: bool, whether XLA is.
    use_tpu: bool, whether the training is on a TPU, which needs neither.

  Returns:
    Plan.
  """
  precision, why_precision = _precision(use_tpu) if amp else (None, None)
  xla, why_xla = _xla(use_tpu) if use_xla else (False, None)
  state = f"on, {precision}" if precision else "off"
  lines = [f"Mixed precision (--amp): {state}: {why_precision}"] if amp else []
  if use_xla:
    lines.append(f"XLA (--use_xla): {'on' if xla else 'off'}: {why_xla}")
  return Plan(precision, xla, tuple(lines))


def _precision(use_tpu):
  """A pair: FLOAT16, BFLOAT16 or None, and why."""
  if use_tpu:
    return None, "a TPU multiplies in bfloat16 anyway"
  gpus = _gpus()
  if gpus:
    name, capability = gpus[0]
    version = "{}.{}".format(*capability)
    if capability >= FAST_FLOAT16:
      return FLOAT16, f"{name} has compute capability {version}; the loss is scaled"
    needed = "{}.{}".format(*FAST_FLOAT16)
    return None, f"{name} has compute capability {version}, and {needed} is needed"
  found = [name for name in BFLOAT16_INSTRUCTIONS if name in _cpu_flags()]
  if found:
    return _measured_bfloat16(found[0])
  needed = " nor ".join(BFLOAT16_INSTRUCTIONS)
  return None, f"there is no GPU, and the CPU has neither {needed} ({CPU_INFO})"


def _measured_bfloat16(instructions):
  """The same pair for a CPU with these instructions.

  Processors with AMX multiply several times as fast in bfloat16; with AVX-512 alone some do so
  twice as fast and some at half the speed, which none of their flags indicates.
  """
  # In turns, of which the best counts: other work may slow one of them.
  turns = [(product_speed(tf.bfloat16), product_speed(tf.float32)) for _ in range(3)]
  bfloat16, float32 = map(max, zip(*turns))
  shown = f"{bfloat16:.0f} GFLOP/s in bfloat16, {float32:.0f} in float32"
  if bfloat16 >= WORTHWHILE * float32:
    return BFLOAT16, f"the CPU has {instructions}: {shown}"
  return None, f"the CPU has {instructions}, and is no faster with it: {shown}"


def product_speed(dtype):
  """Measures how fast TensorFlow multiplies matrices on the CPU, in a fifth of a second or so.

  Args:
    dtype: tf.DType of the matrices.

  Returns:
    float, 10^9 operations a second: the best of several runs.
  """
  rows, width, units = PROBE_SHAPE
  with tf.Graph().as_default(), tf.device("/CPU:0"):
    matrix = tf.Variable(tf.ones([rows, width], dtype), trainable=False)
    kernels = [
      tf.Variable(tf.ones([width, units], dtype), trainable=False) for _ in range(PROBE_PRODUCTS)
    ]
    # One element of each product is fetched: TensorFlow skips operations that nothing depends on.
    products = tf.add_n([tf.matmul(matrix, kernel)[0, 0] for kernel in kernels])
    with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as session:
      session.run([variable.initializer for variable in (matrix, *kernels)])
      seconds = min(_seconds(session, products) for _ in range(4))
  return 2.0 * rows * width * units * PROBE_PRODUCTS / seconds / 1e9


def _seconds(session, operation):
  start = time.perf_counter()
  session.run(operation)
  return time.perf_counter() - start


def _xla(use_tpu):
  """A pair: whether XLA is used by a rewriting of the graph, and why."""
  if use_tpu:
    return False, "what runs on a TPU is compiled by XLA anyway"
  if _gpus():
    return True, "the first step of a training takes longer"
  if XLA_ON_CPU in os.environ.get("TF_XLA_FLAGS", ""):
    return True, "TF_XLA_FLAGS asks for it on the CPU, where it is no faster"
  return False, (
    "there is no GPU, and on a CPU, where it is no faster, TensorFlow uses it only with "
    f"TF_XLA_FLAGS={XLA_ON_CPU}"
  )


def _gpus():
  """List of a (name, compute capability as a pair of int) for each GPU that TensorFlow sees."""
  found = []
  for device in tf.config.list_physical_devices("GPU"):
    details = tf.config.experimental.get_device_details(device)
    name = details.get("device_name", device.name)
    found.append((name, tuple(details.get("compute_capability", (0, 0)))))
  return found


def _cpu_flags():
  """Set of the instruction sets that Linux names; empty elsewhere."""
  if not files.exists(CPU_INFO):
    return set()
  lines = files.read_text(CPU_INFO).splitlines()
  return {word for line in lines if line.startswith("flags") for word in line.split()}
