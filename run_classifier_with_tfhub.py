"""Replaces the script that loaded its model from TensorFlow Hub; old notebooks can import it.

tensorflow_hub can no longer load the format of those models. The same models, as checkpoints:

  python download_checkpoint.py uncased_L-12_H-768_A-12 --output_dir=models
  python run_classifier.py --model=models/uncased_L-12_H-768_A-12 ...
"""

from toolkit.support import quiet_start  # first of all  # isort: skip

import sys

from toolkit.support import files

MESSAGE = (
  "models of TensorFlow Hub cannot be loaded any more; download the same model as a checkpoint by "
  "download_checkpoint.py, and use run_classifier.py with --model=DIR "
  "(tokenization.FullTokenizer takes vocab.txt)"
)


def _refuse(*_, **__):
  """Takes any arguments.

  Raises:
    files.InputError: always; it names the replacement of TensorFlow Hub.
  """
  raise files.InputError(MESSAGE)


create_model = model_fn_builder = create_tokenizer_from_hub_module = main = _refuse

if __name__ == "__main__":
  sys.exit(f"{quiet_start.program_name()}: error: {MESSAGE}")
