"""Puts the server together from its options, starts it, and stops it on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import tensorflow as tf
from aiohttp import web
from tensorflow_serving.config import model_server_config_pb2

from serving.config_protos import BatchingParameters, MonitoringConfig, SSLConfig, read_text
from serving.local_server.batching import BatchingOptions, BatchingRunner, DirectRunner
from serving.local_server.core import ServerCore
from serving.local_server.grpc_api import make_server, set_healthy
from serving.local_server.manager import LoadOptions, Manager
from serving.local_server.request_metrics import Metrics
from serving.local_server.rest_api import RestApi
from serving.local_server.servable import Servable, replay_serving_warmup
from serving.local_server.server_options import ServerOptions
from serving.local_server.status import StatusError
from serving.local_server.versions import PLATFORM
from storygan_tf.common.errors import ConfigError, ModelError

LOG = logging.getLogger(__name__)

BANNER = (
    "This server stands in for TensorFlow Serving in development and tests; serve with TensorFlow Serving in "
    "production (docs/serving.md)."
)

GRACE_SECONDS = 60
"""Time that accepted requests have to finish after SIGTERM."""

PROMETHEUS_PATH = "/monitoring/prometheus/metrics"


def run(options: ServerOptions) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the accepted requests.

    Raises:
        ConfigError: if an option or a file cannot be used, or a port is taken.
        ModelError: if a model cannot be loaded at the start.
    """

    async def until_signal() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await serve(options, stop)

    print(BANNER, flush=True)
    asyncio.run(until_signal())


async def serve(options: ServerOptions, stop: asyncio.Event, ready: Callable[[], None] = lambda: None) -> None:
    """Serves until `stop` is set, then finishes the accepted requests.

    Args:
        options: the server's options.
        stop: the event that stops the server.
        ready: called when the server accepts requests.

    Raises:
        ConfigError: if an option or a file cannot be used, or a port is taken.
        ModelError: if a model cannot be loaded at the start.
    """
    async with contextlib.AsyncExitStack() as stack:
        core = await stack.enter_async_context(_start_core(options, stop))
        if stop.is_set():
            return
        # REST starts first and so stops last: no API refuses requests while the other one still accepts them.
        if options.rest_api_port:
            await stack.enter_async_context(_serve_rest(core, options))
        await stack.enter_async_context(_serve_grpc(core, options))
        LOG.info("Serving; gRPC at port %d, REST at port %d", options.port, options.rest_api_port)
        ready()
        await stop.wait()
        LOG.info("Stopping; finishing the accepted requests")


@contextlib.asynccontextmanager
async def _start_core(options: ServerOptions, stop: asyncio.Event) -> AsyncIterator[ServerCore]:
    """Loads the models, and follows changes of the file system and of the configuration file while the block runs."""
    threads = ThreadPoolExecutor(options.grpc_max_threads, thread_name_prefix="request")
    runner = _batching_runner(options) or DirectRunner(threads)
    manager = Manager(functools.partial(_load_servable, options=options), _load_options(options))
    core = ServerCore(manager, runner, threads, Metrics(), options.enable_signature_method_name_check)
    polls = []
    try:
        await _load_first_models(manager, options, stop)
        polls = [asyncio.create_task(manager.poll())]
        if options.model_config_file and options.model_config_file_poll_wait_seconds > 0:
            polls.append(asyncio.create_task(_poll_config(manager, options)))
        yield core
    finally:
        for poll in polls:
            poll.cancel()
        await manager.close()
        threads.shutdown(wait=True)
        if isinstance(runner, BatchingRunner):
            runner.close()


