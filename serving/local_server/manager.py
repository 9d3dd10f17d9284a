"""Loads, replaces and unloads the versions of the served models by TensorFlow Serving's rules, on one event loop.

A version loads while the old one serves. The old one is unloaded when the new one is AVAILABLE and the last request
that uses the old one has ended. If the new one cannot be loaded, the old one stays.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.local_server.servable import Servable
from serving.local_server.status import StatusError, as_proto, invalid
from serving.local_server.versions import check_config, find_versions

LOG = logging.getLogger(__name__)

START, LOADING, AVAILABLE, UNLOADING, END = (
    getattr(get_model_status_pb2.ModelVersionStatus, name)
    for name in ("START", "LOADING", "AVAILABLE", "UNLOADING", "END")
)


class Version:
    """A version of a model and its state.

    Args:
        model: name of the model.
        number: number of the version.
        path: the version directory.

    Attributes:
        model: name of the model.
        number: number of the version.
        path: the version directory.
        state: a `ModelVersionStatus.State`.
        error: why the version could not be loaded, or None.
        servable: the loaded model while the version is AVAILABLE or UNLOADING.
        aspired: whether the file system and the version policy select it (TensorFlow Serving's term).
        was_removed: whether they once did not select it. Such a version is loaded again when it is selected again, even
            if it failed; a failed version that was never removed is not.
        loading: the task that loads the version, or None.
    """

    def __init__(self, model: str, number: int, path: Path) -> None:
        self.model = model
        self.number = number
        self.path = path
        self.state = START
        self.error: StatusError | None = None
        self.servable: Servable | None = None
        self.aspired = True
        self.was_removed = False
        self.loading: asyncio.Task[None] | None = None
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def __str__(self) -> str:
        return f"{{name: {self.model} version: {self.number}}}"

    @contextlib.contextmanager
    def keep_loaded(self) -> Iterator[Servable]:
        """Gives the loaded model and prevents its unloading while the block runs."""
        servable = self.acquire()
        try:
            yield servable
        finally:
            self.release()

    def acquire(self) -> Servable:
        """Returns the loaded model and prevents its unloading until `release` is called."""
        assert self.servable is not None
        self._users += 1
        self._unused.clear()
        return self.servable

    def release(self) -> None:
        """Reverts one call of `acquire`."""
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def wait_until_unused(self) -> None:
        """Waits until every `acquire` has been released."""
        await self._unused.wait()


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """Settings of loading, named as tensorflow_model_server's flags.

    Attributes:
        max_num_load_retries: number of retries after the first failure.
        load_retry_interval_micros: microseconds between two tries.
        file_system_poll_wait_seconds: seconds between two searches for new versions; 0 searches only once.
        num_load_threads: number of versions that load at the same time.
        allow_version_labels_for_unavailable_models: whether a new label may name a version that is not loaded.
    """

    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    file_system_poll_wait_seconds: float = 1
    num_load_threads: int = 1
    allow_version_labels_for_unavailable_models: bool = False


class Manager:
    """Keeps the models of a configuration loaded.

    Args:
        load: loads a version directory and warms it up; called in a thread; raises StatusError.
        options: settings of loading.
    """

    def __init__(self, load: Callable[[Path], Servable], options: LoadOptions) -> None:
        self._load = load
        self._options = options
        self._threads = ThreadPoolExecutor(max(1, options.num_load_threads), thread_name_prefix="load")
        self._config: model_server_config_pb2.ModelServerConfig | None = None
        self._configuring = asyncio.Lock()
        self._models: dict[str, dict[int, Version]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._state_changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def configure(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Replaces the list of models, and waits until every new model is loaded or has failed.

        Raises:
            StatusError: if the list is invalid, in which case nothing changes; UNKNOWN if a new model cannot be loaded.
        """
        async with self._configuring:
            check_config(config, self._config)
            labels = self._check_labels(config)
            before = {model.name for model in self._config.model_config_list.config} if self._config else set()
            self._config, self._labels = config, labels
            self.check_file_system()
            await self._wait_until_settled({model.name for model in config.model_config_list.config} - before)

    def _check_labels(self, config: model_server_config_pb2.ModelServerConfig) -> dict[str, dict[str, int]]:
        """Returns the version numbers by model and label, or raises StatusError if a version is not AVAILABLE."""
        labels: dict[str, dict[str, int]] = {}
        for model in config.model_config_list.config:
            for label, number in model.version_labels.items():
                current = self._labels.get(model.name, {}).get(label, number)
                may_wait = self._options.allow_version_labels_for_unavailable_models and current == number
                version = self._models.get(model.name, {}).get(number)
                if not may_wait and (version is None or version.state != AVAILABLE):
                    raise StatusError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name}, which is not currently "
                        "available for inference",
                    )
                labels.setdefault(model.name, {})[label] = number
        return labels

    async def poll(self) -> None:
        """Checks the file system periodically until the task is cancelled."""
        seconds = self._options.file_system_poll_wait_seconds
        while seconds > 0:
            await asyncio.sleep(seconds)
            self.check_file_system()

    def check_file_system(self) -> None:
        """Finds new and removed versions, and starts to load and unload them."""
        configs = {config.name: config for config in self._config.model_config_list.config} if self._config else {}
        for name in configs.keys() | self._models.keys():
            try:
                aspired = find_versions(configs[name]) if name in configs else {}
            except StatusError as error:
                LOG.error("%s", error.message)
                continue
            self._set_aspired_versions(name, aspired)

    def _set_aspired_versions(self, name: str, aspired: dict[int, Path]) -> None:
        versions = self._models.setdefault(name, {})
        for number, version in versions.items():
            version.aspired = number in aspired
            version.was_removed |= not version.aspired
            if not version.aspired and version.loading:
                version.loading.cancel()
        for number in sorted(aspired, reverse=True):
            if number not in versions or (versions[number].was_removed and versions[number].state == END):
                versions[number] = self._start_loading(Version(name, number, aspired[number]))
        self._unload_replaced(name)

    def _start_loading(self, version: Version) -> Version:
        version.loading = asyncio.create_task(self._load_version(version))
        self._keep_reference(version.loading)
        return version

    def _keep_reference(self, task: asyncio.Task[None]) -> None:
        """Keeps a task from being garbage-collected while it runs; asyncio itself does not."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_version(self, version: Version) -> None:
        try:
            self._set_state(version, LOADING)
            version.servable = await self._load_with_retries(version)
            self._set_state(version, AVAILABLE)
            LOG.info("Successfully loaded servable version %s", version)
        except asyncio.CancelledError:
            self._set_state(version, END)
        except StatusError as error:
            version.error = error
            self._set_state(version, END)
        finally:
            version.loading = None
        self._unload_replaced(version.model)

    async def _load_with_retries(self, version: Version) -> Servable:
        action = f"Loading servable: {version}"
        for tries in range(self._options.max_num_load_retries + 1):
            if tries:
                await asyncio.sleep(max(0, self._options.load_retry_interval_micros) / 1e6)
                LOG.info("Retrying of %s retry: %d", action, tries)
            try:
                return await self._load_in_thread(version.path)
            except StatusError as error:
                LOG.error("%s failed: %s", action, error)
                last_error = error
        LOG.info("Retrying of %s exhausted max_num_retries: %d", action, self._options.max_num_load_retries)
        raise last_error

    async def _load_in_thread(self, path: Path) -> Servable:
        """Loads a version. If the task is cancelled meanwhile, the servable is closed as soon as it is loaded."""
        loading = asyncio.get_running_loop().run_in_executor(self._threads, self._load, path)
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(_close_result)
            raise
        except Exception as error:
            raise StatusError.from_exception(error) from error

    def _unload_replaced(self, name: str) -> None:
        """Unloads the versions that are no longer aspired once an aspired one is AVAILABLE."""
        versions = self._models.get(name, {}).values()
        aspired = [version for version in versions if version.aspired]
        old = sorted((v for v in versions if not v.aspired and v.state == AVAILABLE), key=lambda v: v.number)
        ready = any(version.state == AVAILABLE for version in aspired)
        # While no aspired version is available, the newest of the old ones stays.
        for version in old if ready or not aspired else old[:-1]:
            self._set_state(version, UNLOADING)
            self._keep_reference(asyncio.create_task(self._unload(version)))

    async def _unload(self, version: Version) -> None:
        await version.wait_until_unused()
        assert version.servable is not None
        await asyncio.get_running_loop().run_in_executor(self._threads, version.servable.close)
        version.servable = None
        self._set_state(version, END)
        LOG.info("Done unloading servable version %s", version)

    def _set_state(self, version: Version, state: int) -> None:
        version.state = state
        self._state_changed.set()
        self._state_changed = asyncio.Event()

    async def _wait_until_settled(self, names: set[str]) -> None:
        """Waits until each model has an AVAILABLE version or none left to load; raises StatusError if one has none."""
        while any(not self._is_settled(name) for name in names):
            await self._state_changed.wait()
        failed = [self._models[name] for name in sorted(names) if not self._available_versions(name)]
        if failed:
            reasons = [
                f"{{{version} due to error: {version.error}}}, "
                for versions in failed
                for version in versions.values()
                if version.error
            ]
            raise StatusError(
                grpc.StatusCode.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{''.join(reasons)}}}"
            )

    def _available_versions(self, name: str) -> list[Version]:
        return [version for version in self._models.get(name, {}).values() if version.state == AVAILABLE]

    def _is_settled(self, name: str) -> bool:
        states = [version.state for version in self._models.get(name, {}).values()]
        return AVAILABLE in states or (bool(states) and all(state == END for state in states))

    def find(self, spec: model_pb2.ModelSpec) -> Version:
        """Returns the AVAILABLE version that a request names by number or label, or else the newest one.

        Raises:
            StatusError: NOT_FOUND if there is none, INVALID_ARGUMENT for an unknown label or no model name.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            version = max(self._available_versions(spec.name), key=lambda version: version.number, default=None)
            description = f"Latest({spec.name})"
        else:
            number = spec.version.value if choice == "version" else self._labelled_number(spec)
            version = next((v for v in self._available_versions(spec.name) if v.number == number), None)
            description = f"Specific({spec.name}, {number})"
        if version is None:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {description}")
        return version

    def _labelled_number(self, spec: model_pb2.ModelSpec) -> int:
        try:
            return self._labels[spec.name][spec.version_label]
        except KeyError:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}") from None

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of all versions of a model, or of the version that `spec` names.

        Raises:
            StatusError: NOT_FOUND if the model or the version is unknown.
        """
        versions = self._models.get(spec.name, {})
        if not versions:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find any versions of model {spec.name}")
        numbers = sorted(versions)
        if spec.HasField("version"):
            numbers = [spec.version.value]
        response = get_model_status_pb2.GetModelStatusResponse()
        for number in numbers:
            if number not in versions:
                message = f"Could not find version {number} of model {spec.name}"
                raise StatusError(grpc.StatusCode.NOT_FOUND, message)
            version = versions[number]
            entry = response.model_version_status.add(version=number, state=version.state)
            entry.status.CopyFrom(as_proto(version.error))
        return response

    async def close(self) -> None:
        """Waits for the last requests and unloads all models."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for versions in self._models.values():
            for version in versions.values():
                if version.servable:
                    await version.wait_until_unused()
                    version.servable.close()
        self._threads.shutdown(wait=True)


def _close_result(loading: asyncio.Future[Servable]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()
