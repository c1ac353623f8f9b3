"""Keys, and protection of a service on loopback from web pages of other origins."""

import hashlib
import hmac
import ipaddress
import os
import re
import stat
from collections.abc import Iterable, Mapping
from typing import Optional
from urllib.parse import urlsplit

from toolkit.serving.service.refusals import Refused
from toolkit.support import files

# Served to all: they tell nothing, and programs that watch a service have no key.
OPEN_PATHS = frozenset(["/", "/healthz", "/readyz", "/health"])
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHORT_KEY = 16


class Keys:
  """The keys of a service. Only their digests are kept."""

  def __init__(self, keys: Iterable[str]) -> None:
    """Makes them of one or more keys."""
    self._digests = [_digest(key) for key in keys]

  def accepts(self, key: str) -> bool:
    """Returns whether a key is one of these, in a time that does not depend on the key."""
    given, found = _digest(key), False
    for digest in self._digests:
      found |= hmac.compare_digest(digest, given)
    return found

  def check(self, headers: Mapping[str, str]) -> None:
    """Checks the key in the headers of a request.

    Raises:
      Refused: there is none, or a wrong one.
    """
    kind, _, token = headers.get("authorization", "").partition(" ")
    key = token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "")
    if not self.accepts(key):
      found = "the API key is wrong" if key else "an API key is needed"
      raise Refused(
        401,
        f"{found}; send it as Authorization: Bearer KEY",
        code="invalid_api_key",
        headers={"WWW-Authenticate": "Bearer"},
      )


def _digest(key):
  return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def read_keys(path: str) -> tuple[list[str], list[str]]:
  """Reads a file of keys, one per line.

  Returns:
    The keys, and warnings about them or the file.

  Raises:
    files.InputError: it cannot be read, has no key, or a line that cannot be sent as a key.
  """
  try:
    lines = files.read_lines(path)
  except files.InputError as error:
    raise files.InputError(f"--api_key_file: {error}") from error
  keys, warnings = [], []
  for number, line in lines:
    if not line.strip():
      continue
    if not re.fullmatch(r"[!-~]+", line.strip()):
      raise files.InputError(
        f"--api_key_file: {path}:{number}: a key has spaces, or other characters than ASCII"
      )
    keys.append(line.strip())
  if not keys:
    raise files.InputError(f"--api_key_file: {path} is empty; write one key per line")
  if os.path.exists(path) and os.stat(path).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
    warnings.append(f"{path} can be read by other users; restrict it with chmod 600")
  if min(map(len, keys)) < _SHORT_KEY:
    warnings.append(f"{path} has a key of less than {_SHORT_KEY} characters, which can be guessed")
  return keys, warnings


def is_loopback(host: str) -> bool:
  """Returns whether a host name or address is of this machine alone."""
  name = host.strip("[]").lower().rstrip(".")
  if name == "localhost" or name.endswith(".localhost"):
    return True
  try:
    return ipaddress.ip_address(name).is_loopback
  except ValueError:
    return False


class OriginCheck:
  """Refuses what a web page of another origin makes a browser send.

  Such a page can post to any address. By a name whose address changes to that of loopback (DNS
  rebinding), it could read answers, too; then the Host header has that name.
  """

  def __init__(self, hosts: Optional[Iterable[str]]) -> None:
    """Makes a check.

    Args:
      hosts: the names that a Host header may have beside those of loopback; None for any name.
    """
    self._hosts = None if hosts is None else {host.lower() for host in hosts}

  def check(self, headers: Mapping[str, str]) -> None:
    """Checks the headers of a request.

    Raises:
      Refused: a browser sent it for a page of another origin, or the Host is none of this service.
    """
    host = headers.get("host", "")
    if self._hosts is not None and host:  # HTTP/1.0 has no Host, but no browser uses that
      name = _split("//" + host)[0]
      if not (is_loopback(name) or name in self._hosts):
        raise Refused(
          403, "the Host header names another host than this service; see --allowed_host"
        )
    origin = headers.get("origin")
    if origin is not None and _origin_place(origin) != _split(_scheme(origin) + "//" + host):
      raise Refused(403, "requests from web pages of other origins are refused")
    is_cross_site = headers.get("sec-fetch-site") == "cross-site"
    if is_cross_site and headers.get("sec-fetch-mode") != "navigate":
      raise Refused(403, "requests from web pages of other origins are refused")


def _scheme(origin):
  return origin.partition("//")[0]


def _origin_place(origin):
  return _split(origin) if _scheme(origin) in ("http:", "https:") else None


def _split(url):
  """Returns the host in lower case, and the port, of a URL; ("", 0) if it is none."""
  try:
    parts = urlsplit(url)
    port = parts.port
  except ValueError:
    return "", 0
  return (parts.hostname or ""), port or _DEFAULT_PORTS.get(parts.scheme, 80)