async def _load_first_models(manager: Manager, options: ServerOptions, stop: asyncio.Event) -> None:
    """Waits until the models are loaded or `stop` is set, and polls the file system meanwhile."""
    configured = asyncio.create_task(manager.configure(_config(options)))
    polling, stopped = asyncio.create_task(manager.poll()), asyncio.create_task(stop.wait())
    await asyncio.wait([configured, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in (polling, stopped):
        task.cancel()
    if not configured.done():
        configured.cancel()
        return
    try:
        configured.result()
    except StatusError as error:
        raise ModelError(f"Failed to start server. Error: {error}. Mend the model or its configuration.") from error


def _config(options: ServerOptions) -> model_server_config_pb2.ModelServerConfig:
    kind = model_server_config_pb2.ModelServerConfig
    if options.model_config_file:
        return read_text(options.model_config_file, kind, "--model_config_file")
    config = kind()
    config.model_config_list.config.add(
        name=options.model_name, base_path=str(Path(options.model_base_path).absolute()), model_platform=PLATFORM
    )
    return config


async def _poll_config(manager: Manager, options: ServerOptions) -> None:
    while True:
        await asyncio.sleep(options.model_config_file_poll_wait_seconds)
        try:
            await manager.configure(_config(options))
        except (ConfigError, StatusError) as error:
            LOG.error("Failed to reload the configuration: %s", error)


def _load_options(options: ServerOptions) -> LoadOptions:
    return LoadOptions(
        options.max_num_load_retries,
        options.load_retry_interval_micros,
        options.file_system_poll_wait_seconds,
        options.num_load_threads,
        options.allow_version_labels_for_unavailable_models,
    )


def _load_servable(path: Path, options: ServerOptions) -> Servable:
    both = options.tensorflow_session_parallelism
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=options.tensorflow_intra_op_parallelism or both,
        inter_op_parallelism_threads=options.tensorflow_inter_op_parallelism or both,
    )
    servable = Servable(path, options.saved_model_tags.split(","), config)
    try:
        if options.enable_model_warmup:
            count = replay_serving_warmup(servable, path, options.num_request_iterations_for_warmup)
            LOG.info("%d warm-up requests for %s", count, path)
    except BaseException:
        servable.close()
        raise
    return servable


def _batching_runner(options: ServerOptions) -> BatchingRunner | None:
    if not options.enable_batching:
        return None
    if not options.batching_parameters_file:
        return BatchingRunner(BatchingOptions())
    message = read_text(options.batching_parameters_file, BatchingParameters, "--batching_parameters_file")
    return BatchingRunner(BatchingOptions.from_proto(message))


@contextlib.asynccontextmanager
async def _serve_grpc(core: ServerCore, options: ServerOptions) -> AsyncIterator[None]:
    server, health = make_server(core, options.channel_arguments(), options.enable_grpc_healthcheck_service)
    addresses = [f"0.0.0.0:{options.port}"] if options.port else []
    addresses += [f"unix:{options.grpc_socket_path}"] if options.grpc_socket_path else []
    credentials = _credentials(options)
    for address in addresses:
        try:
            if credentials:
                server.add_secure_port(address, credentials)
            else:
                server.add_insecure_port(address)
        except RuntimeError as error:
            raise ConfigError(f"{address}: cannot be listened at ({error}); is another server there?") from error
    await server.start()
    if health:
        await set_healthy(health)
    try:
        yield
    finally:
        if health:
            await health.enter_graceful_shutdown()
        await server.stop(GRACE_SECONDS)


def _credentials(options: ServerOptions) -> Any:
    if not options.ssl_config_file:
        return None
    config = read_text(options.ssl_config_file, SSLConfig, "--ssl_config_file")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        config.client_verify,
    )


@contextlib.asynccontextmanager
async def _serve_rest(core: ServerCore, options: ServerOptions) -> AsyncIterator[None]:
    path = None
    if options.monitoring_config_file:
        config = read_text(options.monitoring_config_file, MonitoringConfig, "--monitoring_config_file")
        path = (config.prometheus_config.path or PROMETHEUS_PATH) if config.prometheus_config.enable else None
    api = RestApi(core, options.rest_api_timeout_in_ms / 1000, path)
    runner = web.AppRunner(api.app(), access_log=None, shutdown_timeout=GRACE_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, "0.0.0.0", options.rest_api_port).start()
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(f"--rest_api_port {options.rest_api_port}: cannot be listened at ({error}).") from error
    try:
        yield
    finally:
        await runner.cleanup()
