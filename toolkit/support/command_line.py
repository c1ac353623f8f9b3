"""The flags of a script, its command line, and the frozen settings of a run.

Each script has flags of its own, so that any number of scripts can be imported together and their
defaults can be read without a command line:

  flags = command_line.ScriptFlags()
  FLAGS = flags.FLAGS
  flags.DEFINE_integer("max_seq_length", 128, "Longest input.", remembered=True)

  def main(_):
    settings = flags.settings()

  if __name__ == "__main__":
    command_line.run(main, flags)

`run` puts them into absl.flags.FLAGS, which tf.flags.FLAGS wraps, beside absl's own flags.
"""

import functools
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from absl import app, flags, logging

from toolkit.support import files, flag_help, log_output, quiet_start

flags.disclaim_key_flags()  # the module that calls a DEFINE function here owns the flag

# The value of a threshold flag that stands for the threshold that evaluation has found.
AUTO = "auto"

# Argument names of tf.flags that differ from those of absl.flags.
_TF_NAMES = {"flag_name": "name", "default_value": "default", "docstring": "help"}


# The flags that show a help, on standard output; the first is a flag of each script.
HELP = {
  "help": "Show this help.",
  "helpshort": "Show the essential flags alone.",
  "helpfull": "Show all flags, absl's own included.",
  "helpxml": "Show all flags as XML.",
  "?": "The same as --help.",
}


class ThresholdParser(flags.ArgumentParser):
  """Parses a flag that is a number, or AUTO."""

  syntactic_help = f"a number or {AUTO}"
  placeholder = f"NUMBER|{AUTO}"  # in --help

  def parse(self, argument: Union[str, float]) -> Union[str, float]:
    return AUTO if argument == AUTO else float(argument)


class _OwnFlagValues(flags.FlagValues):
  """Flags whose defaults can be read at any time.

  In a program that imports a script and calls tf.app.run itself, they are parsed from the program's
  command line when the first of them is read. Unknown flags are left to the program.
  """

  def __init__(self):
    super().__init__()
    self.__dict__["follows_program"] = True
    self.mark_as_parsed()

  def follow_program(self):
    """Parses the command line of a program whose main function absl or TensorFlow runs."""
    if self.__dict__.get("follows_program") and flags.FLAGS.is_parsed():
      self.__dict__["follows_program"] = False
      try:
        self(sys.argv, known_only=True)
      except flags.Error:
        self.__dict__["follows_program"] = True
        raise

  def __getattr__(self, name):
    self.follow_program()
    return super().__getattr__(name)

  def __setattr__(self, name, value):
    self.follow_program()
    super().__setattr__(name, value)


class ScriptFlags:
  """Stands for absl.flags in a script, with flags of the script's own.

  All functions of absl.flags that take `flag_values` use FLAGS by default. Those that define a flag
  take four more arguments, the roles of the flag and its place in --help:

    remembered: bool, whether a finished output directory gives it to later runs.
    identity: bool, whether two values are two different models.
    shared: bool, whether a teacher and its student must have the same value.
    group: str, member of flag_help.GROUPS; default: TASK, which is for the script's own flags.

  Attributes:
    FLAGS: absl.flags.FlagValues.
  """

  def __init__(self) -> None:
    self.FLAGS = _OwnFlagValues()
    self._roles: dict[str, set[str]] = {}
    self._groups: dict[str, str] = {}
    self.DEFINE_bool("help", False, HELP["help"], short_name="h")

  def __getattr__(self, name: str) -> Any:
    attribute = getattr(flags, name)
    if not (
      inspect.isfunction(attribute) and "flag_values" in inspect.signature(attribute).parameters
    ):
      return attribute

    @functools.wraps(attribute)
    def with_own_flags(
      *args, remembered=False, identity=False, shared=False, group=flag_help.TASK, **kwargs
    ):
      if group not in flag_help.GROUPS:
        raise ValueError(f"there is no group {group!r}; there are {flag_help.GROUPS}")
      if name.startswith("DEFINE"):
        kwargs = {_TF_NAMES.get(key, key): value for key, value in kwargs.items()}
      result = attribute(*args, **{"flag_values": self.FLAGS, **kwargs})
      if isinstance(result, flags.FlagHolder):
        roles = {"remembered": remembered, "identity": identity, "shared": shared}
        self._roles[result.name] = {role for role, has_role in roles.items() if has_role}
        self._groups[result.name] = group
      return result

    return with_own_flags

  def groups(self) -> dict[str, list[flags.Flag]]:
    """Returns the name of each group of --help -> its flags, a list of absl.flags.Flag."""
    own = [self.FLAGS[name] for name in self.FLAGS if name not in ("help", "h")]
    return flag_help.grouped(own, self._groups)

  def settings(self) -> "Settings":
    """Returns the present values of all flags but --help."""
    self.FLAGS.follow_program()
    found = {name: self.FLAGS[name] for name in self.FLAGS if name not in ("help", "h")}
    values = {name: flag.value for name, flag in found.items()}
    given = {name for name, flag in found.items() if flag.present}
    return Settings(values, given, self._roles)


