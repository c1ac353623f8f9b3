"""Stands for the script that took its model from TensorFlow Hub, so that old notebooks import it.

Those are of a format that tensorflow_hub can no longer load. The same models, as checkpoints:

  python download_checkpoint.py uncased_L-12_H-768_A-12 --output_dir=models
  python run_classifier.py --init_checkpoint=models/uncased_L-12_H-768_A-12/bert_model.ckpt ...
"""

import sys

from toolkit.support import files

MESSAGE = (
  "models of TensorFlow Hub cannot be loaded any more; fetch the same model as a checkpoint by "
  "download_checkpoint.py, and use run_classifier with --init_checkpoint, --bert_config_file and "
  "--vocab_file (tokenization.FullTokenizer takes vocab.txt)"
)


def _refuse(*_, **__):
  """Takes any arguments.

  Raises:
    files.InputError: always; it names the replacement of TensorFlow Hub.
  """
  raise files.InputError(MESSAGE)


create_model = model_fn_builder = create_tokenizer_from_hub_module = main = _refuse

if __name__ == "__main__":
  sys.exit(f"run_classifier_with_tfhub.py: error: {MESSAGE}")
