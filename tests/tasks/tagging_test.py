"""Files of words and tags, windows of long sentences, and predictions per word."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import SPECIAL

import tokenization
from toolkit.metrics.entities import Entity, find_entities
from toolkit.records import tf_records
from toolkit.support import command_line, files
from toolkit.tasks import tagging
from toolkit.tasks.tagging import Layout, Sentence, first_pieces, read_corpus

VOCAB = [*SPECIAL, "ada", "love", "##lace", "moved", "to", "lisbon", ".", "in", "a", "b", "c"]
ZERO_WIDTH = "\u200b"


@pytest.fixture(name="tokenizer", scope="module")
def _tokenizer(tmp_path_factory):
  path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
  path.write_text("\n".join(VOCAB) + "\n")
  return tokenization.FullTokenizer(str(path))


@pytest.fixture(name="write")
def _write(tmp_path):
  """Function of a text that writes it to a file and returns the path."""

  def write(text):
    path = tmp_path / "words.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)

  return write


def words_and_tags(corpus):
  return [" ".join(map("/".join, zip(s.words, s.tags))) for s in corpus.sentences]


# ---- Reading ------------------------------------------------------------------------------------


def test_two_columns(write):
  corpus = read_corpus(write("Ada B-PER\nmoved\tO\n\n\nto   O \r\nLisbon B-LOC"))
  assert words_and_tags(corpus) == ["Ada/B-PER moved/O", "to/O Lisbon/B-LOC"]
  assert [s.lines for s in corpus.sentences] == [[1, 2], [5, 6]]
  assert corpus.other_lines == {3: "", 4: ""}
  assert corpus.is_tagged()


def test_the_columns_of_conll_2003(write):
  text = (
    "-DOCSTART- -X- -X- O\n\nAda NNP I-NP I-PER\nleft VBD I-VP O\n-DOCSTART- -X- O O\nSo RB O O\n"
  )
  corpus = read_corpus(write(text))
  assert words_and_tags(corpus) == ["Ada/B-PER left/O", "So/O"]
  assert corpus.other_lines == {1: "-DOCSTART-", 2: "", 5: "-DOCSTART-"}
  corpus = read_corpus(write(text), Layout(label_column=2))
  assert words_and_tags(corpus) == ["Ada/B-NP left/B-VP", "So/O"]


def test_columns_delimiter_and_comments(write):
  text = "# id = 1\n1\tNew York\tB-LOC\n# no word\n2\t#\tO\n"
  layout = Layout(token_column=1, delimiter="tab", comment_prefix="# ")
  corpus = read_corpus(write(text), layout)
  assert words_and_tags(corpus) == ["New York/B-LOC #/O"]
  assert corpus.other_lines == {1: "# id = 1", 3: "# no word"}
  assert layout == layout._replace(delimiter="\\t")._replace(delimiter="tab")
  assert read_corpus(write(text), layout._replace(delimiter="\\t")) == corpus


@pytest.mark.parametrize("odd", ["10\u00a0000", "\u3000", "\x85", "\x1c", ZERO_WIDTH, "a\u2028b"])
def test_words_may_have_odd_spaces_and_controls(write, odd):
  corpus = read_corpus(write(f"a O\n{odd} O\nb O\n"))
  assert corpus.sentences[0].words == ["a", odd, "b"]


def test_words_without_tags(write):
  path = write("Ada\nmoved\n\nSo\n")
  corpus = read_corpus(path, has_tags=None)
  assert [s.words for s in corpus.sentences] == [["Ada", "moved"], ["So"]]
  assert not corpus.is_tagged()
  path = write("Ada NNP\n")
  assert not read_corpus(path, has_tags=False).is_tagged()
  with pytest.raises(files.InputError, match="'NNP'"):
    read_corpus(path, Layout(tag_scheme=tagging.ENTITIES), has_tags=None)


@pytest.mark.parametrize(
  ("text", "layout", "match"),
  [
    ("", {}, "words.txt: has no words"),
    ("\n \n-DOCSTART- O\n", {}, "words.txt: has no words"),
    ("a O\nb\n", {}, "words.txt:2: found 1 column, in which --token_column=0 and --label_col"),
    ("a O\nb O\n", {"label_column": 2}, ":1: found 2 columns, too few for --label_column=2"),
    ("a O\n", {"token_column": -3}, ":1: found 2 columns, too few for --token_column=-3"),
    ("a O\n", {"label_column": 0}, ":1: found 2 columns, in which .*are the same"),
    ("a\tO\n\tO\n", {"delimiter": "\t"}, ":2: has nothing in --token_column=0"),
    ("a\tO\nb\t\n", {"delimiter": "\t"}, ":2: has nothing in --label_column=-1"),
    ("a B-A\nb O\nc NN\n", {}, ":3: found the tag 'NN', should be O, or B-.*--tag_scheme=none"),
    ("a O\nb NN\n", {"tag_scheme": "iob1"}, ":2: found the tag 'NN'.*--tag_scheme=none"),
    ("a O\nb NN\n", {"tag_scheme": tagging.ENTITIES}, r":2: found the tag 'NN'.*right\?$"),
    ("a O\nb B-\n", {}, ":2: found the tag 'B-'"),
    ("a NN\nb I-\n", {}, ":1: found the tag 'NN'"),
    ("Word POS\na NN\n", {}, ":1: found a header; .*--token_column=Word --label_column=POS"),
    (b"a O\nb\0 O\n", {}, ":2: found a NUL byte"),
    (b"a O\n\xff O\n", {}, ":2: found byte 0xff, which is not UTF-8"),
  ],
)
def test_files_that_cannot_be_used(write, text, layout, match):
  with pytest.raises(files.InputError, match=match) as caught:
    read_corpus(write(text), Layout(**layout))
  assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
  with pytest.raises(files.InputError, match="nowhere: cannot be read"):
    read_corpus(str(tmp_path / "nowhere"))


# ---- Tables -------------------------------------------------------------------------------------

# The second sentence has a comma and a quote for words; the third one has a column "Sentence: 1"
# again, behind rows without any.
ONCE = """Sentence #,Word,POS,Tag
Sentence: 1,Ada,NNP,B-PER
,left,VBD,O
Sentence: 2,"New York, NY",NNP,B-LOC
,",",",",O
,""\"\",``,O
Sentence: 1,So,RB,O
"""
KAGGLE = Layout("Word", "Tag", sentence_column="Sentence #", delimiter=",")
SENTENCES = [["Ada", "left"], ["New York, NY", ",", '"'], ["So"]]
TAGS = [["B-PER", "O"], ["B-LOC", "O", "O"], ["O"]]


def filled(text):
  """Repeats the cells of a sentence column in front."""
  rows, before = text.splitlines(), ""
  for place, row in enumerate(rows):
    before = row.split(",")[0] or before
    rows[place] = before + row[row.index(",") :]
  return "\n".join(rows) + "\n"


@pytest.mark.parametrize("text", [ONCE, filled(ONCE)])
def test_a_column_that_tells_sentences_apart(write, text):
  corpus = read_corpus(write(text), KAGGLE)
  assert [s.words for s in corpus.sentences] == SENTENCES
  assert [s.tags for s in corpus.sentences] == TAGS
  assert [s.lines for s in corpus.sentences] == [[2, 3], [4, 5, 6], [7]]
  numbers = Layout(1, 3, sentence_column=0, delimiter=",")
  headless = read_corpus(write(text.split("\n", 1)[1]), numbers)
  assert [(s.words, s.tags) for s in headless.sentences] == list(zip(SENTENCES, TAGS))
  corpus = read_corpus(write(text), KAGGLE._replace(label_column="POS", token_column=1))
  assert corpus.sentences[1].tags == ["NNP", ",", "``"]
  assert corpus.tag_scheme == tagging.NONE


def test_blank_lines_separate_sentences_of_a_table_too(write):
  text = "S\tW\tT\n1\ta\tX\n\tb\tY\n\n\tc\tX\n"
  for layout in (Layout("W", "T", sentence_column="S"), Layout("W", "T"), Layout("W")):
    corpus = read_corpus(write(text), layout)
    assert [s.words for s in corpus.sentences] == [["a", "b"], ["c"]]
    assert corpus.header[1][-2:] == ["W", "T"]


def test_a_sentence_column_of_spaces_must_be_full(write):
  layout = Layout(1, sentence_column=0)
  corpus = read_corpus(write("1 a X\n1 b Y\n2 c X\n2 d X\n"), layout)
  assert [s.words for s in corpus.sentences] == [["a", "b"], ["c", "d"]]
  with pytest.raises(files.InputError, match=r":2: found 2 columns, where .* has 3.*--del"):
    read_corpus(write("1 a X\n  b Y\n"), layout)


def test_csv_by_the_name_of_a_file(tmp_path):
  path = tmp_path / "words.CSV"
  path.write_text('a,X\n",",Y\n\n"b ""c""",X\n,\nd,Y\n')
  corpus = read_corpus(str(path))
  assert [s.words for s in corpus.sentences] == [["a", ","], ['b "c"'], ["d"]]
  assert corpus.other_lines == {3: "", 5: ""}
  path.write_text('a;X\n";";Y\n')
  assert read_corpus(str(path), Layout(delimiter=";")).sentences[0].words == ["a", ";"]
  path.write_text('a X\n" Y\n')
  assert read_corpus(str(path)).sentences[0].words == ["a", '"']
  path.write_text('a\tX\n"\tY\n')
  assert read_corpus(str(path), Layout(delimiter="tab")).sentences[0].words == ["a", '"']


