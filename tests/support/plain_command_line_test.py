"""Scripts without absl's flags: arguments, help and errors."""

import os
import pathlib
import subprocess
import sys

import pytest

from toolkit.support import files, plain_command_line

ROOT = pathlib.Path(__file__).parents[2]
DESCRIPTION = "Does it.\n\n  python tool.py x\n"


@pytest.fixture(name="parser")
def _parser(monkeypatch):
  monkeypatch.setattr(sys, "argv", ["below/tool.py"])
  parser = plain_command_line.Parser("/top/tool.py", DESCRIPTION)
  parser.add_argument("name")
  return parser


def test_a_mistake_is_an_input_error(parser):
  assert parser.parse_args(["x"]).name == "x"
  with pytest.raises(files.InputError, match="arguments are required: name"):
    parser.parse_args([])


def test_help_names_the_command_as_it_was_called(parser, capsys):
  with pytest.raises(SystemExit) as caught:
    parser.parse_args(["--help"])
  text = capsys.readouterr().out
  assert caught.value.code == 0
  assert text.startswith("usage: tool.py ") and "\n  python below/tool.py x\n" in text


@pytest.mark.parametrize(
  ("error", "stopped", "status"),
  [
    (files.InputError("x: is wrong"), "", "tool.py: error: x: is wrong"),
    (KeyboardInterrupt(), "", 130),
    (KeyboardInterrupt(), "half done", "tool.py: half done"),
  ],
)
def test_ends(monkeypatch, error, stopped, status):
  monkeypatch.setattr(sys, "argv", [str(pathlib.Path("below") / "tool.py"), "a"])

  def main(arguments):
    assert arguments == ["a"]
    raise error

  with pytest.raises(SystemExit) as caught:
    plain_command_line.run(main, stopped)
  assert caught.value.code == status


@pytest.mark.parametrize("flush", [False, True])
def test_a_reader_that_ends_early(tmp_path, flush):
  """As with | head."""
  script = tmp_path / "tool.py"
  script.write_text(
    "from toolkit.support import plain_command_line\n"
    "def main(_):\n"
    f"  for _ in range(9): print('x' * 4000, flush={flush})\n"
    "plain_command_line.run(main)\n"
  )
  read_end, write_end = os.pipe()
  os.close(read_end)
  done = subprocess.run(
    [sys.executable, str(script)],
    stdout=write_end,
    stderr=subprocess.PIPE,
    env={**os.environ, "PYTHONPATH": str(ROOT)},
    check=False,
  )
  os.close(write_end)
  assert (done.returncode, done.stderr) == (141, b"")
