"""What a container of a kubeflow-v1 workflow runs: TFX's entry point, and what that leaves out.

TFX's own ends well where a step was skipped for want of inputs, or could not find them: the workflow would go on and
end well without a model. Here that is a failure, which the workflow runs again as its settings say. What failed is told
in the log's last line.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence

from google.protobuf import json_format
from ml_metadata import metadata_store
from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration.kubeflow import container_entrypoint
from tfx.orchestration.kubeflow.proto import kubeflow_pb2

from storygan_tf.common.errors import StoryGANError

RUN = "WORKFLOW_ID"
"""Variable that holds the name of the workflow, by which ML Metadata knows the run."""

_SUCCEEDED = (metadata_store_pb2.Execution.COMPLETE, metadata_store_pb2.Execution.CACHED)


class StepNotRunError(StoryGANError):
    """A step did not run; ML Metadata has no complete execution of it in this run."""


def main(argv: Sequence[str]) -> int:
    """Runs a step, and returns the exit code.

    Args:
        argv: as `tfx.orchestration.kubeflow.container_entrypoint` takes them.
    """
    try:
        container_entrypoint.main(argv)
        _check_ran(argv)
    except Exception as error:
        logging.exception("the step failed")
        reason = error if isinstance(error, StoryGANError) else f"{type(error).__name__}: {error}"
        print(f"storygan: step {_arguments(argv).node_id} failed. {reason}", file=sys.stderr, flush=True)
        return 1
    return 0


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Returns those arguments that say which step of which pipeline this is."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for name in ("--node_id", "--tfx_ir", "--kubeflow_metadata_config"):
        parser.add_argument(name, default="")
    return parser.parse_known_args(argv)[0]


def _check_ran(argv: Sequence[str]) -> None:
    """Raises StepNotRunError where ML Metadata does not know that the step succeeded in this run."""
    arguments = _arguments(argv)
    pipeline, run = json.loads(arguments.tfx_ir)["pipelineInfo"]["id"], os.environ[RUN]
    store = metadata_store.MetadataStore(_connection(arguments.kubeflow_metadata_config))
    states = [
        {execution.id: execution.last_known_state for execution in store.get_executions_by_context(context.id)}
        for context in (
            store.get_context_by_type_and_name("pipeline_run", run),
            store.get_context_by_type_and_name("node", f"{pipeline}.{arguments.node_id}"),
        )
        if context
    ]
    ended = [states[0][execution] for execution in set.intersection(*map(set, states))] if len(states) == 2 else []
    if not any(state in _SUCCEEDED for state in ended):
        told = ", ".join(map(metadata_store_pb2.Execution.State.Name, ended)) or "none"
        raise StepNotRunError(
            f"ML Metadata has no complete execution of it in the run {run} (found: {told}); its inputs were not there. "
            "Look at what the steps before it left."
        )


def _connection(config: str) -> metadata_store_pb2.MetadataStoreClientConfig:
    parsed = json_format.Parse(config, kubeflow_pb2.KubeflowMetadataConfig())
    return container_entrypoint._get_metadata_connection_config(parsed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
