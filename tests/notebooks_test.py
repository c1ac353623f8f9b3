"""The notebooks as they are stored, their shared code, and (slow) each from top to bottom."""

import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from notebooks import links, runtime

ROOT = pathlib.Path(runtime.__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path):
  return json.loads(path.read_text(encoding="utf-8"))


def code_cells(notebook):
  return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs(notebook):
  return [output for cell in code_cells(notebook) for output in cell["outputs"]]


def pictures(notebook):
  return [output for output in outputs(notebook) if "image/png" in output.get("data", {})]


# ---- As they are stored -------------------------------------------------------------------------


def test_there_are_four():
  names = [path.stem for path in NOTEBOOKS]
  assert names == ["classification", "pretraining", "questions", "similarity"]


@pytest.fixture(name="stored", params=NOTEBOOKS, ids=lambda path: path.stem)
def _stored(request):
  return request.param


def test_stored_outputs_are_those_of_one_run(stored):
  notebook = read(stored)
  counts = [cell["execution_count"] for cell in code_cells(notebook)]
  assert counts == list(range(1, len(counts) + 1))
  kinds = {output["output_type"] for output in outputs(notebook)}
  assert kinds <= {"stream", "display_data", "execute_result"}
  streams = [output["name"] for output in outputs(notebook) if output["output_type"] == "stream"]
  assert set(streams) == {"stdout"}  # no warnings
  assert len(pictures(notebook)) >= 1


def test_stored_files_are_small_and_tell_nothing_of_a_machine(stored):
  assert stored.stat().st_size < 400_000
  notebook = read(stored)
  assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
  assert notebook["metadata"]["language_info"] == {"name": "python"}
  assert all(cell["metadata"] == {} for cell in notebook["cells"])
  text = json.dumps([notebook["metadata"], outputs(notebook)])
  assert not re.search(r"[\s'\"=]/(?!dev/)\w+/|[A-Z]:\\\\", text)


def test_all_begin_alike(stored):
  setups = {json.dumps(code_cells(read(path))[0]["source"]) for path in NOTEBOOKS}
  assert len(setups) == 1
  assert "runtime.prepare(" in setups.pop()


def test_each_is_linked_once_in_a_list(stored):
  pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
  text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
  assert re.search(rf"\]\((\.\./)?notebooks/{stored.name}\)", text)


def test_badges_and_address_are_of_one_place(stored):
  """None is there until `make notebook-links` puts them in."""
  text = stored.read_text(encoding="utf-8")
  (place,) = re.findall(r'"REPOSITORY = \\"(?:https://github.com/([^/]+/[^"\\]+))?\\"', text)
  badges = links.BADGE.findall(text)
  assert badges == ([links.badge(stored.stem, place)] if place else [])
  assert "OWNER" not in text


# ---- Shared code --------------------------------------------------------------------------------


def test_fill_in():
  command = "ls $WORK/$x --n=$N $WORKED"
  assert runtime.fill_in(command, {"WORK": "w", "N": 3, "x": 1}) == "ls w/$x --n=3 $WORKED"


def test_run_shows_all_output(capfd):
  runtime.run("echo to stdout; echo to stderr >&2")
  assert capfd.readouterr().out == "to stdout\nto stderr\n"


@pytest.mark.parametrize("command", ["false\necho on", "false | cat", "echo $UNSET_NAME"])
def test_run_stops_at_a_failure(tmp_path, monkeypatch, command):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(RuntimeError, match="has failed"):
    runtime.run(command)


def test_missing(monkeypatch):
  installed = {"tensorflow-tpu": "2.19.0", "numpy": "2.0"}
  monkeypatch.setattr(runtime, "_version", installed.get)
  lines = ["# of the scripts", "", "--hash=sha256:0", "tensorflow==2.15.1", "numpy==1.26.4"]
  absent = ["six==1.17.0", "absl-py>=2 ; python_version >= '3'"]
  other = ["old==1 ; python_version < '3'"]
  assert runtime.missing([*lines, *absent, *other]) == absent


def test_tensorflow_is_replaced_by_its_build_for_tpus(tmp_path, monkeypatch):
  (tmp_path / "requirements.txt").write_text("tensorflow==2.15.1\nsix==1.17.0\n")
  commands = []
  monkeypatch.setattr(runtime, "run", commands.append)
  monkeypatch.setattr(runtime, "_version", {"tensorflow": "2.19.0", "matplotlib": "3"}.get)
  runtime.install(str(tmp_path / "requirements.txt"), for_tpu=True)
  uninstall, install = commands
  assert uninstall.endswith("uninstall --quiet --quiet --yes tensorflow")
  assert install.endswith("'six==1.17.0' 'tensorflow-tpu==2.19.0'")


