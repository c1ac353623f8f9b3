"""The command that prints the measures of SQuAD."""

import json
import os
import subprocess
import sys

import pytest

import squad_metrics
from toolkit.support import files

DIRECTORY = os.path.dirname(os.path.abspath(squad_metrics.__file__))


def dataset(**answers):
  """A data set of questions id=[answer, ...]."""
  qas = [
    {"id": qas_id, "question": "?", "answers": [{"text": t, "answer_start": 0} for t in texts]}
    for qas_id, texts in answers.items()
  ]
  paragraphs = [{"context": "", "qas": qas[:1]}, {"context": "", "qas": qas[1:]}]
  return {"version": "x", "data": [{"title": "t", "paragraphs": paragraphs}]}


@pytest.fixture(name="write")
def _write(tmp_path):
  def write(name, value):
    path = tmp_path / name
    path.write_text(json.dumps(value))
    return str(path)

  return write


def test_command_prints_version_1_in_a_line(write, capsys):
  squad_metrics.main([write("d.json", dataset(q=["x"])), write("p.json", {"q": "x"})])
  assert capsys.readouterr().out == '{"exact_match": 100.0, "f1": 100.0}\n'


def test_command_prints_version_2_indented(write, capsys):
  paths = [write("d.json", dataset(q=["x"], n=[])), write("p.json", {"q": "x", "n": "y"})]
  na_probs = write("o.json", {"q": -3.5, "n": 2.5})
  squad_metrics.main([*paths, f"--na_prob_file={na_probs}", "--na_prob_thresh=3"])
  out = capsys.readouterr().out
  assert out.startswith('{\n  "exact": 50.0,\n  "f1": 50.0,\n  "total": 2,\n')
  assert out.endswith('  "best_f1": 100.0,\n  "best_f1_thresh": -3.5\n}\n')


def test_command_writes_a_file(write, tmp_path, capsys):
  out_file = tmp_path / "out.json"
  arguments = [write("d.json", dataset(q=["x"])), write("p.json", {"q": "x"})]
  squad_metrics.main([*arguments, f"--out_file={out_file}"])
  assert json.loads(out_file.read_text()) == {"exact_match": 100.0, "f1": 100.0}
  assert capsys.readouterr().out == ""
  with pytest.raises(files.InputError, match=r"out\.json: cannot be written: No such file"):
    squad_metrics.main([*arguments, f"--out_file={tmp_path}/none/out.json"])


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "the following arguments are required: dataset, predictions"),
    (["d", "p", "--na_prob=x"], "unrecognized arguments: --na_prob=x"),
    (["d", "p", "--na_prob_thresh=x"], "invalid float value: 'x'"),
    (["none.json", "p"], "none.json: cannot be read: No such file or directory"),
  ],
)
def test_mistakes_on_the_command_line(arguments, message):
  with pytest.raises(files.InputError, match=message):
    squad_metrics.main(arguments)


def test_command_alone_reports_a_mistake_in_a_line():
  command = [sys.executable, "squad_metrics.py", "none.json", "none.json"]
  done = subprocess.run(command, cwd=DIRECTORY, capture_output=True, text=True, check=False)
  assert done.returncode == 1 and done.stdout == ""
  assert done.stderr == (
    "squad_metrics.py: error: none.json: cannot be read: No such file or directory\n"
  )


def test_needs_no_tensorflow():
  code = "import sys, squad_metrics; assert 'tensorflow' not in sys.modules"
  subprocess.run([sys.executable, "-c", code], cwd=DIRECTORY, check=True)
