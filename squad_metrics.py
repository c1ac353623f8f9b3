"""The measures of SQuAD 1.1 and 2.0: exact match, and F1 of the words, of predicted answers.

Prints what the official evaluation scripts print:

  python squad_metrics.py dev-v1.1.json predictions.json
  python squad_metrics.py dev-v2.0.json predictions.json --na_prob_file=null_odds.json
"""

import argparse
import json
import sys

from toolkit.metrics.squad_scores import (  # noqa: F401, the public functions of this module
  evaluate,
  evaluate_v1,
  evaluate_v2,
  exact_score,
  f1_score,
  find_best_threshold,
  is_version_2,
  normalize_answer,
)
from toolkit.support import files


class _Parser(argparse.ArgumentParser):
  """Reports errors like the other scripts."""

  def error(self, message):
    raise files.InputError(message)


def _parse(arguments):
  parser = _Parser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
  )
  parser.add_argument("dataset", help="SQuAD file with the answers")
  parser.add_argument("predictions", help="JSON object of question id and answer")
  parser.add_argument(
    "--na_prob_file",
    "--na-prob-file",
    help="JSON object of question id and a number, higher where an answer is less likely "
    "(null_odds.json); SQuAD 2.0 only",
  )
  parser.add_argument(
    "--na_prob_thresh",
    "--na-prob-thresh",
    type=float,
    default=1.0,
    help="above this number, no answer is taken as the prediction (default: 1.0)",
  )
  parser.add_argument("--out_file", "--out-file", help="write the result there, do not print it")
  return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
  """Evaluates the files of a command line, given without the program's name.

  Raises:
    files.InputError: a mistake in the command line or in a file.
  """
  args = _parse(arguments)
  na_probs = files.read_json(args.na_prob_file) if args.na_prob_file else None
  dataset = files.read_json(args.dataset)
  result = evaluate(dataset, files.read_json(args.predictions), na_probs, args.na_prob_thresh)
  text = json.dumps(result, indent=2 if "total" in result else None)
  if not args.out_file:
    print(text)
    return
  files.write_text(args.out_file, text + "\n")


if __name__ == "__main__":
  try:
    main(sys.argv[1:])
  except files.InputError as error:
    sys.exit(f"squad_metrics.py: error: {error}")
