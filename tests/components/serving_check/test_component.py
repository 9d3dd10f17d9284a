"""The interface of ServingCheck."""

from __future__ import annotations

from tfx import types
from tfx.components import Pusher
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts

from components.serving_check.component import ServingCheck
from components.serving_check.executor import Executor


def test_stock_pusher_takes_its_blessing_in_place_of_a_model():
    component = ServingCheck(
        model=types.Channel(type=standard_artifacts.Model),
        examples=types.Channel(type=standard_artifacts.Examples),
        code_fingerprint="c0de",
    )
    assert component.executor_spec.executor_class is Executor
    assert component.exec_properties == {"timeout_seconds": 300, "code_fingerprint": "c0de"}
    pusher = Pusher(
        infra_blessing=component.outputs["blessing"],
        push_destination=pusher_pb2.PushDestination(
            filesystem=pusher_pb2.PushDestination.Filesystem(base_directory="serving")
        ),
    )
    assert pusher.inputs["infra_blessing"].type is standard_artifacts.InfraBlessing
