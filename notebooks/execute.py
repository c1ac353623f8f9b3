"""Executes notebooks from top to bottom, and stores their outputs in them.

python notebooks/execute.py notebooks/classification.ipynb ...
"""

import os
import re
import sys

import nbclient
import nbformat

CELL_SECONDS = 3600  # of one cell; a longer one counts as stuck


def execute(path):
  """Runs a notebook in its directory, and writes it back with its outputs.

  Args:
    path: str, the file.

  Returns:
    nbformat.NotebookNode.

  Raises:
    nbclient.exceptions.CellExecutionError: a cell failed; the file is left as it was.
  """
  notebook = nbformat.read(path, as_version=4)
  client = nbclient.NotebookClient(
    notebook,
    timeout=CELL_SECONDS,
    kernel_name="python3",
    record_timing=False,
    coalesce_streams=True,
    resources={"metadata": {"path": os.path.dirname(os.path.abspath(path))}},
  )
  client.execute()
  clean(notebook)
  nbformat.write(notebook, path)
  return notebook


def clean(notebook):
  """Removes traces of the machine, so that outputs differ only where results do."""
  notebook.metadata.language_info = {"name": "python"}
  for cell in notebook.cells:
    cell.metadata.pop("execution", None)
    for output in cell.get("outputs", []):
      if output.output_type == "stream":
        # Of a line that was written over, the last state.
        output.text = re.sub(r"[^\n]*\r(?!\n)", "", output.text)


if __name__ == "__main__":
  for argument in sys.argv[1:]:
    execute(argument)
    print(f"{argument}: executed")
