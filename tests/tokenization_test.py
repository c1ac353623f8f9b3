"""Each stage of tokenization by hand, then all of them against a plain specification."""
# ruff: noqa: RUF001  (characters that look like others are the subject)

import copy
import os
import pickle
import re
import subprocess
import sys
import threading
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tokenization


def listed(text):
  """A list from a readable string: "a ##b" -> ["a", "##b"]."""
  return text.split()


TOKENS = listed(
  "[PAD] [UNK] [CLS] [SEP] [MASK] una ##ffa ##ble play ##ing ##ed naive na ##ï ##ve cafe "
  "café o ##s σ ##σ ##ς a ##a b ##b ##c A ##B i ##\u0307 中 文 . , ! - ' [ ] mask unk # 1 ##2 "
  "\u1100 ##\u1161"
)


def write_vocab(path, tokens=TOKENS):
  path.write_text("".join(token + "\n" for token in tokens), encoding="utf-8")
  return str(path)


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory):
  return write_vocab(tmp_path_factory.mktemp("vocab") / "vocab.txt")


@pytest.fixture
def tokenizer(vocab_file):
  return tokenization.FullTokenizer(vocab_file)


# Characters.


def test_whitespace_characters():
  for char in " \t\n\r\u00a0\u1680\u2003\u202f\u3000":
    assert tokenization._is_whitespace(char), repr(char)
  for char in "A-\x0b\x0c\x1c\x85\u200b\u2028\u2029":
    assert not tokenization._is_whitespace(char), repr(char)


def test_control_characters():
  for char in "\x00\x05\x0b\x0c\x1f\x7f\x85\u00ad\u200b\u200d\ufeff\U000e0041":
    assert tokenization._is_control(char), repr(char)
  for char in "A \t\n\r\u00a0\ufffd\u2028\ue000\ud800💩":
    assert not tokenization._is_control(char), repr(char)


def test_punctuation_characters():
  for char in "!/:@[`{~$+<=>^|-_¡«—‘…、。｡؟":
    assert tokenization._is_punctuation(char), repr(char)
  for char in "A0z é€£©°×½²💩中\u0301":
    assert not tokenization._is_punctuation(char), repr(char)


def test_chinese_characters():
  is_chinese = tokenization.BasicTokenizer()._is_chinese_char
  inside = (0x4E00, 0x9FFF, 0x3400, 0x4DBF, 0xF900, 0xFAFF, 0x2F800, 0x2FA1F)
  inside += (0x20000, 0x2A6DF, 0x2A700, 0x2B73F, 0x2B740, 0x2B81F, 0x2B820, 0x2CEAF)
  outside = (0x33FF, 0x4DC0, 0xA000, 0xF8FF, 0xFB00, 0x2A6E0, 0x2CEB0, 0x2F7FF, 0x2FA20, 0x30000)
  for cp in inside:
    assert is_chinese(cp), hex(cp)
  for cp in (*outside, *map(ord, "aひカ한、")):
    assert not is_chinese(cp), hex(cp)


# Text.


def test_convert_to_unicode():
  assert tokenization.convert_to_unicode("né") == "né"
  assert tokenization.convert_to_unicode(b"n\xc3\xa9\xff\xc3.") == "né."
  for wrong in (None, 1, ["a"]):
    with pytest.raises(ValueError, match=type(wrong).__name__):
      tokenization.convert_to_unicode(wrong)


def test_printable_text():
  assert tokenization.printable_text("né") == "né"
  assert tokenization.printable_text(b"n\xc3\xa9\xff") == "né"
  with pytest.raises(ValueError, match="float"):
    tokenization.printable_text(1.5)


def test_whitespace_tokenize():
  assert tokenization.whitespace_tokenize(" a\tb\u2028c\u3000 d\n") == ["a", "b", "c", "d"]
  assert tokenization.whitespace_tokenize(" \n") == []


# BasicTokenizer.