def test_comments_and_documents_of_csv(write):
  text = '# a "quote", and\n-DOCSTART-,O\n\na,X\n# b\n",",Y\n-DOCSTART-,O\nb,X\n'
  corpus = read_corpus(write(text), Layout(delimiter=",", comment_prefix="#"))
  assert words_and_tags(corpus) == ["a/X ,/Y", "b/X"]
  assert corpus.other_lines == {
    1: '# a "quote", and',
    2: "-DOCSTART-",
    3: "",
    5: "# b",
    7: "-DOCSTART-",
  }
  predicted = tagging.format_corpus(corpus, [["Y", "X"], ["X"]], ",")
  assert predicted == (
    '# a "quote", and\n-DOCSTART-,O,O\n\na,X,Y\n# b\n",",Y,X\n-DOCSTART-,O,O\nb,X,X\n'
  )


@pytest.mark.parametrize(
  ("text", "changes", "match"),
  [
    (ONCE, {"token_column": "word"}, r"--token_column: there is no column 'word'; .*'Word', 'POS'"),
    (ONCE, {"sentence_column": "S"}, "--sentence_column: there is no column 'S'"),
    (ONCE, {"sentence_column": 4}, ":1: found 4 columns, too few for --sentence_column=4"),
    (ONCE, {"label_column": "Word"}, ":2: found 4 columns, .*=Word and --label_column=Word are"),
    (ONCE, {"sentence_column": 3}, ":2: .*--label_column=Tag and --sentence_column=3 are the same"),
    (ONCE + 'b",x,O\n', {}, ":8: found 3 columns, too few for --label_column=Tag"),
    (ONCE + ',"b,x,O\n', {}, ":8: is not valid CSV"),
    (
      ONCE + ',"b\n,x,O",x,O\n',
      {},
      ":8: found a column that continues in the next line",
    ),
    (ONCE + ",,NN,O\n", {}, ":8: has nothing in --token_column=Word"),
    (ONCE + ",x,NN,\n", {}, ":8: has nothing in --label_column=Tag"),
    (ONCE + ONCE, {}, ":8: found the header again"),
    (ONCE.splitlines()[0], {}, "has no words"),
  ],
)
def test_tables_that_cannot_be_used(write, text, changes, match):
  with pytest.raises(files.InputError, match=match) as caught:
    read_corpus(write(text), KAGGLE._replace(**changes))
  assert "\n" not in str(caught.value)


