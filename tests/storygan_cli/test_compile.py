"""`storygan compile` refuses invalid options before TFX is loaded, and every target has a module."""

from __future__ import annotations

import importlib.util

import pytest
from typer.testing import CliRunner

from storygan_cli.compile import TARGETS
from storygan_cli.main import app
from storygan_tf.common.errors import ConfigError

GIVEN = {"target": "kubeflow", "image": "image", "data": "/data", "root": "/root", "out": "pipeline.yaml"}


def run(*more, **options):
    given = [part for key, value in (GIVEN | options).items() for part in (f"--{key}", value)]
    return CliRunner().invoke(app, ["compile", *given, *more])


@pytest.mark.parametrize(
    ("more", "options", "words"),
    [
        ((), {"target": "kubeflo"}, "did you mean 'kubeflow'"),
        ((), {"target": "kubeflow-v1"}, "expected one of kubeflow, vertex, k8s-job"),
        (("--set", "cluster.retires=3"), {}, "did you mean 'retries'"),
        (("--set", "training.sead=3"), {}, "did you mean 'seed'"),
        ((), {"image": ""}, "--image"),
        ((), {"root": "root"}, "--root root: expected a URI"),
        ((), {"out": "pipeline.txt"}, "expected .yaml"),
    ],
)
def test_invalid_options_are_refused(more, options, words):
    done = run(*more, **options)
    assert isinstance(done.exception, ConfigError), done.output
    assert words in str(done.exception)


def test_every_target_has_its_module():
    assert all(importlib.util.find_spec(module) for module in TARGETS.values())


def test_help_has_an_example():
    shown = CliRunner().invoke(app, ["compile", "--help"]).output
    assert "Example: storygan compile --target kubeflow --image" in " ".join(shown.split())
