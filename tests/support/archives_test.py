"""Archives that are unpacked, and those that might do harm."""

import gzip
import io
import os
import tarfile
import tempfile

import pytest

from toolkit.support import archives, files


@pytest.fixture(name="scratch")
def _scratch(tmp_path, monkeypatch):
  """The directory of temporary files, which is empty after each test."""
  directory = tmp_path / "scratch"
  directory.mkdir()
  monkeypatch.setattr(tempfile, "tempdir", str(directory))
  yield directory
  assert not list(directory.iterdir())


def member(name, data=b"", **attributes):
  """A member of an archive, a TarInfo, and its content."""
  info = tarfile.TarInfo(name)
  info.size = len(data)
  for key, value in attributes.items():
    setattr(info, key, value)
  return info, data


def write(path, *members, mode="w:gz", **options):
  with tarfile.open(path, mode, **options) as archive:
    for info, data in members:
      archive.addfile(info, io.BytesIO(data))
  return str(path)


def content(path):
  """Unpacks an archive: dict of name -> content of its files."""
  found = {}
  with archives.unpacked(path, "input") as directory:
    for inner, _, names in os.walk(directory):
      for name in names:
        place = os.path.join(inner, name)
        assert not os.path.islink(place)
        with open(place, "rb") as f:
          found[os.path.relpath(place, directory)] = f.read()
  return found


@pytest.mark.parametrize("format_", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_files_and_directories(mode, format_, tmp_path, scratch):
  long_name = "/".join(["directory" * 5] * 3)
  path = write(
    tmp_path / "a",
    member("./", type=tarfile.DIRTYPE),
    member("./a.txt", b"one"),
    member("b/c/d.txt", b"two"),
    member("empty/", type=tarfile.DIRTYPE),
    member(long_name, b"three"),
    mode=mode,
    format=format_,
  )
  assert content(path) == {"a.txt": b"one", "b/c/d.txt": b"two", long_name: b"three"}


def test_the_directory_is_deleted_after_an_error_within(tmp_path, scratch):
  path = write(tmp_path / "a", member("a.txt", b"one"))
  with pytest.raises(RuntimeError), archives.unpacked(path, "input"):
    assert list(scratch.iterdir())
    raise RuntimeError


@pytest.mark.parametrize(
  "name", ["../evil", "a/../../evil", "/tmp/evil", "//tmp/evil", "a/..", "..\\evil", "C:\\evil"]
)
def test_names_that_lead_out_of_the_directory(name, tmp_path, scratch):
  path = write(tmp_path / "a", member("good", b"1"), member(name))
  before = set(tmp_path.rglob("*"))
  with pytest.raises(files.InputError, match="which may lead out of the directory"):
    content(path)
  assert set(tmp_path.rglob("*")) == before and not os.path.exists("/tmp/evil")


@pytest.mark.parametrize(
  "kind",
  [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE],
)
def test_links_and_devices(kind, tmp_path, scratch):
  path = write(tmp_path / "a", member("link", type=kind, linkname="/etc/passwd"))
  with pytest.raises(files.InputError, match="'link' in it is a link or a device"):
    content(path)


def test_a_link_and_a_file_through_it(tmp_path, scratch):
  outside = tmp_path / "outside"
  outside.mkdir()
  link = member("d", type=tarfile.SYMTYPE, linkname=str(outside))
  path = write(tmp_path / "a", link, member("d/evil", b"1"))
  with pytest.raises(files.InputError, match="is a link or a device"):
    content(path)
  assert not list(outside.iterdir())


def test_a_sparse_file_of_any_size(tmp_path, scratch):
  """Such a file has a size that nothing in the archive stands for."""
  info = tarfile.TarInfo("sparse")
  info.pax_headers = {
    "GNU.sparse.major": "0",
    "GNU.sparse.minor": "1",
    "GNU.sparse.size": str(2**50),
    "GNU.sparse.numblocks": "1",
    "GNU.sparse.map": f"{2**50 - 1},1",
  }
  info.size = 1
  path = write(tmp_path / "a", (info, b"1"), format=tarfile.PAX_FORMAT)
  with pytest.raises(files.InputError, match="'sparse' in it is a link or a device"):
    content(path)


def test_content_that_is_far_larger_than_the_archive(tmp_path, scratch, monkeypatch):
  monkeypatch.setattr(archives, "_FREE_GROWTH", 10_000)
  path = write(tmp_path / "a", member("zeros", bytes(10_000_000)))
  assert os.path.getsize(path) < 20_000
  with pytest.raises(files.InputError, match="its content is more than 20 times as large"):
    content(path)
  random = os.urandom(200_000)  # which no compression makes smaller
  assert content(write(tmp_path / "b", member("random", random))) == {"random": random}


def test_headers_count_too(tmp_path, scratch, monkeypatch):
  monkeypatch.setattr(archives, "_FREE_GROWTH", 10_000)
  info = tarfile.TarInfo("a")
  info.pax_headers = {"comment": "x" * 5_000_000}
  path = write(tmp_path / "a", (info, b""), format=tarfile.PAX_FORMAT)
  with pytest.raises(files.InputError, match="more than 20 times as large"):
    content(path)


def test_many_members(tmp_path, scratch, monkeypatch):
  monkeypatch.setattr(archives, "_MOST_MEMBERS", 10)
  path = write(tmp_path / "a", *(member(str(number)) for number in range(11)))
  with pytest.raises(files.InputError, match="it has more than 10 files"):
    content(path)


def cut(path, share):
  with open(path, "rb") as f:
    data = f.read()
  with open(path, "wb") as f:
    f.write(data[: int(len(data) * share)])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz", "w"])
def test_an_archive_that_is_cut_off(mode, share, tmp_path, scratch):
  path = write(tmp_path / "a", member("a", os.urandom(50_000)), mode=mode)
  cut(path, share)
  with pytest.raises(files.InputError, match=r"^--input: .*/a cannot be unpacked: ") as caught:
    content(path)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"no archive", b"\x1f\x8bno", gzip.compress(b"no tar")])
def test_files_that_are_no_archive(data, tmp_path, scratch):
  path = tmp_path / "a"
  path.write_bytes(data)
  with pytest.raises(files.InputError, match=r"cannot be unpacked: .*; give a directory or a"):
    content(str(path))


def test_a_file_within_a_file(tmp_path, scratch):
  path = write(tmp_path / "a", member("a", b"1"), member("a/b", b"2"))
  with pytest.raises(files.InputError, match="cannot be unpacked"):
    content(path)
