"""Reading and writing of files, local and remote (file:// is treated like gs://)."""

import bz2
import gzip
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.support import files


@pytest.fixture(name="directory", params=["local", "remote"])
def _directory(request, tmp_path):
  return str(tmp_path) if request.param == "local" else f"file://{tmp_path}"


def test_text_and_json_come_back(directory):
  path = f"{directory}/a.json"
  assert not files.exists(path)
  files.write_json(path, {"b": [1, None], "a": "ü"})
  assert files.exists(path) and not files.is_directory(path)
  assert files.read_json(path) == {"a": "ü", "b": [1, None]}
  text = files.read_text(path)
  assert text.startswith('{\n  "a": ') and text.endswith("\n}\n")
  files.write_text(path, "new")
  assert files.read_bytes(path) == b"new"
  assert files.glob(f"{directory}/*") == [path]  # nothing temporary is left
  files.remove(path)
  assert not files.exists(path)


def test_directories(directory):
  below = f"{directory}/x/y"
  files.make_directory(below, "output_dir")
  assert files.is_directory(below) and files.glob(f"{below}/*") == []
  files.make_directory(below, "output_dir")  # an existing one is no error
  for name in ("b", "a"):
    files.write_text(f"{below}/{name}.txt", name)
  assert files.glob(f"{below}/*.txt") == [f"{below}/a.txt", f"{below}/b.txt"]


def test_what_cannot_be_read(directory):
  with pytest.raises(files.InputError, match=r"none\.txt: cannot be read: ") as caught:
    files.read_text(f"{directory}/none.txt")
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
  "test",
  [files.exists, files.size_and_time, files.glob],  # isdir of TensorFlow returns False
  ids=lambda test: test.__name__,
)
def test_a_storage_out_of_reach(test):
  """Such as one without credentials: TensorFlow raises other errors than OSError."""
  with pytest.raises(files.InputError, match=r"^nowhere://x/y: cannot be read: .*'nowhere'"):
    test("nowhere://x/y")


def test_messages_of_the_system_do_not_repeat_the_path(tmp_path):
  with pytest.raises(files.InputError) as caught:
    files.read_bytes(str(tmp_path / "none"))
  assert str(caught.value) == f"{tmp_path}/none: cannot be read: No such file or directory"
  with pytest.raises(files.InputError, match="cannot be read: Is a directory"):
    files.read_bytes(str(tmp_path))
  (tmp_path / "file").write_text("")
  with pytest.raises(files.InputError, match=r"--output_dir: cannot write in .*file/x: "):
    files.make_directory(str(tmp_path / "file" / "x"), "output_dir")


def test_describe_takes_the_first_line_or_the_kind():
  assert files.describe(ValueError("one\ntwo")) == "one"
  assert files.describe(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_an_input_error_is_a_value_error():
  assert issubclass(files.InputError, ValueError)


def test_input_checks_turn_plain_value_errors_alone():
  with pytest.raises(files.InputError, match=r"^a: wrong$"), files.input_checks():
    raise ValueError("a: wrong")
  for error in (UnicodeError("b"), KeyError("c"), files.InputError("d")):
    with pytest.raises(type(error)) as caught, files.input_checks():
      raise error
    assert caught.value is error


def test_lines_end_at_newlines_alone(tmp_path):
  path = tmp_path / "x.txt"
  path.write_bytes("\ufeffa\r\nb\u2028c\u0085\x0cd\r\n\ne".encode())
  assert files.read_lines(str(path)) == [(1, "a"), (2, "b\u2028c\u0085\x0cd"), (3, ""), (4, "e")]
  path.write_bytes(b"")
  assert files.read_lines(str(path)) == []


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\n\ufeff", codec="utf-8"))))
def test_lines_come_back(tmp_path_factory, lines):
  path = str(tmp_path_factory.getbasetemp() / "lines.txt")
  files.write_text(path, "".join(f"{line}\n" for line in lines))
  assert files.read_lines(path) == list(enumerate(lines, 1))


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"a\nb\0c\n", "x.txt:2: found a NUL byte; convert the file to UTF-8 text"),
    (b"\0", "x.txt:1: found a NUL byte; convert the file to UTF-8 text"),
    (b"a\n\nc\xe9\n\0", "x.txt:3: found byte 0xe9, which is not UTF-8"),
    ("é".encode("utf-16"), "x.txt:1: found byte 0xff, which is not UTF-8"),
  ],
)
def test_bytes_that_are_no_text(data, message):
  with pytest.raises(files.InputError) as caught:
    files.decode(data, "x.txt")
  assert str(caught.value).startswith(message)


