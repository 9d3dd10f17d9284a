"""Versions: what is found, loaded, kept, retried, replaced, labelled. The models are fakes, the folders real.

Events order what happens: no test relies on how long anything takes.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.local_server.manager import LoadOptions, Manager
from serving.local_server.status import StatusError, invalid
from serving.local_server.versions import find_versions

STATES = get_model_status_pb2.ModelVersionStatus.State


class FakeServable:
    """A model whose loading reads a file and waits until the `gate` is open; it fails if the file says `bad`."""

    def __init__(self, path: Path) -> None:
        text = (path / "saved_model.pb").read_text()
        self.reads.append(text)
        self.gate.wait()
        if text == "bad":
            raise invalid("damaged")
        self.text, self.open = text, True

    gate = threading.Event()
    reads: list[str] = []  # noqa: RUF012

    def close(self) -> None:
        self.open = False


@pytest.fixture(autouse=True)
def open_gate():
    FakeServable.gate.set()
    FakeServable.reads.clear()


def write(base: Path, name: str, text: str = "good") -> None:
    incomplete = base / f"tmp-{name}"
    incomplete.mkdir(parents=True)
    (incomplete / "saved_model.pb").write_text(text)
    incomplete.rename(base / name)


def config(base: Path, more: str = "") -> model_server_config_pb2.ModelServerConfig:
    text = f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" {more} }} }}'
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def make_manager(**options) -> Manager:
    defaults = {"load_retry_interval_micros": 50_000, "max_num_load_retries": 2, "file_system_poll_wait_seconds": 0.02}
    return Manager(FakeServable, LoadOptions(**defaults | options))


def spec(**choice) -> model_pb2.ModelSpec:
    message = model_pb2.ModelSpec(name="m")
    if "version" in choice:
        message.version.value = choice["version"]
    if "label" in choice:
        message.version_label = choice["label"]
    return message


def states(models: Manager) -> dict[int, str]:
    """Returns the states of the versions; none before the model is configured."""
    try:
        response = models.status(spec())
    except StatusError:
        return {}
    return {entry.version: STATES.Name(entry.state) for entry in response.model_version_status}


async def until(condition) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not come to that within 120 s"
        await asyncio.sleep(0.01)


def run(scenario, **options) -> None:
    """Runs a scenario of a manager that polls the file system."""

    async def main() -> None:
        models = make_manager(**options)
        polling = asyncio.create_task(models.poll())
        try:
            await scenario(models)
        finally:
            polling.cancel()
            FakeServable.gate.set()
            await models.close()

    asyncio.run(main())


def test_integer_names_are_versions_and_the_policy_chooses(tmp_path):
    for name in ("1", "00000012", "x", "3.tmp", "-", "9"):
        (tmp_path / name).mkdir()

    def found(more=""):
        return sorted(find_versions(config(tmp_path, more).model_config_list.config[0]))

    assert found() == [12]
    assert found("model_version_policy { latest { num_versions: 2 } }") == [9, 12]
    assert found("model_version_policy { all {} }") == [1, 9, 12]
    assert found("model_version_policy { specific { versions: 1 versions: 7 } }") == [1]


def test_the_old_version_serves_until_the_new_one_is_available(tmp_path):
    write(tmp_path, "1", "one")

    async def scenario(models):
        await models.configure(config(tmp_path))
        old = models.find(spec())
        servable = old.acquire()
        FakeServable.gate.clear()
        write(tmp_path, "2", "two")
        await until(lambda: states(models).get(2) == "LOADING")
        assert models.find(spec()).number == 1
        FakeServable.gate.set()
        await until(lambda: models.find(spec()).number == 2)
        assert states(models) == {1: "UNLOADING", 2: "AVAILABLE"}
        for _ in range(3):
            models.check_file_system()
            await asyncio.sleep(0)
        assert states(models)[1] == "UNLOADING"
        assert servable.open, "it was unloaded while a request used it"
        old.release()
        await until(lambda: states(models) == {1: "END", 2: "AVAILABLE"})
        assert not servable.open

    run(scenario)


def test_a_damaged_version_is_retried_reported_and_the_old_one_stays(tmp_path):
    write(tmp_path, "1")

    async def scenario(models):
        await models.configure(config(tmp_path))
        write(tmp_path, "2", "bad")
        await until(lambda: states(models).get(2) == "END")
        assert models.find(spec()).number == 1
        status = models.status(spec(version=2)).model_version_status[0].status
        assert (status.error_code, status.error_message) == (3, "damaged")
        assert FakeServable.reads.count("bad") == 3, "one try and two retries"
        models.check_file_system()
        assert states(models)[2] == "END", "it was tried again although it is the same"
        (tmp_path / "2").rename(tmp_path / "gone")
        models.check_file_system()
        write(tmp_path, "2", "mended")
        await until(lambda: models.find(spec()).number == 2)

    run(scenario)


def test_a_version_that_is_mended_between_two_tries_is_served(tmp_path):
    write(tmp_path, "1", "bad")

    async def scenario(models):
        FakeServable.gate.clear()
        configured = asyncio.create_task(models.configure(config(tmp_path)))
        await until(lambda: FakeServable.reads == ["bad"])
        (tmp_path / "1" / "saved_model.pb").write_text("good")
        FakeServable.gate.set()
        await configured
        assert models.find(spec()).servable.text == "good"

    run(scenario)


def test_a_model_that_cannot_be_loaded_fails_the_configuration(tmp_path):
    write(tmp_path, "1", "bad")

    async def scenario(models):
        with pytest.raises(StatusError, match=r"1 model\(s\) did not become available: .*damaged") as caught:
            await models.configure(config(tmp_path))
        assert caught.value.code.name == "UNKNOWN"

    run(scenario)


def test_a_better_version_ends_the_retries_of_a_damaged_one(tmp_path):
    write(tmp_path, "1", "bad")

    async def scenario(models):
        configured = asyncio.create_task(models.configure(config(tmp_path)))
        await until(lambda: states(models).get(1) == "LOADING")
        write(tmp_path, "2")
        await configured
        await until(lambda: states(models) == {1: "END", 2: "AVAILABLE"})

    run(scenario, max_num_load_retries=10**9)


def test_going_back_by_removing_the_newest(tmp_path):
    write(tmp_path, "1", "one")
    write(tmp_path, "2", "two")

    async def scenario(models):
        await models.configure(config(tmp_path))
        assert states(models) == {2: "AVAILABLE"}
        (tmp_path / "2").rename(tmp_path / "withdrawn")
        await until(lambda: states(models) == {1: "AVAILABLE", 2: "END"})
        (tmp_path / "1").rename(tmp_path / "withdrawn too")
        await until(lambda: states(models) == {1: "END", 2: "END"})
        with pytest.raises(StatusError, match=r"NOT_FOUND: Servable not found for request: Latest\(m\)"):
            models.find(spec())

    run(scenario)


def test_a_base_path_that_cannot_be_read_changes_nothing(tmp_path):
    write(tmp_path / "base", "1")

    async def scenario(models):
        await models.configure(config(tmp_path / "base"))
        (tmp_path / "base").rename(tmp_path / "away")
        models.check_file_system()
        assert models.find(spec()).number == 1

    run(scenario)


BOTH = "model_version_policy { all {} }"


def labels(**numbers) -> str:
    return BOTH + "".join(f' version_labels {{ key: "{name}" value: {number} }}' for name, number in numbers.items())


def test_labels_name_loaded_versions_and_move(tmp_path):
    write(tmp_path, "1")
    write(tmp_path, "2")

    async def scenario(models):
        await models.configure(config(tmp_path, BOTH))
        await until(lambda: states(models) == {1: "AVAILABLE", 2: "AVAILABLE"})
        await models.configure(config(tmp_path, labels(stable=1, canary=2)))
        assert (models.find(spec(label="stable")).number, models.find(spec(label="canary")).number) == (1, 2)
        await models.configure(config(tmp_path, labels(stable=2)))
        assert models.find(spec(label="stable")).number == 2
        with pytest.raises(StatusError, match="Unrecognized servable version label: canary"):
            models.find(spec(label="canary"))
        with pytest.raises(StatusError, match="Request to assign label to version 3 of model m, which is not"):
            await models.configure(config(tmp_path, labels(stable=3)))
        assert models.find(spec(label="stable")).number == 2

    run(scenario)


def test_a_new_label_may_wait_for_its_version_where_that_is_allowed(tmp_path):
    write(tmp_path, "1")

    async def main():
        models = make_manager(allow_version_labels_for_unavailable_models=True)
        await models.configure(config(tmp_path, labels(stable=1)))
        assert models.find(spec(label="stable")).number == 1
        with pytest.raises(StatusError, match="FAILED_PRECONDITION"):
            await models.configure(config(tmp_path, labels(stable=5)))
        await models.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name: "m" base_path: "m" model_platform: "tensorflow"', "to have an absolute path or URI; got base_path"),
        ('name: "m" base_path: "/m"', "neither ModelServerConfig::model_type"),
        ('name: "m" base_path: "/m" model_platform: "x"', "Model m requests unsupported platform x"),
    ],
)
def test_configurations_that_are_refused(text, words):
    parsed = text_format.Parse(
        f"model_config_list {{ config {{ {text} }} }}", model_server_config_pb2.ModelServerConfig()
    )

    async def main():
        models = make_manager()
        with pytest.raises(StatusError, match=words):
            await models.configure(parsed)
        await models.close()

    asyncio.run(main())