class Settings:
  """The values of a script's flags for one run, as attributes. Nothing changes them."""

  def __init__(
    self,
    values: dict[str, Any],
    given: Iterable[str] = (),
    roles: Optional[dict[str, set[str]]] = None,
  ) -> None:
    """Makes settings.

    Args:
      values: dict of flag name -> value.
      given: names of the flags that the command line has set.
      roles: dict of flag name -> set of its roles; see ScriptFlags.
    """
    self.__dict__.update((n, value) for n, value in values.items() if not hasattr(Settings, n))
    self.__dict__["_state"] = (dict(values), frozenset(given), roles or {})

  if TYPE_CHECKING:  # the flags

    def __getattr__(self, name: str) -> Any: ...

  def __setattr__(self, name: str, value: object) -> None:
    raise AttributeError(f"settings are frozen: {name} cannot be set")

  def __getitem__(self, name: str) -> Any:
    return self.as_dict()[name]

  def __contains__(self, name: str) -> bool:
    return name in self._state[0]

  def as_dict(self) -> dict[str, Any]:
    """Returns all values, as a dict of flag name -> value."""
    return dict(self._state[0])

  def is_given(self, name: str) -> bool:
    """Returns whether the command line has set a flag."""
    return name in self._state[1]

  def names(self, role: str) -> list[str]:
    """Lists the flags with a role: "remembered", "identity" or "shared"."""
    values, _, roles = self._state
    return [name for name in values if role in roles.get(name, ())]

  def replace(self, **changes: Any) -> "Settings":
    """Returns settings with other values of some flags."""
    values, given, roles = self._state
    return Settings({**values, **changes}, given, roles)

  def without(self, name: str) -> "Settings":
    """Returns settings that lack a flag."""
    values, given, roles = self._state
    return Settings({key: v for key, v in values.items() if key != name}, given, roles)

  def adopt(self, values: dict[str, Any]) -> "Settings":
    """Returns settings that take values of flags that the command line has not set.

    Args:
      values: dict of flag name -> value; other names than those of flags are left out.
    """
    known = {name: value for name, value in values.items() if name in self}
    return self.replace(**{name: v for name, v in known.items() if not self.is_given(name)})

  def require(self, names: Iterable[str], purpose: str) -> None:
    """Checks that flags have values.

    Args:
      names: the flags.
      purpose: what needs them, for the message.

    Raises:
      files.InputError: names the first flag that has no value.
    """
    for name in names:
      if self[name] in (None, ""):
        raise files.InputError(f"--{name} is missing: {purpose} needs it")


# ---- The command line ---------------------------------------------------------------------------


_NON_BOOLEAN = re.compile(r"\('Non-boolean argument to boolean flag', .*\)")


def parse(
  script_flags: ScriptFlags,
  arguments: Sequence[str],
  flag_values: Optional[flags.FlagValues] = None,
) -> None:
  """Sets all flags of a script from a command line; those it does not name get their defaults.

  Args:
    script_flags: the script's flags.
    arguments: list of str, without the program's name.
    flag_values: FlagValues with more flags than the script's that are allowed, or None.

  Raises:
    files.InputError: an unknown flag, a value that is not allowed, or an argument that is no flag.
  """
  own = script_flags.FLAGS
  own.__dict__["follows_program"] = False
  own.unparse_flags()
  for name in own:
    own[name].unparse()
  known = own if flag_values is None else flag_values
  try:
    rest = known(["", *arguments])[1:]
  except (flags.Error, ValueError) as error:  # the second for --noNAME=value
    message = _NON_BOOLEAN.sub("should be true or false", str(error))
    raise files.InputError(message.replace("\n", " ")) from error
  finally:
    own.mark_as_parsed()
  if rest:
    remedy = _stray_remedy(known, _words_before_stray(known, arguments), rest)
    raise files.InputError(f"{rest[0]!r} is not a flag; {remedy}")


def _words_before_stray(known, arguments):
  """Returns the words before the first that is no flag; none if it is in a --flagfile."""
  words = iter(enumerate(arguments))
  for place, word in words:
    name = word.lstrip("-")
    if word == name or not name:
      return arguments[:place]
    if "=" not in word and name in known and not known[name].boolean:
      next(words, None)  # its value
  return []


_TRUTH = {"yes": "true", "on": "true", "no": "false", "off": "false"}
_TRUTH.update((word, word) for word in ("true", "false", "t", "f", "1", "0"))
_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212"  # as text programs put them for a hyphen