def test_json_that_is_none(tmp_path):
  path = tmp_path / "x.json"
  path.write_text('{"a": 1,\n"b" 2}')
  with pytest.raises(files.InputError) as caught:
    files.read_json(str(path))
  assert str(caught.value) == (f"{path}:2: is not valid JSON: Expecting ':' delimiter (column 5)")


@pytest.mark.parametrize("read", [files.read_json, files.read_jsonl])
@pytest.mark.parametrize(
  ("text", "message"),
  [
    ('\n{"é": "雨雨" 1}', r"2: is not valid JSON: Expecting ',' delimiter \(column 12\)"),
    ("[" * 100_000, "1: cannot be read as JSON: maximum recursion depth exceeded"),
    ('\n{"a": ' + "1" * 5000 + "}", "[12]: cannot be read as JSON: Exceeds the limit"),
  ],
)
def test_places_of_mistakes_in_json(tmp_path, read, text, message):
  if "Exceeds" in message and not hasattr(sys, "get_int_max_str_digits"):
    pytest.skip("numbers of any length are read")
  (tmp_path / "x").write_text(text, encoding="utf-8")
  with pytest.raises(files.InputError, match=rf"^{tmp_path}/x:{message}"):
    read(str(tmp_path / "x"))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "x.txt"
  path.write_text("old")

  def fail(*_):
    raise OSError("the machine went down")

  monkeypatch.setattr(os, "replace", fail)
  with pytest.raises(files.InputError, match=r"x\.txt: cannot be written: the machine went down"):
    files.write_text(str(path), "new")
  assert path.read_text() == "old"


def test_only_a_scheme_is_remote():
  assert files.is_remote("gs://bucket/x") and not files.is_remote("/tmp/gs:/x")


@pytest.mark.parametrize(
  ("name", "pack"), [("a", bytes), ("a.gz", gzip.compress), ("a.bz2", bz2.compress)]
)
def test_lines_of_large_files(directory, name, pack):
  path = f"{directory}/{name}"
  files.write_bytes(path, pack("\ufeff1\u2028x\r\n\n2\r\r3\u0085\x0c\x1c\rü".encode()))
  lines = ["1\u2028x\n", "\n", "2\n", "\n", "3\u0085\x0c\x1c\n", "ü"]
  assert list(files.stream_lines(path)) == lines
  assert files.is_regular_file(path) and not files.is_regular_file(directory)
  assert files.size_and_time(path)[0] == len(files.read_bytes(path))
  for data, number, byte in (
    (b"1\n2\n\xff\n", 3, "ff"),
    (b"1\r2\r\n3 \xc3\r4", 3, "c3"),
    (b"\xef\xbb\xbf\xed\xa0\x80", 1, "ed"),
    (b"a" * 20_000 + b"\n\x80" + b"b\n" * 20_000, 2, "80"),
  ):
    files.write_bytes(path, pack(data))
    message = f"{name}:{number}: found byte 0x{byte}, which is not UTF-8; convert the file to UTF-8"
    with pytest.raises(files.InputError, match=message):
      list(files.stream_lines(path))


@given(st.lists(st.sampled_from(["a", "ü", "\r", "\n", "\r\n", "\u2028", "\ufeff", " "])))
def test_long_files_have_the_lines_of_short_ones(tmp_path_factory, parts):
  path = str(tmp_path_factory.getbasetemp() / "stream.txt")
  files.write_bytes(path, "".join(parts).encode())
  streamed = [line[:-1] if line.endswith("\n") else line for line in files.stream_lines(path)]
  assert list(enumerate(streamed, 1)) == files.read_lines(path)


def test_compressed_files_that_are_cut_off(directory):
  files.write_bytes(f"{directory}/a.gz", gzip.compress(b"1\n" * 9)[:-9])
  files.write_bytes(f"{directory}/b.gz", b"1\n")
  for name, message in (("a", "ended before the end"), ("b", "Not a gzipped file")):
    with pytest.raises(files.InputError, match=rf"{name}\.gz: cannot be read.*: .*{message}"):
      list(files.stream_lines(f"{directory}/{name}.gz"))


def test_files_that_are_not_there(directory):
  for read in (files.size_and_time, lambda path: list(files.stream_lines(path))):
    with pytest.raises(files.InputError, match="none: cannot be read: "):
      read(f"{directory}/none")
  assert not files.is_regular_file(f"{directory}/none")


