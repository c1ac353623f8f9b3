"""Pre-training instances: reading, drawing, masking; their records and the records' metadata."""

import bz2
import collections
import gzip
import hashlib
import itertools
import json
import random
import subprocess
import sys

import pytest
import tensorflow.compat.v1 as tf
from hypothesis import given
from hypothesis import strategies as st

import tokenization
from toolkit.records import tf_records
from toolkit.support import files
from toolkit.tasks import pretraining
from toolkit.tasks.pretraining import Settings, TrainingInstance

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]", "<S>"]
WORDS = ["the", "ship", "sail", "##ed", "##ing", "never", "came", "back", "bread", "is", "bake"]
WORDS += ["##d", "in", "stone", "oven", "##s", ".", ",", "una", "##ffa", "##ble"]
CHINESE = ["手", "机", "电", "##机", "##视", "视", "ok"]
VOCAB = [*SPECIAL, *WORDS, *CHINESE]
SPELT = ["the", "ship", "sailed", "sailing", "never", "came", "back", "bread", "is", "baked", "in"]
SPELT += ["stone", "ovens", "unaffable", ","]
SEEDS = st.integers(0, 2**32)


@pytest.fixture(name="vocab_file", scope="module")
def _vocab_file(tmp_path_factory):
  path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
  path.write_text("".join(f"{token}\n" for token in VOCAB), encoding="utf-8")
  return str(path)


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(vocab_file):
  return tokenization.FullTokenizer(vocab_file)


def made_up_text(num_documents, seed=7):
  """Documents of 1 to 12 sentences of 2 to 15 words."""
  rng = random.Random(seed)

  def sentence():
    return " ".join(rng.choices(SPELT, k=rng.randint(2, 15))) + " .\n"

  documents = ("".join(sentence() for _ in range(rng.randint(1, 12))) for _ in range(num_documents))
  return "\n".join(documents)


@pytest.fixture(name="corpus", scope="module")
def _corpus(tmp_path_factory):
  path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
  path.write_text(made_up_text(12))
  return str(path)


def create(path, tokenizer, seed=1, **settings):
  """Runs create_training_instances with small defaults."""
  names = ("max_seq_length", "dupe_factor", "short_seq_prob", "masked_lm_prob")
  values = {"max_seq_length": 32, "max_predictions_per_seq": 5, "dupe_factor": 2, **settings}
  values = {**Settings()._asdict(), **values}
  positional = [values[name] for name in (*names, "max_predictions_per_seq")]
  rest = {
    name: settings[name] for name in settings if name not in (*names, "max_predictions_per_seq")
  }
  return pretraining.create_training_instances(
    [path], tokenizer, *positional, random.Random(seed), **rest
  )


def content(instances):
  """All fields of instances, as plain values."""
  return [
    [i.tokens, i.segment_ids, i.masked_lm_positions, i.masked_lm_labels, i.is_random_next]
    for i in instances
  ]


def unmasked(instance):
  """The two segments as they were."""
  tokens = list(instance.tokens)
  for place, label in zip(instance.masked_lm_positions, instance.masked_lm_labels):
    tokens[place] = label
  middle = tokens.index("[SEP]")
  assert tokens[0] == "[CLS]" and tokens[-1] == "[SEP]"
  assert instance.segment_ids == [0] * (middle + 1) + [1] * (len(tokens) - middle - 1)
  return tokens[1:middle], tokens[middle + 1 : -1]


# ---- Random draws -------------------------------------------------------------------------------


@given(st.integers(0, 300), SEEDS)
def test_shuffle_draws_like_the_standard_library(size, seed):
  ours, theirs = random.Random(seed), random.Random(seed)
  items, expected = list(range(size)), list(range(size))
  pretraining._shuffle(items, ours)
  theirs.shuffle(expected)
  assert items == expected and ours.getstate() == theirs.getstate()


def test_shuffle_leaves_other_generators_their_way():
  class Reversing(random.Random):
    def shuffle(self, x):
      x.reverse()

  items = [1, 2, 3]
  pretraining._shuffle(items, Reversing())
  assert items == [3, 2, 1]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(2, 80), SEEDS)