def _stray_remedy(known, before, rest):
  """Returns what to write in place of the first word that is no flag.

  Args:
    known: FlagValues.
    before: list of str, the words before it, which could be parsed.
    rest: list of str, the word and those behind it.
  """
  word = rest[0]
  if word and not word.strip():
    return "a backslash that continues a line must be the last character of it"
  name, equals, value = word.lstrip(_DASHES).partition("=")
  if name in known:
    return f"write --{name}{equals}{value}"
  if before and before[-1] == "=":  # --name = value, of which = became the value
    return f"write {before[-2]}={word}, without spaces"
  name, equals, value = before[-1].lstrip("-").partition("=") if before else ("", "", "")
  switch = name if name in known else name[2:]
  if not equals and switch in known and known[switch].boolean:
    if word.startswith("="):  # --do_train = true, --do_train =true
      return (
        f"write --{switch}={''.join(rest[:2] if word == '=' else rest[:1])[1:]}, without spaces"
      )
    if word.lower() in _TRUTH:
      return f"write --{switch}={_TRUTH[word.lower()]}"
  elif equals and name in known:
    return f'put quotes around a value with spaces: --{name}="{value} {word}"'
  elif len(before) > 1 and before[-2].lstrip("-") in known:
    return f'put quotes around a value with spaces: {before[-2]} "{before[-1]} {word}"'
  return "flags are written --name=value"


# Flags of absl that select the lines on standard error; without any, notices alone are shown.
_LOG_FLAGS = ("verbosity", "logtostderr", "alsologtostderr", "stderrthreshold")


def run(main: Callable[[list[str]], object], script_flags: ScriptFlags) -> None:
  """Parses the command line and runs `main`, ending the process with its exit status.

  A files.InputError becomes one line and status 1; Ctrl-C status 130, and standard output that is
  read no more status 141.
  """
  program = quiet_start.program_name()

  def parser(argv):
    _share_with_absl(script_flags.FLAGS, program)
    parse(script_flags, argv[1:], flags.FLAGS)
    show_help(script_flags, main.__globals__)
    return argv[:1]

  def guarded(argv):
    if flags.FLAGS["stderrthreshold"].using_default_value:
      logging.set_stderrthreshold("info")
    shows_all = any(flags.FLAGS[name].present for name in _LOG_FLAGS)
    log_output.start(shows_all, has_file="output_dir" in script_flags.FLAGS)
    status = main(argv)
    quiet_start.flush_output()
    return status

  if isinstance(sys.stdout, io.TextIOWrapper):  # may be of an encoding without some letters
    sys.stdout.reconfigure(errors="backslashreplace")
  try:
    app.run(guarded, flags_parser=parser)
  except files.InputError as error:
    log_output.write_error(str(error))
    sys.exit(f"{program}: error: {error}")
  except BrokenPipeError:
    quiet_start.end_without_reader()
  except KeyboardInterrupt:
    sys.exit(130)


def show_help(script_flags: ScriptFlags, script: dict[str, Any]) -> None:
  """Prints the help that the command line asks for, if any, and ends the process with status 0.

  Args:
    script_flags: the script's flags.
    script: the names in the script's module.
  """
  wanted = next((name for name in HELP if flags.FLAGS[name].value), None)
  if wanted is None:
    return
  try:
    if wanted == "helpxml":
      flags.FLAGS.write_help_in_xml_format(sys.stdout)
    else:
      print(
        quiet_start.as_called(_help_text(wanted, script_flags, script), script.get("__file__", ""))
      )
    sys.stdout.flush()
  except BrokenPipeError:  # of a pager, or head
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  sys.exit(0)


def _help_text(wanted, script_flags, script):
  """Returns the text of --help, --helpshort or --helpfull."""
  groups, more = script_flags.groups(), "--helpfull shows absl's own flags, too."
  if wanted == "helpshort":
    groups, more = {flag_help.ESSENTIAL: groups[flag_help.ESSENTIAL]}, "--help shows all flags."
  elif wanted == "helpfull":
    groups, more = (
      {**groups, flag_help.OTHER: _other_flags(script_flags)},
      "--help shows the script's flags alone.",
    )
  return flag_help.full_text(script.get("__doc__") or "", groups, more)


def _other_flags(script_flags):
  """Lists absl's own flags and those of other programs, by name."""
  others = {name: flags.FLAGS[name] for name in flags.FLAGS if name not in script_flags.FLAGS}
  special = flags.FlagValues()  # absl reads these before all others
  flags.DEFINE_string("flagfile", None, "File with flags, one per line.", special)
  flags.DEFINE_list("undefok", None, "Flags that need not be known.", special)
  others.update((name, special[name]) for name in special)
  return [others[name] for name in sorted(others) if name == others[name].name and name != "?"]


def _share_with_absl(own, program):
  """Puts a script's flags into absl.flags.FLAGS, as key flags of the program.

  A flag of the same name that is there, such as absl's own --help, is replaced.
  """
  for name in {*own, *HELP}:
    if name in flags.FLAGS:
      delattr(flags.FLAGS, name)
  for name in own:
    if name == own[name].name:  # and not its short name
      flags.FLAGS[name] = own[name]
      flags.FLAGS.register_flag_by_module(program, own[name])
      flags.FLAGS.register_key_flag_for_module(sys.argv[0], own[name])
  for name in set(HELP) - set(own):
    flags.DEFINE_bool(name, False, HELP[name], flag_values=flags.FLAGS)
