"""Every variant changes settings that exist."""

from __future__ import annotations

import pytest
from variants import TABLES, assignments

from storygan_tf.config import presets

VARIANTS = [(table, name) for table, variants in TABLES.items() for name in variants]


@pytest.mark.parametrize(("table", "name"), VARIANTS, ids=lambda value: value.replace(" ", "_"))
def test_a_variant_changes_nothing_but_its_settings(table, name):
    changes = assignments(TABLES[table][name])
    changed = presets.load("blocks").override(changes)
    assert (changed == presets.load("blocks")) == (not changes)
