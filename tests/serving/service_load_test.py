"""The benchmark of load on the service: it finds no fault, and would find one."""

import sys

import numpy as np
import pytest
import tiny_exports
from service_program import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def load_benchmark():
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(ROOT / "benchmarks"))
    import service_load

    yield service_load


@pytest.mark.parametrize("kind", [tiny_exports.CLASSIFIER, tiny_exports.ENCODER])
@pytest.mark.parametrize("workers", [1, 2])
def test_no_answer_is_lost_or_wrong(load_benchmark, tmp_path, kind, workers):
  directory = tiny_exports.save(tmp_path / "model", kind)
  texts = load_benchmark.make_texts(str(directory / "vocab.txt"), 12)
  expected = load_benchmark.expected_answers(str(directory), "auto", texts)
  service = load_benchmark.Service(sys.executable, str(directory), [f"--workers={workers}"])
  try:
    load = load_benchmark.Load(service.port, texts, expected, 1e-5)
    _, times = load.run(32, 5)
    assert load.failed == [] and len(times) >= 32
    wrong = load_benchmark.Load(service.port, texts, expected + np.float32(1e-3), 1e-5)
    _, times = wrong.run(2, 0.1)
    assert len(wrong.failed) == len(times)
  finally:
    assert service.stop() == 0
