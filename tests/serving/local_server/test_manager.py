"""Versions: what is found, loaded, kept, retried, replaced, labelled. The models are fakes, the folders real."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.local_server.manager import LoadOptions, Manager
from serving.local_server.status import StatusError, invalid
from serving.local_server.versions import find_versions

STATES = get_model_status_pb2.ModelVersionStatus.State


class Fake:
    """A model that is loaded by reading a file; `bad` in it is an error, and it waits while there is a `gate`."""

    def __init__(self, path: Path) -> None:
        text = (path / "saved_model.pb").read_text()
        self.gate.wait(30)
        if text == "bad":
            raise invalid("damaged")
        self.text, self.open = text, True

    gate = threading.Event()

    def close(self) -> None:
        self.open = False


@pytest.fixture(autouse=True)
def open_gate():
    Fake.gate.set()


def write(base: Path, name: str, text: str = "good") -> None:
    aside = base / f"tmp-{name}"
    aside.mkdir(parents=True)
    (aside / "saved_model.pb").write_text(text)
    aside.rename(base / name)


def config(base: Path, more: str = "") -> model_server_config_pb2.ModelServerConfig:
    text = f'model_config_list {{ config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" {more} }} }}'
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def manager(**options) -> Manager:
    given = {"load_retry_interval_micros": 50_000, "max_num_load_retries": 2, "file_system_poll_wait_seconds": 0.02}
    return Manager(Fake, LoadOptions(**given | options))


def spec(**choice) -> model_pb2.ModelSpec:
    made = model_pb2.ModelSpec(name="m")
    if "version" in choice:
        made.version.value = choice["version"]
    if "label" in choice:
        made.version_label = choice["label"]
    return made


def states(kept: Manager) -> dict[int, str]:
    return {told.version: STATES.Name(told.state) for told in kept.status(spec()).model_version_status}


async def until(condition) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that within 10 s")


def run(scenario) -> None:
    """Runs a scenario of a manager that polls."""

    async def main() -> None:
        kept = manager()
        polling = asyncio.create_task(kept.poll())
        try:
            await scenario(kept)
        finally:
            polling.cancel()
            Fake.gate.set()
            await kept.close()

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

    async def scenario(kept):
        await kept.configure(config(tmp_path))
        old = kept.find(spec())
        servable = old.acquire()
        Fake.gate.clear()
        write(tmp_path, "2", "two")
        await until(lambda: states(kept).get(2) == "LOADING")
        assert kept.find(spec()).number == 1
        Fake.gate.set()
        await until(lambda: kept.find(spec()).number == 2)
        assert states(kept) == {1: "UNLOADING", 2: "AVAILABLE"}
        await asyncio.sleep(0.05)
        assert servable.open, "it was unloaded while a request used it"
        old.release()
        await until(lambda: states(kept) == {1: "END", 2: "AVAILABLE"})
        assert not servable.open

    run(scenario)


def test_a_damaged_version_is_retried_reported_and_the_old_one_stays(tmp_path):
    write(tmp_path, "1")

    async def scenario(kept):
        await kept.configure(config(tmp_path))
        write(tmp_path, "2", "bad")
        await until(lambda: states(kept).get(2) == "END")
        assert kept.find(spec()).number == 1
        told = kept.status(spec(version=2)).model_version_status[0].status
        assert (told.error_code, told.error_message) == (3, "damaged")
        await asyncio.sleep(0.1)
        assert states(kept)[2] == "END", "it is not tried again while it lies there"
        (tmp_path / "2").rename(tmp_path / "gone")
        await asyncio.sleep(0.1)
        write(tmp_path, "2", "mended")
        await until(lambda: kept.find(spec()).number == 2)

    run(scenario)


def test_a_version_that_is_mended_between_two_tries_is_served(tmp_path):
    write(tmp_path, "1", "bad")

    async def scenario(kept):
        configured = asyncio.create_task(kept.configure(config(tmp_path)))
        await until(lambda: kept._models and states(kept).get(1) == "LOADING")
        (tmp_path / "1" / "saved_model.pb").write_text("good")
        await configured
        assert kept.find(spec()).servable.text == "good"

    run(scenario)


def test_a_model_that_cannot_be_loaded_fails_the_configuration(tmp_path):
    write(tmp_path, "1", "bad")

    async def scenario(kept):
        with pytest.raises(StatusError, match=r"1 model\(s\) did not become available: .*damaged") as caught:
            await kept.configure(config(tmp_path))
        assert caught.value.code.name == "UNKNOWN"

    run(scenario)


def test_a_better_version_ends_the_retries_of_a_damaged_one(tmp_path):
    write(tmp_path, "1", "bad")

    async def scenario(kept):
        configured = asyncio.create_task(kept.configure(config(tmp_path)))
        await until(lambda: kept._models and states(kept).get(1) == "LOADING")
        write(tmp_path, "2")
        await configured
        await until(lambda: states(kept) == {1: "END", 2: "AVAILABLE"})

    run(scenario)


def test_going_back_by_removing_the_newest(tmp_path):
    write(tmp_path, "1", "one")
    write(tmp_path, "2", "two")

    async def scenario(kept):
        await kept.configure(config(tmp_path))
        assert states(kept) == {2: "AVAILABLE"}
        (tmp_path / "2").rename(tmp_path / "withdrawn")
        await until(lambda: states(kept) == {1: "AVAILABLE", 2: "END"})
        (tmp_path / "1").rename(tmp_path / "withdrawn too")
        await until(lambda: states(kept) == {1: "END", 2: "END"})
        with pytest.raises(StatusError, match=r"NOT_FOUND: Servable not found for request: Latest\(m\)"):
            kept.find(spec())

    run(scenario)


def test_a_base_path_that_cannot_be_seen_changes_nothing(tmp_path):
    write(tmp_path / "base", "1")

    async def scenario(kept):
        await kept.configure(config(tmp_path / "base"))
        (tmp_path / "base").rename(tmp_path / "away")
        await asyncio.sleep(0.1)
        assert kept.find(spec()).number == 1

    run(scenario)


BOTH = "model_version_policy { all {} }"


def labels(**numbers) -> str:
    return BOTH + "".join(f' version_labels {{ key: "{name}" value: {number} }}' for name, number in numbers.items())


def test_labels_name_loaded_versions_and_move(tmp_path):
    write(tmp_path, "1")
    write(tmp_path, "2")

    async def scenario(kept):
        await kept.configure(config(tmp_path, BOTH))
        await until(lambda: states(kept) == {1: "AVAILABLE", 2: "AVAILABLE"})
        await kept.configure(config(tmp_path, labels(stable=1, canary=2)))
        assert (kept.find(spec(label="stable")).number, kept.find(spec(label="canary")).number) == (1, 2)
        await kept.configure(config(tmp_path, labels(stable=2)))
        assert kept.find(spec(label="stable")).number == 2
        with pytest.raises(StatusError, match="Unrecognized servable version label: canary"):
            kept.find(spec(label="canary"))
        with pytest.raises(StatusError, match="Request to assign label to version 3 of model m, which is not"):
            await kept.configure(config(tmp_path, labels(stable=3)))
        assert kept.find(spec(label="stable")).number == 2

    run(scenario)


def test_a_new_label_may_wait_for_its_version_where_that_is_allowed(tmp_path):
    write(tmp_path, "1")

    async def main():
        kept = manager(allow_version_labels_for_unavailable_models=True)
        await kept.configure(config(tmp_path, labels(stable=1)))
        assert kept.find(spec(label="stable")).number == 1
        with pytest.raises(StatusError, match="FAILED_PRECONDITION"):
            await kept.configure(config(tmp_path, labels(stable=5)))
        await kept.close()

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
    made = text_format.Parse(
        f"model_config_list {{ config {{ {text} }} }}", model_server_config_pb2.ModelServerConfig()
    )

    async def main():
        kept = manager()
        with pytest.raises(StatusError, match=words):
            await kept.configure(made)
        await kept.close()

    asyncio.run(main())