def test_tables_without_tags(write):
  words = "Sentence #,Word\n1,a\n,b\n"
  corpus = read_corpus(write(words), KAGGLE, has_tags=None)
  assert [s.words for s in corpus.sentences] == [["a", "b"]] and not corpus.is_tagged()
  numbers = Layout(1, sentence_column=0, delimiter=",")
  assert not read_corpus(write(words), numbers, has_tags=None).is_tagged()
  assert read_corpus(write("1,a,X\n"), numbers, has_tags=None).is_tagged()
  corpus = read_corpus(write(ONCE), KAGGLE, has_tags=False)
  assert not corpus.is_tagged() and corpus.header[1] == ["Sentence #", "Word"]


def test_predictions_of_a_table_can_be_read_as_it_is(write):
  corpus = read_corpus(write(ONCE), KAGGLE)
  predicted = [["B-LOC", "O"], ["O", "O", "B-PER"], ["O"]]
  text = tagging.format_corpus(corpus, predicted)
  assert text.splitlines()[:4] == [
    "Sentence #,Word,Tag,predicted",
    "Sentence: 1,Ada,B-PER,B-LOC",
    ",left,O,O",
    'Sentence: 2,"New York, NY",B-LOC,O',
  ]
  again = read_corpus(write(text), KAGGLE._replace(label_column="predicted"))
  assert [s.words for s in again.sentences] == SENTENCES
  assert [s.tags for s in again.sentences] == predicted


