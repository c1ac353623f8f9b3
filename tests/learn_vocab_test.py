"""Vocabularies learnt from text, and words put into a released one."""

import bz2
import collections
import gzip
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import learn_vocab
import tokenization
from toolkit.support import command_line, files

SAMPLE = pathlib.Path(__file__).parent.parent / "samples" / "pretraining.txt"

needs_library = pytest.mark.skipif(
  learn_vocab.tokenizers is None, reason="needs requirements-vocab.txt"
)


def run(tmp_path, **flags):
  """Runs main as a command line would; returns the lines of the vocabulary."""
  output = tmp_path / "out.txt"
  flags = {"output_file": output, **flags}
  command_line.parse(learn_vocab.flags, [f"--{name}={value}" for name, value in flags.items()])
  learn_vocab.main([])
  return output.read_text().split("\n")[:-1]


# ---- Counting -----------------------------------------------------------------------------------


def test_words_are_those_of_the_tokenizer():
  lines = ["The naïve dog, the\tdog.\n", "Dog's", "中文 dog\n", "x" * 201]
  assert learn_vocab.count_words(lines, do_lower_case=True) == {
    "the": 2, "naive": 1, "dog": 4, ",": 1, ".": 1, "'": 1, "s": 1, "中": 1, "文": 1
  }  # fmt: skip
  cased = learn_vocab.count_words(lines, do_lower_case=False)
  assert (cased["The"], cased["Dog"], cased["dog"], cased["naïve"]) == (1, 1, 3, 1)


@given(st.lists(st.text(max_size=30)), st.booleans())
def test_counting_by_chunk_is_counting_by_line(lines, do_lower_case):
  tokenizer = tokenization.BasicTokenizer(do_lower_case)
  want = collections.Counter(word for line in lines for word in tokenizer.tokenize(line))
  assert learn_vocab.count_words(lines, do_lower_case) == want


# ---- Learning -----------------------------------------------------------------------------------


@needs_library
def test_pieces_worked_by_hand():
  """a+##b is seen 5 times, then ab+##c 3 times; c stands first 2 times, d once."""
  counts = {"abc": 3, "ab": 2, "c": 2, "d": 1}
  want = [*learn_vocab.SPECIAL_TOKENS, "a", "b", "c", "d", "##b", "##c", "ab", "abc"]
  assert learn_vocab.learn_pieces(counts, 100) == want
  assert learn_vocab.learn_pieces(counts, 12) == want[:-1]
  assert learn_vocab.learn_pieces(counts, 100, min_frequency=5) == [
    *learn_vocab.SPECIAL_TOKENS, "a", "b", "c", "##b", "##c", "ab"
  ]  # fmt: skip
  assert learn_vocab.learn_pieces(counts, 100, max_characters=2) == [
    *learn_vocab.SPECIAL_TOKENS, "a", "b", "##b", "ab"
  ]  # fmt: skip


@needs_library
def test_a_vocabulary_of_the_sample(tmp_path):
  lines = run(tmp_path, input_file=SAMPLE, vocab_size=1500)
  assert len(lines) == len(set(lines)) == 1500
  assert lines[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  assert run(tmp_path, input_file=SAMPLE, vocab_size=1500) == lines
  assert run(tmp_path, input_file=SAMPLE, vocab_size=700) == lines[:700]
  output = str(tmp_path / "out.txt")
  tokenization.validate_vocab(output, learn_vocab.SPECIAL_TOKENS)
  tokenizer = tokenization.FullTokenizer(output)
  assert "the" in tokenizer.vocab and "[UNK]" not in tokenizer.tokenize(SAMPLE.read_text())


@needs_library
@settings(max_examples=30, deadline=None)
@given(st.text(st.sampled_from("aAbBéÉßμ中文#,. \t\u0301\u200dx"), min_size=1), st.booleans())
def test_a_text_has_no_unknown_words_in_its_own_vocabulary(tmp_path_factory, text, do_lower_case):
  counts = learn_vocab.count_words([text], do_lower_case)
  vocab_file = tmp_path_factory.mktemp("vocab") / "vocab.txt"
  vocab_file.write_text("\n".join(learn_vocab.learn_pieces(counts, 60)))
  tokens = tokenization.FullTokenizer(str(vocab_file), do_lower_case).tokenize(text)
  assert "[UNK]" not in tokens


@needs_library
def test_many_files_cased_and_compressed(tmp_path):
  (tmp_path / "a.txt").write_text("Dog dog Dog\n")
  (tmp_path / "b.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfCat\n"))
  (tmp_path / "c.bz2").write_bytes(bz2.compress("Éclair\n".encode()))
  patterns = f"{tmp_path}/a.*,{tmp_path}/[bc].*"
  lines = run(tmp_path, input_file=patterns, do_lower_case=False)
  assert {"Dog", "dog", "Cat", "Éclair"} <= set(lines)
  assert {"dog", "cat", "eclair"} <= set(run(tmp_path, input_file=patterns))


