"""Shared functions of the benchmarks: sides run in turns, so that other work slows all alike."""

import argparse
import json
import os
import statistics
import subprocess

RATIO_SIGN = " / "
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # of the toolkit


def existing_file(path):
  """The type of an argument that names a file: the same str, or argparse.ArgumentTypeError."""
  if not os.path.isfile(path):
    raise argparse.ArgumentTypeError(f"there is no file {path!r}")
  return path


def take(sides, num_turns, show=lambda name, result: None):
  """Measures each side once, then each side again, and so on.

  Args:
    sides: dict of name -> function without arguments.
    num_turns: int, measurements of each side.
    show: function of a name and a result, called after each measurement.

  Returns:
    Dict of name -> list of num_turns results.
  """
  results = {name: [] for name in sides}
  for _ in range(num_turns):
    for name, measure in sides.items():
      results[name].append(measure())
      show(name, results[name][-1])
  return results


def spread(numbers, digits=1, middle=statistics.median):
  """The middle of some numbers, the lowest and the highest: [3, 1.25, 2] -> "2.0 (1.2 to 3.0)"."""
  shown = (f"{number:,.{digits}f}" for number in (middle(numbers), min(numbers), max(numbers)))
  return "{} ({} to {})".format(*shown)


def print_ratios(speeds, pairs):
  """Prints ratios of speeds, turn by turn: "toolkit / other   2.00 (1.90 to 2.10)".

  Args:
    speeds: dict of name -> list of speeds, one per turn.
    pairs: list of pairs of names; those with a side that was not measured are left out.
  """
  for one, other in pairs:
    if one in speeds and other in speeds:
      ratios = [ours / theirs for ours, theirs in zip(speeds[one], speeds[other])]
      print(f"{one + RATIO_SIGN + other:30} {spread(ratios, 2)}")


def run_apart(python, script, arguments):
  """Runs a side in a process of its own.

  Args:
    python: str, the Python to run it with.
    script: str, path of a script that prints JSON in its last line.
    arguments: list of str.

  Returns:
    The value of the JSON.

  Raises:
    subprocess.CalledProcessError: the script has failed, with its error on the terminal.
  """
  command = [python, os.path.abspath(script), *arguments]
  output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
  return json.loads(output.splitlines()[-1])
