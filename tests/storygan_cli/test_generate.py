"""`storygan generate`: the picture it draws, and the errors for arguments that cannot be used."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from storygan_cli.main import app
from storygan_tf.common.errors import DataError, ModelError


def generate(*arguments):
    return CliRunner().invoke(app, ["generate", *(str(argument) for argument in arguments)])


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_without_sentences_the_first_example_story_is_drawn(tmp_path):
    done = generate("--model", "blocks", "--out", tmp_path / "new" / "a.png")
    assert (done.exit_code, done.output) == (0, f"{tmp_path / 'new' / 'a.png'}\n")
    examples = generate("--model", "blocks").output
    first = examples.split("\n1.\n")[1].split("\n2.\n")[0]
    sentences = [line.strip() for line in first.strip().splitlines()]
    given = [part for sentence in sentences for part in ("--sentence", sentence)]
    assert generate("--model", "blocks", *given, "--out", tmp_path / "b.png").exit_code == 0
    np.testing.assert_array_equal(picture(tmp_path / "new" / "a.png"), picture(tmp_path / "b.png"))
    assert picture(tmp_path / "b.png").std() > 1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--model", "block"], ModelError, "did you mean 'blocks'"),
        (["--model", "blocks", "--sentence", "a"], DataError, "--out: missing"),
        (["--model", "blocks", "--out", "a.jpg"], DataError, "found '.jpg', expected .png or .gif"),
        (["--model", "blocks", "--story", "none.txt", "--out", "a.png"], DataError, "--story none.txt: expected"),
    ],
)
def test_arguments_that_cannot_be_used(arguments, error, words):
    done = generate(*arguments)
    assert isinstance(done.exception, error), done.output
    assert words in str(done.exception)