def test_a_write_that_fails_leaves_nothing(tmp_path):
  (tmp_path / "a").mkdir()
  with pytest.raises(files.InputError, match="cannot be written"):
    files.write_text(str(tmp_path / "a"), "text")
  assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_find(tmp_path):
  for name in ("a-1", "a-0", "b"):
    (tmp_path / name).write_text("x")
  names = f"{tmp_path}/b,{tmp_path}/a-*,{tmp_path}/*-1"
  assert files.find(names, "f") == [str(tmp_path / name) for name in ("b", "a-0", "a-1")]
  (tmp_path / "[c]").write_text("x")  # a name that is a pattern too
  assert files.find(f"{tmp_path}/[c]", "f") == [f"{tmp_path}/[c]"]
  with pytest.raises(
    files.InputError, match=r"^--f: there is no file '.*/d-.*', nor one that matches"
  ):
    files.find(f"{tmp_path}/b,{tmp_path}/d-*", "f")
  with pytest.raises(files.InputError, match=f"^--f: {tmp_path} is a directory, pipe or device"):
    files.find(f"{tmp_path}/b,{tmp_path}", "f")


# ---- Tables -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
  ("text", "want"),
  [
    ("\ufeffgood", "good"),
    (" go\u200bod\u200b \u2060", "good"),
    ("\u200dgood \u200c", "good"),
    ("so\u00adso", "soso"),
    ("not  good", "not  good"),
    (
      "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
      "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    ),
    ("\U0001f469\u200d\U0001f52c", "\U0001f469\u200d\U0001f52c"),
    ("\U0001f3f4\U000e0067\U000e0062\U000e007f", "\U0001f3f4\U000e0067\U000e0062\U000e007f"),
    ("\u200b\u3000", ""),
  ],
)
def test_what_can_be_seen_of_a_name(text, want):
  assert files.visible(text) == want


MARK = "\ufeff"


@pytest.mark.parametrize(
  ("file_format", "text"),
  [
    ("tsv", f"{MARK}{MARK}text\tlabel\na\tx\n{MARK}b\ty\n"),
    ("csv", f'{MARK}text, label\u200b\na,x\r\n{MARK}"b",y\r\n'),
    ("jsonl", f'{MARK}{{"text": "a", "label": "x"}}\n{MARK}{{"text": "b", "label": "y"}}\n'),
  ],
)
def test_byte_order_marks_within_a_table(tmp_path, file_format, text):
  (tmp_path / "x").write_text(text, encoding="utf-8")
  table = files.read_table(str(tmp_path / "x"), file_format)
  assert table.columns == ["text", "label"]
  assert table.rows == [["a", "x"], ["b", "y"]]


@pytest.mark.parametrize(
  "header", ["text\tlabel", "label\ttext", " Text\tLABEL", "\ufefftext\tlabel"]
)
@pytest.mark.parametrize("file_format", ["tsv", "csv"])
def test_a_header_within_a_table(tmp_path, file_format, header):
  path = tmp_path / "x"
  rows = ["text\tlabel", "a\tx", "label\ta", header, "b\ty"]
  path.write_text("\n".join(rows).replace("\t", "\t" if file_format == "tsv" else ","), "utf-8")
  with pytest.raises(files.InputError, match=f"^{path}:4: found the header again, ") as caught:
    files.read_table(str(path), file_format)
  assert "\n" not in str(caught.value)
  assert len(files.read_table(str(path), file_format, has_header=False).rows) == 5


def test_a_text_that_is_like_the_header_of_its_one_column(tmp_path):
  (tmp_path / "x.tsv").write_text("text\nText\na\n")
  assert files.read_table(str(tmp_path / "x.tsv"), "tsv").rows == [["Text"], ["a"]]


@pytest.mark.parametrize(
  ("there", "path", "other"),
  [
    ("train.csv", "train.tsv", "csv"),
    ("train.jsonl", "train.csv", "jsonl"),
    ("train.tsv", "train.jsonl", "tsv"),
    ("train.tsv", "train.tsv", None),
    ("dev.csv", "train.tsv", None),
  ],
)
def test_a_table_of_another_format(directory, there, path, other):
  files.write_text(f"{directory}/{there}", "")
  if other is None:
    files.check_format(f"{directory}/{path}")
    return
  with pytest.raises(files.InputError) as caught:
    files.check_format(f"{directory}/{path}")
  assert str(caught.value) == (
    f"{directory}/{path}: there is no such file, but there is {directory}/{there}; "
    f"give --task_name={other}"
  )


@pytest.mark.parametrize(
  ("path", "usual", "want"),
  [
    ("a/x.csv", "tsv", "csv"),
    ("a/x.JSONL", "csv", "jsonl"),
    ("a/x.tsv", "tsv", "tsv"),
    ("a.csv/x", "tsv", "tsv"),
    ("a/x.txt", "csv", "csv"),
  ],
)
def test_format_by_a_name(log, path, usual, want):
  assert files.table_format(path, usual) == want
  said = [f"{path} is read as {want}, by its name, and not as {usual}"]
  assert log.messages == (said if want != usual else [])
