"""Real clients of other services, unchanged: their answers are the predictor's own."""

import http.client
import socket
import threading

import numpy as np
import pytest
import tiny_exports
from service_program import Program

from toolkit.serving import loading

pytestmark = pytest.mark.slow
TEXTS = ["a good film", "it was bad", "the film was very good and it was not bad ."]
REASON = "needs requirements-clients.txt"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
  directory = tmp_path_factory.mktemp("models") / "encoder"
  return tiny_exports.save(directory, tiny_exports.ENCODER)


@pytest.fixture(scope="module")
def predictor(encoder):
  return loading.load(str(encoder))


@pytest.fixture(scope="module", params=[1, 2], ids=["one worker", "two workers"])
def program(encoder, request):
  ports = []
  for _ in range(2):
    with socket.create_server(("127.0.0.1", 0)) as free:
      ports.append(free.getsockname()[1])
  flags = [f"--bert_as_service_port={ports[0]}", f"--bert_as_service_port_out={ports[1]}"]
  found = Program({"encoder": encoder}, f"--workers={request.param}", *flags)
  found.bert_ports = ports
  yield found
  assert found.end() == 0
  found.close()


# ---- OpenAI -------------------------------------------------------------------------------------


@pytest.fixture
def openai_client(program):
  openai = pytest.importorskip("openai", reason=REASON)
  url = f"http://127.0.0.1:{program.port}/v1"
  with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
    yield client


@pytest.mark.parametrize("options", [{}, {"encoding_format": "float"}])
def test_openai_embeddings(openai_client, predictor, options):
  found = openai_client.embeddings.create(model="encoder", input=TEXTS, **options)
  vectors = [each.embedding for each in found.data]
  np.testing.assert_allclose(vectors, predictor.encode(TEXTS), atol=1e-5)
  assert found.usage.prompt_tokens == sum(each.num_tokens for each in predictor.embed(TEXTS))
  single = openai_client.embeddings.create(model="encoder", input=TEXTS[0], **options)
  np.testing.assert_allclose(single.data[0].embedding, vectors[0], atol=1e-5)


def test_openai_embeddings_of_token_ids(openai_client, predictor):
  ids = predictor.tokenizer.convert_tokens_to_ids(TEXTS[0].split())
  found = openai_client.embeddings.create(model="encoder", input=[ids, ids])
  for each in found.data:
    np.testing.assert_allclose(each.embedding, predictor.encode(TEXTS[:1])[0], atol=1e-5)


def test_openai_models(openai_client):
  assert [model.id for model in openai_client.models.list()] == ["encoder"]
  assert openai_client.models.retrieve("encoder").id == "encoder"


def test_openai_errors(openai_client):
  openai = pytest.importorskip("openai", reason=REASON)
  with pytest.raises(openai.NotFoundError) as caught:
    openai_client.embeddings.create(model="gpt", input="a")
  assert (caught.value.code, caught.value.type) == ("model_not_found", "invalid_request_error")
  with pytest.raises(openai.BadRequestError, match="cannot be shortened"):
    openai_client.embeddings.create(model="encoder", input="a", dimensions=2)
  with pytest.raises(openai.BadRequestError, match="input is empty"):
    openai_client.embeddings.create(model="encoder", input="")


# ---- bert-as-service ----------------------------------------------------------------------------


@pytest.fixture
def bert_client(program):
  client = pytest.importorskip("bert_serving.client", reason=REASON)
  port, port_out = program.bert_ports
  return lambda: client.BertClient(port=port, port_out=port_out, timeout=60_000)


def test_bert_as_service(bert_client, predictor):
  with bert_client() as client:
    assert client.server_config["max_seq_len"] == predictor.facts.max_seq_length
    found = client.encode(TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, predictor.encode(TEXTS), atol=1e-5)
    words = [text.split() for text in TEXTS]
    np.testing.assert_allclose(client.encode(words, is_tokenized=True), found, atol=1e-5)
    client.encode(TEXTS[:1], blocking=False)
    client.encode(TEXTS[1:], blocking=False)
    np.testing.assert_allclose(client.fetch_all(concat=True), found, atol=1e-5)


def test_each_client_of_bert_as_service_gets_its_own_vectors(bert_client, predictor):
  expected = predictor.encode(TEXTS)
  differences = []

  def work(number):
    with bert_client() as client:
      found = [client.encode([TEXTS[number]])[0] for _ in range(20)]
      differences.extend(np.abs(vector - expected[number]).max() for vector in found)

  threads = [threading.Thread(target=work, args=(number % 3,)) for number in range(9)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(differences) == 180 and max(differences) < 1e-5


def test_what_bert_as_service_refuses(bert_client, predictor):
  with bert_client() as client:
    for texts, message in (
      (["a"] * 1025, "the request has 1025 items, and the limit is 1024"),
      (["a" * 100_001], "100001 characters"),
    ):
      with pytest.raises((ValueError, TypeError), match=message):
        client.encode(texts)
    np.testing.assert_allclose(client.encode(TEXTS), predictor.encode(TEXTS), atol=1e-5)


def test_broken_messages_to_bert_as_service(program, bert_client):
  zmq = pytest.importorskip("zmq", reason="needs requirements-serving.txt")
  port, _ = program.bert_ports
  with zmq.Context() as context, context.socket(zmq.PUSH) as socket_:
    socket_.connect(f"tcp://127.0.0.1:{port}")
    for frames in (
      [b""],
      [b"name", b'["a"]'],
      [b"name", b'["a"]', b"one", b"1"],
      [b"n" * 1000, b'["a"]', b"1", b"1"],
      [b"name", b"\xff", b"1", b"1"],
      [b"name", b"{", b"1", b"1"],
      [b"name", b"[[[1]]]", b"1", b"1"],
      [b"name", b"null", b"1", b"-1"],
      [b"name", b"[" * 10_000, b"1", b"1"],
    ):
      socket_.send_multipart(frames)
  with socket.create_connection(("127.0.0.1", port)) as other:
    other.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
  with bert_client() as client:
    assert client.encode(["a"]).shape == (1, 16)


def test_bert_as_service_listens_on_loopback_alone(program):
  addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
  others = [each for each in addresses if not each.startswith("127.") and each != "::1"]
  if not others:
    pytest.skip("this machine has no other address")
  for address in others:
    for port in (*program.bert_ports, program.port):
      with pytest.raises(OSError):
        http.client.HTTPConnection(address, port, timeout=5).connect()
