"""Debian's chromium without a window, over the WebDriver protocol of chromedriver."""

import base64
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any, Optional

FLAGS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--disable-dev-shm-usage",
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the name that the protocol gives references
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "Space": " ", "Control": "\ue009", "Shift": "\ue008"}
PATIENCE = 30  # seconds until an expected state counts as missing


def missing() -> Optional[str]:
  """Returns what is not installed of the browser and its driver, or None."""
  for program, package in (("chromium", "chromium"), ("chromedriver", "chromium-driver")):
    if not shutil.which(program):
      return f"{program} is not installed (Debian's package {package})"
  return None


class Browser:
  """A browser with one page. It is a context manager, which ends the browser and its driver."""

  def __init__(self) -> None:
    """Starts chromedriver on a free port, and the browser with an empty profile."""
    self._profile = tempfile.mkdtemp()
    self._driver = subprocess.Popen(
      [str(shutil.which("chromedriver")), "--port=0"], stdout=subprocess.PIPE, text=True
    )
    try:
      self._url = f"http://127.0.0.1:{self._read_port()}"
      options = {
        "binary": shutil.which("chromium"),
        "args": [*FLAGS, f"--user-data-dir={self._profile}"],
      }
      capabilities = {
        "browserName": "chrome",
        "goog:chromeOptions": options,
        "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
      }
      found = self._send("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
      self._url += f"/session/{found['sessionId']}"
      self._send("POST", "/url", {"url": "about:blank"})  # in place of chromium's own page
      self.console(), self.requested()
    except BaseException:
      self._end()
      raise

  def __enter__(self) -> "Browser":
    return self

  def __exit__(self, *_: object) -> None:
    try:
      self._send("DELETE", "")
    finally:
      self._end()

  def _end(self):
    self._driver.terminate()
    self._driver.wait()
    assert self._driver.stdout
    self._driver.stdout.close()
    shutil.rmtree(self._profile, ignore_errors=True)  # may still be written to

  def _read_port(self):
    for line in self._driver.stdout:
      if found := re.search(r"started successfully on port (\d+)", line):
        return found.group(1)
    raise RuntimeError("chromedriver did not start")

  def _send(self, method, path, body=None):
    request = urllib.request.Request(
      self._url + path,
      method=method,
      data=None if body is None else json.dumps(body).encode(),
      headers={"Content-Type": "application/json"},
    )
    try:
      with urllib.request.urlopen(request) as response:
        return json.load(response)["value"]
    except urllib.error.HTTPError as error:
      raise RuntimeError(json.load(error)["value"]["message"]) from None

  def devtools(self, command: str, **parameters: Any) -> Any:
    """Runs a command of the DevTools protocol."""
    return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

  def open(self, url: str) -> None:
    """Loads a page, also where only the part behind # is another."""
    self._send("POST", "/url", {"url": "about:blank"})
    self._send("POST", "/url", {"url": url})

  def reload(self) -> None:
    """Loads the page anew."""
    self._send("POST", "/refresh", {})

  def run(self, script: str, *arguments: Any) -> Any:
    """Runs JavaScript, the body of a function, in the page; returns what it returns."""
    return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

  def wait(self, script: str, *arguments: Any) -> Any:
    """Waits until an expression of JavaScript is true; returns its value."""
    end = time.monotonic() + PATIENCE
    while True:
      value = self.run(f"return {script}", *arguments)
      if value:
        return value
      if time.monotonic() > end:
        raise AssertionError(f"never true: {script} {arguments}")
      time.sleep(0.02)

  def text(self, selector: str) -> str:
    """Returns the text of the first element that a CSS selector finds."""
    return self.run("return document.querySelector(arguments[0]).textContent", selector)

  def texts(self, selector: str) -> list[str]:
    """Returns the texts of all elements that a CSS selector finds."""
    script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
    return self.run(script, selector)

  def click(self, selector: str) -> None:
    """Clicks an element as a mouse does, so it must be visible."""
    found = self._send("POST", "/element", {"using": "css selector", "value": selector})
    self._send("POST", f"/element/{found[ELEMENT]}/click", {})

  def write(self, selector: str, text: str) -> None:
    """Replaces the content of a field by a text, typed or pasted."""
    self.run("const f = document.querySelector(arguments[0]); f.focus(); f.select()", selector)
    self.type(text)

  def type(self, text: str) -> None:
    """Inserts a text at the cursor."""
    self.devtools("Input.insertText", text=text)

  def press(self, *keys: str) -> None:
    """Presses keys of KEYS one after the other; "Control+Enter" holds the first one down."""
    actions = []
    for key in keys:
      *held, last = [KEYS[name] for name in key.split("+")]
      actions += [{"type": "keyDown", "value": name} for name in (*held, last)]
      actions += [{"type": "keyUp", "value": name} for name in (last, *reversed(held))]
    keyboard = {"type": "key", "id": "keyboard", "actions": actions}
    self._send("POST", "/actions", {"actions": [keyboard]})

  def emulate(self, width: int, height: int, scheme: str = "light", scale: float = 1) -> None:
    """Sets the size of the page, in CSS pixels, and the colour scheme; below 600 it is a phone."""
    self.devtools(
      "Emulation.setDeviceMetricsOverride",
      width=width,
      height=height,
      deviceScaleFactor=scale,
      mobile=width < 600,
    )
    self.devtools("Emulation.setTouchEmulationEnabled", enabled=width < 600)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    self.devtools("Emulation.setEmulatedMedia", features=features)

  def picture(self, path: pathlib.Path) -> None:
    """Writes a PNG of the whole page."""
    found = self.devtools("Page.captureScreenshot", captureBeyondViewport=True)
    path.write_bytes(base64.b64decode(found["data"]))

  def console(self) -> list[str]:
    """Returns the messages of the console since the last call."""
    return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

  def requested(self) -> list[str]:
    """Returns the addresses that the browser asked for since the last call."""
    entries = self._send("POST", "/se/log", {"type": "performance"})
    messages = [json.loads(entry["message"])["message"] for entry in entries]
    return [
      message["params"]["request"]["url"]
      for message in messages
      if message["method"] == "Network.requestWillBeSent"
    ]