def test_clean_text():
  clean = tokenization.BasicTokenizer()._clean_text
  assert clean("plain text, é 中") == "plain text, é 中"
  assert clean("a\x00b\ufffdc\u200bd\x85e\x1cf") == "abcdef"
  assert clean("a\tb\nc\rd\u00a0e\u3000") == "a b c d e "
  assert clean("a\u2028b\u2029c") == "a\u2028b\u2029c"


def test_tokenize_chinese_chars():
  space = tokenization.BasicTokenizer()._tokenize_chinese_chars
  assert space("ab中文c") == "ab 中  文 c"
  assert space("ひらカナ한글。") == "ひらカナ한글。"


def test_strip_accents():
  strip = tokenization.BasicTokenizer()._run_strip_accents
  assert strip("naïve Ångström e\u0301") == "naive Angstrom e"
  assert strip("가") == "\u1100\u1161"  # decomposed, and not composed again
  assert strip("ß ø ł") == "ß ø ł"


def test_split_on_punctuation():
  split = tokenization.BasicTokenizer()._run_split_on_punc
  assert split("word") == ["word"]
  assert split("-a-b!?") == ["-", "a", "-", "b", "!", "?"]
  assert split("a b,c\u0301d") == ["a b", ",", "c\u0301d"]
  assert split("") == []


@pytest.mark.parametrize(
  ("text", "lower", "cased"),
  [
    ("", [], []),
    (" \t\r\n\u200b\u2028", [], []),
    (" Hello,  World!\n", ["hello", ",", "world", "!"], ["Hello", ",", "World", "!"]),
    (b"Na\xc3\xafve\xff Stra\xc3\x9fe", ["naive", "straße"], ["Naïve", "Straße"]),
    ("[MASK] U.S.A.", ["[", "mask", "]", *"u.s.a."], ["[", "MASK", "]", *"U.S.A."]),
    ("北京ab大学", ["北", "京", "ab", "大", "学"], ["北", "京", "ab", "大", "学"]),
    ("a\x85b\x0bc\x1fd\u200be", ["abcde"], ["abcde"]),
    ("a\u2028b\u2029c\u00a0d\u3000e", [*"abcde"], [*"abcde"]),
    ("ΟΔΟΣ ΟΔΟΣ.Σ", ["οδος", "οδοσ", ".", "ς"], ["ΟΔΟΣ", "ΟΔΟΣ", ".", "Σ"]),
    ("İ", ["i"], ["İ"]),
    ("a\u0301 \u0301", ["a"], ["a\u0301", "\u0301"]),
    ("¿Qué?", ["¿", "que", "?"], ["¿", "Qué", "?"]),
  ],
)
def test_basic_tokenize(text, lower, cased):
  assert tokenization.BasicTokenizer().tokenize(text) == lower
  assert tokenization.BasicTokenizer(do_lower_case=False).tokenize(text) == cased


def test_accents_apart_from_case():
  def tokenize(lower, accents):
    return tokenization.BasicTokenizer(lower, strip_accents=accents).tokenize("Çà, là")

  assert tokenize(True, False) == ["çà", ",", "là"]
  assert tokenize(False, True) == ["Ca", ",", "la"]
  assert tokenize(True, None) == tokenize(True, True) == ["ca", ",", "la"]
  assert tokenize(False, None) == tokenize(False, False) == ["Çà", ",", "là"]


# WordpieceTokenizer.


def test_wordpiece():
  tokenize = tokenization.WordpieceTokenizer(set(TOKENS)).tokenize
  assert tokenize("unaffable playing") == ["una", "##ffa", "##ble", "play", "##ing"]
  assert tokenize(b" aab\n") == ["a", "##a", "##b"]
  assert tokenize("") == []
  assert tokenize("unaffableX playing") == ["[UNK]", "play", "##ing"]
  assert tokenize("##a ##ing #") == ["##a", "##ing", "#"]
  assert tokenize("##ingb") == ["##ing", "##b"]


