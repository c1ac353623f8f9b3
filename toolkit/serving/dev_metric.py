"""The metric of a loaded model on a dev set, to compare an export with its checkpoint."""

from collections.abc import Callable
from typing import Any, NamedTuple, Optional

import numpy as np

from toolkit.formats import model_directory
from toolkit.metrics import squad_scores
from toolkit.serving import loading
from toolkit.support import command_line, files
from toolkit.tasks import classification, multiple_choice, squad, tagging


class DevMetric(NamedTuple):
  """A metric of a dev set.

  Attributes:
    name: of the metric, such as "accuracy".
    score: function of a loaded model to its value, 0 to 1, or -1 to 1 for correlations.
    size: number of examples.
    is_percent: True for values of 0 to 100, such as f1 of answers.
  """

  name: str
  score: Callable[[Any], float]
  size: int
  is_percent: bool = False


def read(output_dir: str, data_dir: Optional[str], predict_file: Optional[str]) -> DevMetric:
  """Reads the dev set of a trained model, by the settings of its training.

  Args:
    output_dir: of the training.
    data_dir: directory of the task's data; for all but run_squad.py.
    predict_file: file of questions with answers, for run_squad.py.

  Raises:
    files.InputError: the set cannot be read, is not given by its flag, or the script has none.
  """
  script = loading.script_of(output_dir)
  if script not in _READERS:
    raise files.InputError(f"--output_dir: models of {script}.py have no dev set; leave it out")
  flag, value = ("predict_file", predict_file) if script == "run_squad" else ("data_dir", data_dir)
  if not value:
    raise files.InputError(f"--{flag}: give the dev set of {script}.py by this flag")
  found = model_directory.load_trained(output_dir, script)
  changes = {"do_train": False, "do_eval": True, "do_predict": False, flag: value}
  settings = command_line.Settings({**found.flags, **changes})
  return _READERS[script](settings, found.labels)


def _classification(settings, labels):
  task = classification.task_of(settings, labels)
  (examples, *_) = classification.read_sets(task, settings).values()
  texts = [e.text_a if e.text_b is None else (e.text_a, e.text_b) for e in examples]
  gold = [example.label for example in examples]

  def score(model):
    found = model.classify(texts)
    if task.kind is classification.NUMBER:
      rows = [[prediction.value] for prediction in found]
    else:
      rows = [list(prediction.probabilities.values()) for prediction in found]
    threshold = model.threshold
    return task.kind.score(gold, np.array(rows, np.float32), labels or [], threshold)[name]

  name = task.kind.metrics[0]
  return DevMetric(name, score, len(examples))


def _multiple_choice(settings, labels):
  del labels
  questions = multiple_choice.read_sets(settings)[0]["dev"]
  asked = [(each.choices, each.question, each.context) for each in questions]

  def score(model):
    found = model.choose_all(asked)
    places = [each.choices.index(best.text) for each, (best, *_) in zip(questions, found)]
    return multiple_choice.score(questions, places)["accuracy"]

  return DevMetric("accuracy", score, len(questions))


def _tagging(settings, labels):
  corpora, scheme = tagging.read_sets(settings, labels)
  corpus = corpora["dev"]
  kind = tagging.kind_of(tagging.scheme_of(labels, scheme))
  gold = [sentence.tags or [] for sentence in corpus.sentences]

  def score(model):
    return kind.score(gold, model.tag_sentences(corpus.sentences))[name]

  name = "f1" if kind is tagging.ENTITY_TAGS else "accuracy"
  return DevMetric(name, score, len(corpus.sentences))


def _squad(settings, labels):
  del labels
  path = settings.predict_file
  squad_scores.check_scorable(path)
  examples = squad.read_squad_examples(path, False, settings.version_2_with_negative)
  pairs = [(each.question_text, each.paragraph_text) for each in examples]
  dataset = files.read_json(path)

  def score(model):
    found = [answer.text for answer in model.ask_all(pairs)]
    predictions = {example.qas_id: text for example, text in zip(examples, found)}
    return squad_scores.evaluate(dataset, predictions)["f1"]

  return DevMetric("f1", score, len(examples), is_percent=True)


_READERS = {
  "run_classifier": _classification,
  "run_multiple_choice": _multiple_choice,
  "run_ner": _tagging,
  "run_squad": _squad,
}
