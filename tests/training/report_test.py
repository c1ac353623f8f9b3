"""Text of a run's report, and its curves."""

import importlib.util
import json
import sys

import pytest

from toolkit.training import hooks, report

FACTS = {
  "model": {"layers": 6, "hidden_size": 384, "parameters": 22713986, "started_from": "bert.ckpt"},
  "devices": "CPU (2 cores)",
  "steps": {"this_run": 100, "in_all": 150},
  "examples_this_run": 3200,
  "seconds": {"training": 160.0, "evaluation": 65.4},
  "examples_per_second": 20.0,
  "peak_memory_mib": 2345.6,
  "evaluation": {
    "metric": "f1",
    "best": {"f1": 0.75, "step": 100},
    "last": {"f1": 0.7, "step": 150},
  },
  "results": {"dev": {"f1": 0.75, "loss": 0.5}},
  "checkpoints": {"kept": 2, "mib_each": 262.4},
  "checkpoint_in_use": "/tmp/out/best/model.ckpt-100",
}


def test_lines():
  assert report.lines(FACTS) == [
    "model: 6 layers, hidden size 384, 22.7 million parameters, from bert.ckpt",
    "trained: 100 steps (150 in all), 3200 examples in 2:40 on CPU (2 cores), 20.0 examples/s",
    "peak memory: 2346 MiB",
    "evaluation during training: 1:05",
    "best evaluation: f1 0.7500 at step 100",
    "last evaluation: f1 0.7000 at step 150",
    "result on dev: f1 0.7500  loss 0.5000",
    "checkpoints: 2 kept, 262 MiB each",
    "model in use: /tmp/out/best/model.ckpt-100",
  ]


def test_lines_without_evaluation():
  facts = {name: value for name, value in FACTS.items() if name != "evaluation"}
  facts["model"] = {**FACTS["model"], "started_from": None}
  found = report.lines(facts)
  assert found[0].endswith("from random weights")
  assert not any("evaluation:" in line for line in found)


def test_memory_is_left_out_where_the_system_does_not_count_it(monkeypatch):
  """Windows has no module resource."""
  assert report.peak_memory_mib() > 1
  monkeypatch.setitem(sys.modules, "resource", None)
  spec = importlib.util.spec_from_file_location("report_of_windows", report.__file__)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  assert module.peak_memory_mib() is None
  facts = {name: value for name, value in FACTS.items() if name != "peak_memory_mib"}
  assert module.lines(facts) == [line for line in report.lines(FACTS) if "memory" not in line]


def test_scalars_that_were_written_are_read(tmp_path):
  hooks.write_scalars(str(tmp_path), 10, {"loss": 0.5, "x": 1.0})
  hooks.write_scalars(str(tmp_path), 20, {"loss": 0.25})
  hooks.write_scalars(str(tmp_path), 10, {"loss": 0.75})  # after going on from step 5
  (events,) = tmp_path.glob("events.*")
  whole = {"loss": {10: 0.75, 20: 0.25}, "x": {10: 1.0}}
  assert report.read_scalars(str(tmp_path)) == whole
  events.write_bytes(events.read_bytes() + b"cut off")
  assert report.read_scalars(str(tmp_path)) == whole


def test_the_picture_has_a_panel_for_all_that_is_known(tmp_path):
  pytest.importorskip("matplotlib")
  assert not report.draw(str(tmp_path)).axes
  hooks.write_scalars(str(tmp_path), 10, {"loss": 0.5, "learning_rate": 1e-4})
  hooks.write_scalars(str(tmp_path), 20, {"loss": 0.25, "learning_rate": 5e-5})
  entry = {"accuracy": 0.5, "loss": 0.625, "step": 20}
  (tmp_path / "eval_history.jsonl").write_text(json.dumps(entry) + "\n")
  metrics = {
    "confusion_matrix": [[3, 1], [0, 4]],
    "per_class": [{"label": "good"}, {"label": "bad"}],
  }
  (tmp_path / "eval_metrics.json").write_text(json.dumps(metrics))
  loss, rate, dev, confusion = report.draw(str(tmp_path)).axes
  training, evaluated = ([*line.get_xydata().ravel()] for line in loss.lines)
  assert training == [10, 0.5, 20, 0.25] and evaluated == [20, 0.625]
  assert [axes.get_title() for axes in (rate, dev)] == ["learning rate", "dev"]
  assert [line.get_label() for line in dev.lines] == ["accuracy"]
  assert [text.get_text() for text in confusion.texts] == ["3", "1", "0", "4"]


def confusion_of(directory, labels):
  """Writes a confusion matrix of zeros, with these labels."""
  metrics = {
    "confusion_matrix": [[0] * len(labels)] * len(labels),
    "per_class": [{"label": label} for label in labels],
  }
  (directory / "eval_metrics.json").write_text(json.dumps(metrics))


def test_labels_that_are_no_plain_words(tmp_path, recwarn):
  """Such as a formula that cannot be read, letters that the font lacks, and a whole text."""
  pytest.importorskip("matplotlib")
  confusion_of(tmp_path, ["$a_$", "\u597d", "x" * 500, "a\nb"])
  report._write_picture(str(tmp_path))
  assert (tmp_path / "report.png").stat().st_size > 1000
  assert not recwarn.list
  (axes,) = report.draw(str(tmp_path)).axes
  names = [text.get_text() for text in axes.get_xticklabels()]
  assert names == [r"\$a_\$", "\u597d", "x" * 17 + "...", "a b"]


def test_a_matrix_of_many_labels_has_no_text(tmp_path):
  """Thousands of counts take minutes to draw, and cannot be read."""
  pytest.importorskip("matplotlib")
  confusion_of(tmp_path, [str(number) for number in range(150)])
  (axes,) = report.draw(str(tmp_path)).axes
  assert not axes.texts and len(axes.get_xticklabels()) < 20