def test_wordpiece_takes_the_longest_and_does_not_go_back():
  vocab = {"ab", "abc", "##cd", "##d", "##de", "x"}
  tokenize = tokenization.WordpieceTokenizer(vocab, unk_token="?").tokenize
  assert tokenize("abcd abcde") == ["abc", "##d", "abc", "##de"]
  assert tokenize("abcdx x abx") == ["?", "x", "?"]
  assert tokenization.WordpieceTokenizer({}).tokenize("a") == ["[UNK]"]


def test_wordpiece_counts_characters_of_overlong_words():
  tokenize = tokenization.WordpieceTokenizer({"é", "##é"}).tokenize
  assert tokenize("é" * 200) == ["é"] + ["##é"] * 199
  assert tokenize("é" * 201) == ["[UNK]"]
  short = tokenization.WordpieceTokenizer({"é", "ééé"}, max_input_chars_per_word=2)
  assert short.tokenize("é ééé") == ["é", "[UNK]"]


def first_match(vocab, word, start=0):
  """Greedy word pieces by the definition, None where there is no match."""
  if start == len(word):
    return []
  for end in range(len(word), start, -1):
    piece = ("##" if start else "") + word[start:end]
    if piece in vocab:
      rest = first_match(vocab, word, end)
      return None if rest is None else [piece, *rest]
  return None


@given(st.sets(st.text("ab#", min_size=1, max_size=5)), st.text("ab#", min_size=1, max_size=8))
@example({"a", "##b", "##bc", "##a"}, "aba")
@example({"##", "###", "a", "####"}, "a##")
def test_wordpiece_is_the_greedy_match(vocab, word):
  expected = first_match(vocab, word) or ["[UNK]"]
  assert tokenization.WordpieceTokenizer(vocab).tokenize(word) == expected


# Vocabularies.


def test_load_vocab_is_permissive(tmp_path):
  path = tmp_path / "vocab.txt"
  path.write_bytes(
    b"\xef\xbb\xbf[PAD]\r\n the \nthe\n  \na\rb\n"
    b"\xc2\x85c\xc2\x85d\xe2\x80\xa8\n\n\0\n\xe2\x80\xa8e f"
  )
  assert list(tokenization.load_vocab(str(path)).items()) == [
    ("[PAD]", 0),
    ("the", 2),
    ("", 6),
    ("ab", 4),
    ("c\x85d", 5),
    ("\0", 7),
    ("e f", 8),
  ]


def test_load_vocab_of_an_empty_file(tmp_path):
  path = tmp_path / "vocab.txt"
  path.write_bytes(b"")
  assert tokenization.load_vocab(str(path)) == {}


def test_load_vocab_errors(tmp_path):
  path = tmp_path / "vocab.txt"
  path.write_bytes(b"[UNK]\na\n\xff\n")
  with pytest.raises(ValueError, match=r"vocab\.txt:3: .*0xff"):
    tokenization.load_vocab(str(path))
  with pytest.raises(ValueError, match="missing"):
    tokenization.load_vocab(str(tmp_path / "missing.txt"))


def test_convert_by_vocab(tokenizer):
  vocab = {"a": 3, "b": 1}
  assert tokenization.convert_by_vocab(vocab, ["b", "a", "b"]) == [1, 3, 1]
  assert tokenization.convert_tokens_to_ids(vocab, ["a"]) == [3]
  assert tokenization.convert_ids_to_tokens({3: "a"}, [3, 3]) == ["a", "a"]
  assert tokenizer.convert_tokens_to_ids(["una", "[CLS]"]) == [5, 2]
  assert tokenizer.convert_ids_to_tokens([5, 2]) == ["una", "[CLS]"]
  with pytest.raises(KeyError, match="zebra"):
    tokenizer.convert_tokens_to_ids(["zebra"])
  with pytest.raises(KeyError):
    tokenizer.convert_ids_to_tokens([999])


