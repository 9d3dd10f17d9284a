"""`storygan generate`: a story to a picture."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from storygan_cli.remote_folders import local_model, require_local
from storygan_tf.common.errors import DataError, ModelError

if TYPE_CHECKING:
    from serving.client import ServedStoryGAN
    from storygan_tf.export.loaded_model import SavedStoryGAN

    Drawer = SavedStoryGAN | ServedStoryGAN

EPILOG = "Example: storygan generate --model blocks --story story.txt --seed 7 --out board.png"


def generate(
    model: Annotated[
        str | None,
        typer.Option(help="A pretrained name, a run directory, a model base directory or a version directory."),
    ] = None,
    target: Annotated[str | None, typer.Option(help="Instead of --model: host:port of a server's gRPC.")] = None,
    sentence: Annotated[list[str] | None, typer.Option(help="A sentence; once for each frame.")] = None,
    story: Annotated[Path | None, typer.Option(help="A text file with a sentence a line.")] = None,
    seed: Annotated[int | None, typer.Option(help="Whole number; by default a hash of the sentences.")] = None,
    out: Annotated[Path | None, typer.Option(help="The picture: .png for a board, .gif for frames in turn.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse words that training never saw.")] = False,
    served_name: Annotated[str, typer.Option(help="With --target: the model's name there.")] = "storygan",
    label: Annotated[str | None, typer.Option(help="With --target: a version label, such as canary.")] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(help="With --target: use TLS, and trust the certificates in this PEM file.")
    ] = None,
) -> None:
    """Draw a story, by default the first that the model suggests; without --out, print what it suggests."""
    if (model is None) == (target is None):
        raise DataError(f"--model and --target: found {'neither' if model is None else 'both'}, expected one of them.")
    sentences = _sentences(sentence or [], story)
    if sentences and out is None:
        raise DataError("--out: missing; expected a file name that ends in .png or .gif.")
    if out is not None and out.suffix not in (".png", ".gif"):
        raise DataError(f"--out {out}: found {out.suffix or 'no ending'!r}, expected .png or .gif.")
    require_local("--out", out, "a picture is not stored")
    with local_model(model) as place:
        saved = _load(place, target, served_name, label, tls_ca)
        if out is None:
            _suggest(saved, f"--model {shlex.quote(model)}" if model else f"--target {shlex.quote(target or '')}")
            return
        sentences = sentences or _first_suggested(saved)
        _check_words(saved, sentences, strict)
        _draw(saved, sentences, seed, out)
    print(out)


def _load(model: str | None, target: str | None, name: str, label: str | None, tls_ca: Path | None) -> Drawer:
    if model is not None:
        from storygan_tf.export.loaded_model import SavedStoryGAN

        return SavedStoryGAN(model)
    from serving.client import ServedStoryGAN, Tls

    return ServedStoryGAN(target or "", model=name, label=label, tls=Tls(ca=tls_ca) if tls_ca else None)


def _sentences(given: list[str], story: Path | None) -> list[str]:
    if story is None:
        return given
    if given:
        raise DataError("--sentence and --story: found both, expected one of them.")
    try:
        lines = story.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--story {story}: expected a UTF-8 text file with a sentence a line ({error}).") from error
    sentences = [line.strip() for line in lines if line.strip()]
    if not sentences:
        raise DataError(f"--story {story}: holds no sentence, expected one a line.")
    return sentences


def _suggest(saved: Drawer, option: str) -> None:
    """Prints three stories and the command that draws the first."""
    print(f"This model tells stories of {saved.frames} sentences, such as these that it never saw in training:")
    for number, story in enumerate(saved.info["examples"], start=1):
        print(f"\n{number}.")
        for sentence in story:
            print(f"   {sentence}")
    flags = " ".join(f"--sentence {shlex.quote(sentence)}" for sentence in saved.info["examples"][0])
    print(f"\nTo draw the first:\n   storygan generate {option} {flags} --out board.png")


def _first_suggested(saved: Drawer) -> list[str]:
    """Returns the first story that the model offers to draw."""
    if not saved.info["examples"]:
        raise DataError("--sentence and --story: found neither, and the model suggests no story; give one of them.")
    return list(saved.info["examples"][0])


def _check_words(saved: Drawer, sentences: list[str], strict: bool) -> None:
    unknown = saved.unknown_words(sentences)
    if not unknown:
        return
    message = f"words that training never saw: {', '.join(unknown)}; the picture cannot show what they mean."
    if strict:
        raise ModelError(f"{message} Use other words, or leave out --strict.")
    typer.echo(f"warning: {message}", err=True)


def _draw(saved: Drawer, sentences: list[str], seed: int | None, out: Path) -> None:
    from storygan_tf.data.storyboard import StoryRow, story_gif, storyboard

    frames = saved.generate([sentences], None if seed is None else [seed])[0]
    if out.suffix == ".gif":
        story_gif(frames, out)
    else:
        storyboard([StoryRow("", tuple(sentences), {"generated": frames})], out)
