"""Requests that are refused: each gets an error in the form of its API, and the service goes on."""

import json

import pytest
from service_calls import Service

from toolkit.serving.service import app
from toolkit.serving.service.security import Keys

PREDICT = "/v1/models/reviews:predict"
DEEP = b"[" * 100_000 + b"]" * 100_000


@pytest.fixture(scope="module")
def service():
  return Service()


def instances(*values):
  return {"instances": list(values)}


BODIES = {
  "empty": (b"", 400),
  "spaces": (b"  \n", 400),
  "no JSON": (b"instances=good", 400),
  "half of a JSON": (b'{"instances": ["good"', 400),
  "two JSON values": (b'{"instances": ["good"]} {}', 400),
  "a string": (b'"good"', 400),
  "a number": (b"1", 400),
  "null": (b"null", 400),
  "a list": (b'["good"]', 400),
  "NaN": (b'{"instances": [NaN]}', 400),
  "an infinite number": (b'{"instances": [-Infinity]}', 400),
  "a number of many digits": (b'{"instances": [' + b"9" * 4000 + b"]}", 400),
  "a NUL byte": (b'{"instances": ["go\0od"]}', 400),
  "a line break in a string": (b'{"instances": ["go\nod"]}', 400),
  "Latin-1": (b'{"instances": ["caf\xe9"]}', 400),
  "UTF-16": ('{"instances": ["good"]}'.encode("utf-16"), 400),
  "half of a surrogate pair": (b'{"instances": ["\\ud83d"]}', 400),
  "a surrogate in a key": (b'{"instances": [{"\\udc00": 1}]}', 400),
  "single quotes": (b"{'instances': ['good']}", 400),
  "no instances": (b"{}", 400),
  "instances and inputs": (b'{"instances": ["a"], "inputs": ["a"]}', 400),
  "an unknown field": (b'{"instances": ["a"], "temperature": 1}', 400),
  "another signature": (b'{"instances": ["a"], "signature_name": "regress"}', 400),
  "a signature that is a list": (b'{"instances": ["a"], "signature_name": ["a"]}', 400),
  "no list": (instances() | {"instances": "good"}, 400),
  "an empty list": (instances(), 400),
  "instances that are null": ({"instances": None}, 400),
  "a null instance": (instances(None), 400),
  "a number as text": (instances("good", 1), 400),
  "a boolean as text": (instances(True), 400),
  "a list as text": (instances(["good"]), 400),
  "text that is null": (instances({"text": None}), 400),
  "an unknown field of an instance": (instances({"text": "a", "label": "b"}), 400),
  "a second text alone": (instances({"text_b": "a"}), 400),
  "a second text that is a number": (instances({"text": "a", "text_b": 2}), 400),
  "b64 that is no base64": (instances({"b64": "!"}), 400),
  "b64 that is no UTF-8": (instances({"b64": "/w=="}), 400),
  "b64 that is a number": (instances({"b64": 1}), 400),
  "texts and ids": (instances("a", {"input_ids": [1]}), 400),
  "columns of two lengths": ({"inputs": {"text": ["a"], "text_b": ["a", "b"]}}, 400),
  "a column that is a string": ({"inputs": {"text": "a"}}, 400),
  "columns that are a string": ({"inputs": "a"}, 400),
  "no columns": ({"inputs": {}}, 400),
  "a long text": (instances("a" * 1001), 413),
  "many instances": (instances(*"a" * 33), 413),
  "a large body": (b" " * 5000, 413),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies(service, name):
  body, status = BODIES[name]
  answer = service("POST", PREDICT, body)
  assert answer.status == status
  error = answer.json
  assert list(error) == ["error"] and error["error"] and "\n" not in error["error"]
  assert service.predict("reviews", "good")[0]["label"] == "good"


def test_json_of_many_levels():
  limits = Service().models.limits._replace(body_bytes=2**20)
  service = Service(limits=limits)
  for path, body in ((PREDICT, DEEP), (PREDICT, b'{"instances":' + DEEP + b"}")):
    answer = service("POST", path, body)
    assert (answer.status, answer.json) == (
      400,
      {"error": "the JSON of the body has too many levels"},
    )
  # Less deep, so that it is parsed, and no text.
  answer = service("POST", PREDICT, b'{"instances":' + b"[" * 500 + b"]" * 500 + b"}")
  assert answer.status == 400


@pytest.mark.parametrize(
  ("name", "instance", "status"),
  [
    ("squad", "Who?", 400),
    ("squad", {"question": "Who?"}, 400),
    ("squad", {"question": " ", "context": "a"}, 400),
    ("squad", {"question": "Who?", "context": ""}, 400),
    ("squad", {"question": "Who?", "context": "a" * 1001}, 413),
    ("squad", {"question": "Who?", "context": ["a"]}, 400),
    ("choice", {"choices": ["a"], "question": "b"}, 400),
    ("choice", {"choices": ["a", " "], "question": "b"}, 400),
    ("choice", {"choices": ["a", "b"]}, 400),
    ("choice", {"choices": "ab", "question": "b"}, 400),
    ("choice", {"choices": ["a"] * 65, "question": "b"}, 400),
    ("masks", "no mask", 400),
    ("masks", "[MASK]" * 129, 400),
    ("ner", 1, 400),
    ("encoder", {"texts": "a"}, 400),
  ],
)
def test_instances_of_each_kind(service, name, instance, status):
  answer = service("POST", f"/v1/models/{name}:predict", instances(instance))
  assert (answer.status, answer.json["error"][:10]) == (status, "instance 0")


@pytest.mark.parametrize(
  ("method", "path", "status"),
  [
    ("POST", "/v1/models/other:predict", 404),
    ("POST", "/v1/models/reviews/versions/2:predict", 404),
    ("POST", "/v1/models/reviews/labels/stable:predict", 404),
    ("POST", "/v1/models/reviews:classify", 404),
    ("POST", "/v1/models/reviews%00:predict", 404),
    ("POST", "/v1/models/" + "a" * 2000 + ":predict", 404),
    ("GET", "/v1/models/other", 404),
    ("GET", "/v1/models/other/metadata", 404),
    ("GET", PREDICT, 405),
    ("DELETE", "/v1/models/reviews", 405),
    ("POST", "/v1/models", 405),
    ("GET", "/v1/embeddings", 405),
    ("PUT", "/embed", 405),
    ("GET", "/v1/models/", 404),
    ("GET", "/v1/models/../../etc/passwd", 404),
    ("GET", "/page.html", 404),
    ("GET", "/../serve.py", 404),
    ("GET", "//etc/passwd", 404),
    ("GET", "/v1/chat/completions", 404),
    ("OPTIONS", "/v1/models", 405),
    ("TRACE", "/", 405),
  ],
)
def test_paths_and_methods(service, method, path, status):
  answer = service(method, path, instances("good"))
  assert answer.status == status
  assert answer.json["error"]


@pytest.mark.parametrize(
  ("headers", "status"),
  [
    ({"content-type": "multipart/form-data; boundary=x"}, 415),
    ({"content-type": "application/octet-stream"}, 415),
    ({"content-type": "text/html"}, 415),
    ({"content-type": "application/json; charset=latin-1"}, 415),
    ({"content-encoding": "gzip"}, 415),
    ({"content-length": "999999999999"}, 413),
  ],
)
def test_headers(service, headers, status):
  answer = service("POST", PREDICT, instances("good"), headers)
  assert (answer.status, list(answer.json)) == (status, ["error"])


@pytest.mark.parametrize(
  "kind",
  [
    None,
    "application/json; charset=UTF-8",
    "application/x-www-form-urlencoded",
    "text/plain",
    "application/vnd.api+json",
  ],
)
def test_types_that_json_is_sent_with(service, kind):
  assert service("POST", PREDICT, instances("good"), {"content-type": kind}).status == 200


def test_the_limits_are_told(service):
  errors = [
    service("POST", PREDICT, body).json["error"]
    for body in (b" " * 5000, instances("a" * 1001), instances(*"a" * 33))
  ]
  for error, limit in zip(errors, ("4096 bytes", "1000", "32")):
    assert limit in error


def test_a_body_in_chunks(service):
  body = json.dumps(instances("good")).encode()
  assert service("POST", PREDICT, chunks=[body[:5], b"", body[5:]]).status == 200
  answer = service("POST", PREDICT, chunks=[b" " * 1000] * 5, headers={"content-length": None})
  assert answer.status == 413


def test_a_body_that_does_not_arrive(service):
  answer = service("POST", PREDICT, chunks=[b'{"instances"', 5])
  assert (answer.status, answer.headers["connection"]) == (408, "close")
  assert "within 0.5 seconds" in answer.json["error"]


def test_a_connection_that_is_closed_half_way(service):
  assert service("POST", PREDICT, chunks=[b'{"instances"', None]).status is None
  assert 'status="499"' in service("GET", "/metrics").body.decode()
  assert service.predict("reviews", "good")


def test_each_api_has_its_own_form_of_errors(service):
  body = b"{"
  assert set(service("POST", "/embed", body).json) == {"error", "error_type"}
  assert isinstance(service("POST", PREDICT, body).json["error"], str)
  error = service("POST", "/v1/embeddings", body).json["error"]
  assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, None)


