"""Scores predicted answers by the metrics of SQuAD 1.1 and 2.0: exact match and F1.

Prints what the official evaluation scripts print:

  python squad_metrics.py dev-v1.1.json predictions.json
  python squad_metrics.py dev-v2.0.json predictions.json --na_prob_file=null_odds.json
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import json

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
from toolkit.support import files, plain_command_line


def _parse(arguments):
  parser = plain_command_line.Parser(__file__, __doc__, allow_abbrev=False)
  parser.add_argument("dataset", help="SQuAD file with the right answers")
  parser.add_argument("predictions", help="JSON file: question id -> answer")
  parser.add_argument(
    "--na_prob_file",
    "--na-prob-file",
    help="JSON file: question id -> a number, higher where an answer is less likely "
    "(null_odds.json); SQuAD 2.0 only",
  )
  parser.add_argument(
    "--na_prob_thresh",
    "--na-prob-thresh",
    type=float,
    default=1.0,
    help="threshold of these numbers, above which no answer is predicted (default: 1.0)",
  )
  parser.add_argument(
    "--out_file", "--out-file", help="file for the result (default: it is printed)"
  )
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
  plain_command_line.run(main)