def column_of_words(count):
  return "".join(f"w{number} X{number % 2}\n" for number in range(count))


def test_one_giant_sentence_is_told(write, log):
  layout = Layout(tag_scheme="none")
  read_corpus(write(column_of_words(1000) + "\n" + column_of_words(1000)), layout)
  assert not log.records
  read_corpus(write("a X0\n\n" + column_of_words(1001)), layout)
  (record,) = log.records
  assert record.levelno == logging.WARNING and "\n" not in record.getMessage()
  assert "words.txt:3: found a sentence of 1001 words; put blank lines" in record.getMessage()
  assert "--sentence_column" in record.getMessage()
  log.clear()
  text = "".join(f"1 w{number} X\n" for number in range(1001))
  read_corpus(write(text), Layout(1, tag_scheme="none", sentence_column=0))
  assert "found a sentence of 1001 words; is --sentence_column=0 right?" in log.text
  log.clear()
  tagging.read_text_corpus(write("so\n" + "so " * 1001))
  assert "words.txt:2: found 1001 words; give one sentence per line" in log.text


@pytest.mark.parametrize(
  ("argument", "value"), [("1", 1), ("-1", -1), ("Word", "Word"), ("Sentence #", "Sentence #")]
)
def test_a_column_is_a_number_or_a_name(argument, value):
  assert tagging.ColumnParser().parse(argument) == value


# ---- Schemes ------------------------------------------------------------------------------------


def column(tags):
  return "".join(f"w {tag}\n" if tag else "\n" for tag in tags.split(" "))


@pytest.mark.parametrize(
  ("scheme", "tags"),
  [
    ("iob2", "B-A I-A B-A O B-B"),
    ("iob1", "I-A I-A B-A O I-B"),
    ("bioes", "B-A E-A S-A O S-B"),
    ("bioes", "B-A L-A U-A O U-B"),
  ],
)
def test_schemes_become_iob2(write, log, scheme, tags):
  for given_scheme in ("auto", scheme):
    corpus = read_corpus(write(column(tags)), Layout(tag_scheme=given_scheme))
    assert corpus.sentences[0].tags == ["B-A", "I-A", "B-A", "O", "B-B"]
  assert not log.records


def test_broken_tags_are_repaired_and_counted(write, log):
  path = write(column("B-A I-A O B-B I-B  O I-A O B-A I-B"))
  assert [s.tags for s in read_corpus(path).sentences] == [
    ["B-A", "I-A", "O", "B-B", "I-B"],
    ["O", "B-A", "O", "B-A", "B-B"],
  ]
  (record,) = log.records
  assert record.levelno == logging.WARNING
  assert "2 of 10 tags break the scheme IOB2, the first on line 8" in record.getMessage()


def test_a_scheme_that_is_given_is_what_counts(write, log):
  read_corpus(write(column("I-A I-A O I-B")), Layout(tag_scheme="iob2"))
  assert "2 of 4 tags break the scheme IOB2, the first on line 1" in log.text


def test_tags_of_single_words(write, log):
  path = write(column("NOUN VERB O  NOUN"))
  corpus = read_corpus(path)
  assert corpus.tag_scheme == tagging.NONE
  assert [s.tags for s in corpus.sentences] == [["NOUN", "VERB", "O"], ["NOUN"]]
  assert "3 tags that are no entities, 'NOUN', 'VERB', 'O'" in log.text
  assert "--tag_scheme=none" in log.text and log.records[0].levelno == logging.INFO
  assert tagging.find_labels(corpus) == ["NOUN", "O", "VERB"]
  log.clear()
  assert read_corpus(path, Layout(tag_scheme="none")) == corpus
  assert not log.records


