"""TF_CONFIG from the environment variables of a pod of an Indexed Job."""

from __future__ import annotations

import json

import pytest

from storygan_tf.common.errors import ConfigError
from storygan_tf.training.distribution import find_worker
from storygan_tf.training.indexed_job import tf_config

POD = {
    "STORYGAN_WORKERS": "3",
    "STORYGAN_JOB": "blocks",
    "STORYGAN_SERVICE": "workers",
    "STORYGAN_PORT": "2222",
    "JOB_COMPLETION_INDEX": "2",
}


def test_a_pod_finds_the_others_by_index_and_service():
    assert json.loads(tf_config(POD)) == {
        "cluster": {"worker": ["blocks-0.workers:2222", "blocks-1.workers:2222", "blocks-2.workers:2222"]},
        "task": {"type": "worker", "index": 2},
    }


def test_a_training_reads_it():
    worker = find_worker({"TF_CONFIG": tf_config(POD)})
    assert (worker.count, worker.number, worker.chief) == (3, 2, "blocks-0.workers:2222")


@pytest.mark.parametrize("environment", [{}, {"JOB_COMPLETION_INDEX": "1"}, POD | {"STORYGAN_WORKERS": ""}])
def test_elsewhere_there_is_none(environment):
    assert tf_config(environment) is None


@pytest.mark.parametrize("name", sorted(set(POD) - {"STORYGAN_WORKERS"}))
def test_a_missing_variable_is_named_with_who_sets_it(name):
    with pytest.raises(ConfigError, match=f"{name} is not set, but STORYGAN_WORKERS is.*sets it"):
        tf_config({key: value for key, value in POD.items() if key != name})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("STORYGAN_WORKERS", "0", "found '0', expected a whole number from 1 on"),
        ("STORYGAN_WORKERS", "two", "found 'two', expected a whole number"),
        ("STORYGAN_PORT", "-1", "found '-1', expected a whole number from 1 on"),
        ("JOB_COMPLETION_INDEX", "1.0", "found '1.0', expected a whole number from 0 on"),
        ("JOB_COMPLETION_INDEX", "3", "found 3, expected less than STORYGAN_WORKERS=3"),
    ],
)
def test_a_wrong_variable_is_named(name, value, words):
    with pytest.raises(ConfigError) as raised:
        tf_config(POD | {name: value})
    assert str(raised.value).startswith(f"{name}: {words}")
