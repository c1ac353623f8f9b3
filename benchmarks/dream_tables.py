"""Converts DREAM (Sun et al. 2019) to the files of run_multiple_choice.py --task_name=jsonl.

  python benchmarks/dream_tables.py --dream_dir=dream/data --output_dir=/tmp/dream

The files of DREAM, train.json, dev.json and test.json, are lists of [turns of a dialogue,
questions, id]. The turns become one context, and the id of a question is that of its dialogue and
its number.
"""

import argparse
import json
import os


def rows(path):
  """Yields the questions of a file as dicts."""
  with open(path, encoding="utf-8") as f:
    dialogues = json.load(f)
  for turns, questions, name in dialogues:
    for number, question in enumerate(questions):
      yield {
        "id": f"{name}-{number}",
        "context": " ".join(turns),
        "question": question["question"],
        "choices": question["choice"],
        "answer": question["choice"].index(question["answer"]),
      }


def main():
  """Writes train.jsonl, dev.jsonl and test.jsonl."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--dream_dir", required=True)
  parser.add_argument("--output_dir", required=True)
  args = parser.parse_args()
  os.makedirs(args.output_dir, exist_ok=True)
  for name in ("train", "dev", "test"):
    lines = [json.dumps(row) + "\n" for row in rows(os.path.join(args.dream_dir, f"{name}.json"))]
    with open(os.path.join(args.output_dir, f"{name}.jsonl"), "w", encoding="utf-8") as f:
      f.writelines(lines)
    print(f"{name}: {len(lines)} questions")


if __name__ == "__main__":
  main()
