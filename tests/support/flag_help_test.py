"""The text of --help: descriptions, groups and entries."""

import importlib
import pathlib
import re

import pytest

from toolkit.support import command_line, flag_help

ROOT = pathlib.Path(command_line.__file__).parents[2]
SCRIPTS = [
  path.stem
  for path in sorted(ROOT.glob("*.py"))
  if "command_line.run(main, flags)" in path.read_text("utf-8")
]

DESCRIPTION = """Trains a
model.

  python x.py --model=$BERT \\
    --do_train

Not about commands:

  {"no": "command"}

A finished directory is enough:

  python x.py --do_eval

A third one:

  python x.py --text=a
"""


def test_the_introduction_has_two_examples_with_what_is_about_them():
  assert flag_help.introduction(DESCRIPTION) == (
    "Trains a model.\n\n"
    "  python x.py --model=$BERT \\\n    --do_train\n\n"
    "A finished directory is enough:\n\n"
    "  python x.py --do_eval"
  )
  assert flag_help.introduction("") == ""


@pytest.mark.parametrize(
  ("kind", "name", "default", "more", "head"),
  [
    ("string", "file", None, {}, "--file=STRING  (default: none)"),
    ("string", "file", "", {}, "--file=STRING  (default: '')"),
    ("string", "file", "a.txt", {}, "--file=STRING  (default: a.txt)"),
    ("bool", "fast", False, {}, "--[no]fast  (default: false)"),
    ("bool", "fast", True, {}, "--[no]fast  (default: true)"),
    ("integer", "size", 8, {"lower_bound": 1}, "--size=INTEGER  (default: 8; at least 1)"),
    ("integer", "size", 8, {"upper_bound": 9}, "--size=INTEGER  (default: 8; at most 9)"),
    ("float", "rate", 5e-5, {}, "--rate=NUMBER  (default: 5e-05)"),
    ("float", "part", 0.5, {"lower_bound": 0.0, "upper_bound": 1.0},
     "--part=NUMBER  (default: 0.5; from 0.0 to 1.0)"),
    ("list", "names", ["a", "b"], {}, "--names=STRING,STRING,...  (default: a,b)"),
    ("multi_string", "choice", None, {}, "--choice=STRING --choice=...  (default: none)"),
  ],
)  # fmt: skip
def test_an_entry_has_name_type_default_and_help(kind, name, default, more, head):
  script = command_line.ScriptFlags()
  getattr(script, f"DEFINE_{kind}")(name, default, "Some help.", **more)
  assert flag_help.entry(script.FLAGS[name]) == f"  {head}\n      Some help."


def test_an_entry_of_choices():
  script = command_line.ScriptFlags()
  script.DEFINE_enum("mode", "on", ["on", "off"], "Mode of it.")
  assert flag_help.entry(script.FLAGS["mode"]) == (
    "  --mode=on|off  (default: on)\n      Mode of it."
  )
  parser = command_line.ThresholdParser()
  script.DEFINE(parser, "threshold", 0.5, "A.", serializer=script.ArgumentSerializer())
  assert "--threshold=NUMBER|auto  (default: 0.5)" in flag_help.entry(script.FLAGS["threshold"])


def test_a_default_that_the_help_tells():
  script = command_line.ScriptFlags()
  script.DEFINE_string("file", None, "A file. Default: the usual one.")
  assert flag_help.entry(script.FLAGS["file"]).splitlines()[0] == "  --file=STRING"


def test_a_group_stands_where_a_flag_is_defined():
  script = command_line.ScriptFlags()
  script.DEFINE_string("one", None, "A.", group="essential")
  script.DEFINE_bool("two", False, "B.")
  script.DEFINE_integer("three", 1, "C.", group="speed and memory")
  groups = script.groups()
  assert list(groups) == list(flag_help.GROUPS)
  names = {name: [flag.name for flag in members] for name, members in groups.items() if members}
  assert names == {"essential": ["one"], "task": ["two"], "speed and memory": ["three"]}
  with pytest.raises(ValueError, match="there is no group 'fast'"):
    script.DEFINE_string("four", None, "D.", group="fast")


# ---- All scripts --------------------------------------------------------------------------------


def text_of(name):
  script = importlib.import_module(name)
  return flag_help.full_text(script.__doc__, script.flags.groups(), "The end.")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_has_at_most_ten_essential_flags(name):
  essential = importlib.import_module(name).flags.groups()["essential"]
  most = 11 if name == "run_classifier_with_tfhub" else 10  # which has its module, too
  assert 8 <= len(essential) <= most
  if name.startswith("run_"):
    assert len(essential) == most
    assert {"model", "output_dir", "do_train", "learning_rate"} <= {f.name for f in essential}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_help_of_every_script_fits_80_columns(name):
  lines = text_of(name).splitlines()
  assert [line for line in lines if len(line) > 80] == []
  assert lines[0].startswith(importlib.import_module(name).__doc__[:30])
  (first, *_) = (number for number, line in enumerate(lines) if line.startswith("  python "))
  assert f"python {name}.py --" in lines[first] and first < lines.index("Essential:")


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_flag_is_in_the_help_once(name):
  heads = [line.strip() for line in text_of(name).splitlines() if line.startswith("  --")]
  flags = importlib.import_module(name).flags.FLAGS
  for flag in set(flags) - {"help", "h"}:
    switch = flags[flag].boolean
    start = f"--[no]{flag}" if switch else f"--{flag}="
    assert sum(head.startswith((f"{start} ", start)) for head in heads) >= 1, flag
  assert len(heads) == len(set(flags) - {"help", "h"})


# Words that no help has: first words, and words anywhere in it.
NOT_FIRST = ("What", "How", "Whether", "Where", "Which", "If")
NOWHERE = r"room|says|said|teach|teaches|taught|explains?|asks?|(piece|sentence|text|label) a line"


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_begins_with_a_verb_or_a_noun(name):
  flags = importlib.import_module(name).flags.FLAGS
  for flag in flags:
    text = flag_help.own_help(flags[flag])
    first = text.split()[0]
    assert first not in NOT_FIRST and (first[0].isupper() or first[-1] in ":,"), flag
    assert text.endswith("."), flag
    assert not re.search(rf"\b({NOWHERE})\b", text), flag


@pytest.mark.parametrize("name", SCRIPTS)
def test_sentences_of_the_help_are_short(name):
  flags = importlib.import_module(name).flags.FLAGS
  for flag in flags:
    for sentence in re.split(r"[.:;] ", flag_help.own_help(flags[flag])):
      assert len(sentence.split()) <= 25, f"--{flag}: {sentence}"