# ---- Filling ------------------------------------------------------------------------------------

RELEASED = (
  "[PAD]\n[unused0]\r\n[unused1]\n[UNK]\n[CLS]\n[SEP]\nthe\nst\n##ent\n[unused2]\n##s\n.\nx"
)


def _released(tmp_path):
  path = tmp_path / "vocab.txt"
  path.write_text(RELEASED)
  return path


def test_unused_lines_become_words():
  filled, count = learn_vocab.fill_unused(RELEASED, ["stent", "valve"])
  assert count == 2
  assert filled == RELEASED.replace("[unused0]", "stent").replace("[unused1]", "valve")
  filled, count = learn_vocab.fill_unused(RELEASED, ["a", "b", "c", "d"])
  assert count == 3 and filled == RELEASED.replace("[unused0]", "a").replace(
    "[unused1]", "b"
  ).replace("[unused2]", "c")


def test_missing_words_are_the_most_frequent_without_a_piece():
  counts = {"the": 9, "stent": 3, "s": 5, "valve": 3, "x": 2, "once": 1}
  vocab = {"the", "st", "##ent", "##s", "x"}
  assert learn_vocab.missing_words(counts, vocab) == ["s", "stent", "valve", "once"]
  assert learn_vocab.missing_words(counts, vocab, 3) == ["s", "stent", "valve"]


def test_words_of_a_field_go_into_a_released_vocabulary(tmp_path):
  released, text = tmp_path / "vocab.txt", tmp_path / "text.txt"
  released.write_bytes(RELEASED.encode())
  text.write_text("The stent, the valve. Stents x\nstent the valve stent")
  run(tmp_path, input_file=text, fill_unused_of=released, max_words=2)
  want = RELEASED.replace("[unused0]", "stent").replace("[unused1]", "valve")
  assert (tmp_path / "out.txt").read_bytes() == want.encode()
  before = tokenization.FullTokenizer(str(released)).tokenize("the stents")
  after = tokenization.FullTokenizer(str(tmp_path / "out.txt")).tokenize("the stents")
  assert (before, after) == (["the", "st", "##ent", "##s"], ["the", "stent", "##s"])


# ---- Refusals -----------------------------------------------------------------------------------


@pytest.fixture(name="refused")
def _refused(tmp_path):
  """Function that checks that a command is refused with a message and writes nothing."""

  def refused(match, **flags):
    with pytest.raises(files.InputError, match=match) as caught:
      run(tmp_path, **flags)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.txt").exists()

  return refused


def test_unusable_input(refused, tmp_path):
  empty, broken, gz = (tmp_path / name for name in ("empty.txt", "broken.txt", "broken.gz"))
  empty.write_text(" \n\n")
  broken.write_bytes(b"good\nbad \xff\n")
  gz.write_bytes(gzip.compress(b"words " * 1000)[:-9])
  for match, path in (
    ("--input_file: no words in", empty),
    ("broken.txt:2: found byte 0xff", broken),
    ("broken.gz: cannot be read", gz),
    ("--input_file: there is no file 'nowhere", "nowhere*"),
    ("is a directory", tmp_path),
  ):
    refused(match, input_file=path, fill_unused_of=_released(tmp_path))


def test_impossible_flags(refused, tmp_path):
  refused("--input_file is missing")
  refused("--max_words has no effect without --fill_unused_of", input_file=SAMPLE, max_words=3)
  filled = {"input_file": SAMPLE, "fill_unused_of": _released(tmp_path)}
  refused("--vocab_size has no effect with --fill_unused_of", vocab_size=9, **filled)
  refused("max_words", **filled, max_words=0)
  refused("has each word already that is seen 99999", **filled, min_frequency=99999)
  refused("--output_file: .* is read too", **{**filled, "output_file": tmp_path / "vocab.txt"})
  refused("--output_file: .* is not a name", **{**filled, "output_file": tmp_path})
  full = tmp_path / "full.txt"
  full.write_text("[UNK]\n[CLS]\n[SEP]\n")
  refused(r"has no \[unused...\] line", input_file=SAMPLE, fill_unused_of=full)


@needs_library
def test_a_size_that_leaves_no_room(refused):
  refused(r"--vocab_size=20 is too small: .* need \d+ lines", input_file=SAMPLE, vocab_size=20)


def test_the_library_is_named_where_it_is_missing(refused, monkeypatch):
  monkeypatch.setattr(learn_vocab, "tokenizers", None)
  refused("the package tokenizers is missing; pip install", input_file=SAMPLE)
