"""Numbers of the service in Prometheus' format, and their sum over workers."""

import json

import pytest

from toolkit.serving.service.metrics import METRICS, Metrics


def values(text):
  """Dict of name with labels -> number."""
  lines = [line for line in text.splitlines() if not line.startswith("#")]
  return {name: float(number) for name, _, number in (line.rpartition(" ") for line in lines)}


def test_counters_and_histograms():
  metrics = Metrics()
  metrics.count("bert_instances_total", "a")
  metrics.count("bert_instances_total", "a", by=3)
  for value in (0.001, 0.002, 0.003, 100):
    metrics.observe("bert_batch_seconds", "a", value=value)
  found = values(metrics.text(waiting=7))
  assert found["bert_waiting_items"] == 7
  assert found['bert_instances_total{model="a"}'] == 4
  assert found['bert_batch_seconds_bucket{model="a",le="0.002"}'] == 2
  assert found['bert_batch_seconds_bucket{model="a",le="0.005"}'] == 3
  assert found['bert_batch_seconds_bucket{model="a",le="30"}'] == 3
  assert found['bert_batch_seconds_bucket{model="a",le="+Inf"}'] == 4
  assert found['bert_batch_seconds_count{model="a"}'] == 4
  assert found['bert_batch_seconds_sum{model="a"}'] == pytest.approx(100.006)


def test_each_metric_is_described():
  lines = Metrics().text(0).splitlines()
  for name, metric in METRICS.items():
    kind = "histogram" if metric.buckets else "counter"
    assert f"# HELP {name} {metric.help}" in lines and f"# TYPE {name} {kind}" in lines


def test_labels_are_escaped():
  metrics = Metrics()
  metrics.count("bert_instances_total", 'a"b\\c\nd')
  assert 'bert_instances_total{model="a\\"b\\\\c\\nd"} 1\n' in metrics.text(0)


def test_large_numbers_are_exact():
  metrics = Metrics()
  metrics.count("bert_instances_total", "a", by=123_456_789)
  assert 'bert_instances_total{model="a"} 123456789\n' in metrics.text(0)


def test_workers_add_up_and_go_on_after_a_new_start(tmp_path):
  workers = [Metrics(str(tmp_path), number) for number in range(2)]
  for number, worker in enumerate(workers):
    worker.count("bert_instances_total", "a", by=10 * (number + 1))
    worker.observe("bert_batch_items", "a", value=4)
    worker.save(waiting=number + 1)
  for number, worker in enumerate(workers):
    found = values(worker.text(waiting=number + 1))
    assert found['bert_instances_total{model="a"}'] == 30
    assert found['bert_batch_items_count{model="a"}'] == 2
    assert found["bert_waiting_items"] == 3
  restarted = Metrics(str(tmp_path), 0)
  restarted.count("bert_instances_total", "a")
  assert values(restarted.text(0))['bert_instances_total{model="a"}'] == 31


def test_a_damaged_file_of_another_worker_is_left_out(tmp_path):
  (tmp_path / "1.json").write_text("[1, ")
  metrics = Metrics(str(tmp_path), 0)
  metrics.count("bert_instances_total", "a")
  assert values(metrics.text(0))['bert_instances_total{model="a"}'] == 1


def test_nothing_new_is_not_written(tmp_path):
  metrics = Metrics(str(tmp_path), 0)
  metrics.save(0)
  assert not list(tmp_path.iterdir())
  metrics.save(1)
  assert json.loads((tmp_path / "0.json").read_text())[0] == 1
