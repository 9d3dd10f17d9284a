"""Requests over gRPC, good and bad: the answers and messages are TensorFlow Serving's."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    predict_pb2,
)


@pytest.fixture(scope="module")
def server(small_model, start_server):
    with start_server(model_base_path=str(small_model.parent)) as running:
        yield running


def request(name="half", signature="", version=None, label=None, outputs=(), **inputs):
    message = predict_pb2.PredictRequest(output_filter=outputs)
    message.model_spec.name = name
    message.model_spec.signature_name = signature
    if version is not None:
        message.model_spec.version.value = version
    if label is not None:
        message.model_spec.version_label = label
    for key, value in inputs.items():
        proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
        message.inputs[key].CopyFrom(proto)
    return message


X = np.array([2.0, 3.0], np.float32)


def test_a_prediction_names_model_and_signature_and_uses_the_fields_of_its_type(server):
    with server.predictions() as stub:
        response = stub.Predict(request(x=X), 120)
    assert (response.model_spec.name, response.model_spec.version.value) == ("half", 1)
    assert response.model_spec.signature_name == "serving_default"
    assert list(response.outputs["y"].float_val) == [3.0, 3.5]
    assert list(response.outputs["twice"].float_val) == [4.0, 6.0]


def test_only_the_requested_outputs_are_returned(server):
    with server.predictions() as stub:
        assert set(stub.Predict(request(x=X, outputs=["y"]), 120).outputs) == {"y"}


NO_DTYPE = tensor_pb2.TensorProto(dtype=0)
NEGATIVE = tf.make_tensor_proto(X)
NEGATIVE.tensor_shape.dim[0].size = -3
HUGE = tf.make_tensor_proto(X)
HUGE.tensor_shape.dim[0].size = 2**60
SHORT = tensor_pb2.TensorProto(dtype=tf.float32.as_datatype_enum, tensor_content=b"abc")
SHORT.tensor_shape.dim.add().size = 2


@pytest.mark.parametrize(
    ("bad", "code", "text"),
    [
        (predict_pb2.PredictRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
        (request(name="", x=X), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
        (request(name="m", x=X), "NOT_FOUND", "Servable not found for request: Latest(m)"),
        (request(version=7, x=X), "NOT_FOUND", "Servable not found for request: Specific(half, 7)"),
        (request(label="x", x=X), "INVALID_ARGUMENT", "Unrecognized servable version label: x"),
        (request(signature="x", x=X), "FAILED_PRECONDITION", 'Serving signature key "x" not found.'),
        (
            request(signature="add", a=[[1.0]]),
            "INVALID_ARGUMENT",
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). Sent extra: {}. "
            "Missing but required: {b}.",
        ),
        (
            request(z=X),
            "INVALID_ARGUMENT",
            "Signature input alias: x(feed name: serving_default_x:0) not found in request and no default value "
            "provided",
        ),
        (request(x=NO_DTYPE), "INVALID_ARGUMENT", "tensor parsing error: x"),
        (request(x=NEGATIVE), "INVALID_ARGUMENT", "tensor parsing error: x"),
        (request(x=HUGE), "INVALID_ARGUMENT", "tensor parsing error: x"),
        (request(x=SHORT), "INVALID_ARGUMENT", "tensor parsing error: x"),
        (request(x=[b"text"]), "INVALID_ARGUMENT", "Expects arg[0] to be float but string is provided"),
        (request(x=X, outputs=["z"]), "INVALID_ARGUMENT", "output tensor alias not found in signature: z"),
        (request(x=X, outputs=["y", "y"]), "INVALID_ARGUMENT", "duplicate output tensor alias: y"),
    ],
)
def test_bad_requests(server, bad, code, text):
    with server.predictions() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Predict(bad, 120)
    assert (caught.value.code().name, caught.value.details()[: len(text)]) == (code, text)


def test_bytes_that_are_no_message(server):
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(b"\xff", timeout=120)
    assert (caught.value.code().name, caught.value.details()[:27]) == ("INTERNAL", "Failed to parse the request")


@pytest.mark.parametrize("letter", ["s", "\u00fc", "\U0001f3a8"])
def test_long_messages_are_cut(server, letter):
    """Messages are cut by their size in bytes, because gRPC rejects a status of more than 8 kB."""
    with server.predictions() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request(signature=letter * 2000, x=X), 120)
    assert caught.value.code().name == "FAILED_PRECONDITION"
    details = caught.value.details()
    assert details.endswith("...TRUNCATED")
    assert 1020 < len(details.removesuffix("...TRUNCATED").encode()) <= 1024


def test_a_deadline_ends_a_run(server):
    """A run of hours is ended, as otherwise the server, which waits for its threads, could not stop at the end."""
    with server.predictions() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Predict(request(signature="slow", n=np.array([10**9])), 0.5)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    with server.predictions() as stub:
        stub.Predict(request(x=X), 120)


def test_other_methods_say_that_they_are_not_here(server):
    with server.predictions() as stub, pytest.raises(grpc.RpcError) as caught:
        stub.Classify(classification_pb2.ClassificationRequest(), 120)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert "use Predict" in caught.value.details()


def test_metadata_has_signatures_and_refuses_other_fields(server):
    message = get_model_metadata_pb2.GetModelMetadataRequest()
    with server.predictions() as stub:
        for fields, text in (([], "must specify at least one metadata_field"), (["x"], "Metadata field x is not")):
            message.model_spec.name = "half"
            message.metadata_field[:] = fields
            with pytest.raises(grpc.RpcError, match=text):
                stub.GetModelMetadata(message, 120)
        message.metadata_field[:] = ["signature_def"]
        answer = stub.GetModelMetadata(message, 120)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["add"].inputs["b"].dtype == tf.int64.as_datatype_enum
    assert answer.model_spec.version.value == 1


def test_status_of_models_and_versions(server):
    message = get_model_status_pb2.GetModelStatusRequest()
    with server.models() as stub:
        with pytest.raises(grpc.RpcError, match="Missing ModelSpec"):
            stub.GetModelStatus(message, 120)
        message.model_spec.name = "m"
        with pytest.raises(grpc.RpcError, match="Could not find any versions of model m"):
            stub.GetModelStatus(message, 120)
        message.model_spec.name = "half"
        (version,) = stub.GetModelStatus(message, 120).model_version_status
        assert (version.version, version.state, version.status.error_code) == (1, version.AVAILABLE, 0)
        message.model_spec.version.value = 9
        with pytest.raises(grpc.RpcError, match="Could not find version 9 of model half"):
            stub.GetModelStatus(message, 120)


def test_a_configuration_that_cannot_be_served_changes_nothing(server, small_model):
    message = model_management_pb2.ReloadConfigRequest()
    with server.models() as stub:
        with pytest.raises(grpc.RpcError, match="Only ModelConfigList is currently supported"):
            stub.HandleReloadConfigRequest(message, 120)
        model = {"name": "half", "base_path": str(small_model.parent), "model_platform": "tensorflow"}
        message.config.model_config_list.config.add(**model, version_labels={"stable": 3})
        with pytest.raises(grpc.RpcError, match="Request to assign label to version 3 of model half, which is not"):
            stub.HandleReloadConfigRequest(message, 120)
        message.config.model_config_list.config.add(**model)
        with pytest.raises(grpc.RpcError, match="Illegal to list model half multiple times in config list"):
            stub.HandleReloadConfigRequest(message, 120)
    with server.predictions() as stub:
        stub.Predict(request(x=X), 120)


@pytest.mark.parametrize("name", ["", "ModelService", "PredictionService"])
def test_health(server, name):
    with grpc.insecure_channel(server.target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=120)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_the_services(server):
    with grpc.insecure_channel(server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        message = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([message]), timeout=120)
    names = {service.name for service in answer.list_services_response.service}
    assert {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"} <= names
