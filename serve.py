"""Serves trained models over HTTP: to programs, to clients of other systems, and on a page.

  python serve.py --model=reviews=/tmp/reviews --model=squad=/tmp/squad

  python serve.py --model=encoder=$BERT --host=0.0.0.0 --api_key_file=keys.txt

A directory is the output of a training, an encoder, or an export of export_model.py. The page is at
http://127.0.0.1:8501/, and the description of the API at /openapi.json. Without --host, only
programs of this machine reach the service. SIGTERM stops it after the requests under way.
"""

from toolkit.support import quiet_start  # noqa: F401, first of all  # isort: skip

import importlib.util
import re
from typing import Optional

from absl import logging

from toolkit.serving import engines, loading
from toolkit.serving.service import refusals, security
from toolkit.support import command_line, files, logs

PACKAGES = ("starlette", "uvicorn")
REQUIREMENTS = "requirements-serving.txt"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LIMITS = refusals.Limits()

flags = command_line.ScriptFlags()
FLAGS = flags.FLAGS
flags.DEFINE_multi_string(
  "model", None, "Name and directory of a model, NAME=DIR.", group="essential"
)
flags.DEFINE_integer(
  "port",
  8501,
  "Port of HTTP; 0 for a free one, which is shown.",
  lower_bound=0,
  upper_bound=65535,
  group="essential",
)
flags.DEFINE_string(
  "host",
  "127.0.0.1",
  "Address to listen at. Another one than of loopback, such as 0.0.0.0, needs --api_key_file.",
  group="essential",
)
flags.DEFINE_string(
  "api_key_file",
  None,
  "File of keys, one per line. A client must send one, as Authorization: Bearer KEY or x-api-key.",
  group="essential",
)
flags.DEFINE_bool(
  "insecure",
  False,
  "Allow all who reach --host to use the models, without keys.",
  group="essential",
)
flags.DEFINE_enum(
  "engine",
  engines.AUTO,
  engines.ENGINES,
  "Engine that runs the models; auto is ONNX Runtime where it is installed and there is no GPU.",
  group="essential",
)
flags.DEFINE_integer(
  "workers",
  1,
  "Number of processes. Each loads all models, and gets its share of the processors.",
  lower_bound=1,
  group="essential",
)
flags.DEFINE_integer(
  "max_queue",
  2048,
  "Number of instances that may wait for a worker; more are refused with status 429. One request "
  "may have half as many.",
  lower_bound=2,
  group="speed and memory",
)
flags.DEFINE_integer(
  "max_request_bytes",
  _LIMITS.body_bytes,
  "Size of a request; a larger one is refused with status 413.",
  lower_bound=1024,
  group="speed and memory",
)
flags.DEFINE_float(
  "timeout_seconds",
  _LIMITS.answer_seconds,
  "Time limit of an answer; after it, the status is 503 or 504.",
  lower_bound=0.1,
  group="speed and memory",
)
flags.DEFINE_multi_string(
  "allowed_host",
  None,
  "Name that a Host header may have, beside those of loopback: that of a proxy on this machine.",
)
flags.DEFINE_integer(
  "bert_as_service_port",
  None,
  "Port for clients of bert-as-service, on loopback alone; 5555 is their default.",
  lower_bound=1,
  upper_bound=65535,
  group="essential",
)
flags.DEFINE_integer(
  "bert_as_service_port_out",
  None,
  "Port for the results of these clients. Default: the next port.",
  lower_bound=1,
  upper_bound=65535,
)


def main(_: list[str]) -> None:
  """Serves models by the flags, until a signal."""
  settings = flags.settings()
  models = read_models(settings)
  keys = read_keys(settings)
  ports = read_ports(settings, models)
  check_packages()
  from toolkit.serving.service import server, workers  # only here: needs these packages

  listener = server.bind(settings.host, settings.port)
  limits = _LIMITS._replace(
    body_bytes=settings.max_request_bytes, answer_seconds=settings.timeout_seconds
  )
  service = server.Settings(
    models=tuple(models.items()),
    engine=settings.engine,
    limits=limits,
    max_waiting=settings.max_queue,
    keys=tuple(keys),
    hosts=allowed_hosts(settings),
    bert_as_service_ports=ports,
  )
  host = f"[{settings.host}]" if ":" in settings.host else settings.host
  where = f"http://{host}:{listener.getsockname()[1]}/"
  workers.serve(
    service,
    listener,
    settings.workers,
    lambda: logs.notice("Serving %s at %s", ", ".join(models), where),
  )
  logs.notice("Stopped")


