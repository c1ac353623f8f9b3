"""Puts "Open in Colab" badges into the notebooks, and beside their links in README.md and docs/.

  python notebooks/links.py OWNER/NAME   # this project's place on GitHub

Badges of another place are replaced.
"""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
COLAB = "https://colab.research.google.com"
BADGE = re.compile(r"\[!\[Open in Colab\]\([^()]*\)\]\([^()]*\)")
LINK = re.compile(r"\]\((?:\.\./)?notebooks/(\w+)\.ipynb\)")


def main(repository, root=ROOT):
  """Writes the badges into all files of a checkout that have or should have one.

  Args:
    repository: str, such as "owner/name".
    root: pathlib.Path of the checkout.

  Raises:
    SystemExit: the name is no place on GitHub; in one line, with nothing written.
  """
  if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
    sys.exit(f"REPOSITORY={repository}: give this project's place on GitHub, as OWNER/NAME")
  for path in sorted((root / "notebooks").glob("*.ipynb")):
    _rewrite(path, lambda text, name=path.stem: in_notebook(text, name, repository))
  for path in [root / "README.md", *sorted((root / "docs").glob("*.md"))]:
    _rewrite(path, lambda text: in_page(text, repository))


def badge(name, repository):
  """Returns the Markdown of a notebook's badge."""
  link = f"{COLAB}/github/{repository}/blob/main/notebooks/{name}.ipynb"
  return f"[![Open in Colab]({COLAB}/assets/colab-badge.svg)]({link})"


def in_notebook(text, name, repository):
  """Returns a notebook's JSON with a badge below its title, and with the address to clone."""
  notebook = json.loads(text)
  first, setup = notebook["cells"][:2]
  lines = re.sub(BADGE.pattern + "\n*", "", "".join(first["source"])).split("\n", 1)
  title, rest = lines[0], "".join(lines[1:]).lstrip("\n")
  first["source"] = f"{title}\n\n{badge(name, repository)}\n\n{rest}".splitlines(keepends=True)
  address = f'REPOSITORY = "https://github.com/{repository}"'
  setup["source"] = [
    re.sub(r'^REPOSITORY = "[^"]*"', lambda _: address, line) for line in setup["source"]
  ]
  return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def in_page(text, repository):
  """Returns a page's Markdown with a badge behind each link to a notebook."""
  text = re.sub(" ?" + BADGE.pattern, "", text)
  return LINK.sub(lambda link: f"{link[0]} {badge(link[1], repository)}", text)


def _rewrite(path, change):
  """Replaces a file's text by `change` of it, unless that is the same."""
  before = path.read_text(encoding="utf-8")
  after = change(before)
  if after != before:
    path.write_text(after, encoding="utf-8")
    print(f"{path.parent.name}/{path.name}: badges")


if __name__ == "__main__":
  main(sys.argv[1] if len(sys.argv) > 1 else "")