def test_validate_vocab_accepts(tmp_path, vocab_file):
  tokenization.validate_vocab(vocab_file, also_required=["[MASK]", "[PAD]"])
  path = write_vocab(tmp_path / "vocab.txt", ["the"])
  tokenization.validate_vocab(path, required=())
  with pytest.raises(ValueError, match=r"has no \[UNK\], \[CLS\], \[SEP\] among its 1 lines"):
    tokenization.validate_vocab(path)


def test_pieces_that_are_spaces_do_no_harm(tmp_path, caplog):
  lines = ["[UNK]", "", "[CLS]", " ", "\u3000", "[SEP]", "\u2028", "a", "\u2003", "", ""]
  path = write_vocab(tmp_path / "vocab.txt", lines)
  tokenization.validate_vocab(path)
  assert not caplog.records
  tokenizer = tokenization.FullTokenizer(path)
  assert tokenizer.encode("a \u3000\u2028 b") == [7, 0]
  assert tokenization.num_ids(tokenizer.vocab) == 8
  assert tokenization.num_ids({}) == tokenization.num_ids({"": 3}) == 0


def test_of_repeated_pieces_the_last_counts(tmp_path, caplog):
  lines = ["[UNK]", "the", "[CLS]", "[SEP]", " the", "a", "the", "a", "[SEP]"]
  path = write_vocab(tmp_path / "vocab.txt", lines)
  tokenization.validate_vocab(path)
  assert [record.getMessage() for record in caplog.records] == [
    f"{path}: 4 lines have a word piece that is on a later line too, which counts; the first is "
    "line 2, 'the', which is on line 7"
  ]
  assert caplog.records[0].levelname == "WARNING"
  assert tokenization.FullTokenizer(path).encode("the a") == [6, 7]


@pytest.mark.parametrize(
  ("content", "message"),
  [
    (b"", "is empty"),
    (b"\n \n", "is empty"),
    ("\u3000\n\u2028\n".encode(), "is empty"),
    (b"[UNK]\nthe\n", r"has no \[CLS\], \[SEP\], \[MASK\] among its 2 lines"),
    (b"[UNK]\n[CLS]\n[SEP]\n", r"has no \[MASK\] among"),
    (b"[UNK]\n\xe9t\xe9\n", r":2: found byte 0xe9"),
  ],
)
def test_validate_vocab_refuses(tmp_path, content, message):
  path = tmp_path / "vocab.txt"
  path.write_bytes(content)
  with pytest.raises(ValueError, match=r"vocab\.txt:? ?" + message) as error:
    tokenization.validate_vocab(str(path), also_required=["[MASK]"])
  assert "\n" not in str(error.value)


def test_guess_lower_case():
  specials = ["[PAD]", "[UNK]", "[CLS]", "[unused1]", "<S>"]
  assert tokenization.guess_lower_case([*specials, "the", "##s", "ℝ", "中"]) is True
  assert tokenization.guess_lower_case([*specials, "the", "The", "##s"]) is False
  assert tokenization.guess_lower_case([*specials, "##É", "é"]) is False
  assert tokenization.guess_lower_case([*specials, "中", "1", "."]) is None
  many = [f"word{i}" for i in range(200)]
  assert tokenization.guess_lower_case([*many, "COVID"]) is True


# Casing of released checkpoints.


@pytest.mark.parametrize(
  ("model", "lower"),
  [
    ("uncased_L-24_H-1024_A-16", True),
    ("uncased_L-12_H-768_A-12", True),
    ("multilingual_L-12_H-768_A-12", True),
    ("chinese_L-12_H-768_A-12", True),
    ("cased_L-12_H-768_A-12", False),
    ("cased_L-24_H-1024_A-16", False),
    ("multi_cased_L-12_H-768_A-12", False),
  ],
)
def test_validate_case(model, lower):
  for path in (f"{model}/bert_model.ckpt", f"gs://bucket/models/{model}/bert_model.ckpt"):
    tokenization.validate_case_matches_checkpoint(lower, path)
    with pytest.raises(ValueError, match=f"{model}.*pass --do_lower_case={lower}$"):
      tokenization.validate_case_matches_checkpoint(not lower, path)


