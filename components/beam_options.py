"""Beam's options, made of the command line's: which runner, how many workers, and what is passed through.

It imports nothing heavy, so that a wrong option is told before TFX is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from storygan_tf.common.errors import ConfigError, nearest

FN_API_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
"""Beam's default would first try to download another runner; this one runs in this process, or starts its own."""

MODES = {"in-memory": "in_memory", "multi-threading": "multi_threading", "multi-processing": "multi_processing"}
"""How FnApiRunner works: by the name of the command line, Beam's name."""

NO_SDK_PACKAGE = "--sdk_container_image=none"
"""Keeps TFX from packing itself once a Beam step, which only other machines need."""

LOOPBACK = "--environment_type=LOOPBACK"
"""Runs Python in this process, whatever the runner."""

PROCESS_WORKERS = "use_loopback_process_worker"
"""Beam's experiment: processes instead, which Beam's own pool starts."""

_ENVIRONMENT = "--environment_type"

_NEEDED = {
    "DataflowRunner": {
        "--project": "a project of Google Cloud",
        "--region": "such as europe-west4",
        "--temp_location": "a folder of a bucket, gs://BUCKET/FOLDER",
        "--sdk_container_image": "an image with this project and Beam's boot (docs/scale.md)",
    },
    "PortableRunner": {"--job_endpoint": "HOST:PORT of Beam's job server", _ENVIRONMENT: "EXTERNAL"},
}
"""Options that a runner cannot do without, and what they say."""

_LOCAL = ("FnApiRunner", "DirectRunner")
"""Runners whose workers are on this machine."""

_WORKERS = {"FlinkRunner": "--parallelism"}
"""The option that says how many workers, where it is not FnApiRunner's."""


def runner_arguments(runner: str | None, workers: int | None, given: Sequence[str] = ()) -> list[str]:
    """Returns Beam's options for what a command was told.

    Args:
        runner: a mode of FnApiRunner (`MODES`), or another runner's name or dotted class; None where none was named.
        workers: how many; None where it was not said.
        given: Beam's own options, passed on as they are.

    Raises:
        ConfigError: where they contradict each other, what is to be passed on is no option, or one is missing.
    """
    _check_given(runner, given)
    check_beam_options([*([f"--runner={runner}"] if runner else ()), *given])
    if runner is not None and runner not in MODES:
        return [f"--runner={_checked_runner(runner)}", *_other_workers(runner, workers), *given]
    if runner is None and _named(given, "--runner"):
        return [*_other_workers("", workers), *given]
    return [*_fn_api_mode(runner, workers), *given]


def check_beam_options(given: Sequence[str]) -> None:
    """Refuses Beam's options where the runner that they name needs another: else it is told late, or never.

    Raises:
        ConfigError: says which.
    """
    runner = _value(given, "--runner").rpartition(".")[2]
    needed = dict(_NEEDED.get(runner, {}))
    if runner == "FlinkRunner" and _value(given, "--flink_master"):
        # Beam's own default would be Docker on every task manager.
        needed[_ENVIRONMENT] = "EXTERNAL, with a pool of workers beside each task manager, or LOOPBACK"
    if _value(given, _ENVIRONMENT) == "EXTERNAL":
        needed["--environment_config"] = "HOST:PORT of a pool of workers, such as localhost:50000"
    for option, meaning in needed.items():
        if not _value(given, option):
            raise ConfigError(f"--beam: found no {option} for {runner or 'Beam'}; expected {option}=VALUE: {meaning}.")


def beam_options(given: Sequence[str]) -> list[str]:
    """Returns all of Beam's options: the given ones, with a runner and with the address of LOOPBACK's workers."""
    runner = [] if _named(given, "--runner") else [f"--runner={FN_API_RUNNER}"]
    image = [] if _named(given, "--sdk_container_image") else [NO_SDK_PACKAGE]
    return [*runner, *image, *_served(given)]


def is_local(given: Sequence[str]) -> bool:
    """Tells whether Beam's workers are on this machine, and reach what it reaches."""
    runners = [argument.partition("=")[2] for argument in given if argument.startswith("--runner=")]
    return all(runner.rpartition(".")[2] in _LOCAL for runner in runners)


def _served(given: Sequence[str]) -> list[str]:
    """Returns options in which LOOPBACK has become the address of this process's own pool of workers."""
    if LOOPBACK not in given or any(PROCESS_WORKERS in argument for argument in given):
        return list(given)
    from components.worker_pool import serve_workers

    others = [argument for argument in given if argument != LOOPBACK]
    return [*others, "--environment_type=EXTERNAL", f"--environment_config={serve_workers()}"]


def _value(given: Sequence[str], option: str) -> str:
    """Returns an option's value, the last where it is given more than once; empty where it is not."""
    return next((text.partition("=")[2] for text in reversed(given) if text.startswith(f"{option}=")), "")


def _named(given: Sequence[str], option: str) -> bool:
    return any(argument.partition("=")[0] == option for argument in given)


def _check_given(runner: str | None, given: Sequence[str]) -> None:
    for argument in given:
        if not argument.startswith("--"):
            raise ConfigError(f"--beam {argument}: expected an option of Beam, such as --beam=--parallelism=2.")
    if runner is not None and _named(given, "--runner"):
        raise ConfigError(f"--beam-runner {runner}: found --beam=--runner, too; expected one of them.")


def _checked_runner(runner: str) -> str:
    """Returns another runner's name; one that is neither a mode nor a runner's name is refused."""
    if runner.endswith("Runner"):
        return runner
    known = (*MODES, "FlinkRunner", "SparkRunner", "DataflowRunner")
    raise ConfigError(f"--beam-runner {runner}: expected one of {', '.join(known)}{nearest(runner, known)}.")


def _fn_api_mode(runner: str | None, workers: int | None) -> list[str]:
    if workers is not None and workers < 1:
        raise ConfigError(f"--beam-workers {workers}: expected at least 1.")
    mode = runner or ("multi-processing" if (workers or 1) > 1 else None)
    if mode == "in-memory" and (workers or 1) > 1:
        raise ConfigError(
            f"--beam-workers {workers}: in-memory has one worker; expected --beam-runner multi-processing or "
            "multi-threading."
        )
    told = [f"--direct_running_mode={MODES[mode]}"] if mode else []
    return told + ([f"--direct_num_workers={workers}"] if workers else [])


def _other_workers(runner: str, workers: int | None) -> list[str]:
    if workers is None:
        return []
    option = _WORKERS.get(runner.rpartition(".")[2])
    if option is None:
        raise ConfigError(
            f"--beam-workers {workers}: is for FnApiRunner and FlinkRunner; expected this runner's own option, as "
            "--beam=--OPTION=VALUE."
        )
    return [f"{option}={workers}"]
