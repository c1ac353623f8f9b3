"""The structure: the files at the top level, and the allowed imports of modules."""

import ast
import pathlib
import re

import pytest

from toolkit.formats import model_directory

ROOT = pathlib.Path(__file__).resolve().parent.parent
CLASSICS = {"modeling", "optimization", "tokenization"}
SCRIPTS = {
  "convert_checkpoint",
  "create_pretraining_data",
  "download_checkpoint",
  "export_model",
  "extract_features",
  "learn_vocab",
  "run_classifier",
  "run_classifier_with_tfhub",
  "run_multiple_choice",
  "run_ner",
  "run_pretraining",
  "run_squad",
  "serve",
  "squad_from_table",
  "squad_metrics",
}
# A folder may import those with a higher number, and its own modules.
DEPTH = {"training": 1, "serving": 2, "tasks": 3, "formats": 3, "records": 4, "metrics": 4}
# Lines that a script may have; the others of the training scripts have the default.
MOST_LINES = {"run_classifier": 380}
MOST_LINES_OF_A_TRAINING_SCRIPT = 450
MOST_LINES_OF_A_FUNCTION = 60  # its docstring not counted


def modules():
  """Dict of the name of each product module -> its path."""
  paths = [*ROOT.glob("*.py"), *(ROOT / "toolkit").rglob("*.py")]
  names = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in paths}
  return {name: p for name, p in names.items() if name != "setup" and p.stem != "__init__"}


def parse(path):
  return ast.parse(path.read_text("utf-8"))


def imports(path):
  """Set of the project's modules that a file imports, at any place in it."""
  known = modules()
  found = set()
  for node in ast.walk(parse(path)):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
      found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
  return found & set(known)


GRAPH = {name: imports(path) for name, path in modules().items()}


def test_the_top_level_is_what_a_user_types_or_imports():
  assert {path.stem for path in ROOT.glob("*.py")} == {*CLASSICS, *SCRIPTS, "setup"}


def test_the_classics_import_nothing_of_the_project():
  assert {name: GRAPH[name] for name in CLASSICS} == {name: set() for name in CLASSICS}


def test_no_script_is_imported():
  imported = set().union(*GRAPH.values())
  assert not imported & SCRIPTS


@pytest.mark.parametrize("name", sorted(name for name in GRAPH if name.startswith("toolkit.")))
def test_imports_go_down(name):
  folder = name.split(".")[1]
  for other in GRAPH[name] - CLASSICS:
    below = other.split(".")[1]
    if folder == "support":
      assert below == "support", f"{name} imports {other}"
    else:
      assert below in ("support", folder) or DEPTH[folder] < DEPTH[below], f"{name} imports {other}"
  assert folder != "support" or not GRAPH[name] & CLASSICS


def test_there_is_no_circle():
  done, path = set(), []

  def visit(name):
    assert name not in path, " -> ".join([*path[path.index(name) :], name])
    if name not in done:
      path.append(name)
      for other in sorted(GRAPH[name]):
        visit(other)
      done.add(path.pop())

  for name in GRAPH:
    visit(name)


def test_every_module_is_used():
  imported = set().union(*GRAPH.values())
  assert set(GRAPH) - SCRIPTS - CLASSICS <= imported


@pytest.mark.parametrize("name", sorted(name for name in SCRIPTS if name.startswith("run_")))
def test_training_scripts_are_short(name):
  lines = (ROOT / f"{name}.py").read_text("utf-8").splitlines()
  assert len(lines) <= MOST_LINES.get(name, MOST_LINES_OF_A_TRAINING_SCRIPT)


def test_functions_fit_on_a_screen():
  too_long = []
  for name, path in modules().items():
    for node in ast.walk(parse(path)):
      if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        has_docstring = ast.get_docstring(node) is not None
        first = node.body[0].end_lineno if has_docstring else node.lineno
        if node.end_lineno - first > MOST_LINES_OF_A_FUNCTION:
          too_long.append(f"{name}.{node.name}")
  assert not too_long


# The scripts that may import a task's two modules, beside serving.
TASKS = {
  "classification": {"run_classifier", "run_classifier_with_tfhub"},
  "multiple_choice": {"run_multiple_choice"},
  "pretraining": {"create_pretraining_data", "run_pretraining"},
  "squad": {"run_squad"},
  "tagging": {"run_ner"},
}


def test_every_task_is_known():
  heads = {path.stem[: -len("_head")] for path in (ROOT / "toolkit/tasks").glob("*_head.py")}
  assert heads - {"vectors"} == set(TASKS)
  trained = set(model_directory.HEADS.values())
  scripts = {name for name in SCRIPTS if name.startswith("run_")}
  assert scripts == set().union(*TASKS.values()) - {"create_pretraining_data"}
  assert trained == scripts - {"run_classifier_with_tfhub"}  # its directories are run_classifier's


@pytest.mark.parametrize("task", TASKS)
def test_the_house_does_not_know_a_task(task):
  own = {f"toolkit.tasks.{task}", f"toolkit.tasks.{task}_head"}
  assert own <= set(GRAPH)
  users = {name for name, imported in GRAPH.items() if imported & own} - own
  assert TASKS[task] <= users
  others = users - TASKS[task]
  assert all(name.startswith(("toolkit.serving.", f"toolkit.tasks.{task}_")) for name in others)