def test_validate_case_knows_nothing_of_other_paths():
  for lower in (True, False):
    for path in (
      None,
      "",
      "cased_L-12_H-768_A-12",
      "cased_L-12_H-768_A-12/model.ckpt-10",
      "wwm_cased_L-24_H-1024_A-16/bert_model.ckpt",
      "my_uncased/bert_model.ckpt",
    ):
      tokenization.validate_case_matches_checkpoint(lower, path)


# FullTokenizer.


def test_full_tokenizer(tokenizer):
  tokens = tokenizer.tokenize("Unaffable, NAÏVE\u2028played! zebra 中文")
  assert tokens == listed("una ##ffa ##ble , naive play ##ed ! [UNK] 中 文")
  assert tokenizer.convert_ids_to_tokens(tokenizer.encode("Unaffable zebra")) == [
    *("una", "##ffa", "##ble"),
    "[UNK]",
  ]
  assert tokenizer.tokenize(b"caf\xc3\xa9\xff") == ["cafe"]
  assert tokenizer.tokenize("") == tokenizer.encode(" \n") == []
  for method in (tokenizer.tokenize, tokenizer.encode):
    with pytest.raises(ValueError, match="NoneType"):
      method(None)


def test_results_belong_to_the_caller(tokenizer):
  tokenizer.tokenize("playing").append("x")
  tokenizer.encode("playing").append(0)
  assert tokenizer.tokenize("playing") == ["play", "##ing"]
  assert tokenizer.encode("playing") == [8, 9]


def test_case_and_accents(vocab_file):
  def tokenize(**options):
    return tokenization.FullTokenizer(vocab_file, **options).tokenize("Café AB")

  assert tokenize() == ["cafe", "a", "##b"]
  assert tokenize(strip_accents=False) == ["café", "a", "##b"]
  assert tokenize(do_lower_case=False) == ["[UNK]", "A", "##B"]


def test_special_tokens_are_split_by_default(tokenizer):
  assert tokenizer.tokenize("[MASK]") == ["[", "mask", "]"]


def test_special_tokens_can_be_kept(vocab_file):
  tokenizer = tokenization.FullTokenizer(vocab_file, keep_special_tokens=True)
  text = "[CLS] a[MASK], [mask] [MASK][PAD]b [[UNK]] unk [SEP]"
  assert tokenizer.tokenize(text) == listed(
    "[CLS] a [MASK] , [ mask ] [MASK] [PAD] b [ [UNK] ] unk [SEP]"
  )
  assert tokenizer.encode("[MASK].") == [4, TOKENS.index(".")]


def test_only_special_tokens_of_the_vocabulary_are_kept(tmp_path):
  vocab_file = write_vocab(tmp_path / "vocab.txt", ["[UNK]", "[", "]", "mask", "cls"])
  tokenizer = tokenization.FullTokenizer(vocab_file, keep_special_tokens=True)
  assert tokenizer.tokenize("[MASK][UNK]") == ["[", "mask", "]", "[UNK]"]


def test_vocabulary_without_unk(tmp_path):
  tokenizer = tokenization.FullTokenizer(write_vocab(tmp_path / "vocab.txt", ["a"]))
  assert tokenizer.tokenize("a b") == ["a", "[UNK]"]
  assert tokenizer.encode("a") == [0]
  with pytest.raises(KeyError, match="UNK"):
    tokenizer.encode("a b")


def test_duplicate_piece_has_the_last_id(tmp_path):
  tokenizer = tokenization.FullTokenizer(write_vocab(tmp_path / "vocab.txt", ["a", "b", "a"]))
  assert tokenizer.encode("a b") == [2, 1]
  assert tokenizer.inv_vocab == {2: "a", 1: "b"}