def test_tags_are_those_of_single_words_by_request(write, log):
  path = write(column("I-A L-A NN O"))
  corpus = read_corpus(path, Layout(tag_scheme="none"))
  assert corpus.sentences[0].tags == ["I-A", "L-A", "NN", "O"]
  assert not log.records


def test_many_tags_are_a_reason_to_ask(write, log):
  read_corpus(write("".join(f"w t{number}\n" for number in range(101))))
  (record,) = log.records
  assert record.levelno == logging.WARNING
  assert "101 tags" in record.getMessage() and "is --label_column right?" in record.getMessage()


def test_the_scheme_of_a_corpus(write):
  assert read_corpus(write(column("I-A I-A O"))).tag_scheme == "iob1"
  assert read_corpus(write(column("O O"))).tag_scheme == "iob2"
  assert read_corpus(write("a\n"), has_tags=None).tag_scheme is None


@pytest.mark.parametrize(
  ("labels", "scheme", "found"),
  [
    (["NOUN", "O"], "auto", "none"),
    (["O", "B-A", "I-A"], "auto", "entities"),
    (["[PAD]", "O", "B-A"], "auto", "entities"),
    (["O"], "auto", "entities"),
    (["O", "B-A"], "none", "none"),
    (["O", "B-A"], "iob1", "iob1"),
  ],
)
def test_the_scheme_of_a_model(labels, scheme, found):
  assert tagging.scheme_of(labels, scheme) == found


def test_words_are_no_entities_by_request():
  with pytest.raises(files.InputError, match=r"--tag_scheme=iob2: .*'NOUN'.*--tag_scheme=none"):
    tagging.scheme_of(["NOUN"], "iob2")


ENTITY_LISTS = st.lists(st.tuples(st.sampled_from("AB"), st.integers(0, 2), st.integers(1, 3)))


@given(ENTITY_LISTS, st.sampled_from(tagging.SCHEMES))
def test_tags_of_each_scheme_have_their_entities(parts, scheme):
  entities, end = [], 0
  for name, gap, length in parts:
    entities.append(Entity(name, end + gap, end + gap + length))
    end += gap + length
  assert find_entities(tagging.encode_entities(entities, end, scheme)) == entities


# ---- Raw text -----------------------------------------------------------------------------------


def test_split_text():
  text = "Zoë's in 東京, \u200b isn't\u200b\u00a0she? \ufffd"
  sentence = tagging.split_text(text)
  assert sentence.words == ["Zoë", "'", "s", "in", "東", "京", ",", "isn", "'", "t", "she", "?"]
  assert [text[start:end] for start, end in sentence.spans] == sentence.words
  assert sentence.text == text and sentence.tags is None


@given(st.text())
def test_text_is_split_where_the_tokenizer_splits(text):
  basic = tokenization.BasicTokenizer(do_lower_case=False)
  sentence = tagging.split_text(text)
  # A character that is deleted may stand within a word.
  assert [basic._clean_text(word) for word in sentence.words] == basic.tokenize(text)


def test_text_file(write):
  corpus = tagging.read_text_corpus(write("In Lisbon.\n\nSo\n"))
  assert [s.words for s in corpus.sentences] == [["In", "Lisbon", "."], [], ["So"]]
  text = tagging.format_corpus(corpus, [["O", "B-LOC", "O"], [], ["O"]])
  assert text == "In O\nLisbon B-LOC\n. O\n\n\nSo O\n\n"
  with pytest.raises(files.InputError, match="has no words"):
    tagging.read_text_corpus(write(" \n\n"))


# ---- Labels -------------------------------------------------------------------------------------


def test_labels(write):
  corpus = read_corpus(write(column("B-B O B-A I-A")))
  labels = tagging.find_labels(corpus)
  assert labels == ["O", "B-A", "B-B", "I-A", "I-B"]
  tagging.check_labels(corpus, labels)
  tagging.check_labels(corpus._replace(sentences=[Sentence(["x"])]), labels)
  other = read_corpus(write(column("O  I-C")))
  with pytest.raises(files.InputError, match=r"words.txt:3: found the tag 'B-C'.* O, B-A, B-B"):
    tagging.check_labels(other, labels)
  with pytest.raises(files.InputError, match="every tag is O"):
    tagging.find_labels(read_corpus(write(column("O O"))))
  with pytest.raises(files.InputError, match="every tag is NN"):
    tagging.find_labels(read_corpus(write(column("NN NN"))))


