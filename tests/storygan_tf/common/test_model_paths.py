"""The newest version in a model base directory."""

from __future__ import annotations

import pytest

from storygan_tf.common.model_paths import newest_version, newest_version_among


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], ""),
        (["9/saved_model.pb", "10/saved_model.pb", "10/variables/variables.index"], "10"),
        (["9/saved_model.pb", "10/variables/variables.index"], "9"),
        (["1/old/saved_model.pb", "latest/saved_model.pb", "saved_model.pb"], ""),
    ],
)
def test_the_newest_complete_version(tmp_path, files, expected):
    assert newest_version_among(files) == expected
    for file in files:
        path = tmp_path / "base" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert newest_version(str(tmp_path / "base")) == expected