def test_replaced_parts_are_honoured(tokenizer):
  assert tokenizer.tokenize("Ab") == ["a", "##b"]
  tokenizer.basic_tokenizer = tokenization.BasicTokenizer(do_lower_case=False)
  assert tokenizer.tokenize("Ab") == ["A", "##b"]
  tokenizer.wordpiece_tokenizer = tokenization.WordpieceTokenizer({"Ab"})
  assert tokenizer.tokenize("Ab") == ["Ab"]
  tokenizer.vocab = {"Ab": 77}
  assert tokenizer.encode("Ab") == [77]


def test_parts_of_other_classes_see_the_whole_text_each_time(tokenizer):
  class Recorder:
    def __init__(self):
      self.seen = []

    def tokenize(self, text):
      self.seen.append(text)
      return [text]

  tokenizer.basic_tokenizer = recorder = Recorder()
  assert [tokenizer.tokenize("a b") for _ in range(2)] == [["a", "b"]] * 2
  assert recorder.seen == ["a b", "a b"]


def test_subclass_may_fill_the_attributes_by_itself():
  class Own(tokenization.FullTokenizer):
    def __init__(self, vocab):
      self.vocab = vocab
      self.basic_tokenizer = tokenization.BasicTokenizer()
      self.wordpiece_tokenizer = tokenization.WordpieceTokenizer(vocab)

  assert Own({"a": 0, "##b": 1}).encode("Ab a") == [0, 1, 0]


def test_caches_are_bounded(tokenizer, monkeypatch):
  monkeypatch.setattr(tokenization, "_CACHED_CHUNKS", 3)
  monkeypatch.setattr(tokenization, "_CACHED_CHUNK_LENGTH", 2)
  for text in ("a b i o", "playing aaa", "aa bb"):
    assert tokenizer.tokenize(text) == tokenizer.tokenize(text)
    assert len(tokenizer._chunk_tokens) <= 3
  assert all(len(chunk) <= 2 for chunk in tokenizer._chunk_tokens)


@pytest.mark.parametrize("duplicate", [lambda t: pickle.loads(pickle.dumps(t)), copy.deepcopy])
def test_copies_work_alone(vocab_file, duplicate):
  tokenizer = tokenization.FullTokenizer(vocab_file, keep_special_tokens=True)
  text = "Unaffable [MASK] playing"
  expected = tokenizer.tokenize(text)
  other = duplicate(tokenizer)
  assert not other._chunk_tokens
  assert other.tokenize(text) == expected
  assert other.encode(text) == tokenizer.encode(text)
  other.basic_tokenizer = tokenization.BasicTokenizer(do_lower_case=False)
  assert other.tokenize("A") == ["A"]
  assert tokenizer.tokenize("A") == ["a"]


