"""Notices: the lines of the log that a script shows by default; see log_output."""

from absl import logging

# The level of a notice, between INFO and WARNING.
NOTICE = 25


@logging.skip_log_prefix
def notice(message: str, *args: object) -> None:
  """Logs a notice; arguments as of logging.info."""
  logging.get_absl_logger().log(NOTICE, message, *args)
