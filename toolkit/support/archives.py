"""Archives from elsewhere, unpacked without trust in what they contain."""

import bz2
import contextlib
import gzip
import lzma
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from toolkit.support import files

_BLOCK = 2**20  # bytes
_MOST_MEMBERS = 10_000
# The bytes that an archive may become: weights hardly shrink by compression.
_MOST_GROWTH = 20
_FREE_GROWTH = 2**28

# The first bytes of compressed files -> what reads them.
_READERS: dict[bytes, Callable[..., Any]] = {
  b"\x1f\x8b": gzip.open,
  b"BZh": bz2.open,
  b"\xfd7zXZ\x00": lzma.open,
}
_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


@contextlib.contextmanager
def unpacked(path: str, flag: str) -> Iterator[str]:
  """Context with a temporary directory that has the content of a tar archive.

  Only files and directories are unpacked, to places within the directory. The sum of their bytes is
  limited by the size of the archive.

  Args:
    path: of a .tar file, which may be compressed by gzip, bzip2 or xz.
    flag: the flag that gave it, for messages.

  Raises:
    files.InputError: it is no such archive, is damaged, or has what is not unpacked.
  """
  with tempfile.TemporaryDirectory(prefix="bert_archive_") as directory:
    try:
      with files.open_binary(path) as stored:
        _unpack(stored, _Place(directory, f"--{flag}: {path}", _limit(path)))
    except files.InputError:
      raise
    except _ERRORS as error:
      raise files.InputError(
        f"--{flag}: {path} cannot be unpacked: {files.describe(error)}; give a directory or a "
        ".tar.gz archive, and fetch a damaged one again"
      ) from error
    yield directory


def _limit(path):
  """Returns the bytes that an archive may become."""
  return _FREE_GROWTH + _MOST_GROWTH * files.size_and_time(path)[0]


class _Place:
  """A directory to unpack into.

  Attributes:
    directory: its path.
    archive: name of the archive, for messages.
    left: the number of bytes that may still be read.
  """

  def __init__(self, directory, archive, limit):
    self.directory = directory
    self.archive = archive
    self.left = limit

  def count(self, data):
    """Counts bytes that were read, and returns them; InputError above the limit."""
    self.left -= len(data)
    if self.left < 0:
      raise files.InputError(
        f"{self.archive} is not unpacked: its content is more than {_MOST_GROWTH} times as large"
      )
    return data

  def path(self, name):
    """Returns the path of a member; InputError for one outside of the directory."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts or name.startswith("/") or ".." in parts or set(name) & {"\\", "\0"}:
      raise files.InputError(
        f"{self.archive} is not unpacked: it has the name {name!a}, which may lead out of the "
        "directory"
      )
    return os.path.join(self.directory, *parts)


class _Counted:
  """A file for reading whose bytes are counted, those of the archive's headers, too."""

  def __init__(self, stored, place):
    self._stored = stored
    self._place = place

  def read(self, size):
    return self._place.count(self._stored.read(size))


def _unpack(stored, place):
  """Unpacks an open file."""
  first = stored.read(max(map(len, _READERS)))
  stored.seek(0)
  reader = next((r for magic, r in _READERS.items() if first.startswith(magic)), None)
  with contextlib.ExitStack() as stack:
    content = stored if reader is None else stack.enter_context(reader(stored))
    # Read as a stream, so that no header can make it jump.
    counted: Any = _Counted(content, place)
    archive = stack.enter_context(tarfile.open(fileobj=counted, mode="r|"))
    for number, member in enumerate(archive):
      if number == _MOST_MEMBERS:
        raise files.InputError(f"{place.archive} is not unpacked: it has more than {number} files")
      _unpack_member(archive, member, place)


def _unpack_member(archive, member, place):
  """Writes one member of an archive; directories are made when a file needs them."""
  if member.isdir():
    return
  if not member.isreg() or member.issparse():
    raise files.InputError(
      f"{place.archive} is not unpacked: {member.name!a} in it is a link or a device"
    )
  path = place.path(member.name)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  with archive.extractfile(member) as source, open(path, "wb") as target:
    while block := source.read(_BLOCK):
      target.write(block)