def test_tags_are_cleaned_and_those_that_look_alike_are_named(write, log):
  corpus = read_corpus(write(column("B-PER\u200b \ufeffO B-per I-per")))
  assert corpus.sentences[0].tags == ["B-PER", "O", "B-per", "I-per"]
  assert tagging.find_labels(corpus) == ["O", "B-PER", "B-per", "I-PER", "I-per"]
  (warning,) = [r.getMessage() for r in log.records if r.levelno == logging.WARNING]
  assert f"'B-PER' (1, first {corpus.path}:1), 'B-per' (1, first {corpus.path}:3)" in warning
  with pytest.raises(files.InputError, match=r"words.txt:2: has only invisible characters in "):
    read_corpus(write(column("O \u200b O")))


def test_many_labels_are_not_all_told(write):
  corpus = read_corpus(write(column("X")))
  with pytest.raises(files.InputError, match=r"known tags are t0, .*t99, \.\.\. \(150 in all\)$"):
    tagging.check_labels(corpus, [f"t{number}" for number in range(150)])


def settings(data_dir, **changes):
  """Settings of the flags that read_sets uses."""
  values = {
    **tagging.Layout()._asdict(),
    "data_dir": str(data_dir),
    "predict_file": None,
    "predict_text_file": None,
    "has_tags": True,
    "eval_steps": None,
    "do_train": True,
    "do_eval": True,
    "do_predict": False,
    **changes,
  }
  return command_line.Settings(values)


def test_the_training_set_tells_the_kind_of_tags(tmp_path):
  for train, dev, kind in (("NN", "VB", "none"), ("B-A", "I-A", "auto")):
    (tmp_path / "train.txt").write_text(column(f"{train} O"))
    (tmp_path / "dev.csv").write_text(f"w,{dev}\n")
    sets, scheme = tagging.read_sets(settings(tmp_path))
    assert scheme == kind
    assert sets["dev"].path.endswith("dev.csv")
  (tmp_path / "dev.csv").write_text("w,NN\n")
  with pytest.raises(files.InputError, match=r"dev\.csv:1: found the tag 'NN', should be O"):
    tagging.read_sets(settings(tmp_path))
  changes = {"do_train": False}
  with pytest.raises(files.InputError, match=r"dev\.csv:1: found the tag 'NN', should be O"):
    tagging.read_sets(settings(tmp_path, **changes), ["O", "B-A"])
  assert tagging.read_sets(settings(tmp_path, **changes), ["NN", "VB"])[1] == "none"
  (tmp_path / "dev.txt").write_text("w O\n")
  sets, scheme = tagging.read_sets(settings(tmp_path, **changes), ["NN", "O"])
  assert scheme == "none" and sets["dev"].path.endswith("dev.txt")


def test_a_sentence_column_that_a_directory_remembers_can_be_left_out(tmp_path):
  assert tagging.layout_of(settings(tmp_path, sentence_column="")) == Layout()


def test_a_training_set_of_one_sentence_is_told(tmp_path, log):
  (tmp_path / "train.txt").write_text(column("B-A O O"))
  tagging.read_sets(settings(tmp_path, do_eval=False))
  assert "train.txt:1: found a sentence of 3 words; put blank lines" in log.text
  log.clear()
  (tmp_path / "train.txt").write_text(column_of_words(1001))
  tagging.read_sets(settings(tmp_path, do_eval=False))
  assert log.text.count("found a sentence of 1001 words") == 1


# ---- Features -----------------------------------------------------------------------------------


def test_first_pieces():
  pieces = {"Zoë": ["zoe"], "unaffable": ["una", "##ffa", "##ble"], ZERO_WIDTH: [], ".": ["."]}
  assert first_pieces(["Zoë", "unaffable", ZERO_WIDTH, "."], pieces.get) == (
    ["zoe", "una", "##ffa", "##ble", "."],
    [0, 1, None, 4],
  )
  assert first_pieces([], pieces.get) == ([], [])


