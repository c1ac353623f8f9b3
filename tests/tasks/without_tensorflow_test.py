"""Reading, encoding and decision of a task need no TensorFlow."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TASKS = [
  f"toolkit.tasks.{path.stem}"
  for path in sorted((ROOT / "toolkit" / "tasks").glob("*.py"))
  if path.stem not in ("__init__", "soft_targets") and not path.stem.endswith("_head")
]
IMPORT = "import sys; sys.modules['tensorflow'] = None; import {}"


@pytest.mark.parametrize("name", ["toolkit.records.tf_records", "tokenization", *TASKS])
def test_is_imported_without_tensorflow(name):
  subprocess.run([sys.executable, "-c", IMPORT.format(name)], cwd=ROOT, check=True)
