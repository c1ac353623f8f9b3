"""Hides TensorFlow's C++ start-up lines when one of the scripts is the program.

A script imports this before anything that imports TensorFlow, which reads the variable as it loads.
Nothing changes for a notebook or another program that imports the scripts, nor when the variable is
set: TF_CPP_MIN_LOG_LEVEL=0 shows the lines, which give the reason why a GPU is not used.
"""

import os
import sys

_PROGRAM = getattr(sys.modules["__main__"], "__file__", None) or ""
_SCRIPTS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if os.path.dirname(os.path.abspath(_PROGRAM)) == _SCRIPTS:
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