def test_features_worked_by_hand(tokenizer):
  words = ["Ada", "Lovelace", "moved", "to", "Lisbon", "."]
  sentences = [Sentence(words, ["B-PER", "I-PER", "O", "O", "B-LOC", "O"])]
  labels = ["O", "B-LOC", "B-PER", "I-PER"]
  windows = tagging.make_windows(sentences, tokenizer, 11)
  pieces = ["ada", "love", "##lace", "moved", "to", "lisbon", "."]
  ids = tokenizer.convert_tokens_to_ids(["[CLS]", *pieces, "[SEP]"])
  assert windows == [tagging.Window(0, ids, [0, 1, 2, 3, 4, 5], [1, 2, 4, 5, 6, 7])]
  (row,) = tagging.feature_rows(windows, sentences, labels, 11)
  assert row == {
    "input_ids": [*ids, 0, 0],
    "input_mask": [1] * 9 + [0] * 2,
    "segment_ids": [0] * 11,
    "label_ids": [0, 2, 3, 0, 0, 0, 1, 0, 0, 0, 0],
    "label_mask": [0, 1, 1, 0, 1, 1, 1, 1, 0, 0, 0],
  }
  table = tagging.record_features(11)
  assert tf_records.parse(tf_records.serialize(row, table)) == row
  assert all(f.per_token and f.shape == (11,) and f.dtype is np.int32 for f in table)


def test_words_without_pieces_get_o(tokenizer, log):
  sentences = [Sentence(["Ada", ZERO_WIDTH]), Sentence([ZERO_WIDTH], ["B-A"])]
  windows = tagging.make_windows(sentences, tokenizer, 8)
  assert [w.words for w in windows] == [[0], []]
  assert tokenizer.convert_ids_to_tokens(windows[1].input_ids) == ["[CLS]", "[SEP]"]
  assert "2 words have no word piece and get the tag O; the first is '\\u200b'" in log.text
  ids = [np.ones(8, int)] * 2
  assert tagging.join_tags(sentences, windows, ids, ["O", "B-A"]) == [["B-A", "O"], ["O"]]


def test_every_word_counts_where_tags_are_of_single_words(tokenizer, log):
  sentences = [Sentence(["Ada", ZERO_WIDTH]), Sentence([ZERO_WIDTH])]
  windows = tagging.make_windows(sentences, tokenizer, 8, tagging.WORD_TAGS)
  assert [w.words for w in windows] == [[0, 1], [0]]
  assert tokenizer.convert_ids_to_tokens(windows[1].input_ids) == ["[CLS]", "[UNK]", "[SEP]"]
  assert not log.records