def test_pairs_lose_one_piece_after_the_other(size_a, size_b, max_num_tokens, seed):
  a, b = list(range(size_a)), list(range(100, 100 + size_b))
  left_a, left_b = list(a), list(b)
  rng = random.Random(seed)
  while len(left_a) + len(left_b) > max_num_tokens:
    longer = left_a if len(left_a) > len(left_b) else left_b
    longer.pop(0 if rng.random() < 0.5 else -1)
  ours = random.Random(seed)
  pretraining.truncate_seq_pair(a, b, max_num_tokens, ours)
  assert (a, b) == (left_a, left_b) and ours.getstate() == rng.getstate()


@pytest.mark.parametrize(
  ("settings", "digest"),
  [
    ({}, "fd0a05cd9c033371"),
    ({"do_whole_word_mask": True}, "010e59ebcc912981"),
    (
      {"max_seq_length": 5, "max_predictions_per_seq": 1, "short_seq_prob": 0.9},
      "1afbde29c3a8acc5",
    ),
    (
      {"do_whole_word_mask": True, "masked_lm_prob": 0.9, "max_predictions_per_seq": 20},
      "afc15664c802960e",
    ),
  ],
)
def test_same_seed_gives_the_instances_it_always_gave(corpus, tokenizer, settings, digest):
  made = json.dumps(content(create(corpus, tokenizer, **settings))).encode()
  assert hashlib.sha256(made).hexdigest()[:16] == digest


# ---- Instances ----------------------------------------------------------------------------------


def test_segments_come_from_where_the_labels_say(corpus, tokenizer):
  documents = [
    [tokenizer.tokenize(sentence) for sentence in document]
    for document in pretraining.read_documents(corpus)
  ]

  def runs_in(index):
    """All runs of sentences of a document: their pieces -> how many sentences."""
    document = documents[index]
    ends = itertools.combinations(range(len(document) + 1), 2)
    return {tuple(itertools.chain(*document[i:j])) for i, j in ends}

  rng = random.Random(3)
  labels = collections.Counter()
  for index in range(len(documents)):
    # If all fits, nothing is cut off, and only a whole document fills an input.
    instances = pretraining.create_instances_from_document(
      documents, index, 2000, 0.0, 0.15, 20, VOCAB, rng
    )
    for instance in instances:
      a, b = unmasked(instance)
      labels[instance.is_random_next] += 1
      assert tuple(a) in runs_in(index)
      if instance.is_random_next:
        assert any(tuple(b) in runs_in(i) for i in range(len(documents)) if i != index)
      else:
        assert tuple(a + b) in runs_in(index)
  assert min(labels.values()) > 5


def test_documents_end_with_their_files(tmp_path, tokenizer):
  for name, word in (("a", "ship"), ("b", "bread")):
    (tmp_path / name).write_text(f"{word} {word}\n" * 6)  # no blank line at the end
  instances = pretraining.create_training_instances(
    [str(tmp_path / "a"), str(tmp_path / "b")], tokenizer, 64, 5, 0.0, 0.15, 5, random.Random(1)
  )
  for instance in instances:
    a, b = unmasked(instance)
    assert len(set(a)) == 1 and (set(a) == set(b)) == (not instance.is_random_next)


def test_random_next_sentence_of_a_single_document(tokenizer, tmp_path):
  (tmp_path / "a").write_text("the ship\n" * 8)
  assert any(i.is_random_next for i in create(str(tmp_path / "a"), tokenizer))


def test_segments_cut_at_random(corpus, tokenizer):
  whole = [unmasked(i) for i in create(corpus, tokenizer, max_seq_length=500)]
  cut = [
    unmasked(i) for i in create(corpus, tokenizer, max_seq_length=500, truncate_segments_prob=1.0)
  ]

  def share_of_sentences(pairs):
    segments = list(itertools.chain(*pairs))
    return sum(segment[-1] == "." for segment in segments) / len(segments)

  assert share_of_sentences(whole) == 1
  assert share_of_sentences(cut) < 0.7  # one in two loses its end
  assert all(a and b for a, b in cut)


def test_instance_shows_itself():
  instance = TrainingInstance(["[CLS]", "a", "[SEP]"], [0, 0, 1], [1], ["b"], True)
  assert str(instance) == repr(instance)
  assert str(instance).splitlines() == [
    "tokens: [CLS] a [SEP]",
    "segment_ids: 0 0 1",
    "is_random_next: True",
    "masked_lm_positions: 1",
    "masked_lm_labels: b",
    "",
  ]


