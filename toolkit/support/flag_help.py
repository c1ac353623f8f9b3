"""The text of --help: the script's description, and its flags in groups.

--max_seq_length=INTEGER  (default: 128; at least 3)
    Longest input in word pieces, [CLS] and [SEP] included. Longer inputs
    are cut.
"""

import re
import textwrap
from collections.abc import Iterable

from absl import flags

ESSENTIAL = "essential"
TASK = "task"
# All groups, in the order of the help.
_MORE = ("model", "training", "evaluation", "speed and memory", "devices", "distillation")
GROUPS = (ESSENTIAL, TASK, *_MORE)
OTHER = "absl's own and other"  # of --helpfull

_WIDTH = 79  # columns
_MOST_EXAMPLES = 2
_TYPES = {"int": "INTEGER", "float": "NUMBER", "string": "STRING", "multi string": "STRING"}


def full_text(description: str, groups: dict[str, list[flags.Flag]], more: str) -> str:
  """Returns the text of a help.

  Args:
    description: docstring of the script; see introduction.
    groups: name of a group -> list of absl.flags.Flag, in the order of the text.
    more: last line, about other kinds of help.
  """
  parts = [introduction(description)]
  for name, members in groups.items():
    if members:
      parts.append(f"{name[0].upper()}{name[1:]}:\n\n" + "\n".join(map(entry, members)))
  return "\n\n".join([*parts, more])


def introduction(description: str) -> str:
  """Returns the first paragraph of a docstring, and its first examples of commands.

  An example is an indented paragraph of commands. The paragraph before it, if it ends in a colon,
  belongs to it.
  """
  first, *paragraphs = re.split(r"\n\s*\n", description.strip())
  shown, num_examples = [_filled(first)], 0
  for before, paragraph in zip([first, *paragraphs], paragraphs):
    if paragraph.startswith("  python ") and num_examples < _MOST_EXAMPLES:
      if before.endswith(":") and before is not first:
        shown.append(_filled(before))
      shown.append(paragraph.rstrip())
      num_examples += 1
  return "\n\n".join(shown)


def entry(flag: flags.Flag) -> str:
  """Returns the lines about a flag: name, type or choices, default and help."""
  notes = "; ".join(filter(None, [_default(flag), _bounds(flag.parser)]))
  head = _name(flag) + (f"  ({notes})" if notes else "")
  lines = textwrap.wrap(
    head, _WIDTH, initial_indent=" " * 2, subsequent_indent=" " * 6, break_on_hyphens=False
  )
  return "\n".join([*lines, _filled(own_help(flag), indent=6)])


def own_help(flag: flags.Flag) -> str:
  """Returns the help of a flag without what absl adds, which _name shows."""
  without_choices = re.sub(r"^<[^<>]*\|[^<>]*>: ", "", flag.help or "")
  return re.sub(r";\s*repeat this option to specify a list of values$", "", without_choices)


def _name(flag):
  if flag.boolean:
    return f"--[no]{flag.name}"
  choices = getattr(flag.parser, "enum_values", None)
  if choices:
    kind = "|".join(choices)
  elif isinstance(flag.parser, flags.ListParser):
    kind = "STRING,STRING,..."
  else:
    kind = getattr(flag.parser, "placeholder", None) or _TYPES.get(flag.flag_type(), "STRING")
  repeated = f" --{flag.name}=..." if isinstance(flag, flags.MultiFlag) else ""
  return f"--{flag.name}={kind}{repeated}"


def _default(flag):
  value = flag.default
  if value is None:
    return "" if "Default:" in (flag.help or "") else "default: none"
  if flag.boolean:
    return f"default: {str(bool(value)).lower()}"
  shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
  return f"default: {shown or repr(shown)}"


def _bounds(parser):
  lower, upper = (getattr(parser, f"{name}_bound", None) for name in ("lower", "upper"))
  if lower is not None and upper is not None:
    return f"from {lower} to {upper}"
  if lower is not None:
    return f"at least {lower}"
  return "" if upper is None else f"at most {upper}"


def _filled(text, indent=0):
  space = " " * indent
  return textwrap.fill(
    " ".join(text.split()),
    _WIDTH,
    initial_indent=space,
    subsequent_indent=space,
    break_long_words=False,
    break_on_hyphens=False,
  )


def grouped(members: Iterable[flags.Flag], group_of: dict[str, str]) -> dict[str, list[flags.Flag]]:
  """Sorts flags into GROUPS.

  Args:
    members: the flags, in the order of the text.
    group_of: flag name -> member of GROUPS; default TASK.

  Returns:
    Name of each group -> list of its flags, which may be empty.
  """
  groups: dict[str, list[flags.Flag]] = {name: [] for name in GROUPS}
  for flag in members:
    groups[group_of.get(flag.name, TASK)].append(flag)
  return groups
