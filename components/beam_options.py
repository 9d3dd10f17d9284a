"""Beam's pipeline options from those of the command line: the runner, the number of workers, and other Beam options.

This module imports nothing heavy, so that a wrong option is reported before TFX is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from components.compat import FN_API_RUNNER, NO_SDK_PACKAGE, PROCESS_WORKERS
from storygan_tf.common.errors import ConfigError, nearest

MODES = {"in-memory": "in_memory", "multi-threading": "multi_threading", "multi-processing": "multi_processing"}
"""Running modes of FnApiRunner: the command line's name to Beam's name."""

LOOPBACK = "--environment_type=LOOPBACK"
"""Beam's option that runs Python workers in this process, whatever the runner is."""

_RUNNER = "--runner"
_ENVIRONMENT = "--environment_type"

_REQUIRED = {
    "DataflowRunner": {
        "--project": "a project of Google Cloud",
        "--region": "such as europe-west4",
        "--temp_location": "a folder of a bucket, gs://BUCKET/FOLDER",
        "--sdk_container_image": "an image with this project and Beam's boot (docs/scale.md)",
    },
    "PortableRunner": {"--job_endpoint": "HOST:PORT of Beam's job server", _ENVIRONMENT: "EXTERNAL"},
}
"""The options that each runner requires, with a description of their values."""

_LOCAL_RUNNERS = ("FnApiRunner", "DirectRunner")
"""Runners whose workers are on this machine."""

_WORKER_OPTIONS = {"FlinkRunner": "--parallelism"}
"""The option for the number of workers, of runners other than FnApiRunner."""


def runner_arguments(runner: str | None, workers: int | None, options: Sequence[str] = ()) -> list[str]:
    """Returns Beam options for the values of the options `--beam-runner`, `--beam-workers` and `--beam`.

    Args:
        runner: a mode of FnApiRunner (a key of `MODES`), or another runner's name or dotted class; None if not set.
        workers: the number of workers; None for the runner's default.
        options: Beam options, passed on unchanged.

    Raises:
        ConfigError: if the values contradict each other, an element of `options` is no option, or a required option
            is missing.
    """
    _check_options(runner, options)
    check_beam_options([*([f"{_RUNNER}={runner}"] if runner else ()), *options])
    if runner is not None and runner not in MODES:
        return [f"{_RUNNER}={_checked_runner(runner)}", *_worker_options(runner, workers), *options]
    if runner is None and _has_option(options, _RUNNER):
        return [*_worker_options("", workers), *options]
    return [*_fn_api_options(runner, workers), *options]


def check_beam_options(options: Sequence[str]) -> None:
    """Checks that all options that the selected runner requires are present.

    Beam itself reports a missing option late, or not at all.

    Args:
        options: Beam options.

    Raises:
        ConfigError: if an option is missing.
    """
    runner = _short_name(_value(options, _RUNNER))
    required = dict(_REQUIRED.get(runner, {}))
    if runner == "FlinkRunner" and _value(options, "--flink_master"):
        # Beam's default would be Docker on every task manager.
        required[_ENVIRONMENT] = "EXTERNAL, with a pool of workers next to each task manager, or LOOPBACK"
    if _value(options, _ENVIRONMENT) == "EXTERNAL":
        required["--environment_config"] = "HOST:PORT of a pool of workers, such as localhost:50000"
    for option, meaning in required.items():
        if not _value(options, option):
            raise ConfigError(f"--beam: found no {option} for {runner or 'Beam'}; expected {option}=VALUE: {meaning}.")


def beam_options(options: Sequence[str]) -> list[str]:
    """Returns complete Beam options: `options`, with a default runner, and with LOOPBACK replaced by a worker pool.

    LOOPBACK starts the pool of `components.worker_pool` in this process; its address becomes an option.

    Args:
        options: Beam options, such as those of `runner_arguments`.
    """
    runner = [] if _has_option(options, _RUNNER) else [f"{_RUNNER}={FN_API_RUNNER}"]
    image = [] if _has_option(options, "--sdk_container_image") else [NO_SDK_PACKAGE]
    return [*runner, *image, *_without_loopback(options)]


def is_local(options: Sequence[str]) -> bool:
    """Returns whether Beam's workers run on this machine, and so can use its files.

    Args:
        options: Beam options.
    """
    runners = [option.partition("=")[2] for option in options if option.startswith(f"{_RUNNER}=")]
    return all(_short_name(runner) in _LOCAL_RUNNERS for runner in runners)


def _without_loopback(options: Sequence[str]) -> list[str]:
    """Returns options in which LOOPBACK is replaced by the address of this process's worker pool.

    LOOPBACK with Beam's experiment `PROCESS_WORKERS` stays: Beam starts these workers.
    """
    if LOOPBACK not in options or any(PROCESS_WORKERS in option for option in options):
        return list(options)
    from components.worker_pool import serve_workers

    others = [option for option in options if option != LOOPBACK]
    return [*others, f"{_ENVIRONMENT}=EXTERNAL", f"--environment_config={serve_workers()}"]


def _short_name(runner: str) -> str:
    """Returns a runner's class name without its module."""
    return runner.rpartition(".")[2]


def _value(options: Sequence[str], option: str) -> str:
    """Returns the value of an option, the last one if it is repeated; empty if it is missing."""
    return next((text.partition("=")[2] for text in reversed(options) if text.startswith(f"{option}=")), "")


def _has_option(options: Sequence[str], option: str) -> bool:
    return any(text.partition("=")[0] == option for text in options)


def _check_options(runner: str | None, options: Sequence[str]) -> None:
    """Raises ConfigError if an element of `options` is not an option, or if the runner is set twice."""
    for option in options:
        if not option.startswith("--"):
            raise ConfigError(f"--beam {option}: expected an option of Beam, such as --beam=--parallelism=2.")
    if runner is not None and _has_option(options, _RUNNER):
        raise ConfigError(f"--beam-runner {runner}: found --beam=--runner, too; expected one of them.")


def _checked_runner(runner: str) -> str:
    """Returns the name of a runner other than FnApiRunner; raises ConfigError if it cannot be a runner's name."""
    if runner.endswith("Runner"):
        return runner
    known = (*MODES, "FlinkRunner", "SparkRunner", "DataflowRunner")
    raise ConfigError(f"--beam-runner {runner}: expected one of {', '.join(known)}{nearest(runner, known)}.")


def _fn_api_options(mode: str | None, workers: int | None) -> list[str]:
    """Returns FnApiRunner's options for a mode and a number of workers; raises ConfigError if they do not fit."""
    if workers is not None and workers < 1:
        raise ConfigError(f"--beam-workers {workers}: expected at least 1.")
    mode = mode or ("multi-processing" if (workers or 1) > 1 else None)
    if mode == "in-memory" and (workers or 1) > 1:
        raise ConfigError(
            f"--beam-workers {workers}: in-memory has one worker; expected --beam-runner multi-processing or "
            "multi-threading."
        )
    options = [f"--direct_running_mode={MODES[mode]}"] if mode else []
    return options + ([f"--direct_num_workers={workers}"] if workers else [])


def _worker_options(runner: str, workers: int | None) -> list[str]:
    """Returns the option for the number of workers of a runner other than FnApiRunner.

    Raises:
        ConfigError: if the runner has no such option.
    """
    if workers is None:
        return []
    option = _WORKER_OPTIONS.get(_short_name(runner))
    if option is None:
        raise ConfigError(
            f"--beam-workers {workers}: is for FnApiRunner and FlinkRunner; expected this runner's own option, as "
            "--beam=--OPTION=VALUE."
        )
    return [f"{option}={workers}"]
