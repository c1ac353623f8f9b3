"""The command line of a script that needs no flags of absl: arguments, help and errors."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from toolkit.support import files, quiet_start


class Parser(argparse.ArgumentParser):
  """Reports errors like the other scripts."""

  def __init__(self, script: str, description: str, **options: Any) -> None:
    """Makes a parser.

    Args:
      script: the script's path.
      description: its docstring.
      **options: other arguments of argparse.ArgumentParser.
    """
    super().__init__(
      prog=quiet_start.program_name(),
      description=quiet_start.as_called(description, script),
      formatter_class=argparse.RawDescriptionHelpFormatter,
      **options,
    )

  def error(self, message: str) -> NoReturn:
    raise files.InputError(message)


def run(main: Callable[[list[str]], None], stopped: str = "") -> None:
  """Runs `main` on the command line's arguments; a files.InputError becomes one line and status 1.

  Args:
    main: function of the arguments.
    stopped: message after Ctrl-C, which is status 1; without it the status is 130.
  """
  program = quiet_start.program_name()
  try:
    main(sys.argv[1:])
    quiet_start.flush_output()
  except BrokenPipeError:
    quiet_start.end_without_reader()
  except files.InputError as error:
    sys.exit(f"{program}: error: {error}")
  except KeyboardInterrupt:
    sys.exit(f"{program}: {stopped}" if stopped else 130)