# ---- Masking ------------------------------------------------------------------------------------

SENTENCE = ["[CLS]", "the", "ship", "sail", "##ed", ".", "[SEP]", "una", "##ffa", "##ble", "[SEP]"]
WHOLE_WORDS = [{1}, {2}, {3, 4}, {5}, {7, 8, 9}]


@given(st.floats(0, 1), st.integers(1, 12), SEEDS, st.booleans(), st.booleans())
def test_masks(share, most, seed, whole_words, per_word):
  tokens, places, labels = pretraining.create_masked_lm_predictions(
    SENTENCE, share, most, WORDS, random.Random(seed), whole_words, mask_per_word=per_word
  )
  wanted = min(most, max(1, round(11 * share)))
  assert len(places) == (min(wanted, 8) if not whole_words else len(places)) <= wanted
  assert places == sorted(set(places)) and not {0, 6, 10} & set(places)
  assert labels == [SENTENCE[i] for i in places]
  assert [t for i, t in enumerate(tokens) if i not in places] == [
    t for i, t in enumerate(SENTENCE) if i not in places
  ]
  if whole_words:
    assert all(word <= set(places) or not word & set(places) for word in WHOLE_WORDS)
    for word in WHOLE_WORDS if per_word else ():
      assert len({tokens[i] == "[MASK]" for i in word}) == 1


def test_whole_words_that_are_too_long_are_passed_over():
  for seed in range(50):
    _, places, _ = pretraining.create_masked_lm_predictions(
      SENTENCE, 1.0, 2, VOCAB, random.Random(seed), True
    )
    assert len(places) == 2 and 7 not in places


def test_a_word_that_has_lost_its_beginning_goes_to_the_word_before():
  tokens = ["[CLS]", "ship", "[SEP]", "##ed", "back", "[SEP]"]
  assert pretraining._whole_words(tokens) == [[1, 3], [4]]


@pytest.mark.parametrize("per_word", [False, True])
def test_eight_of_ten_are_masked_and_one_is_replaced(per_word):
  tokens = ["[CLS]", *["sail", "##ed"] * 30, "[SEP]"]
  outcomes = collections.Counter()
  rng = random.Random(1)
  for _ in range(200):
    masked, places, labels = pretraining.create_masked_lm_predictions(
      tokens, 1.0, 60, ["other"], rng, True, mask_per_word=per_word
    )
    outcomes.update(
      masked[i] if masked[i] in ("[MASK]", "other") else masked[i] == label
      for i, label in zip(places, labels)
    )
  shares = {outcome: count / 12000 for outcome, count in outcomes.items()}
  assert shares == pytest.approx({"[MASK]": 0.8, "other": 0.1, True: 0.1}, abs=0.02)


def test_special_replacements(corpus, tokenizer):
  def replacements(**settings):
    instances = create(corpus, tokenizer, dupe_factor=20, masked_lm_prob=0.9, **settings)
    return {i.tokens[place] for i in instances for place in i.masked_lm_positions} - {"[MASK]"}

  assert {"[PAD]", "[unused1]", "<S>"} <= replacements()
  plain = replacements(special_replacements=False)
  assert not plain & set(SPECIAL) and {"手", "ship", "##ing"} <= plain


def test_a_vocabulary_without_words():
  with pytest.raises(files.InputError, match="special tokens only"):
    pretraining._replacement_words(SPECIAL, False)


@pytest.mark.parametrize(
  ("lines", "words"),
  [
    (["a", "", "b"], ["a", "", "b"]),
    (["a", "b", " ", "", ""], ["a", "b"]),
    (["a", "b", "a"], ["a", "b"]),
  ],
)
def test_blank_lines_at_the_end_replace_no_piece(tmp_path, lines, words):
  (tmp_path / "vocab.txt").write_text("\n".join(lines) + "\n")
  vocab = tokenization.load_vocab(str(tmp_path / "vocab.txt"))
  assert pretraining._replacement_words(vocab, True) == words


