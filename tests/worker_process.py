"""One worker of a training in several processes: runs a script's main, without dropout.

python tests/worker_process.py run_classifier --do_train ...

With the environment variable CHIEF_SECONDS the chief takes that much longer to end a training.
"""

import importlib
import json
import os
import sys
import time

from tiny_runs import keep_all

import modeling
from toolkit.support import command_line
from toolkit.training import estimators


def train_and_wait(*args, _train=estimators.train, **kwargs):
  """See estimators.train."""
  parts = _train(*args, **kwargs)
  if json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0:
    time.sleep(float(os.environ.get("CHIEF_SECONDS", "0")))
  return parts


if __name__ == "__main__":
  script = importlib.import_module(sys.argv.pop(1))
  modeling._random_uint16 = keep_all
  estimators.train = train_and_wait
  command_line.run(script.main, script.flags)