def test_threads_share_a_tokenizer(tokenizer, monkeypatch):
  monkeypatch.setattr(tokenization, "_CACHED_CHUNKS", 5)  # so that it is often cleared
  text = " ".join(a + b for a in "abi" for b in ("", "a", "bb", "ing", "."))
  expected = list(tokenizer._encode_chunk(text))
  wrong = []

  def work():
    wrong.extend(ids for ids in (tokenizer.encode(text) for _ in range(200)) if ids != expected)

  threads = [threading.Thread(target=work) for _ in range(4)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert wrong == []


# Everything, against the specification of the pipeline written down character by character.


def specified_words(text, lower):
  """Specified basic tokens: lower-casing and accents word by word, classes char by char."""
  cleaned = []
  for char in text:
    if char in "\0\ufffd" or tokenization._is_control(char):
      continue
    if tokenization._is_whitespace(char):
      char = " "
    chinese = tokenization.BasicTokenizer()._is_chinese_char(ord(char))
    cleaned.append(f" {char} " if chinese else char)
  words = []
  for word in "".join(cleaned).split():
    if lower:
      decomposed = unicodedata.normalize("NFD", word.lower())
      word = "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
    words += [f" {char} " if tokenization._is_punctuation(char) else char for char in word]
    words.append(" ")
  return "".join(words).split()


AWKWARD = st.sampled_from(
  [
    *listed("a b A B i Σ σ ς é 가 中 文 豈 . - ' [MASK] [UNK] ## # playing Unaffable $ 12 😀"),
    *"\u0130\u0301\u0345\0\ufffd\ufeff\ud800\xad\u180e\u200b",
    *" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2028\u2029\u202f\u3000",
    "a" * 201,
  ]
)
TEXTS = st.one_of(
  st.lists(AWKWARD, max_size=20).map("".join),
  st.text(max_size=20),
  st.lists(st.one_of(AWKWARD, st.characters()), max_size=20).map("".join),
)


@pytest.fixture(scope="module", params=[True, False], ids=["lower", "cased"])
def shared_tokenizer(request, vocab_file):
  return tokenization.FullTokenizer(vocab_file, do_lower_case=request.param)


@settings(max_examples=400, deadline=None)
@given(text=TEXTS)
@example(text="a\x85b\x0bc a\u2028b\u2029c")
@example(text="ΑΣ ΑΣ.ΑΣ\u2028Σ")
def test_any_text_is_tokenized_as_specified(shared_tokenizer, text):
  basic, wordpiece = shared_tokenizer.basic_tokenizer, shared_tokenizer.wordpiece_tokenizer
  words = basic.tokenize(text)
  assert words == specified_words(text, basic.do_lower_case)
  pieces = [piece for word in words for piece in wordpiece.tokenize(word)]
  assert shared_tokenizer.tokenize(text) == pieces
  assert shared_tokenizer.tokenize(text) == pieces  # from the cache
  assert shared_tokenizer.encode(text) == shared_tokenizer.convert_tokens_to_ids(pieces)


# Spans of word pieces.


def spans_of(tokenizer, text):
  """List of (piece, the characters that it was made of)."""
  pieces, spans = tokenizer.tokenize_with_spans(text)
  return [(piece, text[start:end]) for piece, (start, end) in zip(pieces, spans)]


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("", []),
    (" \u200b ", []),
    ("Playing, una", [("play", "Play"), ("##ing", "ing"), (",", ","), ("una", "una")]),
    ("中A文", [("中", "中"), ("a", "A"), ("文", "文")]),
    ("naïve", [("naive", "naïve")]),
    ("nai\u0308ve\u0301!", [("naive", "nai\u0308ve\u0301"), ("!", "!")]),
    # What is deleted belongs to no piece, unless it stands within one.
    ("\ufeff中\u200b文\xad", [("中", "中"), ("文", "文")]),
    ("pl\u200bay\xading\u200b", [("play", "pl\u200bay"), ("##ing", "ing")]),
    ("a\x85b\ufffd a\u2028b", [("a", "a"), ("##b", "b"), ("a", "a"), ("b", "b")]),
    # Deleted marks and joiners belong to the character before them.
    ("中\ufe0f文\u0301", [("中", "中\ufe0f"), ("文", "文\u0301")]),
    ("a\u200d.\U000e0041", [("a", "a\u200d"), (".", ".\U000e0041")]),
    ("a\u200b\u0301", [("a", "a")]),
    ("\u0301a", [("a", "a")]),
    # One character may become several, and several pieces may share it.
    ("가.", [("\u1100", "가"), ("##\u1161", "가"), (".", ".")]),
    ("\u0130", [("i", "\u0130")]),
    # [UNK] stands for its whole word.
    ("a-xyz中", [("a", "a"), ("-", "-"), ("[UNK]", "xyz"), ("中", "中")]),
    ("xyz-xy", [("[UNK]", "xyz"), ("-", "-"), ("[UNK]", "xy")]),
    ("a\u00a0\u3000xyz", [("a", "a"), ("[UNK]", "xyz")]),
    ("[MASK]", [("[", "["), ("mask", "MASK"), ("]", "]")]),
  ],
)
def test_spans_of_pieces(tokenizer, text, expected):
  assert spans_of(tokenizer, text) == expected


