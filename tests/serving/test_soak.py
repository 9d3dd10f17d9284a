"""A server under load without a pause: each request gets what it should, and the memory is flat.

The short form takes half a minute and prints the memory. With `STORYGAN_SOAK_MINUTES=30` it takes so many, and the
memory is asserted, too. By default the local server serves the pretrained model with batching.
`STORYGAN_SERVING_TARGET=host:port` and `STORYGAN_SERVING_PID` name a real server (docs/serving.md, Load and faults).
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
"""Bound of the last quarter's memory relative to the second's; in the first, pools and caches are filled."""

FULL_MINUTES = 10
"""From so many minutes on the memory is asserted. That of a short run is mostly caches and noise."""


class Caller:
    """Sends requests of all kinds, good and bad, and counts unexpected responses."""

    def __init__(self, server, channel: grpc.Channel, seed: int) -> None:
        self.server = server
        self.chance = random.Random(seed)
        self.predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(channel)
        self.stories = server.stories
        self.requests = 0
        self.wrong: collections.Counter[str] = collections.Counter()

    def until(self, end: float) -> None:
        kinds = [self.good] * 6 + [self.blank, self.too_short, self.unknown, self.metadata_and_status]
        while not self.requests or time.monotonic() < end:
            self.chance.choice(kinds)()
            self.requests += 1

    def expect(self, status: str, request: predict_pb2.PredictRequest, errors=()) -> None:
        try:
            answer = self.predictions.Predict(request, 300)
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
        """Has another signature than the good requests, because it fails its whole batch."""
        self.expect("INVALID_ARGUMENT", self.server.request("serving_default", sentences=[self.stories[0][:1]]))

    def unknown(self) -> None:
        self.expect("FAILED_PRECONDITION", self.server.request(f"signature {self.chance.random()}"))

    def metadata_and_status(self) -> None:
        metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        metadata.model_spec.name = "storygan"
        assert self.predictions.GetModelMetadata(metadata, 300).metadata
        status = get_model_status_pb2.GetModelStatusRequest(model_spec=metadata.model_spec)
        assert self.models.GetModelStatus(status, 300).model_version_status


def test_every_request_gets_its_answer_and_memory_is_flat(prove, deployed_batching):
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
    sizes_text = ", ".join(f"{size:.0f}" for size in quarters)
    count = sum(caller.requests for caller in callers)
    print(f"\n{count} requests within {MINUTES} minutes; MB by quarter: {sizes_text}")
    assert not sum((caller.wrong for caller in callers), collections.Counter())
    if MINUTES >= FULL_MINUTES:
        assert quarters[3] <= FLAT * quarters[1]