def test_windows_of_a_long_sentence(tokenizer):
  sentence = Sentence(list("abcabcabca"))
  windows = tagging.make_windows([Sentence(["to"]), sentence], tokenizer, 8)[1:]
  assert [w.words for w in windows] == [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
  assert [w.positions for w in windows] == [[1, 2, 3, 4, 5], [3, 4], [4, 5, 6]]
  assert [tokenizer.convert_ids_to_tokens(w.input_ids[1:-1]) for w in windows] == [
    list("abcabc"),
    list("abcabc"),
    list("bcabca"),
  ]
  assert {w.sentence for w in windows} == {1}


def test_a_word_longer_than_a_window(tokenizer):
  sentence = Sentence(["a", "b.c" * 9, "c"])
  windows = tagging.make_windows([sentence], tokenizer, 6)
  assert [word for w in windows for word in w.words] == [0, 1, 2]
  assert len({len(w.input_ids) for w in windows}) == 1


WORDS = st.lists(st.sampled_from(["a", "b", "Lovelace", "lisbon.", "a.b.c.a.b", ZERO_WIDTH]))


@given(WORDS, st.integers(3, 12))
def test_each_word_is_tagged_once_with_the_most_context(words, max_seq_length):
  vocab = {piece: i for i, piece in enumerate(VOCAB)}

  class Tokenizer:
    """Pieces are split at "." alone; faster to make than a FullTokenizer."""

    def convert_tokens_to_ids(self, tokens):
      return [vocab[token] for token in tokens]

    def encode(self, word):
      return [] if word == ZERO_WIDTH else [len(vocab) + ord(c) for c in word if c != "."]

  sentence = Sentence(words)
  ids, starts = first_pieces(words, Tokenizer().encode)
  windows = tagging.make_windows([sentence], Tokenizer(), max_seq_length)
  tagged = [word for w in windows for word in w.words]
  assert tagged == [i for i, start in enumerate(starts) if start is not None]
  assert all(len(w.input_ids) <= max_seq_length for w in windows)
  width = max_seq_length - 2
  for window in windows:
    for word, position in zip(window.words, window.positions):
      assert window.input_ids[position] == ids[starts[word]]
      left, right = position - 1, len(window.input_ids) - 2 - position
      # At least a quarter of a window on each side, but for the ends of the sentence.
      assert left >= min(starts[word], (width - 1) // 4)
      assert right >= min(len(ids) - 1 - starts[word], (width - 1) // 4)


@given(WORDS, st.integers(3, 12))
def test_tags_that_depend_on_words_alone_survive_windows(words, max_seq_length):
  class Tokenizer:
    def convert_tokens_to_ids(self, tokens):
      return [0 for _ in tokens]

    def encode(self, word):
      return [1 + ord(c) % 3 for c in word if c != ZERO_WIDTH]

  labels = ["O", "B-A", "B-B", "B-C"]  # the id of a piece is its label
  sentences = [Sentence(["a"]), Sentence(words)]
  windows = tagging.make_windows(sentences, Tokenizer(), max_seq_length)
  ids = [np.array(w.input_ids + [3] * 5) for w in windows]
  wanted = [labels[1 + ord(w[0]) % 3] if w != ZERO_WIDTH else "O" for w in words]
  assert tagging.join_tags(sentences, windows, ids, labels) == [["B-B"], wanted]


# ---- Predictions --------------------------------------------------------------------------------


def test_joined_tags_are_repaired():
  windows = [tagging.Window(0, [0] * 5, [0, 1, 2], [1, 2, 3])]
  tags = tagging.join_tags(
    [Sentence(["a", "b", "c"])], windows, [np.array([0, 2, 2, 3, 0])], ["O", "B-A", "I-A", "I-B"]
  )
  assert tags == [["B-A", "I-A", "B-B"]]


def test_joined_tags_of_single_words_are_not_repaired():
  windows = [tagging.Window(0, [0] * 5, [0, 1, 2], [1, 2, 3])]
  arguments = ([Sentence(["a", "b", "c"])], windows, [np.array([0, 2, 2, 1, 0])])
  tags = tagging.join_tags(*arguments, ["NN", "O", "I-A"], tagging.WORD_TAGS)
  assert tags == [["I-A", "I-A", "O"]]


def test_records_of_words_with_tags_of_their_own():
  record = tagging.prediction_record(Sentence(["In", "Rome"]), ["IN", "NNP"], tagging.WORD_TAGS)
  assert record == {"text": "In Rome", "words": ["In", "Rome"], "tags": ["IN", "NNP"]}


def test_records_of_words():
  tags = ["O", "B-LOC", "I-LOC", "B-PER"]
  assert tagging.prediction_record(Sentence(["In", "New", "York", "Ada"]), tags) == {
    "text": "In New York Ada",
    "words": ["In", "New", "York", "Ada"],
    "tags": tags,
    "entities": [
      {
        "text": "New York",
        "type": "LOC",
        "start_word": 1,
        "end_word": 3,
        "start_char": 3,
        "end_char": 11,
      },
      {
        "text": "Ada",
        "type": "PER",
        "start_word": 3,
        "end_word": 4,
        "start_char": 12,
        "end_char": 15,
      },
    ],
  }


def test_records_of_text_have_its_own_characters():
  sentence = tagging.split_text("in  New\tYork.")
  record = tagging.prediction_record(sentence, ["O", "B-LOC", "I-LOC", "O"])
  (entity,) = record["entities"]
  assert entity["text"] == "New\tYork"
  assert record["text"][entity["start_char"] : entity["end_char"]] == "New\tYork"


def test_predictions_stand_where_the_words_stood(write):
  text = "# c\n\n-DOCSTART- -X- O\n\nAda B-A\nleft O\n\n\nSo O\n"
  corpus = read_corpus(write(text), Layout(comment_prefix="#"))
  predicted = tagging.format_corpus(corpus, [["O", "O"], ["B-A"]])
  assert predicted == "# c\n\n-DOCSTART- O O\n\nAda B-A O\nleft O O\n\n\nSo O B-A\n"
  corpus = read_corpus(write("-DOCSTART-\nAda\n"), has_tags=None)
  assert tagging.format_corpus(corpus, [["B-A"]], "\t") == "-DOCSTART-\tO\nAda\tB-A\n"
