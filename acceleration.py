"""Mixed precision and XLA: what the hardware and TensorFlow offer, and how they are asked for.

Both are rewritings of the graph that a session is about to run. Weights, Adam's slots and so
checkpoints stay in float32; a softmax, a loss, sums and means (those of LayerNorm) are computed in
float32 by the lists of TensorFlow's rewriter.
"""

import os
from typing import NamedTuple, Optional

import tensorflow.compat.v1 as tf

import files

FLOAT16, BFLOAT16 = "float16", "bfloat16"

# The loss scale that a training in float16 begins with; see optimization.Options.
START_LOSS_SCALE = 2.0**15
# GPUs from this compute capability on multiply in float16 faster than in float32.
FAST_FLOAT16 = (7, 0)
# The instructions of x86 processors that multiply in bfloat16, as Linux calls them.
BFLOAT16_INSTRUCTIONS = ("amx_bf16", "avx512_bf16")
CPU_INFO = "/proc/cpuinfo"
# Without it TensorFlow compiles for GPUs alone.
XLA_ON_CPU = "--tf_xla_cpu_global_jit"


class Plan(NamedTuple):
  """What a training uses.

  Attributes:
    precision: FLOAT16, BFLOAT16, or None for float32 throughout.
    xla: bool.
    lines: list of str, what is on or off and why, one line for each that was asked for.
  """

  precision: Optional[str] = None
  xla: bool = False
  lines: tuple = ()

  def loss_scale(self):
    """float, the first loss scale; 0 for none."""
    return START_LOSS_SCALE if self.precision == FLOAT16 else 0.0

  def session_config(self):
    """tf.ConfigProto for a tf.estimator's RunConfig; None for its own."""
    if not (self.precision or self.xla):
      return None
    config = tf.ConfigProto(allow_soft_placement=True)
    options = config.graph_options
    options.rewrite_options.meta_optimizer_iterations = options.rewrite_options.ONE
    if self.precision == FLOAT16:
      options.rewrite_options.auto_mixed_precision = options.rewrite_options.ON
    elif self.precision == BFLOAT16:
      options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = options.rewrite_options.ON
    if self.xla:
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
    return BFLOAT16, f"the CPU has {found[0]}"
  needed = " nor ".join(BFLOAT16_INSTRUCTIONS)
  return None, f"there is no GPU, and the CPU has neither {needed} ({CPU_INFO})"


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
