"""Builds the package `bert` of this directory's modules; everything else is in pyproject.toml.

In a checkout the modules import each other by plain names (`import modeling`,
`from toolkit.support import files`). In the package `import modeling` becomes
`from bert import modeling`, `from toolkit.` becomes `from bert.toolkit.`, and so on.
"""

import pathlib
import re

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

PACKAGE = "bert"
ROOT = pathlib.Path(__file__).resolve().parent
NAMES = "|".join(path.stem for path in ROOT.glob("*.py"))
INIT = '"""BERT: fine-tuning, evaluation, prediction and pre-training."""\n'


class BuildPackage(build_py):
  """Copies the modules, with imports of each other that hold in the package."""

  def find_package_modules(self, package, package_dir):
    found = super().find_package_modules(package, package_dir)
    return [module for module in found if module[:2] != (PACKAGE, "setup")]

  def build_module(self, module, module_file, package):
    path, copied = super().build_module(module, module_file, package)
    source = pathlib.Path(path).read_text(encoding="utf-8")
    for flat, packaged in (
      (rf"^( *)import ({NAMES})\b", rf"\1from {PACKAGE} import \2"),
      (rf"^( *)from ({NAMES}|toolkit[\w.]*) import", rf"\1from {PACKAGE}.\2 import"),
    ):
      source = re.sub(flat, packaged, source, flags=re.M)
    pathlib.Path(path).write_text(source, encoding="utf-8")
    return path, copied

  def run(self):
    if self.editable_mode:
      raise SystemExit("no `pip install -e`: a checkout is used from its directory")
    super().run()
    pathlib.Path(self.build_lib, PACKAGE, "__init__.py").write_text(INIT, encoding="utf-8")


inner = [f"{PACKAGE}.{name}" for name in find_packages(str(ROOT), include=["toolkit", "toolkit.*"])]
setup(
  packages=[PACKAGE, *inner],
  package_dir={PACKAGE: "."},
  package_data={f"{PACKAGE}.toolkit.serving.service": ["page.html"]},
  cmdclass={"build_py": BuildPackage},
)