def test_chinese_words(tmp_path, tokenizer):
  text = "手机 电视ok机, 手\u3000机电\n" * 3
  (tmp_path / "a").write_text(text * 4 + "\n" + text * 4, encoding="utf-8")
  pieces = ["手", "机", "电", "视", "ok", "机", ",", "手", "机", "电"]
  assert tokenizer.tokenize(text.split("\n")[0]) == pieces
  words = [[0, 1], [2, 3], [4], [5], [6], [7], [8, 9]]
  settings = {"do_whole_word_mask": True, "chinese_whole_words": True, "masked_lm_prob": 0.3}
  instances = create(str(tmp_path / "a"), tokenizer, max_seq_length=500, **settings)
  assert instances
  seen = collections.Counter()
  for instance in instances:
    for offset, segment in zip((1, instance.segment_ids.index(1)), unmasked(instance)):
      assert segment == pieces * (len(segment) // 10)  # as without the mode
      for start in range(offset, offset + len(segment), 10):
        for word in words:
          masked = [start + i in instance.masked_lm_positions for i in word]
          assert len(set(masked)) == 1
          seen[len(word)] += masked[0]
  assert seen[1] and seen[2]


def test_chinese_marks_leave_random_replacements_alone():
  tokens = ["[CLS]", "手", "##机", "[SEP]"]
  for seed in range(40):
    masked, _, labels = pretraining.create_masked_lm_predictions(
      tokens, 1.0, 2, ["##视"], random.Random(seed), True, chinese_whole_words=True
    )
    assert labels == ["手", "机"] and set(masked[1:3]) <= {"手", "机", "[MASK]", "##视"}


# ---- Reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("name", "pack"), [("a.txt", bytes), ("a.txt.gz", gzip.compress), ("a.txt.bz2", bz2.compress)]
)
def test_documents(tmp_path, name, pack):
  path = tmp_path / name
  text = "\n \n One. \r\nTwo\u2028two.\n\u3000\n\n\nThree.\n\nFour."
  path.write_bytes(pack(b"\xef\xbb\xbf" + text.encode()))
  assert list(pretraining.read_documents(str(path))) == [
    ["One.", "Two\u2028two."],
    ["Three."],
    ["Four."],
  ]
  assert pretraining.survey([str(path)] * 2) == ([str(path)] * 2, 6, 8, 2 * (4 + 10 + 6 + 5))


@pytest.mark.parametrize(
  ("name", "data", "message"),
  [
    ("a.txt", b"one\n\ntw\xe4\n", r"a\.txt:3: found byte 0xe4, which is not UTF-8"),
    ("a.gz", gzip.compress(b"one\ntw\xe4\n", mtime=0), r"a\.gz:2: found byte 0xe4"),
    ("a.gz", gzip.compress(b"one\n" * 9999, mtime=0)[:-20], r"a\.gz: cannot be read.*ended before"),
    ("a.gz", b"no gzip", r"a\.gz: cannot be read: Not a gzipped file"),
    ("a.bz2", bz2.compress(b"one\n" * 9999)[:-20], r"a\.bz2: cannot be read.*ended before"),
    ("a.txt", b" \n\n\xe3\x80\x80\n", r"--input_file: found no text in .*a\.txt"),
    ("a.txt", b"", "found no text"),
  ],
)
def test_corpora_that_cannot_be_used(tmp_path, name, data, message):
  path = tmp_path / name
  path.write_bytes(data)
  with pytest.raises(files.InputError, match=message) as caught:
    pretraining.survey([str(path)])
  assert "\n" not in str(caught.value)


def test_corpora_that_teach_nothing_about_next_sentences(tmp_path):
  def problem(text):
    (tmp_path / "a").write_text(text)
    return pretraining.layout_problem(pretraining.survey([str(tmp_path / "a")]))

  assert "single document of 2 lines" in problem("one\ntwo\n")
  assert "each of the 2 documents is a single line" in problem("one\n\ntwo\n")
  assert problem("one\ntwo\n\nthree\n") is None


@given(st.integers(1, 40), st.integers(2, 9))
def test_shards(num_documents, shard_documents):
  documents = [[str(i)] for i in range(num_documents)]
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(pretraining, "read_documents", lambda path: iter(documents))
    shards = list(pretraining.read_shards(["x"], shard_documents))
    (whole,) = pretraining.read_shards(["x"], 0)
    assert list(whole) == documents
  assert list(itertools.chain(*shards)) == documents
  assert all(len(shard) == shard_documents for shard in shards[:-1])
  assert min(2, num_documents) <= len(shards[-1]) <= shard_documents + 1


