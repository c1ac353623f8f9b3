"""The HTTP API: the answers of each kind of model, and the APIs of other systems."""

import base64
import logging

import numpy as np
import pytest
import service_calls
from service_calls import Classifier, Service

from toolkit.serving.service import page


@pytest.fixture
def service():
  return Service()


# ---- Kinds of models ----------------------------------------------------------------------------


def test_one_label(service):
  assert service.predict("reviews", "a good film", {"text": "poor"}) == [
    {"label": "good", "probabilities": {"bad": 0.25, "good": 0.75}, "truncated": False},
    {"label": "bad", "probabilities": {"bad": 0.75, "good": 0.25}, "truncated": False},
  ]


def test_a_pair_of_texts(service):
  service.predict("reviews", {"text": "one", "text_b": "two"})
  assert service.models.find("reviews").predictor.batches == [[("one", "two")]]


def test_several_labels_and_numbers():
  service = Service({"topics": Classifier("sigmoid"), "stars": Classifier(None)})
  (topics,) = service.predict("topics", "good")
  assert (topics["labels"], topics["probabilities"]) == (["good"], {"bad": 0.25, "good": 0.75})
  assert service.predict("stars", "good") == [{"value": 2.5, "truncated": False}]
  listed = {each["id"]: each["kind"] for each in service("GET", "/v1/models").json["data"]}
  assert listed == {"topics": "labels", "stars": "number"}


def test_a_text_that_is_cut_is_told(service):
  (answer,) = service.predict("reviews", "a b c d e f g")
  assert answer["truncated"]
  assert 'bert_truncated_total{model="reviews"} 1' in service("GET", "/metrics").body.decode()


def test_answers_to_questions(service):
  found = service.predict(
    "squad",
    {"question": "Who?", "context": "Ann did."},
    {"question": "Who?", "context": "none did."},
  )
  assert found == [
    {
      "answer": "Ann",
      "probability": 0.75,
      "start_char": 0,
      "end_char": 3,
      "null_odds": None,
      "windows": 3,
    },
    {
      "answer": "",
      "probability": 0.5,
      "start_char": None,
      "end_char": None,
      "null_odds": 2.0,
      "windows": 1,
    },
  ]


def test_tags(service):
  (found,) = service.predict("ner", "in Rome")
  assert (found["words"], found["tags"], found["windows"]) == (["in", "Rome"], ["B-LOC"] * 2, 1)


def test_choices_have_probabilities_in_their_order(service):
  asked = {"choices": ["a", "abc"], "question": "Which?"}
  assert service.predict("choice", asked) == [
    {"choice": "abc", "probabilities": [0.25, 0.75], "truncated": False}
  ]


def test_masks(service):
  assert service.predict("masks", "The [MASK].") == [
    {"masks": [[{"token": "dog", "probability": 0.5}]]}
  ]


def test_vectors_are_lists_and_cut_ones_are_listed_beside_them(service):
  assert service.predict("encoder", "one two") == [[2.0, 7.0]]
  body = {"instances": ["one", "a b c d e f g"]}
  answer = service("POST", "/v1/models/encoder:predict", body).json
  assert answer == {"predictions": [[1.0, 3.0], [7.0, 13.0]], "truncated": [1]}


def test_models_are_listed_in_the_order_of_the_command_line(service):
  listed = service("GET", "/v1/models").json
  assert listed["object"] == "list"
  assert [each["id"] for each in listed["data"]] == list(service_calls.all_predictors())
  assert listed["data"][0] == {
    "id": "reviews",
    "object": "model",
    "created": 0,
    "owned_by": "local",
    "task": "classifier",
    "labels": ["bad", "good"],
    "max_seq_length": 8,
    "engine": "onnxruntime",
    "kind": "one_label",
  }


# ---- Ids ----------------------------------------------------------------------------------------


