"""REST: the row and column formats, status, metadata, metrics, and what is wrong with a body."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest


@pytest.fixture(scope="module")
def server(small_model, start_server, tmp_path_factory):
    monitoring = tmp_path_factory.mktemp("config") / "monitoring.config"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    with start_server(model_base_path=str(small_model.parent), monitoring_config_file=str(monitoring)) as running:
        yield running


def ask(server, path, body=None):
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(f"{server.url}{path}", data, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


PREDICT = "/v1/models/half:predict"


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"instances": [2.0, 3]}, {"predictions": [{"twice": 4.0, "y": 3.0}, {"twice": 6.0, "y": 3.5}]}),
        ({"inputs": [2.0, 3]}, {"outputs": {"twice": [4.0, 6.0], "y": [3.0, 3.5]}}),
        ({"instances": [{"x": 0.2}]}, {"predictions": [{"twice": 0.4, "y": 2.1}]}),
        ({"signature_name": "add", "instances": [{"a": [1, 2], "b": 3}]}, {"predictions": [6.0]}),
        ({"signature_name": "add", "inputs": {"a": [[1, 2]], "b": [3]}}, {"outputs": [6.0]}),
        (
            {"signature_name": "shout", "instances": ["gr\u00fc\u00df", {"b64": "Yg=="}]},
            {
                "predictions": [
                    {"raw_bytes": {"b64": "Z3LDvMOf"}, "upper": "GR\u00fc\u00df"},
                    {"raw_bytes": {"b64": "Yg=="}, "upper": "B"},
                ]
            },
        ),
    ],
)
def test_predictions(server, body, answer):
    assert ask(server, PREDICT, body) == (200, answer)


@pytest.mark.parametrize("version", ["/versions/1", ""])
def test_status_and_metadata(server, version):
    entry = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert ask(server, f"/v1/models/half{version}") == (200, {"model_version_status": [entry]})
    status, metadata = ask(server, f"/v1/models/half{version}/metadata")
    assert status == 200
    assert metadata["model_spec"] == {"name": "half", "signature_name": "", "version": "1"}
    assert metadata["metadata"]["signature_def"]["signature_def"]["add"]["inputs"]["b"]["dtype"] == "DT_INT64"


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        (PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        (PREDICT, b"{", 400, "JSON Parse error: "),
        (PREDICT, b"\xff", 400, "JSON Parse error: Invalid encoding in string. at offset: 0"),
        (PREDICT, b"[" * 10**5, 400, "JSON Parse error: "),
        (PREDICT, b'{"instances": ' + b"[" * 970 + b"]" * 970 + b"}", 400, ""),
        (PREDICT, b'{"instances": [' + b"9" * 400 + b"]}", 400, "Type: Number is not of expected type: float"),
        (PREDICT, b"[]", 400, "JSON Value: [] Is not object"),
        (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (PREDICT, {"inputs": 1, "instances": [1]}, 400, "expecting only one of 'inputs' or 'instances'"),
        (PREDICT, {"instances": 1}, 400, "Expecting 'instances' to be an list/array"),
        (PREDICT, {"instances": []}, 400, "No values in 'instances' array"),
        (PREDICT, {"instances": [1.0, [2.0]]}, 400, "Encountered list at unexpected level: 1 expected < 1"),
        (PREDICT, {"instances": [1.0, {"x": 2.0}]}, 400, "Expecting value/list but got object at item 1"),
        (PREDICT, {"instances": [{"z": 2.0}]}, 400, "keys must be equal to: x"),
        (PREDICT, {"instances": ["a"]}, 400, 'JSON Value: "a" Type: String is not of expected type: float'),
        (PREDICT, {"instances": [None]}, 400, "JSON Value: null Type: Null"),
        (PREDICT, {"signature_name": 1, "inputs": 1}, 400, "'signature_name' key must be a string value"),
        (PREDICT, {"signature_name": "z", "inputs": 1}, 400, 'Serving signature name: "z" not found in signature def'),
        (PREDICT, {"signature_name": "shout", "inputs": [{"b64": "!"}]}, 400, "Unable to base64 decode"),
        (PREDICT, {"signature_name": "add", "inputs": {"a": [[1]]}}, 400, "Missing named input: b in 'inputs' object."),
        (PREDICT, {"signature_name": "add", "inputs": {"a": [[1], [1, 2]], "b": [1]}}, 400, "at unexpected size: 2"),
        (
            PREDICT,
            {"signature_name": "add", "inputs": {"a": [[1]], "b": [2**63]}},
            400,
            "is not of expected type: int64",
        ),
        ("/v1/models/m:predict", {"inputs": 1}, 404, "Servable not found for request: Latest(m)"),
        ("/v1/models/half/versions/7:predict", {"inputs": 1}, 404, "Specific(half, 7)"),
        ("/v1/models/half/versions/" + "7" * 5000 + ":predict", {"inputs": 1}, 400, "Failed to convert version: 777"),
        ("/v1/models/half/labels/x:predict", {"inputs": 1}, 400, "Unrecognized servable version label: x"),
        ("/v1/models/half:classify", {"examples": []}, 501, "classify is not implemented"),
        ("/v1/models/m", None, 404, "Could not find any versions of model m"),
        ("/v1/models", None, 400, "Missing model name in request."),
        ("/v1/nonsense", None, 400, "Malformed request: GET /v1/nonsense"),
    ],
)
def test_bad_requests(server, path, body, status, text):
    answered, answer = ask(server, path, body)
    assert answered == status
    assert text in answer["error"]


def test_a_deadline_ends_a_run(small_model, start_server):
    with start_server(model_base_path=str(small_model.parent), rest_api_timeout_in_ms=300) as server:
        status, answer = ask(server, PREDICT, {"signature_name": "slow", "inputs": [10**9]})
    assert status == 504, answer


def test_prometheus_counts_answers_by_model_and_status(server):
    ask(server, PREDICT, {"instances": [1.0]})
    ask(server, "/v1/models/half/versions/7:predict", {"inputs": 1})
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=120) as response:
        page = response.read().decode()
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert ':tensorflow:serving:request_count{model_name="half",status="OK"}' in page
    assert ':tensorflow:serving:request_count{model_name="half",status="NOT_FOUND"}' in page
    assert ':tensorflow:serving:request_latency_count{API="Predict",entrypoint="REST",model_name="half"}' in page
    assert ':tensorflow:serving:runtime_latency_bucket{API="Predict",le="18.0",model_name="half",runtime="TF1"}' in page
    assert "_total" not in page
