"""The page at /: one file, served from memory with a policy that allows nothing else."""

import base64
import hashlib
import pathlib
import re

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

_FILE = pathlib.Path(__file__).with_name("page.html")


def route() -> Route:
  """Returns the route of the page."""
  text = _FILE.read_text("utf-8")
  headers = {"Content-Security-Policy": policy(text), "Referrer-Policy": "no-referrer"}

  async def page(request: Request) -> Response:
    del request
    return HTMLResponse(text, headers=headers)

  return Route("/", page, methods=["GET"])


def policy(text: str) -> str:
  """Returns the Content-Security-Policy of a page: its own scripts and styles, by their hashes.

  Args:
    text: HTML. Attributes with styles or scripts are not allowed by the policy.
  """
  rules = ["default-src 'none'", "connect-src 'self'"]
  for kind in ("script", "style"):
    parts = re.findall(rf"<{kind}\b[^>]*>(.*?)</{kind}>", text, re.S)
    hashes = " ".join(f"'sha256-{_hash(part)}'" for part in parts)
    rules.append(f"{kind}-src {hashes or chr(39) + 'none' + chr(39)}")
  rules += [
    "require-trusted-types-for 'script'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ]
  return "; ".join(rules)


def _hash(part):
  return base64.b64encode(hashlib.sha256(part.encode("utf-8")).digest()).decode("ascii")