@pytest.fixture(name="probe")
def _probe(monkeypatch):
  """Answers for TensorFlow in another process: a dict of TPU name or None -> what it prints."""
  answers = {}

  def run(command, **_):
    tpu = command[3] if len(command) > 3 else None
    said = answers.get(tpu)
    return subprocess.CompletedProcess(command, said is None, said, "Trace\nUnavailable: no TPU\n")

  monkeypatch.setattr(subprocess, "run", run)
  return answers


def test_find_device(probe, capsys):
  probe.update({None: "GPU 2\n", "local": "noise\nTPU 8\n"})
  flags = "--use_tpu --tpu_name=local --num_tpu_cores=8"
  assert runtime.find_device("local", is_needed=False) == (flags, "8 x TPU")
  assert runtime.find_device(None, is_needed=False) == ("", "GPU")
  del probe["local"]
  assert runtime.find_device("local", is_needed=False) == ("", "GPU")
  assert capsys.readouterr().out == "The TPU cannot be used: Unavailable: no TPU\n"
  with pytest.raises(RuntimeError, match="TPU 'mine': Unavailable: no TPU"):
    runtime.find_device("mine", is_needed=True)
  del probe[None]
  with pytest.raises(RuntimeError, match="TensorFlow does not start"):
    runtime.find_device(None, is_needed=False)


# ---- Badges -------------------------------------------------------------------------------------


def test_badges_are_put_in_and_replaced(tmp_path, capsys):
  """Below the titles of notebooks, behind the links of pages; a second call changes nothing."""
  shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
  (tmp_path / "docs").mkdir()
  page = "| [similarity](notebooks/similarity.ipynb) | vectors |\n\nSee [more](docs/a.md).\n"
  (tmp_path / "README.md").write_text(page)
  (tmp_path / "docs" / "a.md").write_text("- [questions](../notebooks/questions.ipynb): ask\n")
  for place in ("one/first", "an-owner/a.name"):
    links.main(place, tmp_path)
    assert capsys.readouterr().out.count("\n") == 6
    written = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    links.main(place, tmp_path)
    assert written == {path: path.read_bytes() for path in written}
    assert not capsys.readouterr().out
  badge = links.badge("similarity", "an-owner/a.name")
  assert badge.endswith("/github/an-owner/a.name/blob/main/notebooks/similarity.ipynb)")
  readme = (tmp_path / "README.md").read_text()
  assert readme == page.replace(" | vectors", f" {badge} | vectors")
  badge = links.badge("questions", "an-owner/a.name")
  assert (tmp_path / "docs" / "a.md").read_text().endswith(f".ipynb) {badge}: ask\n")
  for path in NOTEBOOKS:
    before, after = read(path), read(tmp_path / "notebooks" / path.name)
    title, _, badge, _, *rest = after["cells"][0]["source"]
    assert badge.rstrip() == links.badge(path.stem, "an-owner/a.name")
    if not links.BADGE.search(path.read_text(encoding="utf-8")):
      assert [title, "\n", *rest] == before["cells"][0]["source"]
    address, *rest = after["cells"][1]["source"]
    assert address.startswith('REPOSITORY = "https://github.com/an-owner/a.name"  # ')
    assert rest == before["cells"][1]["source"][1:]
    assert after["cells"][2:] == before["cells"][2:]


@pytest.mark.parametrize("place", ["", "owner", "https://github.com/a/b", "a/b c", "a/b/c"])
def test_places_that_cannot_be(tmp_path, place):
  with pytest.raises(SystemExit, match=r"^REPOSITORY=.*: give this project's place"):
    links.main(place, tmp_path)


def test_a_notebook_that_stands_alone_needs_an_address():
  """Without one it ends in a line that tells what to do, and clones nothing."""
  source = "".join(code_cells(read(NOTEBOOKS[0]))[0]["source"])
  setup = re.sub(r"(?m)^( *)[!%].*", r"\1raise AssertionError", source)
  setup = re.sub(r'REPOSITORY = "[^"]*"', 'REPOSITORY = ""', setup)
  code = setup.partition("from notebooks")[0]
  alone = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True)
  assert alone.stderr.count("\n") == 1 and "give REPOSITORY" in alone.stderr


# ---- From top to bottom -------------------------------------------------------------------------


@pytest.fixture(name="copy", scope="module")
def _copy(tmp_path_factory):
  """A copy of the project without what was made in it."""
  ignored = shutil.ignore_patterns(".*", "quickstart", "__pycache__")
  return shutil.copytree(ROOT, tmp_path_factory.mktemp("project") / "bert", ignore=ignored)


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_notebook_runs(copy, name):
  path = copy / "notebooks" / name
  before = read(path)
  for cell in code_cells(before):
    cell.update(outputs=[], execution_count=None)
  path.write_text(json.dumps(before))
  subprocess.run([sys.executable, copy / "notebooks" / "execute.py", path], check=True)
  after = read(path)
  assert [cell["execution_count"] for cell in code_cells(after)] == [
    number for number, _ in enumerate(code_cells(after), 1)
  ]
  assert len(pictures(after)) == len(pictures(read(ROOT / "notebooks" / name)))
