"""`pipeline.cluster.step_v1`: what it makes of how TFX's entry point ended, told by a metadata service.

TFX's entry point itself runs in `test_kubeflow_v1.py`; here it is replaced by how it may end.
"""

from __future__ import annotations

import json

import pytest
from metadata_server import metadata_service
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2 as proto
from tfx.orchestration.kubeflow import container_entrypoint

from pipeline.cluster import step_v1
from storygan_tf.common.errors import DataError


@pytest.fixture
def store(tmp_path, monkeypatch):
    with metadata_service(tmp_path / "metadata.sqlite") as port:
        monkeypatch.setenv("SERVICE_PORT", str(port))
        monkeypatch.setenv(step_v1.RUN, "storygan-abc")
        yield metadata_store.MetadataStore(proto.MetadataStoreClientConfig(host="localhost", port=port))


@pytest.fixture
def ends(monkeypatch):
    """Makes TFX's entry point end as an error, or well."""

    def ends(error: Exception | None = None) -> None:
        def main(argv: list[str]) -> None:
            if error:
                raise error

        monkeypatch.setattr(container_entrypoint, "main", main)

    return ends


def arguments(step: str = "SchemaGen") -> list[str]:
    config = {
        "grpc_config": {
            "grpc_service_host": {"value": "localhost"},
            "grpc_service_port": {"environment_variable": "SERVICE_PORT"},
        }
    }
    pipeline = {"pipelineInfo": {"id": "storygan"}}
    return [
        *("--pipeline_root", "/mnt/root", "--kubeflow_metadata_config", json.dumps(config)),
        *("--node_id", step, "--tfx_ir", json.dumps(pipeline)),
    ]


def record(store: metadata_store.MetadataStore, state: str, step: str = "SchemaGen", run: str = "storygan-abc") -> None:
    """Writes what TFX's launcher writes of an execution."""
    contexts = []
    for kind, name in (("pipeline_run", run), ("node", f"storygan.{step}")):
        type_id = store.put_context_type(proto.ContextType(name=kind))
        known = store.get_context_by_type_and_name(kind, name)
        contexts.append(known or proto.Context(type_id=type_id, name=name))
    type_id = store.put_execution_type(proto.ExecutionType(name=step))
    execution = proto.Execution(type_id=type_id, last_known_state=proto.Execution.State.Value(state))
    store.put_execution(execution, [], contexts)


@pytest.mark.parametrize("state", ["COMPLETE", "CACHED"])
def test_a_step_that_ran_ends_well(store, ends, state):
    ends()
    record(store, state)
    assert step_v1.main(arguments()) == 0


@pytest.mark.parametrize(("state", "told"), [("FAILED", "FAILED"), ("RUNNING", "RUNNING"), (None, "none")])
def test_a_step_that_did_not_run_fails(store, ends, capsys, state, told):
    ends()
    if state:
        record(store, state)
    assert step_v1.main(arguments()) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("storygan: step SchemaGen failed. ML Metadata has no complete execution of it in the run ")
    assert f"(found: {told})" in last


def test_other_steps_and_other_runs_do_not_count(store, ends):
    ends()
    record(store, "COMPLETE", step="Transform")
    record(store, "COMPLETE", run="storygan-xyz")
    assert step_v1.main(arguments()) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            DataError("data folder /mnt/stories: found no stories in it."),
            "data folder /mnt/stories: found no stories in it.",
        ),
        (ValueError("beam: broken pipe"), "ValueError: beam: broken pipe"),
    ],
)
def test_what_failed_is_told_in_the_last_line(ends, capsys, error, told):
    ends(error)
    assert step_v1.main(arguments()) == 1
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"storygan: step SchemaGen failed. {told}"
