"""Devices that strategies use, the format of TF_CONFIG, and which process is the chief."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import tensorflow as tf

from storygan_tf.common.errors import ConfigError, TrainingError
from storygan_tf.config.schema import Settings, TrainConfig
from storygan_tf.training.distribution import (
    _STRATEGIES,
    check_devices,
    find_worker,
    is_chief,
    is_multi_worker,
    local_replica_ids,
    make_strategy,
    raise_worker_lost,
    worker_directory,
)

PROGRAM = Path(__file__).with_name("distribution_program.py")
ROOT = Path(__file__).parents[3]
ADDRESSES = ["host-0:2222", "host-1:2222", "host-2:2222"]


def tf_config(cluster, job="worker", index=0) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": job, "index": index}})}


# TF_CONFIG


def test_without_tf_config_there_are_no_workers():
    assert find_worker({}) is None
    assert find_worker({"TF_CONFIG": ""}) is None


@pytest.mark.parametrize(
    ("cluster", "job", "index", "count", "number", "chief"),
    [
        ({"worker": ADDRESSES}, "worker", 0, 3, 0, "host-0:2222"),
        ({"worker": ADDRESSES}, "worker", 2, 3, 2, "host-0:2222"),
        ({"chief": ADDRESSES[2:], "worker": ADDRESSES[:2]}, "chief", 0, 3, 0, "host-2:2222"),
        ({"chief": ADDRESSES[2:], "worker": ADDRESSES[:2]}, "worker", 1, 3, 2, "host-2:2222"),
        ({"worker": ["[::1]:80"]}, "worker", 0, 1, 0, "[::1]:80"),
    ],
)
def test_a_worker_is_read_from_tf_config(cluster, job, index, count, number, chief):
    worker = find_worker(tf_config(cluster, job, index))
    assert (worker.count, worker.number, worker.chief) == (count, number, chief)


def test_an_index_may_be_text_as_some_operators_write_it():
    assert find_worker(tf_config({"worker": ADDRESSES}, index="1")).number == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'cluster'"),
        (json.dumps({"cluster": {"worker": ADDRESSES}}), "KeyError: 'task'"),
        (tf_config({"worker": ADDRESSES}, index=3)["TF_CONFIG"], "cluster has no task 'worker' 3"),
        (tf_config({"worker": ADDRESSES}, index=-1)["TF_CONFIG"], "cluster has no task 'worker' -1"),
        (tf_config({"worker": ADDRESSES}, "chief")["TF_CONFIG"], "cluster has no task 'chief' 0"),
        (tf_config({"worker": ADDRESSES, "ps": ["a:1"]})["TF_CONFIG"], "jobs ps are not known"),
        (tf_config({"chief": ADDRESSES, "worker": ["a:1"]})["TF_CONFIG"], "more than one chief"),
        (tf_config({"worker": ["host-0"]})["TF_CONFIG"], "'host-0' is no host:port"),
    ],
)
def test_a_wrong_tf_config_is_refused_with_an_example(text, why):
    with pytest.raises(ConfigError) as raised:
        find_worker({"TF_CONFIG": text})
    assert why in str(raised.value)
    example = str(raised.value).partition("TF_CONFIG='")[2].partition("'")[0]
    assert find_worker({"TF_CONFIG": example}).count == 2


# Strategies


def test_every_strategy_of_the_configuration_can_be_made():
    names = typing.get_args(typing.get_type_hints(TrainConfig)["strategy"])
    assert set(names) == {"auto", *_STRATEGIES}


@pytest.fixture
def without_gpus():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has a GPU")


@pytest.mark.usefixtures("without_gpus")
@pytest.mark.parametrize("name", ["auto", "one-device"])
def test_without_gpus_one_device_is_used(name, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    (device,) = make_strategy(name).extended.worker_devices
    assert device.endswith("/device:CPU:0")


def test_a_tf_config_of_one_worker_does_not_make_auto_wait_for_others(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config({"worker": ADDRESSES[:1]})["TF_CONFIG"])
    assert isinstance(make_strategy("auto"), tf.distribute.OneDeviceStrategy)


@pytest.mark.usefixtures("without_gpus")
def test_without_gpus_all_logical_cpus_are_mirrored():
    cpus = len(tf.config.list_logical_devices("CPU"))
    assert make_strategy("mirrored").num_replicas_in_sync == cpus


def test_several_workers_need_tf_config(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match=r"strategy=multi-worker: TF_CONFIG is not set; .*\"type\": \"worker\""):
        make_strategy("multi-worker")


@pytest.mark.parametrize("name", ["auto", "multi-worker"])
def test_workers_that_connect_too_late_are_pointed_to_storygan_train(name, monkeypatch):
    tf.constant(1) + 1
    monkeypatch.setenv("TF_CONFIG", tf_config({"worker": ["127.0.0.1:1", "127.0.0.1:2"]})["TF_CONFIG"])
    with pytest.raises(TrainingError, match=r"must be configured at program startup.*storygan train"):
        make_strategy(name)


@pytest.fixture(scope="module")
def found():
    """Returns what a new process reports as the only worker."""
    config = tf_config({"worker": ["127.0.0.1:0"]})
    environment = os.environ | config | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TPU_NAME", None)
    done = subprocess.run([sys.executable, "-W", "ignore", PROGRAM], env=environment, capture_output=True, text=True)
    assert done.stdout, done.stderr[-3000:]
    return json.loads(done.stdout) | {"end": done.returncode}


def test_a_cluster_of_one_worker_has_a_chief(found):
    assert found["multi_worker"]
    assert found["chief"]
    assert found["own_folder"]
    assert found["replicas"] == 1


def test_sigterm_works_as_before_and_is_not_kept_by_tensorflow(found):
    assert found["end"] == -signal.SIGTERM


def test_a_lost_worker_is_distinguished_from_other_errors(found):
    kind, text = found["lost"]
    assert kind == "WorkerLostError"
    assert "does not answer (worker 1 is down). Start all workers again" in text
    assert found["own"] == ["InvalidArgumentError", "a wrong shape"]


def test_without_a_tpu_the_error_says_how_to_name_one(found):
    kind, text = found["tpu"]
    assert kind == "ConfigError"
    assert "training.strategy=tpu: no TPU 'local' was found" in text
    assert "TPU_NAME" in text


def test_xla_on_several_cpu_devices_is_refused():
    strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"])
    check_devices(Settings(), strategy)
    with pytest.raises(ConfigError, match=r"training\.xla: found true with 2 replicas.*training\.strategy=one-device"):
        check_devices(Settings().override(["training.xla=true"]), strategy)


# One process


def test_a_single_process_is_the_chief_and_writes_to_the_given_directory(tmp_path):
    strategy = make_strategy("one-device")
    assert is_chief(strategy)
    assert not is_multi_worker(strategy)
    assert worker_directory(strategy, tmp_path) == tmp_path


def test_a_single_process_loses_no_workers():
    error = tf.errors.UnavailableError(None, None, "Collective ops is aborted by: something else")
    with pytest.raises(tf.errors.UnavailableError), raise_worker_lost(make_strategy("one-device")):
        raise error


@pytest.mark.parametrize(
    ("pipelines", "number", "expected"), [(1, 0, range(6)), (2, 0, range(3)), (2, 1, range(3, 6)), (6, 4, range(4, 5))]
)
def test_an_input_pipeline_is_for_its_replicas_in_turn(pipelines, number, expected):
    assert local_replica_ids(tf.distribute.InputContext(pipelines, number, 6)) == expected
