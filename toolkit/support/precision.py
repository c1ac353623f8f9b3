"""Mixed precision and XLA: support in hardware and TensorFlow, and sessions that use it.

Both rewrite the graph that a session runs. Weights and Adam's slots, and so checkpoints, stay in
float32. So do softmax, losses, sums and means (LayerNorm) by the lists of TensorFlow's rewriter.
"""

import os
import time
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

from toolkit.support import files, logs

FLOAT16, BFLOAT16 = "float16", "bfloat16"

# The first loss scale of a training in float16; see optimization.Options.
START_LOSS_SCALE = 2.0**15
# GPUs from this compute capability on multiply in float16 faster than in float32.
FAST_FLOAT16 = (7, 0)
# Linux's names of the instructions of x86 processors that multiply in bfloat16.
BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
# The least speed-up of products in bfloat16 that makes up for the casts between them.
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
    lines: one per flag that was given: on or off, and the reason.
  """

  precision: Optional[str] = None
  xla: bool = False
  lines: tuple[str, ...] = ()

  def log(self) -> None:
    """Logs the lines."""
    for line in self.lines:
      logs.notice("%s", line)

  def loss_scale(self) -> float:
    """Returns the first loss scale, 0 for none."""
    return START_LOSS_SCALE if self.precision == FLOAT16 else 0.0

  def session_config(self, is_training: bool = True) -> Optional[tf.ConfigProto]:
    """Returns the configuration of a session, None for the default one.

    XLA is used only in training: the batches of a prediction have many shapes, each of which it
    would compile anew.
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


def find(amp: bool, use_xla: bool, use_tpu: bool) -> Plan:
  """Selects among the flags --amp and --use_xla those that this machine supports."""
  precision, why_precision = _precision(use_tpu) if amp else (None, None)
  xla, why_xla = _xla(use_tpu) if use_xla else (False, None)
  state = f"on, {precision}" if precision else "off"
  lines = [f"Mixed precision (--amp): {state}: {why_precision}"] if amp else []
  if use_xla:
    lines.append(f"XLA (--use_xla): {'on' if xla else 'off'}: {why_xla}")
  return Plan(precision, xla, tuple(lines))


def _precision(use_tpu):
  """Returns FLOAT16, BFLOAT16 or None, and the reason."""
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
  """Returns BFLOAT16 or None for a CPU with these instructions, and the reason.

  Processors with AMX multiply several times as fast in bfloat16. With AVX-512 alone some are twice
  as fast and some half as fast, which none of their flags indicates.
  """
  # In turns, of which the best counts: other work may slow one of them.
  turns = [(product_speed(tf.bfloat16), product_speed(tf.float32)) for _ in range(3)]
  bfloat16, float32 = map(max, zip(*turns))
  shown = f"{bfloat16:.0f} GFLOP/s in bfloat16, {float32:.0f} in float32"
  if bfloat16 >= WORTHWHILE * float32:
    return BFLOAT16, f"the CPU has {instructions}: {shown}"
  return None, f"the CPU has {instructions}, and is no faster with it: {shown}"


def product_speed(dtype: tf.DType) -> float:
  """Measures TensorFlow's matrix products on the CPU, for about a fifth of a second.

  Returns:
    10^9 operations per second, the best of several runs.
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
  """Returns True to rewrite the graph for XLA, and the reason."""
  if use_tpu:
    return False, "what runs on a TPU is compiled by XLA anyway"
  if _gpus():
    return True, "the first step of a training takes longer"
  if XLA_ON_CPU in os.environ.get("TF_XLA_FLAGS", ""):
    return True, "TF_XLA_FLAGS turns it on for the CPU, where it is no faster"
  return False, (
    "there is no GPU, and on a CPU, where it is no faster, TensorFlow uses it only with "
    f"TF_XLA_FLAGS={XLA_ON_CPU}"
  )


def _gpus():
  """Returns the name and the compute capability, a pair of int, of each GPU of TensorFlow."""
  found = []
  for device in tf.config.list_physical_devices("GPU"):
    details = tf.config.experimental.get_device_details(device)
    name = details.get("device_name", device.name)
    found.append((name, tuple(details.get("compute_capability", (0, 0)))))
  return found


def _cpu_flags():
  """Returns the set of the instruction sets that Linux names; empty elsewhere."""
  if not files.exists(CPU_INFO):
    return set()
  lines = files.read_text(CPU_INFO).splitlines()
  return {word for line in lines if line.startswith("flags") for word in line.split()}
