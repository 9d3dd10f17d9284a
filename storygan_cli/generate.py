"""`storygan generate`: draws one story."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storygan_cli.model_options import Model, ServedName, Target, TlsCa, VersionLabel, require_model_or_target
from storygan_cli.remote_folders import local_model, require_local
from storygan_tf.common.errors import DataError, ModelError

if TYPE_CHECKING:
    from serving.client import ServedStoryGAN
    from storygan_tf.export.loaded_model import SavedStoryGAN

    Drawer = SavedStoryGAN | ServedStoryGAN

EPILOG = "Example: storygan generate --model blocks --story story.txt --seed 7 --out board.png"


def generate(
    model: Model = None,
    target: Target = None,
    sentence: Annotated[
        list[str] | None, typer.Option(help="One sentence of the story. Repeat it, once for each frame.")
    ] = None,
    story: Annotated[Path | None, typer.Option(help="Text file with one sentence per line.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise, a whole number.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Picture to write: .png for a storyboard, .gif for an animation of the frames.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if a sentence has words that are not in the training data.")
    ] = False,
    served_name: ServedName = "storygan",
    label: VersionLabel = None,
    tls_ca: TlsCa = None,
) -> None:
    """Draw a story, by default the model's first example story. Without --out, print its example stories."""
    require_model_or_target(model, target, DataError)
    sentences = _sentences(sentence or [], story)
    if sentences and out is None:
        raise DataError("--out: missing; expected a file name that ends in .png or .gif.")
    if out is not None and out.suffix not in (".png", ".gif"):
        raise DataError(f"--out {out}: found {out.suffix or 'no ending'!r}, expected .png or .gif.")
    require_local("--out", out, "a picture is not stored in a bucket")
    with local_model(model) as local:
        drawer = _load(local, target, served_name, label, tls_ca)
        if out is None:
            _print_examples(
                drawer, f"--model {shlex.quote(model)}" if model else f"--target {shlex.quote(target or '')}"
            )
            return
        sentences = sentences or _first_example(drawer)
        _check_words(drawer, sentences, strict)
        _draw(drawer, sentences, seed, out)
    print(out)


def _load(model: str | None, target: str | None, name: str, label: str | None, tls_ca: Path | None) -> Drawer:
    """Returns the exported model, or a client of the server where `model` is None."""
    if model is not None:
        from storygan_tf.export.loaded_model import SavedStoryGAN

        return SavedStoryGAN(model)
    from serving.client import ServedStoryGAN, Tls

    return ServedStoryGAN(target or "", model=name, label=label, tls=Tls(ca=tls_ca) if tls_ca else None)


def _sentences(sentences: list[str], story: Path | None) -> list[str]:
    """Returns the sentences of `--sentence`, or those of the file `--story`."""
    if story is None:
        return sentences
    if sentences:
        raise DataError("--sentence and --story: found both, expected one of them.")
    try:
        lines = story.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--story {story}: expected a UTF-8 text file with one sentence per line ({error}).") from error
    sentences = [line.strip() for line in lines if line.strip()]
    if not sentences:
        raise DataError(f"--story {story}: found no sentence, expected one per line.")
    return sentences


def _print_examples(drawer: Drawer, option: str) -> None:
    """Prints the model's example stories and the command that draws the first of them."""
    print(f"This model draws stories of {drawer.frames} sentences. Examples that are not in its training data:")
    for number, story in enumerate(drawer.info["examples"], start=1):
        print(f"\n{number}.")
        for sentence in story:
            print(f"   {sentence}")
    flags = " ".join(f"--sentence {shlex.quote(sentence)}" for sentence in drawer.info["examples"][0])
    print(f"\nTo draw the first:\n   storygan generate {option} {flags} --out board.png")


def _first_example(drawer: Drawer) -> list[str]:
    """Returns the sentences of the model's first example story."""
    if not drawer.info["examples"]:
        raise DataError("--sentence and --story: found neither, and the model has no example story; use one of them.")
    return list(drawer.info["examples"][0])


def _check_words(drawer: Drawer, sentences: list[str], strict: bool) -> None:
    """Prints a warning, or raises an error if `strict`, for words that are not in the model's training data."""
    unknown = drawer.unknown_words(sentences)
    if not unknown:
        return
    message = f"words that are not in the training data: {', '.join(unknown)}; the picture cannot show what they mean."
    if strict:
        raise ModelError(f"{message} Use other words, or leave out --strict.")
    typer.echo(f"warning: {message}", err=True)


def _draw(drawer: Drawer, sentences: list[str], seed: int, out: Path) -> None:
    """Draws the story and writes the picture `out`, a storyboard (.png) or an animation (.gif)."""
    from storygan_tf.data.storyboard import StoryRow, story_gif, storyboard

    frames = drawer.generate([sentences], [seed])[0]
    if out.suffix == ".gif":
        story_gif(frames, out)
    else:
        storyboard([StoryRow("", tuple(sentences), {"generated": frames})], out)