# ---- Settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("settings", "message"),
  [
    ({"max_seq_length": 4}, "--max_seq_length=4 is too small; give 5"),
    ({"max_predictions_per_seq": 0}, "--max_predictions_per_seq=0 is too small"),
    ({"max_predictions_per_seq": 129}, "129 is more than --max_seq_length=128"),
    ({"dupe_factor": 0}, "--dupe_factor=0 is too small"),
    ({"masked_lm_prob": 1.1}, "--masked_lm_prob=1.1 is no probability"),
    ({"short_seq_prob": -0.1}, "--short_seq_prob=-0.1 is no probability"),
    ({"truncate_segments_prob": float("nan")}, "--truncate_segments_prob=nan is no"),
    ({"shard_documents": 1}, "--shard_documents=1 cannot be used"),
    ({"shard_documents": -5}, "--shard_documents=-5 cannot be used"),
    ({"mask_per_word": True}, "--mask_per_word is about whole words"),
    ({"chinese_whole_words": True}, "--chinese_whole_words is about whole words"),
  ],
)
def test_settings_that_cannot_be_used(settings, message):
  with pytest.raises(files.InputError, match=message):
    Settings(**settings).check()


def test_settings_that_can_be_used(corpus, tokenizer):
  Settings().check()
  Settings(max_seq_length=5, max_predictions_per_seq=5, masked_lm_prob=1, short_seq_prob=0).check()
  with pytest.raises(files.InputError, match="dupe_factor"):  # the library checks, too
    create(corpus, tokenizer, dupe_factor=0)


# ---- Records ------------------------------------------------------------------------------------


def read_records(path):
  """Records of a file, parsed by TensorFlow: dicts of feature name -> list."""
  rows = []
  for record in tf.python_io.tf_record_iterator(str(path)):
    features = tf.train.Example.FromString(record).features.feature
    rows.append(
      {k: list(v.int64_list.value) or list(v.float_list.value) for k, v in features.items()}
    )
  return rows


INSTANCE = TrainingInstance(
  ["[CLS]", "the", "[MASK]", "[SEP]", "##ed", "[SEP]"],
  [0, 0, 0, 0, 1, 1],
  [1, 2],
  ["the", "ship"],
  True,
)
ROW = {
  "input_ids": [2, 7, 4, 3, 10, 3, 0, 0],
  "input_mask": [1, 1, 1, 1, 1, 1, 0, 0],
  "segment_ids": [0, 0, 0, 0, 1, 1, 0, 0],
  "masked_lm_positions": [1, 2, 0],
  "masked_lm_ids": [7, 8, 0],
  "masked_lm_weights": [1.0, 1.0, 0.0],
  "next_sentence_labels": [1],
}


def test_files_of_records(tmp_path, tokenizer, log):
  outputs = [str(tmp_path / name) for name in ("a", "b")]
  instances = [INSTANCE, TrainingInstance(*content([INSTANCE])[0][:4], False)] * 11
  pretraining.write_instance_to_example_files(instances, tokenizer, 8, 3, outputs)
  lines = [record.getMessage() for record in log.records]
  assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
  assert read_records(outputs[0]) == [ROW] * 11
  assert read_records(outputs[1]) == [{**ROW, "next_sentence_labels": [0]}] * 11
  assert lines[:3] == [
    "*** Example ***",
    "tokens: [CLS] the [MASK] [SEP] ##ed [SEP]",
    "input_ids: 2 7 4 3 10 3 0 0",
  ]
  assert lines[7:9] == ["masked_lm_weights: 1.0 1.0 0.0", "next_sentence_labels: 1"]
  assert lines.count("*** Example ***") == 20 and lines[-1] == "Wrote 22 total instances"


def test_long_records():
  ids = {f"w{i}": i for i in range(300)}
  tokens = [f"w{i}" for i in range(300)]
  instance = TrainingInstance(tokens, [0] * 150 + [1] * 150, [5, 127, 128, 299], tokens[-4:], False)
  record = pretraining.RecordMaker(ids, 400, 4).make(instance)
  row = tf_records.parse(record[12:-4])
  assert row["input_ids"] == [*range(300), *[0] * 100]
  assert row["masked_lm_positions"] == [5, 127, 128, 299]
  assert row["masked_lm_ids"] == [296, 297, 298, 299]


