"""Fixtures for the tests of the pipeline."""

from __future__ import annotations

import functools

import pytest


@pytest.fixture(scope="module")
def cached_fingerprints():
    """Computes the code fingerprint of each step once per module of tests, which compile the pipeline many times."""
    from pipeline import code_fingerprint, pipeline, step_inputs

    @functools.cache
    def computed(file, *modules):
        return code_fingerprint.code_fingerprint(*modules)

    def cached(*modules):
        # The fingerprints are of the sources next to this file, which a test may replace.
        return computed(code_fingerprint.__file__, *modules)

    with pytest.MonkeyPatch.context() as patch:
        for module in (pipeline, step_inputs):
            patch.setattr(module, "code_fingerprint", cached)
        yield
