"""Story folders made by code, for every room's tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

COLOURS = {"red": (220, 30, 30), "green": (30, 160, 40), "blue": (40, 70, 220), "yellow": (240, 220, 40)}
PLACES = ("left", "middle", "right")


def draw_frame(squares: list[tuple[str, int, int]], path: Path) -> None:
    """Draws coloured squares on grey: (colour, column, row)."""
    image = Image.new("RGB", (96, 72), (128, 128, 128))
    pen = ImageDraw.Draw(image)
    for colour, column, row in squares:
        pen.rectangle((8 + 32 * column, 4 + 24 * row, 24 + 32 * column, 20 + 24 * row), COLOURS[colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def make_story_folder(
    path: Path,
    train: int = 6,
    test: int = 2,
    *,
    frames: int = 4,
    split: bool = True,
    labels: bool = True,
    objects: bool = True,
) -> Path:
    """Writes a story folder of coloured squares: frame k shows squares 1 to k.

    Args:
        path: the folder to make.
        train: stories for training.
        test: stories for testing.
        frames: frames a story.
        split: whether stories name their split.
        labels: whether they have labels.
        objects: whether they have objects.

    Returns:
        `path`.
    """
    lines = []
    for number in range(train + test):
        squares = [
            (list(COLOURS)[(number + 3 * frame) % 4], (number // 3 + frame) % 3, (number + number // 2 + frame) % 3)
            for frame in range(frames)
        ]
        images = [f"images/s{number:03d}_{frame + 1}.png" for frame in range(frames)]
        for frame, image in enumerate(images):
            draw_frame(squares[: frame + 1], path / image)
        story = {
            "story_id": f"s{number:03d}",
            "sentences": [
                f"A {colour} square, {PLACES[column]} in row {row}, is number {frame}."
                for frame, (colour, column, row) in enumerate(squares)
            ],
            "images": images,
        }
        if split:
            story["split"] = "train" if number < train else "test"
        if labels:
            story["labels"] = [sorted({square[0] for square in squares[: frame + 1]}) for frame in range(frames)]
        if objects:
            story["objects"] = [list(map(describe, squares[: frame + 1])) for frame in range(frames)]
        lines.append(json.dumps(story) + "\n")
    path.mkdir(parents=True, exist_ok=True)
    (path / "stories.jsonl").write_text("".join(lines))
    return path


def describe(square: tuple[str, int, int]) -> dict:
    colour, column, row = square
    attributes = {"shape": "square", "colour": colour, "material": "paint", "size": "small"}
    return attributes | {"x": (16 + 32 * column) * 64 / 96, "y": (12 + 24 * row) * 64 / 72}


@pytest.fixture(scope="session")
def story_folder():
    """Gives `make_story_folder`: path, train, test, and options, to a story folder."""
    return make_story_folder


class StoryLines:
    """The lines of a story folder, to be read and edited."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "stories.jsonl"

    def read(self) -> list[dict]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]

    def edit(self, index: int, **values) -> dict:
        """Sets values of one line; None removes them. Returns the line as it was."""
        lines = self.read()
        before = dict(lines[index])
        lines[index] = {key: value for key, value in (lines[index] | values).items() if value is not None}
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return before


@pytest.fixture(scope="session")
def story_lines():
    """Gives `StoryLines` of a folder."""
    return StoryLines
