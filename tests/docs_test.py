"""README.md and docs/: their form, their links and flags, and (slow) each of their commands."""

import importlib
import os
import pathlib
import re
import shutil
import sys

import absl.flags
import doc_pages
import pytest
from doc_pages import PYTHON, SHELL

from notebooks import links as notebook_links

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README_BYTES = 12 * 1024
README_COLUMNS = 100
PIP_FLAGS = {"--no-deps", "--require-hashes"}


@pytest.fixture(name="page", params=PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def _page(request):
  return request.param


def read(page):
  return page.read_text(encoding="utf-8")


def blocks(page):
  return doc_pages.blocks(str(page.relative_to(ROOT)), read(page))


# ---- Form ---------------------------------------------------------------------------------------


def test_readme_is_short():
  assert len(read(ROOT / "README.md").encode()) <= README_BYTES
  lines = notebook_links.BADGE.sub("", read(ROOT / "README.md")).split("\n")
  long = [f"README.md:{i}" for i, line in enumerate(lines, 1) if len(line) > README_COLUMNS]
  assert not long


def test_blocks_have_a_language(page):
  wrong = [
    f"{b.place}: {b.language!r}" for b in blocks(page) if b.language not in doc_pages.LANGUAGES
  ]
  assert not wrong, f"known are {sorted(doc_pages.LANGUAGES)}"


def test_comments_of_blocks_that_are_not_run_stand_before_one(page):
  reasons = [block.reason for block in blocks(page) if block.language in (SHELL, PYTHON)]
  assert read(page).count("<!-- not run") == sum(bool(reason) for reason in reasons)


# ---- Links and names ----------------------------------------------------------------------------


def test_links_lead_somewhere(page):
  wrong = []
  for line, target in doc_pages.links(read(page)):
    path, _, anchor = target.partition("#")
    if re.match(r"[a-z]+:", path):
      continue
    file = (page.parent / path).resolve() if path else page
    if not file.exists():
      wrong.append(f"{page.name}:{line}: there is no {path}")
    elif anchor and file.suffix == ".md" and anchor not in doc_pages.anchors(read(file)):
      wrong.append(f"{page.name}:{line}: {path or page.name} has no heading for #{anchor}")
  assert not wrong


def test_files_that_are_named_exist(page):
  """Paths in `code` that begin with a directory of this project."""
  top = "|".join(path.name for path in ROOT.iterdir() if path.is_dir() and path.name[0] != ".")
  pattern = rf"(?<![\w./-])(?:{top})/[\w./-]+\.(?:py|md|txt|ipynb|png|json|tsv)\b"
  codes = re.findall(r"`([^`\n]*)`", doc_pages.prose(read(page)))
  named = {path for code in codes for path in re.findall(pattern, code)}
  wrong = [p for p in named if not p.startswith("quickstart/") and not (ROOT / p).exists()]
  assert not wrong


def flags_of(script):
  """Set of the names of the flags that a script of this project takes."""
  source = (ROOT / script).read_text(encoding="utf-8")
  found = set(re.findall(r"add_argument\(\s*[\"']--(\w+)", source))
  for module in re.findall(r"^import (turns)\b", source, flags=re.M):
    shared = (ROOT / "benchmarks" / f"{module}.py").read_text(encoding="utf-8")
    found |= set(re.findall(r"add_argument\(\s*[\"']--(\w+)", shared))
  if "/" not in script:
    module = importlib.import_module(script[:-3])
    own = getattr(module, "FLAGS", None) or getattr(getattr(module, "flags", None), "FLAGS", {})
    for name in own:
      found.add(name)
      if own[name].boolean:
        found.add(f"no{name}")
  return found | {"help", "helpfull", "flagfile", *absl.flags.FLAGS}


def test_flags_of_commands_exist(page):
  wrong = []
  for block in blocks(page):
    for command in doc_pages.commands(block) if block.language == SHELL else []:
      script, flags = doc_pages.flags(command) or (None, [])
      if script and not (ROOT / script).exists():
        wrong.append(f"{block.place}: there is no {script}")
      elif script:
        known = flags_of(script)
        wrong += [f"{block.place}: {script} has no --{name}" for name in flags if name not in known]
  assert not wrong


def test_flags_in_the_text_exist(page):
  paths = [*ROOT.glob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
  scripts = [p for p in paths if "__main__" in read(p)]
  known = {f"--{name}" for p in scripts for name in flags_of(str(p.relative_to(ROOT)))}
  named = set(re.findall(r"`(--[a-z][\w-]*)", doc_pages.prose(read(page))))
  wrong = sorted(named - known - PIP_FLAGS)
  assert not wrong


def test_targets_of_make_exist(page):
  targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", read(ROOT / "Makefile"), flags=re.M))
  codes = [b.text for b in blocks(page) if b.language == SHELL]
  codes += re.findall(r"`(make [^`\n]*)`", doc_pages.prose(read(page)))
  named = {
    word
    for code in codes
    for words in re.findall(r"^(?:nice )?make ([^#\n]*)", code, flags=re.M)
    for word in re.sub(r"\[.*?\]|\.\.\.|\w+=(\"[^\"]*\"|\S*)", "", words).split()
  }
  wrong = sorted(named - targets)
  assert not wrong


def test_the_makefile_lists_each_target_that_users_call():
  source = read(ROOT / "Makefile")
  listed = set(re.findall(r"^## ([\w-]+)", source, flags=re.M))
  targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", source, flags=re.M))
  assert listed <= targets
  assert targets - listed <= {"help", "model", "glue-data", "glue-AX"}


def test_hooks_and_tests_have_one_version_of_the_linter():
  (hooks,) = re.findall(
    r"ruff-pre-commit\n +rev: v([\d.]+)", read(ROOT / ".pre-commit-config.yaml")
  )
  assert f"ruff=={hooks}\n" in read(ROOT / "requirements-test.txt")


# ---- The functions of this test -----------------------------------------------------------------

PAGE = """# A title: with `code`

See [there](#a-title-with-code).

```shell
NAME=here   # a comment
python run_ner.py --text="a --b; c" \\
  --do_train && echo "$NAME # no comment"
```

```python
word = "kept"
```
<!-- not run: takes long -->
```shell
false
```

```text
python run_ner.py --nothing
```
"""


def test_blocks_of_a_page():
  found = doc_pages.blocks("p.md", PAGE)
  assert [(b.place, b.language, b.reason) for b in found] == [
    ("p.md:6", "shell", None),
    ("p.md:12", "python", None),
    ("p.md:16", "shell", "takes long"),
    ("p.md:20", "text", None),
  ]
  assert found[1].text == 'word = "kept"\n'
  with pytest.raises(ValueError, match=r"p\.md:3: the block has no end"):
    doc_pages.blocks("p.md", "a\n\n```shell\nls\n")


def test_commands_and_flags_of_a_block():
  assigned, command, echo = doc_pages.commands(doc_pages.blocks("p.md", PAGE)[0])
  assert (assigned, echo) == ("NAME=here", 'echo "$NAME # no comment"')
  assert doc_pages.flags(command) == ("run_ner.py", ["text", "do_train"])
  assert doc_pages.flags("A=1 python -m bert.run_squad --do_ask") == ("run_squad.py", ["do_ask"])
  behind = "python benchmarks/distillation_gain.py --seeds=1,2 -- --data_dir=x"
  assert doc_pages.flags(behind) == ("benchmarks/distillation_gain.py", ["seeds"])
  assert doc_pages.flags("pip install --no-deps .") is None


def test_anchors_and_links():
  assert doc_pages.anchors(PAGE + "\n## A b\n## A b\n") == {"a-title-with-code", "a-b", "a-b-1"}
  assert list(doc_pages.links(PAGE)) == [(3, "#a-title-with-code")]


@pytest.fixture(name="reader")
def _reader(tmp_path):
  scratch = tmp_path / "scratch"
  scratch.mkdir()
  reader = doc_pages.Reader(tmp_path, scratch, dict(os.environ))
  yield reader
  reader.close()


def block(language, text, line=7):
  return doc_pages.Block("p.md", line, language, text, None)


def test_blocks_of_a_kind_share_their_variables(reader, tmp_path):
  reader.run(block(SHELL, "NAME=here\ncat\n", 1))  # no input to wait for
  reader.run(block(PYTHON, 'word = "kept"\nopen("made", "w").write(word)\n', 5))
  reader.run(block(SHELL, 'echo $NAME > /tmp/bert/name\ntest "$(cat made)" = kept\n', 9))
  reader.run(block(PYTHON, 'assert word == "kept"\n', 13))
  assert (tmp_path / "scratch" / "name").read_text() == "here\n"


@pytest.mark.parametrize(
  ("language", "text", "shown"),
  [
    (SHELL, "echo before\nls /nowhere\necho after\n", "failed: ls /nowhere"),
    (SHELL, "echo before\nls /nowhere | cat\necho after\n", "failed: cat"),
    (SHELL, "echo before\necho $UNSET_NAME\n", "UNSET_NAME: unbound variable"),
    (PYTHON, "print('before')\nprint(missing)\n", 'File "p.md", line 8'),
  ],
)
def test_a_block_that_fails_is_shown_with_its_place(reader, language, text, shown):
  with pytest.raises(doc_pages.BlockFailed) as error:
    reader.run(block(language, text))
  message = str(error.value)
  assert message.startswith("p.md:7: failed\n") and text in message
  assert "\nbefore\n" in message and shown in message and "\nafter\n" not in message.split(text)[1]


def test_a_block_that_takes_too_long(reader):
  with pytest.raises(doc_pages.BlockFailed, match=r"^p\.md:7: took more than 0\.1 s"):
    reader.run(block(SHELL, "sleep 60\n"), seconds=0.1)


# ---- The commands, as written -------------------------------------------------------------------


@pytest.fixture(name="checkout")
def _checkout(tmp_path):
  """A copy of the project with this environment as .venv, and the quick start's model."""
  model = pathlib.Path(os.environ.get("DOCS_MODEL", ROOT / "quickstart" / "bert"))
  assert (model / "bert_config.json").exists(), f"{model}: no model; `make test-docs` makes it"
  ignored = shutil.ignore_patterns(".*", "__pycache__", "quickstart")
  copy = pathlib.Path(shutil.copytree(ROOT, tmp_path / "bert", ignore=ignored))
  shutil.copytree(model, copy / "quickstart" / "bert")
  (copy / ".venv").symlink_to(sys.prefix)
  return copy


@pytest.mark.slow
def test_commands_run(page, checkout, tmp_path):
  (tmp_path / "tmp").mkdir()
  path = os.pathsep.join([str(checkout / ".venv" / "bin"), os.environ["PATH"]])
  env = {**os.environ, "PATH": path, "VIRTUAL_ENV": str(checkout / ".venv")}
  reader = doc_pages.Reader(checkout, tmp_path / "tmp", env)
  try:
    for each in blocks(page):
      if each.language in (SHELL, PYTHON) and not each.reason:
        reader.run(each)
  finally:
    reader.close()