# ---- Keys and origins ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded():
  return Service(access=app.Access(Keys(["first-key", "second-key"]), None))


@pytest.mark.parametrize(
  "headers",
  [
    {"authorization": "Bearer first-key"},
    {"authorization": "bearer second-key"},
    {"x-api-key": "second-key"},
    {"authorization": "Basic abc", "x-api-key": "first-key"},
  ],
)
def test_keys_that_are_accepted(guarded, headers):
  assert guarded("POST", PREDICT, instances("good"), headers).status == 200


@pytest.mark.parametrize(
  "headers",
  [
    {},
    {"authorization": "Bearer"},
    {"authorization": "Bearer first-ke"},
    {"authorization": "Bearer first-keys"},
    {"authorization": "Basic first-key"},
    {"authorization": "Bearer \xff"},
    {"authorization": "Bearer wrong", "x-api-key": "first-key"},
    {"x-api-key": ""},
  ],
)
def test_keys_that_are_refused(guarded, headers):
  for method, path in (("POST", PREDICT), ("GET", "/v1/models"), ("GET", "/metrics")):
    answer = guarded(method, path, instances("good"), headers)
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
  error = guarded("POST", "/v1/embeddings", {}, headers).json["error"]
  assert error["code"] == "invalid_api_key"


def test_each_key_is_compared_with_all_digests(monkeypatch):
  keys, compared = Keys(["first-key", "second-key", "third-key"]), []

  def compare(one, other):
    compared.append((len(one), len(other)))
    return one == other

  monkeypatch.setattr("hmac.compare_digest", compare)
  for key in ("first-key", "third-key", "x" * 10_000, ""):
    compared.clear()
    assert keys.accepts(key) == key.endswith("-key")
    assert compared == [(32, 32)] * 3


