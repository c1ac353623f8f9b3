"""Fetching checkpoints from a server of this machine: whole, in parts, broken and hostile."""

import http.server
import io
import threading
import zipfile

import pytest

import download_checkpoint
from toolkit.support import files

NAME = "uncased_L-2_H-128_A-2"
CONTENT = {name: name.encode() * 100 for name in download_checkpoint.FILES}


def archive_of(content):
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, "w") as archive:
    for name, data in content.items():
      archive.writestr(name, data)
  return stream.getvalue()


class Server:
  """Files of a local server, and the ranges of its requests."""

  def __init__(self):
    self.data = archive_of(CONTENT)
    self.breaks_off_at = None
    self.knows_ranges = True
    self.ranges = []


@pytest.fixture
def server(monkeypatch):
  state = Server()

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
      if not self.path.endswith(f"/{NAME}.zip"):
        self.send_error(404)
        return
      state.ranges.append(self.headers["Range"])
      first = 0
      if self.headers["Range"] and state.knows_ranges:
        first = int(self.headers["Range"][len("bytes=") : -1])
      if first >= len(state.data):
        self.send_error(416)
        return
      self.send_response(206 if first else 200)
      self.send_header("Content-Length", str(len(state.data) - first))
      self.end_headers()
      self.wfile.write(state.data[first : state.breaks_off_at])

    def log_message(self, *_):
      pass

  with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
    threading.Thread(target=running.serve_forever, daemon=True).start()
    monkeypatch.setattr(
      download_checkpoint, "ADDRESS", f"http://127.0.0.1:{running.server_address[1]}"
    )
    yield state
    running.shutdown()


def content_of(directory):
  return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_every_released_checkpoint_is_known_once():
  addresses = {download_checkpoint.address(name) for name in download_checkpoint.CHECKPOINTS}
  assert len(addresses) == len(download_checkpoint.CHECKPOINTS) == 9 + 24
  base = "https://storage.googleapis.com/bert_models"
  assert f"{base}/2018_10_18/uncased_L-12_H-768_A-12.zip" in addresses
  assert f"{base}/2020_02_20/uncased_L-12_H-768_A-12.zip" in addresses
  assert f"{base}/2020_02_20/uncased_L-4_H-512_A-8.zip" in addresses


def test_fetches_and_unpacks(server, tmp_path, capsys):
  download_checkpoint.main([NAME, f"--output_dir={tmp_path}/models"])
  assert [path.name for path in (tmp_path / "models").iterdir()] == [NAME]
  assert content_of(tmp_path / "models" / NAME) == CONTENT
  assert "bert_config.json" in capsys.readouterr().out
  download_checkpoint.main([NAME, f"--output_dir={tmp_path}/models"])  # it is there
  assert server.ranges == [None]


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_goes_on_where_it_was_cut_off(server, tmp_path, knows_ranges):
  server.breaks_off_at = 1000
  with pytest.raises(files.InputError, match=r"was lost after 1,000 of .* same command again"):
    download_checkpoint.main([NAME, f"--output_dir={tmp_path}"])
  assert [path.name for path in tmp_path.iterdir()] == [NAME + ".zip.part"]
  server.breaks_off_at, server.knows_ranges = None, knows_ranges
  download_checkpoint.main([NAME, f"--output_dir={tmp_path}"])
  assert server.ranges == [None, "bytes=1000-"]
  assert content_of(tmp_path / NAME) == CONTENT


def test_part_that_is_whole_already(server, tmp_path):
  (tmp_path / f"{NAME}.zip.part").write_bytes(server.data)
  download_checkpoint.main([NAME, f"--output_dir={tmp_path}"])
  assert content_of(tmp_path / NAME) == CONTENT


def test_archive_from_elsewhere_needs_no_network(monkeypatch, tmp_path):
  monkeypatch.setattr(download_checkpoint, "ADDRESS", "http://127.0.0.1:9")  # nobody is there
  with pytest.raises(files.InputError, match=f"cannot be fetched: .* put it here as .*{NAME}.zip"):
    download_checkpoint.main([NAME, f"--output_dir={tmp_path}"])
  (tmp_path / f"{NAME}.zip").write_bytes(archive_of({f"x/{k}": v for k, v in CONTENT.items()}))
  download_checkpoint.main([NAME, f"--output_dir={tmp_path}"])
  assert content_of(tmp_path / NAME) == CONTENT


def test_damaged_archive_is_not_unpacked(server, tmp_path):
  place = server.data.index(CONTENT["vocab.txt"])
  server.data = server.data[:place] + b"?" + server.data[place + 1 :]
  with pytest.raises(files.InputError, match=r"damaged and is deleted \(vocab.txt has another"):
    download_checkpoint.main([NAME, f"--output_dir={tmp_path}"])
  server.data = server.data[:500]
  with pytest.raises(files.InputError, match="damaged and is deleted"):
    download_checkpoint.main([NAME, f"--output_dir={tmp_path}"])
  assert list(tmp_path.iterdir()) == []


def test_archive_cannot_write_elsewhere(server, tmp_path):
  hostile = {"../../vocab.txt" if k == "vocab.txt" else k: v for k, v in CONTENT.items()}
  server.data = archive_of({**hostile, "../evil.txt": b"evil", "/tmp/evil.py": b"evil"})
  download_checkpoint.main([NAME, f"--output_dir={tmp_path}/models"])
  assert [path.name for path in tmp_path.iterdir()] == ["models"]
  assert content_of(tmp_path / "models" / NAME) == CONTENT


def test_refusals(server, tmp_path):
  with pytest.raises(files.InputError, match="found 'bert-base', should be one of uncased_L-12"):
    download_checkpoint.main(["bert-base"])
  with pytest.raises(files.InputError, match="found no name"):
    download_checkpoint.main([])
  with pytest.raises(files.InputError, match="the server answered 404"):
    download_checkpoint.main(["uncased_L-2_H-256_A-4", f"--output_dir={tmp_path}"])
  server.data = archive_of({"readme.txt": b"hello"})
  with pytest.raises(files.InputError, match=r"no checkpoint of BERT: it has no bert_config.json"):
    download_checkpoint.main([NAME, f"--output_dir={tmp_path}"])
  (tmp_path / "half" / NAME).mkdir(parents=True)
  with pytest.raises(files.InputError, match=r"exists, without bert_config.json; move it"):
    download_checkpoint.main([NAME, f"--output_dir={tmp_path}/half"])
