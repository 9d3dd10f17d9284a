"""A server that is asked without a pause keeps its memory.

The short form takes half a minute, `STORYGAN_SOAK_MINUTES=30` so many. Instead of the local server, which serves the
pretrained model with batching, a real one is asked with `STORYGAN_SERVING_TARGET=host:port` and `STORYGAN_SERVING_PID`
(docs/serving.md, Load and faults).
"""

from __future__ import annotations

import collections
import os
import random
import threading
import time

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

MINUTES = float(os.environ.get("STORYGAN_SOAK_MINUTES", "0.5"))

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600 + 60 * MINUTES)]

CALLERS = 4
SAMPLES = 40
FLAT = 1.05
"""Memory of the last quarter, beside that of the second: the first fills pools and caches."""


class Caller:
    """Asks this and that, good and bad, and counts what came that was not expected."""

    def __init__(self, server, channel: grpc.Channel, seed: int) -> None:
        self.server = server
        self.chance = random.Random(seed)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.stories = server.stories
        self.asked = 0
        self.wrong: collections.Counter[str] = collections.Counter()

    def until(self, end: float) -> None:
        kinds = [self.good] * 6 + [self.blank, self.too_short, self.unknown, self.told]
        while time.monotonic() < end:
            self.chance.choice(kinds)()
            self.asked += 1

    def expect(self, status: str, made: predict_pb2.PredictRequest, errors=()) -> None:
        try:
            answer = self.predictions.Predict(made, 60)
        except grpc.RpcError as error:
            if error.code().name != status:
                self.wrong[f"{error.code().name}: {error.details()}"] += 1
            return
        if status != "OK" or [bool(error) for error in answer.outputs["error"].string_val] != list(errors):
            self.wrong[str(answer.outputs["error"].string_val)] += 1

    def good(self) -> None:
        rows = self.chance.choice([1, 1, 1, 4])
        stories = [self.chance.choice(self.stories) for _ in range(rows)]
        seeds = np.array([self.chance.randrange(2**40) for _ in range(rows)], np.int64)
        self.expect("OK", self.server.request("generate", sentences=stories, seed=seeds), [False] * rows)

    def blank(self) -> None:
        stories = [self.stories[0], [""] * len(self.stories[0])]
        self.expect("OK", self.server.request("generate", sentences=stories, seed=np.arange(2)), [False, True])

    def too_short(self) -> None:
        """Of another signature than the good ones, whose batches it would fail."""
        self.expect("INVALID_ARGUMENT", self.server.request("serving_default", sentences=[self.stories[0][:1]]))

    def unknown(self) -> None:
        self.expect("FAILED_PRECONDITION", self.server.request(f"signature {self.chance.random()}"))

    def told(self) -> None:
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        metadata.model_spec.name = "storygan"
        assert self.predictions.GetModelMetadata(metadata, 60).metadata
        status = get_model_status_pb2.GetModelStatusRequest(model_spec=metadata.model_spec)
        assert self.models.GetModelStatus(status, 60).model_version_status


def test_memory_is_flat(prove, deployed_batching):
    with prove(*deployed_batching) as server, grpc.insecure_channel(server.target) as channel:
        callers = [Caller(server, channel, seed) for seed in range(CALLERS)]
        end = time.monotonic() + 60 * MINUTES
        threads = [threading.Thread(target=caller.until, args=(end,)) for caller in callers]
        for thread in threads:
            thread.start()
        sizes = []
        for _ in range(SAMPLES):
            time.sleep(60 * MINUTES / SAMPLES)
            sizes.append(server.memory())
        for thread in threads:
            thread.join()
    quarters = [float(np.mean(quarter)) for quarter in np.split(np.array(sizes), 4)]
    told = ", ".join(f"{size:.0f}" for size in quarters)
    print(f"\n{sum(caller.asked for caller in callers)} requests within {MINUTES} minutes; MB by quarter: {told}")
    assert not sum((caller.wrong for caller in callers), collections.Counter())
    assert quarters[3] <= FLAT * quarters[1]
