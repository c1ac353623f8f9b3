"""What the command line prints of a record."""

from toolkit.serving import tagger
from toolkit.tasks import tagging


def test_entities_of_a_record():
  sentence = tagging.split_text("In  New\tYork.")
  record = tagging.prediction_record(sentence, ["O", "B-LOC", "I-LOC", "O"])
  assert tagger.record_lines(record) == ["New York  LOC  (characters 4 to 12)"]
  record = tagging.prediction_record(sentence, ["O"] * 4)
  assert tagger.record_lines(record) == ["no entities"]


def test_words_of_a_record_without_entities():
  sentence = tagging.split_text("In  Rome.")
  record = tagging.prediction_record(sentence, ["IN", "NNP", "."], tagging.WORD_TAGS)
  assert tagger.record_lines(record) == ["In  IN", "Rome  NNP", ".  ."]
  record = tagging.prediction_record(tagging.split_text(" "), [], tagging.WORD_TAGS)
  assert tagger.record_lines(record) == ["no words"]