def test_spans_of_special_tokens(vocab_file):
  tokenizer = tokenization.FullTokenizer(vocab_file, keep_special_tokens=True)
  assert spans_of(tokenizer, "A\u200b[MASK]\u0301中xy [MA\x85SK]") == [
    ("a", "A"),
    ("[MASK]", "[MASK]\u0301"),
    ("中", "中"),
    ("[UNK]", "xy"),
    ("[MASK]", "[MA\x85SK]"),
  ]


@settings(max_examples=400, deadline=None)
@given(text=TEXTS, special=st.booleans(), accents=st.sampled_from([None, True, False]))
def test_spans_hold_the_spelling_of_their_pieces(shared_tokenizer, text, special, accents):
  tokenizer = copy.copy(shared_tokenizer)
  lower = shared_tokenizer.basic_tokenizer.do_lower_case
  tokenizer.basic_tokenizer = tokenization.BasicTokenizer(lower, accents)
  if special:
    tokenizer._kept_tokens = re.compile(r"(\[MASK\]|\[UNK\])")
  pieces, spans = tokenizer.tokenize_with_spans(text)
  assert pieces == tokenizer.tokenize(text) and len(spans) == len(pieces)

  def spelling(part):
    return "".join(tokenizer.basic_tokenizer.tokenize(part)).replace("ς", "σ")

  for piece, (start, end) in zip(pieces, spans):
    assert start < end
    if piece not in ("[UNK]", "[MASK]"):
      assert piece[2 * piece.startswith("##") :].replace("ς", "σ") in spelling(text[start:end])
  for (_, end), (start, _) in zip(spans, spans[1:]):
    assert end <= start or (end == start + 1 and len(spelling(text[start])) > 1)
  inside = {i for span in spans for i in range(*span)}
  assert not any(spelling(char) for i, char in enumerate(text) if i not in inside)


def test_spans_of_other_classes(vocab_file):
  class Reversing(tokenization.BasicTokenizer):
    def tokenize(self, text):
      return [word[::-1] for word in super().tokenize(text)]

  class Naming(tokenization.WordpieceTokenizer):
    def tokenize(self, text):
      return ["name", "of", text]

  class Own(tokenization.FullTokenizer):
    def tokenize(self, text):
      return ["own"]

  tokenizer = tokenization.FullTokenizer(vocab_file)
  tokenizer.wordpiece_tokenizer = Naming(tokenizer.vocab)
  assert tokenizer.tokenize_with_spans("a")[1] is None
  assert Own(vocab_file).tokenize_with_spans("a b") == (["own"], None)
  tokenizer = tokenization.FullTokenizer(vocab_file)
  tokenizer.basic_tokenizer = Reversing()
  assert tokenizer.tokenize_with_spans("ab xyz")[0] == tokenizer.tokenize("ab xyz")


def test_shortcuts_hold_for_every_character():
  for char in map(chr, range(sys.maxunicode + 1)):
    if char.isalnum():
      assert not tokenization._is_punctuation(char), repr(char)
    if char.isprintable() and char != " ":
      assert not char.isspace() and not tokenization._is_control(char), repr(char)
    if not char.isspace():
      assert len(unicodedata.normalize("NFD", char.lower()).split()) == 1, repr(char)


def test_import_needs_no_tensorflow(vocab_file):
  code = (
    "import sys, tokenization; t = tokenization.FullTokenizer(sys.argv[1]); "
    "print(t.tokenize('Playing'), 'tensorflow' in sys.modules)"
  )
  done = subprocess.run(
    [sys.executable, "-c", code, vocab_file],
    cwd=os.path.dirname(tokenization.__file__),
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout == "['play', '##ing'] False\n"
