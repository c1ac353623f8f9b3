"""Starts serve.py with a classifier, sends some texts to it, prints the answers, and stops it.

python tools/try_service.py quickstart/reviews_int8 "A warm film." "Two dull hours."
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAME = "reviews"
SECONDS = 60  # to wait for the service


def request(address, body=None):
  """Returns the JSON of an answer; `body` is what to post as JSON, or None for a GET."""
  data = None if body is None else json.dumps(body).encode()
  headers = {"Content-Type": "application/json"}
  with urllib.request.urlopen(urllib.request.Request(address, data, headers)) as answer:
    return json.load(answer)


@contextlib.contextmanager
def service(directory):
  """Context with the address of a service of a model, and the seconds until it was ready."""
  command = [sys.executable, os.path.join(ROOT, "serve.py"), f"--model={NAME}={directory}"]
  start = time.monotonic()
  process = subprocess.Popen([*command, "--port=0"], stderr=subprocess.PIPE, text=True)
  try:
    address = None
    for line in process.stderr:
      print(line, end="", flush=True)
      if " at http://" in line:
        address = line.split(" at ")[1].strip()
        break
    if address is None:
      sys.exit(process.wait() or 1)
    while True:
      with contextlib.suppress(urllib.error.URLError):
        request(f"{address}v1/models/{NAME}")
        break
      if time.monotonic() - start > SECONDS:
        sys.exit(f"the service at {address} does not answer")
      time.sleep(0.05)
    yield address, time.monotonic() - start
  finally:
    process.send_signal(signal.SIGTERM)
    process.communicate()


def main(arguments):
  """Shows the requests and their answers."""
  directory, *texts = arguments
  with service(directory) as (address, seconds):
    print(f"Ready after {seconds:.1f} s")
    url = f"{address}v1/models/{NAME}:predict"
    for text in texts:
      body = {"instances": [text]}
      (found,) = request(url, body)["predictions"]
      print(f"\n$ curl {url} -d '{json.dumps(body)}'")
      print(json.dumps(found))
  print("\nStopped.")


if __name__ == "__main__":
  if len(sys.argv) < 3:
    sys.exit(f"usage: python {sys.argv[0]} DIRECTORY TEXT ...")
  main(sys.argv[1:])