def test_the_state_and_the_page_need_no_key(guarded):
  for path in ("/", "/healthz", "/readyz", "/health"):
    assert guarded("GET", path).status == 200
  assert guarded("GET", "/openapi.json").status == 401


@pytest.mark.parametrize(
  "host",
  ["localhost", "localhost:8501", "127.0.0.1:8501", "[::1]:8501", "127.1.2.3", "a.localhost", None],
)
def test_hosts_of_loopback(service, host):
  assert service("GET", "/v1/models", headers={"host": host}).status == 200


@pytest.mark.parametrize(
  "host",
  [
    "attacker.example",
    "attacker.example:8501",
    "localhost.attacker.example",
    "192.168.1.1",
    "127.0.0.1.attacker.example",
    "0.0.0.0",
    "[",
    "localhost:port",
  ],
)
def test_other_hosts_are_refused_on_loopback(service, host):
  answer = service("POST", PREDICT, instances("good"), {"host": host})
  assert (answer.status, "Host" in answer.json["error"]) == (403, True)


def test_a_proxy_has_a_name_of_its_own():
  service = Service(access=app.Access(None, ("models.example",)))
  headers = {"host": "Models.example", "origin": "https://models.example"}
  assert service("POST", PREDICT, instances("good"), headers).status == 200
  assert service("GET", "/", headers={"host": "other.example"}).status == 403


@pytest.mark.parametrize(
  "origin",
  [
    "http://attacker.example",
    "null",
    "http://localhost:3000",
    "https://localhost:8501.attacker.example",
    "file://",
    "http://localhost:8501@attacker.example",
  ],
)
def test_pages_of_other_origins_are_refused(service, origin):
  answer = service("POST", PREDICT, instances("good"), {"origin": origin})
  assert (answer.status, "origins" in answer.json["error"]) == (403, True)


def test_the_own_page_is_allowed(service):
  for host in ("localhost:8501", "127.0.0.1:8501", "[::1]:8501"):
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    assert service("POST", PREDICT, instances("good"), headers).status == 200


def test_links_of_other_pages_may_be_followed(service):
  headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
  assert service("GET", "/", headers=headers).status == 200
  headers["sec-fetch-mode"] = "no-cors"
  assert service("GET", "/v1/models", headers=headers).status == 403