def read_models(settings: command_line.Settings) -> dict[str, str]:
  """Returns the name of each model -> its directory.

  Raises:
    files.InputError: none is given, a name is given twice, or a directory is of no model.
  """
  settings.require(["model"], "every run")
  models: dict[str, str] = {}
  for given in settings.model:
    name, _, directory = given.partition("=")
    if not (_NAME.fullmatch(name) and directory):
      raise files.InputError(
        f"--model={given}: write --model=NAME=DIR, with a name of letters, digits, '.', '_' and '-'"
      )
    if name in models:
      raise files.InputError(f"--model: the name {name} is given twice")
    try:
      loading.script_of(directory)
    except files.InputError as error:
      raise files.InputError(f"--model={given}: {error}") from error
    models[name] = directory
  return models


def read_keys(settings: command_line.Settings) -> list[str]:
  """Returns the keys of --api_key_file; none without the flag.

  Raises:
    files.InputError: the file cannot be used, or --host is of other machines and needs keys.
  """
  if settings.api_key_file:
    if settings.insecure:
      raise files.InputError("--insecure has no effect with --api_key_file; leave it out")
    keys, problems = security.read_keys(settings.api_key_file)
    for problem in problems:
      logging.warning("--api_key_file: %s", problem)
    return keys
  if not security.is_loopback(settings.host):
    if not settings.insecure:
      raise files.InputError(
        f"--host={settings.host} can be reached from other machines: give --api_key_file, or "
        "--insecure to let all who reach it use the models"
      )
    logging.warning(
      "--insecure: ALL who reach %s port %d can use the models; there are no keys",
      settings.host,
      settings.port,
    )
  return []


def allowed_hosts(settings: command_line.Settings) -> Optional[tuple[str, ...]]:
  """Returns the names that a Host header may have beside those of loopback; None for any."""
  return tuple(settings.allowed_host or ()) if security.is_loopback(settings.host) else None


def read_ports(
  settings: command_line.Settings, models: dict[str, str]
) -> Optional[tuple[int, int]]:
  """Returns the two ports of bert-as-service's protocol, or None.

  Raises:
    files.InputError: there is no encoder, a port cannot be used, or pyzmq is not installed.
  """
  port = settings.bert_as_service_port
  if port is None:
    if settings.bert_as_service_port_out is not None:
      raise files.InputError("--bert_as_service_port_out needs --bert_as_service_port")
    return None
  port_out = settings.bert_as_service_port_out or min(port + 1, 65535)
  if len({settings.port, port, port_out}) < 3:
    raise files.InputError("--bert_as_service_port: give ports that differ from each other")
  if not any(loading.script_of(path) == loading.ENCODER_SCRIPT for path in models.values()):
    raise files.InputError("--bert_as_service_port: none of the models gives vectors of texts")
  if importlib.util.find_spec("zmq") is None:
    raise files.InputError(
      "--bert_as_service_port: the package pyzmq is not installed: python -m pip install -r "
      f"{REQUIREMENTS}"
    )
  from toolkit.serving.service import bert_as_service

  bert_as_service.check_ports(port, port_out)
  return port, port_out


def check_packages() -> None:
  """Checks that the packages of the service are installed.

  Raises:
    files.InputError: one is not.
  """
  for name in PACKAGES:
    if importlib.util.find_spec(name) is None:
      raise files.InputError(
        f"the package {name} is not installed: python -m pip install -r {REQUIREMENTS}"
      )


if __name__ == "__main__":
  command_line.run(main, flags)
