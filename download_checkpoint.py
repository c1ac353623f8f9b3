"""Fetches a released BERT checkpoint and unpacks it into a directory of its own.

  python download_checkpoint.py uncased_L-12_H-768_A-12 --output_dir=models
  python download_checkpoint.py --list

The archive is checked before anything is unpacked. The same command
continues a download that was interrupted. Without a network, fetch the archive elsewhere and put
it into the output directory: it is then unpacked from there.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile

from tqdm import tqdm

from toolkit.support import files, plain_command_line

ADDRESS = "https://storage.googleapis.com/bert_models"
SMALL_LAYERS = (2, 4, 6, 8, 10, 12)
SMALL_WIDTHS = (128, 256, 512, 768)

# Name of a checkpoint -> folder of ADDRESS. The largest of the 24 small models has the name of
# BERT-Base, but is trained otherwise; its folder is part of its name here.
CHECKPOINTS = {
  "uncased_L-12_H-768_A-12": "2018_10_18",
  "uncased_L-24_H-1024_A-16": "2018_10_18",
  "cased_L-12_H-768_A-12": "2018_10_18",
  "cased_L-24_H-1024_A-16": "2018_10_18",
  "multilingual_L-12_H-768_A-12": "2018_11_03",
  "chinese_L-12_H-768_A-12": "2018_11_03",
  "multi_cased_L-12_H-768_A-12": "2018_11_23",
  "wwm_uncased_L-24_H-1024_A-16": "2019_05_30",
  "wwm_cased_L-24_H-1024_A-16": "2019_05_30",
}
SMALL = "2020_02_20"
for _layers in SMALL_LAYERS:
  for _width in SMALL_WIDTHS:
    _name = f"uncased_L-{_layers}_H-{_width}_A-{_width // 64}"
    CHECKPOINTS[f"{SMALL}/{_name}" if _name in CHECKPOINTS else _name] = SMALL

# The content of an archive, in a folder or not.
FILES = (
  "bert_config.json",
  "vocab.txt",
  "bert_model.ckpt.index",
  "bert_model.ckpt.data-00000-of-00001",
)
OPTIONAL_FILES = ("bert_model.ckpt.meta",)
_BLOCK = 2**20  # bytes
_TIMEOUT = 60  # seconds without a byte


def address(name: str) -> str:
  """Returns the address of the archive of a key of CHECKPOINTS."""
  return f"{ADDRESS}/{CHECKPOINTS[name]}/{name.rpartition('/')[2]}.zip"


def fetch(url: str, path: str) -> None:
  """Downloads a file, and continues an earlier attempt.

  The data is in `path`.part until it is complete.

  Raises:
    files.InputError: the server cannot be reached, has no such file, or the connection was lost.
  """
  part = path + ".part"
  done = os.path.getsize(part) if os.path.exists(part) else 0
  request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
  try:
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:
      _receive(response, part, done if response.status == 206 else 0)
  except urllib.error.HTTPError as error:
    if error.code != 416:  # range not satisfiable: the file is complete
      raise files.InputError(f"{url}: the server answered {error.code} {error.reason}") from error
  except OSError as error:
    reason = getattr(error, "reason", error)
    raise files.InputError(
      f"{url} cannot be fetched: {reason}. Give the same command again to continue; without a "
      f"network, fetch it elsewhere and put it here as {path}"
    ) from error
  os.replace(part, path)


def _receive(response, part, done):
  """Appends the data of a response to the first `done` bytes of a file."""
  expected = response.headers.get("Content-Length")
  total = None if expected is None else done + int(expected)
  bar = tqdm(
    total=total,
    initial=done,
    unit="B",
    unit_scale=True,
    desc=os.path.basename(part)[: -len(".part")],
    disable=not sys.stderr.isatty(),
  )
  with bar, open(part, "ab") as f:
    f.truncate(done)
    while block := response.read(_BLOCK):
      f.write(block)
      bar.update(len(block))
    if total is not None and f.tell() < total:
      raise OSError(f"the connection was lost after {f.tell():,} of {total:,} bytes")


def unpack(archive: str, directory: str) -> None:
  """Checks a zip file and extracts it into a new directory, whole or not at all.

  Only the files of a checkpoint are extracted, by their names without folders, so that no path in
  the archive can lead elsewhere.

  Raises:
    files.InputError: the archive is damaged, or is none of a checkpoint; a damaged one is deleted.
  """
  try:
    with zipfile.ZipFile(archive) as opened:
      damaged = opened.testzip()
      if damaged:
        raise zipfile.BadZipFile(f"{damaged} has another checksum")
      members = {os.path.basename(m.filename): m for m in opened.infolist() if not m.is_dir()}
      missing = [name for name in FILES if name not in members]
      if missing:
        raise files.InputError(f"{archive} is no checkpoint of BERT: it has no {missing[0]}")
      wanted = {name: members[name] for name in (*FILES, *OPTIONAL_FILES) if name in members}
      _extract(opened, wanted, directory)
  except zipfile.BadZipFile as error:
    os.remove(archive)
    raise files.InputError(
      f"{archive} was damaged and is deleted ({error}); give the same command again"
    ) from error


def _extract(opened, members, directory):
  with tempfile.TemporaryDirectory(dir=os.path.dirname(os.path.abspath(directory))) as scratch:
    made = os.path.join(scratch, "checkpoint")
    os.mkdir(made)
    for name, member in members.items():
      with opened.open(member) as source, open(os.path.join(made, name), "wb") as target:
        shutil.copyfileobj(source, target, _BLOCK)
    os.replace(made, directory)


def download(name: str, output_dir: str) -> str:
  """Downloads a key of CHECKPOINTS into a directory of its name, unless it is there.

  Returns:
    The directory, in `output_dir`.

  Raises:
    files.InputError: see fetch and unpack; or the directory exists with other content.
  """
  directory = os.path.join(output_dir, name.replace("/", "_"))
  if os.path.isdir(directory):
    missing = [file for file in FILES if not os.path.exists(os.path.join(directory, file))]
    if missing:
      raise files.InputError(
        f"--output_dir: {directory} exists, without {missing[0]}; move it elsewhere"
      )
    return directory
  files.make_directory(output_dir, "output_dir")
  archive = directory + ".zip"
  if not os.path.exists(archive):
    fetch(address(name), archive)
  with files.converted_write_errors(directory):
    unpack(archive, directory)
  os.remove(archive)
  return directory


def main(arguments: list[str]) -> None:
  """Runs a command line, given without the program's name.

  Raises:
    files.InputError: a mistake in the command line, or see download.
  """
  parser = plain_command_line.Parser(__file__, __doc__)
  parser.add_argument("name", nargs="?", help="name of the checkpoint")
  parser.add_argument(
    "--output_dir", default=".", help="directory for the checkpoint's own directory (default: .)"
  )
  parser.add_argument("--list", action="store_true", help="print all names and addresses")
  args = parser.parse_args(arguments)
  if args.list:
    print("".join(f"{name}  {address(name)}\n" for name in CHECKPOINTS), end="")
    return
  if args.name not in CHECKPOINTS:
    found = "no name" if args.name is None else repr(args.name)
    raise files.InputError(f"found {found}, should be one of {', '.join(CHECKPOINTS)}")
  directory = download(args.name, args.output_dir)
  print(f"{directory}: {', '.join(sorted(os.listdir(directory)))}")


if __name__ == "__main__":
  plain_command_line.run(main, stopped="stopped; the same command continues from there")