def test_ids_give_raw_outputs_by_name(service):
  ids = {"input_ids": [1, 2, 3], "input_mask": [1, 1, 0], "segment_ids": [0, 1, 0]}
  assert service.predict("reviews", ids) == [{"logits": [3.0, 1.5]}]
  assert service.predict("squad", ids, {"input_ids": [4]}) == [
    {"start_logits": [1.0, 2.0, 0.0], "end_logits": [0.0, 1.0, 0.0]},
    {"start_logits": [4.0], "end_logits": [0.0]},
  ]
  assert service.predict("ner", ids) == [{"logits": [[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]}]
  assert service.predict("choice", ids) == [{"scores": 2.0}]
  (found,) = service.predict("encoder", ids)
  assert found == {"sequence_output": [[1, 1], [1, 1], [0, 0]], "pooled_output": [1, 1]}


def test_ids_of_a_masked_language_model_need_positions(service):
  (found,) = service.predict("masks", {"input_ids": [1, 2, 3], "masked_lm_positions": [1, 2]})
  assert np.shape(found["masked_lm_logits"]) == (2, 100)
  assert refusal(service, "masks", {"input_ids": [1]}) == (
    400,
    "instance 0 has no masked_lm_positions; its fields are input_ids, masked_lm_positions, "
    "input_mask, segment_ids",
  )


def refusal(service, name, *instances):
  """The status and the message for instances that are refused."""
  answer = service("POST", f"/v1/models/{name}:predict", {"instances": list(instances)})
  return answer.status, answer.json["error"]


@pytest.mark.parametrize(
  ("ids", "message"),
  [
    ({"input_ids": []}, "input_ids is empty"),
    ({"input_ids": "1"}, "input_ids must be a list of integers, not a string"),
    ({"input_ids": [100]}, "input_ids must be integers from 0 to 99"),
    ({"input_ids": [-1]}, "input_ids must be integers from 0 to 99"),
    ({"input_ids": [1.0]}, "input_ids must be integers from 0 to 99"),
    ({"input_ids": [True]}, "input_ids must be integers from 0 to 99"),
    ({"input_ids": [1] * 17}, "input_ids has 17 numbers, and the limit is 16"),
    (
      {"input_ids": [1, 2], "input_mask": [1]},
      "input_mask has 1 numbers, and input_ids has 2",
    ),
    (
      {"input_ids": [1, 2], "input_mask": [0, 1]},
      "input_mask must be 1 up to the padding, and 0 from there on",
    ),
    (
      {"input_ids": [1, 2], "input_mask": [0, 0]},
      "input_mask must be 1 up to the padding, and 0 from there on",
    ),
    ({"input_ids": [1], "segment_ids": [2]}, "segment_ids must be integers from 0 to 1"),
  ],
)
def test_ids_that_are_refused(service, ids, message):
  assert refusal(service, "reviews", ids) == (400, f"instance 0: {message}")


# ---- TensorFlow Serving -------------------------------------------------------------------------


def test_status_and_metadata_of_a_model(service):
  status = service("GET", "/v1/models/reviews").json
  assert status["model_version_status"] == [
    {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
  ]
  assert status == service("GET", "/v1/models/reviews/versions/1").json
  found = service("GET", "/v1/models/reviews/metadata").json
  assert found["model_spec"] == {"name": "reviews", "signature_name": "", "version": "1"}
  signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
  assert signature["inputs"]["input_ids"] == {
    "dtype": "DT_INT32",
    "tensor_shape": {
      "dim": [{"size": "-1", "name": ""}, {"size": "-1", "name": ""}],
      "unknown_rank": False,
    },
    "name": "input_ids:0",
  }
  assert set(signature["outputs"]) == {"logits", "probabilities"}


@pytest.mark.parametrize("name", service_calls.all_predictors())
def test_metadata_of_each_kind_of_model(service, name):
  answer = service("GET", f"/v1/models/{name}/versions/1/metadata")
  assert answer.status == 200
  signatures = answer.json["metadata"]["signature_def"]["signature_def"]
  assert signatures["serving_default"]["outputs"]
  assert signatures["text"]["inputs"]


def test_columns(service):
  body = {"signature_name": "serving_default", "inputs": ["good", "poor"]}
  answer = service("POST", "/v1/models/reviews/versions/1:predict", body).json
  assert answer["outputs"]["label"] == ["good", "bad"]
  assert answer["outputs"]["probabilities"][1] == {"bad": 0.75, "good": 0.25}
  body = {"inputs": {"question": ["Who?", "Who?"], "context": ["Ann.", "Bob."]}}
  assert service("POST", "/v1/models/squad:predict", body).json["outputs"]["answer"] == [
    "Ann.",
    "Bob.",
  ]
  body = {"inputs": {"input_ids": [[1, 2], [3, 4]]}}
  assert service("POST", "/v1/models/choice:predict", body).json == {"outputs": {"scores": [2, 2]}}
  body = {"inputs": {"text": ["one"]}}
  assert service("POST", "/v1/models/encoder:predict", body).json == {"outputs": [[1, 3]]}


def test_text_in_base64(service):
  text = {"b64": base64.b64encode(b"good").decode()}
  assert [each["label"] for each in service.predict("reviews", text, {"text": text})] == [
    "good"
  ] * 2


def test_many_instances_keep_their_order(service):
  texts = ["good" if number % 3 else "poor" for number in range(30)]
  found = [each["label"] for each in service.predict("reviews", *texts)]
  assert found == ["good" if text == "good" else "bad" for text in texts]


# ---- OpenAI and text-embeddings-inference -------------------------------------------------------


def embeddings(service, **body):
  return service("POST", "/v1/embeddings", {"model": "encoder", **body})


def test_embeddings(service):
  answer = embeddings(service, input=["one", "one two"]).json
  assert answer == {
    "object": "list",
    "model": "encoder",
    "data": [
      {"object": "embedding", "index": 0, "embedding": [1, 3]},
      {"object": "embedding", "index": 1, "embedding": [2, 7]},
    ],
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
  }
  assert embeddings(service, input="one").json["data"] == answer["data"][:1]


def test_embeddings_in_base64(service):
  found = embeddings(service, input="one", encoding_format="base64").json["data"][0]["embedding"]
  assert np.frombuffer(base64.b64decode(found), "<f4").tolist() == [1, 3]


def test_embeddings_of_token_ids(service):
  assert embeddings(service, input=[4, 5]).json["data"][0]["embedding"] == [2, 9]
  found = embeddings(service, input=[[4], [5, 6]]).json
  assert [each["embedding"] for each in found["data"]] == [[1, 4], [2, 11]]
  assert found["usage"]["prompt_tokens"] == 7


def test_a_cut_text_of_an_embedding_is_told(service):
  found = embeddings(service, input=["a b c d e f g", "a"]).json["data"]
  assert [each.get("truncated") for each in found] == [True, None]


@pytest.mark.parametrize(
  ("body", "status", "message"),
  [
    ({"input": "a", "dimensions": 1}, 400, "cannot be shortened"),
    ({"input": "a", "encoding_format": "int8"}, 400, "encoding_format must be float or base64"),
    ({"input": "a", "model": "reviews"}, 400, "gives no vectors"),
    ({"input": "a", "model": "gpt"}, 404, "there is no model of this name"),
    ({"input": "a", "model": 1}, 400, "model must be the name of a model"),
    ({}, 400, "input must be a string"),
    ({"input": []}, 400, "input must be a string"),
    ({"input": ""}, 400, "input is empty"),
    ({"input": ["a", " "]}, 400, "input 1 is empty"),
    ({"input": [1, "a"]}, 400, "input 0 must be a string, not a number"),
    ({"input": [100]}, 400, "input must be integers from 0 to 99"),
    ({"input": [1] * 7}, 400, "input has 7 numbers, and the limit is 6"),
  ],
)
def test_embeddings_that_are_refused(service, body, status, message):
  answer = embeddings(service, **body)
  error = answer.json["error"]
  assert (answer.status, error["type"]) == (status, "invalid_request_error")
  assert message in error["message"]
  assert set(error) == {"message", "type", "param", "code"}


def test_text_embeddings_inference(service):
  answer = service("POST", "/embed", {"inputs": "one two"}).json
  np.testing.assert_allclose(answer, [np.array([2, 7]) / np.sqrt(53)])
  answer = service("POST", "/embed", {"inputs": ["one", "two"], "normalize": False}).json
  assert answer == [[1, 3], [1, 3]]
  assert service("GET", "/info").json["max_input_length"] == 8
  assert service("GET", "/health").status == 200


def test_text_embeddings_inference_cuts_only_if_it_is_told_to(service):
  body = {"inputs": ["a", "a b c d e f g"]}
  answer = service("POST", "/embed", body)
  assert (answer.status, answer.json["error_type"]) == (413, "Validation")
  assert "input 1 has more word pieces than the limit, 8" in answer.json["error"]
  assert service("POST", "/embed", {**body, "truncate": True}).status == 200


def test_without_an_encoder_there_are_no_vectors():
  service = Service({"reviews": Classifier()})
  assert service("POST", "/embed", {"inputs": "a"}).status == 404
  assert "/embed" not in service("GET", "/openapi.json").json["paths"]


# ---- The service itself -------------------------------------------------------------------------


def test_state(service):
  assert service("GET", "/healthz").body == b"ok\n"
  assert service("GET", "/readyz").body == b"ready\n"
  state = {"is_stopping": lambda: True}
  answer = service("GET", "/readyz", state=state)
  assert (answer.status, answer.headers["connection"]) == (503, "close")


def test_the_description_has_each_path_that_is_served(service):
  paths = service("GET", "/openapi.json").json["paths"]
  for path, methods in paths.items():
    for method in methods:
      assert service(method.upper(), path, {}).status in (200, 400), path
  assert "/v1/models/squad:predict" in paths


def test_metrics_count_requests_and_instances(service):
  service.predict("reviews", "a", "b")
  service("GET", "/nothing")
  text = service("GET", "/metrics").body.decode()
  assert 'bert_requests_total{api="tensorflow_serving",status="200"} 1' in text
  assert 'bert_requests_total{api="other",status="404"} 1' in text
  assert 'bert_instances_total{model="reviews"} 2' in text
  assert 'bert_request_seconds_count{api="tensorflow_serving"} 1' in text


def test_the_page_allows_only_its_own_scripts_and_styles(service):
  answer = service("GET", "/")
  assert answer.headers["content-type"] == "text/html; charset=utf-8"
  policy = answer.headers["content-security-policy"]
  assert policy == page.policy(answer.body.decode())
  assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
  assert "unsafe" not in policy


def test_hashes_of_a_policy():
  found = page.policy("<style>p{}</style><script>\nf()</script><script type=module>g()</script>")
  assert "style-src 'sha256-gG2yISYereRMiG2lMXrbiUgi0Ubw9p7QCeWcroOvy9Y='" in found
  assert found.count("sha256-") == 3
  assert "script-src 'none'" in page.policy("<p>")


def test_each_answer_is_for_its_client_alone(service):
  for path in ("/", "/v1/models", "/nothing"):
    headers = service("GET", path).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


def test_no_text_of_a_request_is_logged(caplog, capsys):
  service = Service()
  caplog.set_level(logging.DEBUG)
  secret = "Hunter2"
  bodies = [
    {"instances": [f"{secret} good"]},
    {"instances": [f"{secret} BAD"]},  # the predictor's exception has the text
    {"instances": [{"text": secret, "colour": secret}]},
    {"instances": [secret] * 100},
    {secret: secret},
  ]
  statuses = [service("POST", "/v1/models/reviews:predict", body).status for body in bodies]
  assert statuses == [200, 500, 400, 413, 400]
  service("POST", "/v1/models/reviews:predict", f'{{"instances": ["{secret}'.encode())
  service("GET", f"/v1/models/{secret}?text={secret}")
  assert "A request has failed: ValueError" in caplog.text
  assert secret not in caplog.text
  output = capsys.readouterr()
  assert secret not in output.out + output.err


def test_an_answer_does_not_repeat_an_unknown_field(service):
  status, message = refusal(service, "reviews", {"text": "a", "colour": "b"})
  assert (status, "colour" in message) == (400, False)
