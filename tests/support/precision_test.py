"""Hardware with mixed precision and XLA, and the configuration of the session."""

import pytest
import tensorflow.compat.v1 as tf

from toolkit.support import precision


def machine(monkeypatch, tmp_path, gpus=(), cpu_flags="fpu sse2", bfloat16_speed=700.0):
  """Pretends to have these GPUs, as (name, capability), instructions, and GFLOP/s in bfloat16.

  In float32 they are 350.
  """
  speeds = {tf.bfloat16: bfloat16_speed, tf.float32: 350.0}
  monkeypatch.setattr(precision, "product_speed", speeds.get)
  (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {cpu_flags}\nbugs : amx_bf16\n")
  monkeypatch.setattr(precision, "CPU_INFO", str(tmp_path / "cpuinfo"))
  monkeypatch.setattr(precision, "_gpus", lambda: list(gpus))
  monkeypatch.delenv("TF_XLA_FLAGS", raising=False)


@pytest.mark.parametrize(
  ("gpus", "cpu_flags", "wanted", "line"),
  [
    ([("V100", (7, 0))], "", "float16", "on, float16: V100 has compute capability 7.0"),
    ([("P4", (6, 1))], "amx_bf16", None, "off: P4 has compute capability 6.1, and 7.0 is needed"),
    ([], "sse2 avx512_bf16", "bfloat16", "on, bfloat16: the CPU has avx512_bf16: 700 "),
    ([], "avx512f", None, "off: there is no GPU, and the CPU has neither amx_bf16 nor avx512_bf16"),
  ],
)
def test_mixed_precision(monkeypatch, tmp_path, gpus, cpu_flags, wanted, line):
  machine(monkeypatch, tmp_path, gpus, cpu_flags)
  plan = precision.find(amp=True, use_xla=False, use_tpu=False)
  assert plan.precision == wanted
  assert len(plan.lines) == 1 and plan.lines[0].startswith(f"Mixed precision (--amp): {line}")
  assert plan.loss_scale() == (2.0**15 if wanted == "float16" else 0.0)
  config = plan.session_config()
  if wanted is None:
    assert config is None
    return
  rewriting = config.graph_options.rewrite_options
  assert (rewriting.auto_mixed_precision == rewriting.ON) == (wanted == "float16")
  is_bfloat16 = rewriting.auto_mixed_precision_onednn_bfloat16 == rewriting.ON
  assert is_bfloat16 == (wanted == "bfloat16")
  assert config.graph_options.optimizer_options.global_jit_level == 0


@pytest.mark.parametrize(("speed", "wanted"), [(170.0, None), (400.0, None), (420.0, "bfloat16")])
def test_bfloat16_is_used_where_it_is_faster(monkeypatch, tmp_path, speed, wanted):
  machine(monkeypatch, tmp_path, cpu_flags="avx512_bf16", bfloat16_speed=speed)
  plan = precision.find(amp=True, use_xla=False, use_tpu=False)
  assert plan.precision == wanted
  assert f"{speed:.0f} GFLOP/s in bfloat16, 350 in float32" in plan.lines[0]
  assert ("is no faster with it" in plan.lines[0]) == (wanted is None)


def test_products_take_more_time_when_there_are_more(monkeypatch):
  monkeypatch.setattr(precision, "PROBE_SHAPE", (64, 64, 64))
  small = 2.0 * 64**3 * precision.PROBE_PRODUCTS / precision.product_speed(tf.float32)
  monkeypatch.setattr(precision, "PROBE_SHAPE", (1024, 1024, 1024))
  large = 2.0 * 1024**3 * precision.PROBE_PRODUCTS / precision.product_speed(tf.float32)
  assert large > 20 * small  # of 4,096 times as many operations


def test_xla(monkeypatch, tmp_path):
  machine(monkeypatch, tmp_path)
  plan = precision.find(amp=False, use_xla=True, use_tpu=False)
  assert not plan.xla and plan.session_config() is None
  assert plan.lines[0].startswith("XLA (--use_xla): off: there is no GPU, and on a CPU")
  monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_cpu_global_jit")
  assert precision.find(amp=False, use_xla=True, use_tpu=False).xla
  machine(monkeypatch, tmp_path, [("A100", (8, 0))])
  plan = precision.find(amp=False, use_xla=True, use_tpu=False)
  assert plan.xla and plan.lines[0].startswith("XLA (--use_xla): on: ")
  config = plan.session_config()
  assert config.graph_options.optimizer_options.global_jit_level == tf.OptimizerOptions.ON_2
  assert config.allow_soft_placement
  assert plan.session_config(is_training=False) is None  # predictions have many shapes


def test_a_tpu_needs_neither(monkeypatch, tmp_path):
  machine(monkeypatch, tmp_path, [("A100", (8, 0))])
  plan = precision.find(amp=True, use_xla=True, use_tpu=True)
  assert (plan.precision, plan.xla, plan.session_config()) == (None, False, None)
  assert [line.split(": ")[1] for line in plan.lines] == ["off", "off"]


def test_without_flags_there_is_nothing_to_say():
  assert precision.find(False, False, False) == precision.Plan()
