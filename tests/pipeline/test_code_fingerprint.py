"""The code fingerprint, on small trees: an edit changes the fingerprints of what depends on it, and no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.code_fingerprint import code_fingerprint

TREE = {
    "storygan_tf/__init__.py": """
import importlib
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from storygan_tf.model import Model
def __getattr__(name):
    return getattr(importlib.import_module("storygan_tf.model"), name)
""",
    "storygan_tf/config.py": "import numpy",
    "storygan_tf/model.py": "from .layers import gist\nfrom . import config",
    "storygan_tf/layers/__init__.py": "",
    "storygan_tf/layers/gist.py": "",
    "storygan_tf/layers/unused.py": "",
    "storygan_tf/layers/table.json": "{}",
    "storygan_tf/report.py": """
def write():
    if True:
        from storygan_tf.figures import draw
    open("templates/report.html")
""",
    "storygan_tf/figures.py": "",
    "storygan_tf/templates/report.html": "<p>",
    "storygan_tf/templates/deep/style.css": "p {}",
    "storygan_tf/whose.txt": "",
    "components/__init__.py": "",
    "components/evaluator/__init__.py": "",
    "components/evaluator/executor.py": "from storygan_tf import report",
    "components/evaluator/component.py": "from components.evaluator import executor",
    "pipeline/__init__.py": "",
    "pipeline/trainer.py": "from storygan_tf import Model",
    "pipeline/other_trainer.py": "import storygan_tf\nmodel = storygan_tf.Model",
    "pipeline/star_trainer.py": "from storygan_tf import *",
    "pipeline/settings.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pipeline.trainer\n"
    "import storygan_tf.config as c",
    "pipeline/circle.py": "import pipeline.round",
    "pipeline/round.py": "from pipeline import circle",
}

MODULES = (
    "components.evaluator.component",
    "components.evaluator.executor",
    "pipeline.circle",
    "pipeline.trainer",
    "storygan_tf.config",
    "storygan_tf.model",
)

EVALUATOR = {"components.evaluator.component", "components.evaluator.executor"}
MODEL = {"pipeline.trainer", "storygan_tf.model"}
STORYGAN = EVALUATOR | MODEL | {"storygan_tf.config"}


@pytest.fixture
def tree(tmp_path):
    for name, source in TREE.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    return tmp_path


def fingerprints(root: Path) -> dict[str, str]:
    return {name: code_fingerprint(name, root=root) for name in MODULES}


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("storygan_tf/__init__.py", STORYGAN),
        ("storygan_tf/config.py", MODEL | {"storygan_tf.config"}),
        ("storygan_tf/model.py", MODEL),
        ("storygan_tf/layers/__init__.py", MODEL),
        ("storygan_tf/layers/gist.py", MODEL),
        ("storygan_tf/layers/table.json", MODEL),
        ("storygan_tf/layers/unused.py", set()),
        ("storygan_tf/report.py", EVALUATOR),
        ("storygan_tf/figures.py", EVALUATOR),
        ("storygan_tf/templates/report.html", EVALUATOR),
        ("storygan_tf/templates/deep/style.css", EVALUATOR),
        ("storygan_tf/whose.txt", STORYGAN),
        ("components/__init__.py", EVALUATOR),
        ("components/evaluator/executor.py", EVALUATOR),
        ("components/evaluator/component.py", {"components.evaluator.component"}),
        ("pipeline/__init__.py", {"pipeline.trainer", "pipeline.circle"}),
        ("pipeline/round.py", {"pipeline.circle"}),
        ("pipeline/settings.py", set()),
        ("setup.py", set()),
        ("storygan_tf/.swap", set()),
        ("storygan_tf/__pycache__/config.pyc", set()),
    ],
)
def test_an_edit_changes_what_depends_on_it(tree, edited, changed):
    before = fingerprints(tree)
    (tree / edited).parent.mkdir(exist_ok=True)
    with (tree / edited).open("a") as file:
        file.write("\n# edited\n")
    after = fingerprints(tree)
    assert {name for name in MODULES if before[name] != after[name]} == changed


@pytest.mark.parametrize("trainer", ["trainer", "other_trainer", "star_trainer"])
def test_lazy_names_are_followed(tree, trainer):
    before = code_fingerprint(f"pipeline.{trainer}", root=tree)
    (tree / "storygan_tf/layers/gist.py").write_text("edited = True")
    assert code_fingerprint(f"pipeline.{trainer}", root=tree) != before


def test_what_only_type_checkers_import_is_not_followed(tree):
    before = code_fingerprint("pipeline.settings", root=tree)
    (tree / "pipeline/trainer.py").write_text("edited = True")
    assert code_fingerprint("pipeline.settings", root=tree) == before
    (tree / "storygan_tf/config.py").write_text("edited = True")
    assert code_fingerprint("pipeline.settings", root=tree) != before


def test_the_folder_does_not_change_the_fingerprint(tree, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "tree"
    tree.rename(elsewhere)
    moved = fingerprints(elsewhere)
    elsewhere.rename(tree)
    assert moved == fingerprints(tree)


def test_a_renamed_file_changes_the_fingerprint(tree):
    before = code_fingerprint("storygan_tf.model", root=tree)
    (tree / "storygan_tf/layers/table.json").rename(tree / "storygan_tf/layers/other.json")
    assert code_fingerprint("storygan_tf.model", root=tree) != before


def test_several_modules(tree):
    both = code_fingerprint("storygan_tf.config", "components.evaluator.executor", root=tree)
    assert both == code_fingerprint("components.evaluator.executor", "storygan_tf.config", root=tree)
    assert both != code_fingerprint("components.evaluator.executor", root=tree)


@pytest.mark.parametrize("name", ["storygan_tf.none", "numpy", "pipeline.trainer.run_fn"])
def test_unknown_module(tree, name):
    with pytest.raises(ModuleNotFoundError, match=name):
        code_fingerprint(name, root=tree)


def test_a_module_of_this_project():
    """The default root is the folder of this project."""
    fingerprint = code_fingerprint("storygan_tf.config.schema")
    assert len(fingerprint) == 64
    assert fingerprint == code_fingerprint("storygan_tf.config.schema", root=Path(__file__).parents[2])
    assert fingerprint != code_fingerprint("storygan_tf.text.sentence_encoder")
