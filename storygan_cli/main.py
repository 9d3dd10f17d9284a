"""The command line `storygan`: registers the commands and turns errors into messages and exit codes.

Importing this module is fast: a command imports TensorFlow, TFX and the other packages of the project only when it
runs. An error that the user can correct is printed as one paragraph, and the exit code is 1. `--debug` shows the
traceback and the log messages of the libraries.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
import typer.core

import storygan_tf
from storygan_cli import batch, compare, compile, data, evaluate, export, generate, lineage, prepare, run, serve, train
from storygan_tf.common.errors import StoryGANError

DEBUG_VARIABLE = "STORYGAN_DEBUG"

EXTRAS = {
    "aiohttp": "serving",
    "apache_beam": "pipeline",
    "boto3": "s3",
    "grpc": "serving",
    "grpc_health": "serving",
    "grpc_reflection": "serving",
    "kfp": "kubeflow",
    "mitsuba": "render",
    "onnxruntime": "eval",
    "prometheus_client": "serving",
    "pyarrow": "parquet",
    "pyarrow_hotfix": "parquet",
    "tensorflow_data_validation": "pipeline",
    "tensorflow_transform": "pipeline",
    "tfx": "pipeline",
}
"""The extra of this distribution that installs each optional package."""

EPILOG = "Example: storygan run --data runs/data/quick --out runs/quick --preset quick"


class _Interruptible(typer.core.TyperGroup):
    """A command group whose exit code is 130, as shells expect, when the user presses Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if _debug_enabled():
                raise
            print("\nstorygan: interrupted; run the same command again to continue.", file=sys.stderr)
            raise SystemExit(130) from None


app = typer.Typer(
    name="storygan",
    cls=_Interruptible,
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data.app, name="data")
app.command(epilog=run.EPILOG)(run.run)
app.command(epilog=prepare.EPILOG)(prepare.prepare)
app.command(epilog=train.EPILOG)(train.train)
app.command(epilog=generate.EPILOG)(generate.generate)
app.command(epilog=batch.EPILOG)(batch.batch)
app.command(epilog=export.EPILOG)(export.export)
app.command(epilog=serve.EPILOG, context_settings=serve.CONTEXT)(serve.serve)
app.command(epilog=evaluate.EPILOG)(evaluate.evaluate)
app.command(epilog=compare.EPILOG)(compare.compare)
app.command(epilog=lineage.EPILOG)(lineage.lineage)
app.command("compile", epilog=compile.EPILOG)(compile.compile_pipeline)


def _print_version(requested: bool) -> None:
    if requested:
        print(f"storygan {storygan_tf.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    debug: Annotated[
        bool,
        typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Show tracebacks and the log messages of the libraries."),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """StoryGAN: draw a sequence of pictures for a sequence of sentences."""
    del version
    # Set in the environment so that the processes that a command starts inherit it.
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
    else:
        os.environ.pop(DEBUG_VARIABLE, None)
        silence_libraries()


def silence_libraries() -> None:
    """Hides Python warnings and the log messages of TensorFlow, absl and Beam.

    Call it before TensorFlow is imported.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    for name in ("absl", "tensorflow", "apache_beam"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    Args:
        arguments: command-line arguments; by default those of the process.

    Raises:
        SystemExit: always. The code is 0 for success, 1 for a failure, 2 for wrong usage and 130 for an interruption.
            `storygan train` has more codes (docs/devices.md).
    """
    try:
        app(args=arguments, prog_name="storygan")
    except Exception as error:
        if _debug_enabled():
            raise
        print(_error_message(error), file=sys.stderr)
        raise SystemExit(1) from None


def _debug_enabled() -> bool:
    return bool(os.environ.get(DEBUG_VARIABLE))


def _error_message(error: Exception) -> str:
    """Returns the text that is printed for an error: how to correct it, or how to get the traceback."""
    if isinstance(error, StoryGANError):
        return f"storygan: {error}"
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package in EXTRAS:
        return f"storygan: {error}. Install it with the extra that has it: pip install 'storygan[{EXTRAS[package]}]'"
    message = " ".join(str(error).split()) or "no message"
    return (
        f"storygan: {type(error).__name__}: {message}\n"
        "For the traceback run the same command as `storygan --debug ...`."
    )
