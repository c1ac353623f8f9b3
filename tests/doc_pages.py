"""Blocks, links and flags of Markdown pages, and a way to run the blocks as a reader would."""

import re
import subprocess
import sys
import time
from dataclasses import dataclass

SHELL, PYTHON = "shell", "python"
LANGUAGES = {SHELL, PYTHON, "text", "tsv", "csv", "json"}

_FENCE = re.compile(r"^```(.*)$")
_NOT_RUN = re.compile(r"^<!-- not run: (.*?) *-->$")
_LAST_LINES = 40  # of the output, which a failure shows

# Runs the Python blocks of a page in one namespace; each line of its input is a path and a line.
_PYTHON_LOOP = """
import pathlib, sys
for request in sys.stdin:
  path, page, line = request.rstrip("\\n").split("\\t")
  source = "\\n" * (int(line) - 1) + pathlib.Path(path).read_text(encoding="utf-8")
  exec(compile(source, page, "exec"), globals())
  sys.stdout.flush()
  pathlib.Path(path + ".done").touch()
"""


@dataclass(frozen=True)
class Block:
  """A fenced block.

  Attributes:
    page: str, the page's name.
    line: int, of the first line between the fences, from 1.
    language: str, behind the opening fence; "" for none.
    text: str.
    reason: str, why it is not run, of the comment before it; None if it is run.
  """

  page: str
  line: int
  language: str
  text: str
  reason: str

  @property
  def place(self):
    return f"{self.page}:{self.line}"


def blocks(page, text):
  """Returns the fenced blocks of a page in their order."""
  found, lines, start = [], text.split("\n"), None
  for number, line in enumerate(lines, 1):
    fence = _FENCE.match(line)
    if fence and start is None:
      start, language = number, fence[1].strip()
    elif fence:
      before = [line for line in lines[: start - 1] if line.strip()]
      reason = _NOT_RUN.match(before[-1].strip()) if before else None
      body = "\n".join(lines[start : number - 1]) + "\n"
      found.append(Block(page, start + 1, language, body, reason and reason[1]))
      start = None
  if start is not None:
    raise ValueError(f"{page}:{start}: the block has no end")
  return found


def prose(text):
  """Returns a page without its fenced blocks; lines keep their numbers."""
  kept, inside = [], False
  for line in text.split("\n"):
    is_fence = bool(_FENCE.match(line))
    kept.append("" if inside or is_fence else line)
    inside ^= is_fence
  return "\n".join(kept)


def links(text):
  """Yields (line, target) of the links and images of a page, outside of its blocks."""
  for number, line in enumerate(prose(text).split("\n"), 1):
    for target in re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`]*`", "", line)):
      yield number, target


def anchors(text):
  """Returns the anchors that GitHub gives the headings of a page."""
  found = {}
  for heading in re.findall(r"^#+ +(.+?) *#*$", prose(text), flags=re.M):
    words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
    name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
    found[name] = found.get(name, -1) + 1
  return {name if not i else f"{name}-{i}" for name, n in found.items() for i in range(n + 1)}


def commands(block):
  """Yields the commands of a shell block, each as one line without its comment."""
  text = re.sub(r"\\\n *", "", block.text)
  for line in text.split("\n"):
    quoted = r"'[^']*'|\"[^\"]*\""
    line = re.sub(rf"({quoted})|(^|\s)#.*", lambda match: match[1] or "", line)
    yield from filter(None, map(str.strip, re.findall(rf"(?:{quoted}|[^;&|'\"])+", line)))


def flags(command):
  """Returns the path of the Python script that a command runs, and the names of its flags.

  Args:
    command: str, such as "python run_ner.py --data_dir=samples/ner --do_train".

  Returns:
    A pair of str and list of str, or None for a command of another kind.
  """
  match = re.search(r"(?:^|\s)python3? (?:-m bert\.(\w+)|(\S+\.py))(.*)", command)
  if not match:
    return None
  script = f"{match[1]}.py" if match[1] else match[2]
  # What stands behind "--" is for another command.
  arguments = re.sub(r"=('[^']*'|\"[^\"]*\")", "=", match[3]).partition(" -- ")[0]
  return script, re.findall(r"(?:^|\s)--([A-Za-z]\w*)", arguments)


# ---- Running ------------------------------------------------------------------------------------


class BlockFailed(Exception):
  """A block of a page has failed; the message has its place, its text and its output."""


class Reader:
  """Runs the blocks of one page in their order: one shell, and one Python for all of them."""

  def __init__(self, directory, scratch, env):
    """Makes a reader.

    Args:
      directory: pathlib.Path, where the commands are run.
      scratch: pathlib.Path of an existing directory, in place of /tmp/bert, and for other files.
      env: dict, the environment.
    """
    self._directory, self._scratch, self._env = directory, scratch, env
    self._log = scratch / "output.txt"
    self._processes = {}

  def run(self, block, seconds=3600):
    """Runs a block to its end.

    Raises:
      BlockFailed: it failed, or took longer than `seconds`.
    """
    path = self._scratch / f"block-{block.line}"
    path.write_text(block.text.replace("/tmp/bert", str(self._scratch)), encoding="utf-8")
    start = self._log.stat().st_size if self._log.exists() else 0
    process = self._process(block.language)
    if block.language == SHELL:
      request = f"source '{path}' < /dev/null\ntouch '{path}.done'\n"
    else:
      request = f"{path}\t{block.page}\t{block.line}\n"
    process.stdin.write(request)
    process.stdin.flush()
    end = time.monotonic() + seconds
    done = path.with_name(path.name + ".done")
    while not done.exists():
      has_ended = process.poll() is not None
      if (has_ended and not done.exists()) or time.monotonic() > end:
        reason = "failed" if has_ended else f"took more than {seconds} s"
        output = self._log.read_bytes()[start:].decode("utf-8", "replace").splitlines()
        shown = "\n".join(output[-_LAST_LINES:])
        raise BlockFailed(f"{block.place}: {reason}\n\n{block.text}\n{shown}")
      time.sleep(0.02)

  def _process(self, language):
    if language not in self._processes:
      command = [sys.executable, "-c", _PYTHON_LOOP]
      if language == SHELL:
        command = ["bash", "-euE", "-o", "pipefail"]
      process = subprocess.Popen(
        command,
        cwd=self._directory,
        env=self._env,
        stdin=subprocess.PIPE,
        stdout=self._log.open("ab"),
        stderr=subprocess.STDOUT,
        text=True,
      )
      self._processes[language] = process
      if language == SHELL:
        process.stdin.write("trap 'echo \"failed: $BASH_COMMAND\"' ERR\n")
    return self._processes[language]

  def close(self):
    """Ends the shell and the Python."""
    for process in self._processes.values():
      process.kill()
      process.communicate()
