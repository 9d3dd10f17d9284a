"""The command line `storygan`: flags to configuration to library.

This module starts quickly: a command imports TensorFlow, TFX and the rooms of the project only when it runs. What a
user can mend is told in one paragraph and ends with exit code 1; `--debug` shows the traceback and the chatter of the
libraries.
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
"""Which extra of the distribution installs a package."""

EPILOG = "Example: storygan run --data runs/data/quick --out runs/quick --preset quick"


class _Interruptible(typer.core.TyperGroup):
    """A command group that ends with exit code 130, as shells expect, when the user interrupts it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            if _debug():
                raise
            print("\nstorygan: interrupted; run the same command again to go on.", file=sys.stderr)
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


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"storygan {storygan_tf.__version__}")
        raise typer.Exit()


@app.callback()
def _options(
    debug: Annotated[
        bool, typer.Option("--debug", envvar=DEBUG_VARIABLE, help="Show tracebacks and what the libraries log.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """StoryGAN: a sequence of pictures for a sequence of sentences."""
    del version
    # In the environment, so that processes started by a command do the same.
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
    else:
        os.environ.pop(DEBUG_VARIABLE, None)
        silence_libraries()


def silence_libraries() -> None:
    """Turns off what TensorFlow, absl and Python's warnings would print; call it before TensorFlow is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    warnings.simplefilter("ignore")
    for name in ("absl", "tensorflow", "apache_beam"):
        logging.getLogger(name).setLevel(logging.ERROR)
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and exits.

    Args:
        arguments: by default those of the process.

    Raises:
        SystemExit: always. Code 0: all of it worked; 1: it failed; 2: wrong usage; 130: interrupted.
    """
    try:
        app(args=arguments, prog_name="storygan")
    except Exception as error:
        if _debug():
            raise
        print(_paragraph(error), file=sys.stderr)
        raise SystemExit(1) from None


def _debug() -> bool:
    return bool(os.environ.get(DEBUG_VARIABLE))


def _paragraph(error: Exception) -> str:
    if isinstance(error, StoryGANError):
        return f"storygan: {error}"
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package in EXTRAS:
        return f"storygan: {error}. Install it with the extra that has it: pip install 'storygan[{EXTRAS[package]}]'"
    what = " ".join(str(error).split()) or "no message"
    return (
        f"storygan: {type(error).__name__}: {what}\nFor the traceback run the same command as `storygan --debug ...`."
    )
