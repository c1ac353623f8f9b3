"""One worker of a training in several processes: runs a script's main, without dropout.

python tests/worker_process.py run_classifier --do_train ...
"""

import importlib
import sys

import common_flags
import modeling

if __name__ == "__main__":
  script = importlib.import_module(sys.argv.pop(1))
  modeling.dropout = lambda tensor, *_: tensor
  common_flags.run(script.main, script.FLAGS)