def test_docstrings_begin_with_a_verb_or_a_noun():
  kinds = (ast.FunctionDef, ast.ClassDef, ast.Module)
  wrong = [
    f"{name}.{getattr(node, 'name', '')}"
    for name, path in modules().items()
    for node in ast.walk(parse(path))
    if isinstance(node, kinds)
    and (ast.get_docstring(node) or "").startswith(("What ", "How ", "Whether "))
  ]
  assert not wrong


def _public_functions(tree):
  """Yields a name, a function and True for a method, of all that have no leading underscore."""
  for node in tree.body:
    if isinstance(node, ast.FunctionDef) and _is_public(node.name):
      yield node.name, node, False
    elif isinstance(node, ast.ClassDef) and _is_public(node.name):
      for member in node.body:
        if isinstance(member, ast.FunctionDef) and _is_public(member.name):
          yield f"{node.name}.{member.name}", member, "staticmethod" not in _decorators(member)


def _is_public(name):
  return not name.startswith("_") or re.fullmatch("__\\w+__", name)


def _decorators(function):
  return {getattr(each, "id", "") for each in function.decorator_list}


def _hints(function, is_method):
  """Returns the hints of a function's parameters, self left out, and of its result, or None."""
  found = function.args
  parameters = [*found.posonlyargs, *found.args][int(is_method) :]
  parameters += [each for each in (found.vararg, *found.kwonlyargs, found.kwarg) if each]
  return [*(parameter.annotation for parameter in parameters), function.returns]


def test_public_functions_have_type_hints():
  lacking, bare = [], []
  for module, path in modules().items():
    for name, function, is_method in _public_functions(parse(path)):
      hints = _hints(function, is_method)
      if None in hints:
        lacking.append(f"{module}.{name}")
      if any(map(_is_bare, filter(None, hints))):
        bare.append(f"{module}.{name}")
  assert (lacking, bare) == ([], [])


def _is_bare(hint):
  """Returns True for a hint with a list, dict or tuple that does not tell its items."""
  if isinstance(hint, ast.Subscript):
    return _is_bare(hint.slice)
  if isinstance(hint, ast.Name):
    return hint.id in ("dict", "list", "set", "tuple")
  return any(map(_is_bare, ast.iter_child_nodes(hint)))


def test_fields_of_public_classes_tell_their_items():
  bare = [
    f"{module}.{node.name}.{ast.unparse(field.target)}"
    for module, path in modules().items()
    for node in parse(path).body
    if isinstance(node, ast.ClassDef)
    for field in node.body
    if isinstance(field, ast.AnnAssign) and _is_bare(field.annotation)
  ]
  assert not bare


@pytest.mark.parametrize(
  ("code", "are_whole", "are_bare"),
  [
    ("def f(a: int, *b: str, c: int = 1, **d: int) -> None: ...", True, False),
    ("def f(a, b: int) -> None: ...", False, False),
    ("def f(*a) -> None: ...", False, False),
    ("def f(*, a) -> None: ...", False, False),
    ("def f(**a) -> None: ...", False, False),
    ("def f(a: int): ...", False, False),
    ("def f(a: dict) -> None: ...", True, True),
    ("def f(a: dict[str, list]) -> None: ...", True, True),
    ("def f(a: dict[str, list[int]]) -> tuple[int, ...]: ...", True, False),
    ("def f() -> Optional[tuple]: ...", True, True),
    ("class A:\n  def f(self, a: int) -> None: ...", True, False),
    ("class A:\n  def f(self, a): ...", False, False),
    ("class A:\n  def __init__(self): ...", False, False),
    ("class A:\n  @staticmethod\n  def f(a) -> None: ...", False, False),
  ],
)
def test_type_hints_are_seen(code, are_whole, are_bare):
  ((_, function, is_method),) = _public_functions(ast.parse(code))
  hints = _hints(function, is_method)
  assert (None not in hints, any(map(_is_bare, filter(None, hints)))) == (are_whole, are_bare)


def test_private_functions_need_no_type_hints():
  code = "def _f(a): ...\nclass _A:\n  def f(self, a): ...\nclass B:\n  def _f(self, a): ..."
  assert not list(_public_functions(ast.parse(code)))


def test_no_two_scripts_share_six_lines():
  places = {}
  for name in SCRIPTS:
    kept = [line.strip() for line in _without_main(name) if _counts(line)]
    for start in range(len(kept) - 5):
      places.setdefault(tuple(kept[start : start + 6]), set()).add(name)
  shared = {lines: names for lines, names in places.items() if len(names) > 1}
  assert not shared


def _without_main(name):
  """Lists the lines of a script without `main`, which names the steps that all scripts have."""
  lines = (ROOT / f"{name}.py").read_text("utf-8").splitlines()
  for node in parse(ROOT / f"{name}.py").body:
    if isinstance(node, ast.FunctionDef) and node.name == "main":
      return [*lines[: node.lineno - 1], f"main of {name}", *lines[node.end_lineno :]]
  return lines


def _counts(line):
  """Leaves out blank lines, comments, imports, lone punctuation and parameters of signatures."""
  line = line.strip()
  is_parameter = re.fullmatch(r"\w+(: [\w.\[\], ]+)?( ?= ?[\w.]+)?,", line)
  return (
    any(map(str.isalnum, line))
    and not is_parameter
    and not line.startswith(("#", "import ", "from "))
  )
