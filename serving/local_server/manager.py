"""The models that are served: found, loaded, retried, replaced and unloaded by TF Serving's rules, on one event loop.

A version loads while the old one serves. The old one goes when the new one is AVAILABLE and the last request that uses
it has ended; where the new one cannot be loaded it stays.
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
    """A version of a model and what has become of it.

    Attributes:
        model: its name.
        number: of the version.
        path: its directory.
        state: of `ModelVersionStatus.State`.
        error: why it could not be loaded.
        servable: where it is AVAILABLE or UNLOADING.
        aspired: whether the file system and the policy still ask for it.
        gone: whether they once did not: then it is loaded anew where it ended. One that failed is not, while it is
            asked for without a break.
    """

    def __init__(self, model: str, number: int, path: Path) -> None:
        self.model = model
        self.number = number
        self.path = path
        self.state = START
        self.error: StatusError | None = None
        self.servable: Servable | None = None
        self.aspired = True
        self.gone = False
        self.loading: asyncio.Task[None] | None = None
        self._users = 0
        self._unused = asyncio.Event()
        self._unused.set()

    def __str__(self) -> str:
        return f"{{name: {self.model} version: {self.number}}}"

    @contextlib.contextmanager
    def used(self) -> Iterator[Servable]:
        """Keeps it from being unloaded meanwhile."""
        servable = self.acquire()
        try:
            yield servable
        finally:
            self.release()

    def acquire(self) -> Servable:
        """Keeps it from being unloaded until `release`."""
        assert self.servable is not None
        self._users += 1
        self._unused.clear()
        return self.servable

    def release(self) -> None:
        """Ends what `acquire` began."""
        self._users -= 1
        if not self._users:
            self._unused.set()

    async def unused(self) -> None:
        """Waits until nobody uses it."""
        await self._unused.wait()


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """How loading is done; the names are those of tensorflow_model_server's flags.

    Attributes:
        max_num_load_retries: after the first failure.
        load_retry_interval_micros: between two tries.
        file_system_poll_wait_seconds: between two looks for new versions; 0 for one look.
        num_load_threads: versions that load at the same time.
        allow_version_labels_for_unavailable_models: a new label may name a version that is not loaded.
    """

    max_num_load_retries: int = 5
    load_retry_interval_micros: int = 60_000_000
    file_system_poll_wait_seconds: float = 1
    num_load_threads: int = 1
    allow_version_labels_for_unavailable_models: bool = False


class Manager:
    """Keeps the models of a configuration loaded.

    Args:
        load: makes a servable of a version directory, warmed up; called in a thread; raises StatusError.
        options: see there.
    """

    def __init__(self, load: Callable[[Path], Servable], options: LoadOptions) -> None:
        self._load = load
        self._options = options
        self._threads = ThreadPoolExecutor(max(1, options.num_load_threads), thread_name_prefix="load")
        self._config: model_server_config_pb2.ModelServerConfig | None = None
        self._configuring = asyncio.Lock()
        self._models: dict[str, dict[int, Version]] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._change = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def configure(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Serves another list of models, and waits until those that are new have been loaded or given up.

        Raises:
            StatusError: for a list that cannot be served, which changes nothing; UNKNOWN for a new model that could not
                be loaded.
        """
        async with self._configuring:
            check_config(config, self._config)
            labels = self._checked_labels(config)
            before = {model.name for model in self._config.model_config_list.config} if self._config else set()
            self._config, self._labels = config, labels
            self.look()
            await self._until_decided({model.name for model in config.model_config_list.config} - before)

    def _checked_labels(self, config: model_server_config_pb2.ModelServerConfig) -> dict[str, dict[str, int]]:
        labels: dict[str, dict[str, int]] = {}
        for model in config.model_config_list.config:
            for label, number in model.version_labels.items():
                known = self._labels.get(model.name, {}).get(label, number)
                free = self._options.allow_version_labels_for_unavailable_models and known == number
                version = self._models.get(model.name, {}).get(number)
                if not free and (version is None or version.state != AVAILABLE):
                    raise StatusError(
                        grpc.StatusCode.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name}, which is not currently "
                        "available for inference",
                    )
                labels.setdefault(model.name, {})[label] = number
        return labels

    async def poll(self) -> None:
        """Looks for new and vanished versions, for ever."""
        seconds = self._options.file_system_poll_wait_seconds
        while seconds > 0:
            await asyncio.sleep(seconds)
            self.look()

    def look(self) -> None:
        """Looks once, and begins whatever follows from what is found."""
        configs = {config.name: config for config in self._config.model_config_list.config} if self._config else {}
        for name in configs.keys() | self._models.keys():
            try:
                wanted = find_versions(configs[name]) if name in configs else {}
            except StatusError as error:
                LOG.error("%s", error.message)
                continue
            self._aspire(name, wanted)

    def _aspire(self, name: str, wanted: dict[int, Path]) -> None:
        versions = self._models.setdefault(name, {})
        for number, version in versions.items():
            version.aspired = number in wanted
            version.gone |= not version.aspired
            if not version.aspired and version.loading:
                version.loading.cancel()
        for number in sorted(wanted, reverse=True):
            if number not in versions or (versions[number].gone and versions[number].state == END):
                versions[number] = self._begin(Version(name, number, wanted[number]))
        self._unload_replaced(name)

    def _begin(self, version: Version) -> Version:
        version.loading = asyncio.create_task(self._load_version(version))
        self._keep(version.loading)
        return version

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _load_version(self, version: Version) -> None:
        try:
            self._set(version, LOADING)
            version.servable = await self._try_to_load(version)
            self._set(version, AVAILABLE)
            LOG.info("Successfully loaded servable version %s", version)
        except asyncio.CancelledError:
            self._set(version, END)
        except StatusError as error:
            version.error = error
            self._set(version, END)
        finally:
            version.loading = None
        self._unload_replaced(version.model)

    async def _try_to_load(self, version: Version) -> Servable:
        what = f"Loading servable: {version}"
        for tries in range(self._options.max_num_load_retries + 1):
            if tries:
                await asyncio.sleep(max(0, self._options.load_retry_interval_micros) / 1e6)
                LOG.info("Retrying of %s retry: %d", what, tries)
            try:
                return await self._loaded(version.path)
            except StatusError as error:
                LOG.error("%s failed: %s", what, error)
                failed = error
        LOG.info("Retrying of %s exhausted max_num_retries: %d", what, self._options.max_num_load_retries)
        raise failed

    async def _loaded(self, path: Path) -> Servable:
        """Loads in a thread; a servable that is no longer wanted when it is ready is closed."""
        loading = asyncio.get_running_loop().run_in_executor(self._threads, self._load, path)
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            loading.add_done_callback(_close_result)
            raise
        except Exception as error:
            raise StatusError.of(error) from error

    def _unload_replaced(self, name: str) -> None:
        """Unloads versions that are no longer asked for, as soon as that leaves another to answer."""
        versions = self._models.get(name, {}).values()
        aspired = [version for version in versions if version.aspired]
        old = sorted((v for v in versions if not v.aspired and v.state == AVAILABLE), key=lambda v: v.number)
        ready = any(version.state == AVAILABLE for version in aspired)
        # Without a new one that serves, the newest of the old ones stays.
        for version in old if ready or not aspired else old[:-1]:
            self._set(version, UNLOADING)
            self._keep(asyncio.create_task(self._unload(version)))

    async def _unload(self, version: Version) -> None:
        await version.unused()
        assert version.servable is not None
        await asyncio.get_running_loop().run_in_executor(self._threads, version.servable.close)
        version.servable = None
        self._set(version, END)
        LOG.info("Done unloading servable version %s", version)

    def _set(self, version: Version, state: int) -> None:
        version.state = state
        self._change.set()
        self._change = asyncio.Event()

    async def _until_decided(self, names: set[str]) -> None:
        while any(not self._decided(name) for name in names):
            await self._change.wait()
        failed = [self._models[name] for name in sorted(names) if not self._available(name)]
        if failed:
            told = [
                f"{{{version} due to error: {version.error}}}, "
                for versions in failed
                for version in versions.values()
                if version.error
            ]
            raise StatusError(
                grpc.StatusCode.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{''.join(told)}}}"
            )

    def _available(self, name: str) -> list[Version]:
        return [version for version in self._models.get(name, {}).values() if version.state == AVAILABLE]

    def _decided(self, name: str) -> bool:
        states = [version.state for version in self._models.get(name, {}).values()]
        return AVAILABLE in states or (bool(states) and all(state == END for state in states))

    def find(self, spec: model_pb2.ModelSpec) -> Version:
        """Returns the version that a request means.

        Raises:
            StatusError: NOT_FOUND, or INVALID_ARGUMENT for a label that is not there or no name.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        choice = spec.WhichOneof("version_choice")
        if choice is None:
            found = max(self._available(spec.name), key=lambda version: version.number, default=None)
            asked = f"Latest({spec.name})"
        else:
            number = spec.version.value if choice == "version" else self._labelled(spec)
            found = next((version for version in self._available(spec.name) if version.number == number), None)
            asked = f"Specific({spec.name}, {number})"
        if found is None:
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        return found

    def _labelled(self, spec: model_pb2.ModelSpec) -> int:
        try:
            return self._labels[spec.name][spec.version_label]
        except KeyError:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}") from None

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """Returns the states of all versions of a model, or of the one that is named.

        Raises:
            StatusError: NOT_FOUND.
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
            told = response.model_version_status.add(version=number, state=version.state)
            told.status.CopyFrom(as_proto(version.error))
        return response

    async def close(self) -> None:
        """Unloads everything, when the last requests have ended."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for versions in self._models.values():
            for version in versions.values():
                if version.servable:
                    await version.unused()
                    version.servable.close()
        self._threads.shutdown(wait=True)


def _close_result(loading: asyncio.Future[Servable]) -> None:
    if not loading.cancelled() and loading.exception() is None:
        loading.result().close()