@pytest.mark.parametrize("lengths", [(5, 3), (8, 1)])
def test_instances_that_do_not_fit(tmp_path, tokenizer, lengths):
  with pytest.raises(ValueError, match="An instance of 6 word pieces, 2 of them masked"):
    pretraining.write_instance_to_example_files(
      [INSTANCE], tokenizer, *lengths, [str(tmp_path / "a")]
    )
  assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(tmp_path, tokenizer, monkeypatch):
  output = tmp_path / "a"
  output.write_text("old")

  def full(path, mode):
    open(path, mode).close()
    return open("/dev/full", mode)

  monkeypatch.setattr(pretraining, "open", full, raising=False)
  with pytest.raises(files.InputError, match="a: cannot be written: No space left on device"):
    pretraining.write_instance_to_example_files([INSTANCE], tokenizer, 8, 3, [str(output)])
  assert output.read_text() == "old" and list(tmp_path.iterdir()) == [output]


# ---- Metadata -----------------------------------------------------------------------------------


@pytest.fixture(name="records")
def _records(tmp_path):
  """Paths of two files of a set, which have 5 bytes each, with metadata."""
  paths = [str(tmp_path / f"x-0000{i}-of-00002") for i in range(2)]
  for path in paths:
    files.write_text(path, "12345")
  totals = {"num_documents": 3, "num_instances": 7, "num_random_next": 2}
  metadata = pretraining.make_metadata(
    Settings("vocab.txt", max_seq_length=64), "abc", 100, totals, paths, [4, 3], [5, 5]
  )
  assert "vocab_file" not in metadata and metadata["files"]["x-00001-of-00002"]["records"] == 3
  files.write_json(pretraining.metadata_path(paths[0]), metadata)
  return paths


def test_metadata_that_fits(records, tmp_path):
  (found,) = pretraining.check_metadata(
    [*records, str(tmp_path / "x.meta.json")], max_seq_length=64, max_predictions_per_seq=20
  )
  assert found["num_instances"] == 7 and found["vocab_sha256"] == "abc"
  assert pretraining.check_metadata([str(tmp_path / "other")], max_seq_length=1) == []


def test_metadata_that_does_not_fit(records):
  with pytest.raises(files.InputError) as caught:
    pretraining.check_metadata(
      records, max_seq_length=128, max_predictions_per_seq=20, vocab_size=9
    )
  message = str(caught.value)
  assert "x-00000-of-00002" in message and "max_predictions_per_seq" not in message
  assert "max_seq_length is 64 there, and not 128; vocab_size is 100 there, and not 9" in message


def test_records_that_are_not_complete(records):
  files.write_text(records[1], "123")
  with pytest.raises(files.InputError, match="x-00001-of-00002: has 3 bytes, and not the 5 of"):
    pretraining.check_metadata(records)


def test_renamed_records(records, tmp_path):
  files.write_text(str(tmp_path / "y"), "1")
  files.write_json(str(tmp_path / "y.meta.json"), files.read_json(str(tmp_path / "x.meta.json")))
  assert len(pretraining.check_metadata([*records, str(tmp_path / "y")])) == 2


def test_records_of_two_vocabularies(records, tmp_path):
  metadata = files.read_json(str(tmp_path / "x.meta.json"))
  files.write_json(str(tmp_path / "y.meta.json"), {**metadata, "vocab_sha256": "def"})
  files.write_text(str(tmp_path / "y"), "1")
  with pytest.raises(files.InputError, match=r"y\.meta\.json: .*vocab_sha256 is 'def' there"):
    pretraining.check_metadata([*records, str(tmp_path / "y")])


@pytest.mark.parametrize("text", ["{}", "[1]", '{"format_version": 2}'])
def test_metadata_of_another_kind(records, tmp_path, text):
  (tmp_path / "x.meta.json").write_text(text)
  with pytest.raises(files.InputError, match=r"x\.meta\.json: is not metadata of records"):
    pretraining.check_metadata(records)


@pytest.mark.parametrize(
  ("path", "expected"),
  [
    ("d/a.tfrecord", "d/a.tfrecord.meta.json"),
    ("a-00003-of-00010", "a.meta.json"),
    ("a-00003-of-00010.gz", "a-00003-of-00010.gz.meta.json"),
  ],
)
def test_where_metadata_is(path, expected):
  assert pretraining.metadata_path(path) == expected


def test_needs_no_tensorflow():
  code = "import sys, create_pretraining_data; sys.exit('tensorflow' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
