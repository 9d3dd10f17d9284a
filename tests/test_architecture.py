"""The house's rules: which room may import which, what stays light, and what no tracked file may say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TFX = {
    "apache_beam",
    "ml_metadata",
    "tensorflow_data_validation",
    "tensorflow_model_analysis",
    "tensorflow_transform",
    "tfx",
    "tfx_bsl",
}

FORBIDDEN = {
    "storygan_tf": TFX | {"components", "pipeline", "serving", "storygan_cli"},
    "components": {"pipeline", "serving", "storygan_cli"},
    "pipeline": {"serving", "storygan_cli"},
    "serving": {"pipeline", "storygan_cli"},
    "storygan_cli": set(),
}

LIGHT = sys.stdlib_module_names | {"typer", "rich", "storygan_cli"}

MACHINE = [
    r"(?<![\w.])/(root|home|work|Users)/",
    r"pypi\.org",
    r"files\.pythonhosted",
    r"registry\.npmjs",
    r"repo1?\.maven",
    r"proxy\.golang",
    r"deb\.debian",
]
"""Paths of a machine, and hosts of registries."""


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(node: ast.AST) -> list[str]:
    """Returns the absolute names that an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def statements_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Walks what runs when a module is imported: no function bodies, nothing for type checkers only."""
    for child in ast.iter_child_nodes(node):
        functions = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not functions and not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from statements_at_import(child)


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def modules_after(statement: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_import_only_what_they_may(room):
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
        for path in sources(room)
        for node in ast.walk(ast.parse(path.read_bytes()))
        for name in imported(node)
        if name.partition(".")[0] in FORBIDDEN[room]
    ]
    assert wrong == []


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_within_the_project_are_absolute(room):
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(room)
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert wrong == []


def test_the_command_line_imports_lazily():
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
        for path in sources("storygan_cli")
        for node in statements_at_import(ast.parse(path.read_bytes()))
        for name in imported(node)
        if name.partition(".")[0] not in LIGHT
        and name != "storygan_tf"
        and not name.startswith("storygan_tf.common.errors.")
    ]
    assert wrong == []


@pytest.mark.parametrize("statement", ["import storygan_tf", "import storygan_cli.main"])
def test_starts_without_tensorflow(statement):
    heavy = {"tensorflow", "numpy", "keras", "tensorflow_hub", "PIL", "jinja2", "mitsuba"} | TFX
    assert modules_after(statement) & heavy == set()


def test_the_configuration_needs_no_tensorflow():
    assert "tensorflow" not in modules_after(
        "from storygan_tf import Settings, TrainConfig, StoryGANConfig, PhaseConfig"
    )


def test_public_names():
    statement = """
import storygan_tf
assert set(storygan_tf.__all__) <= set(dir(storygan_tf))
assert storygan_tf.StoryGANConfig is storygan_tf.StoryGANConfig
assert not hasattr(storygan_tf, "StoryGun")
assert not {name for name in storygan_tf._DEFINED_IN} - set(storygan_tf.__all__)
"""
    modules_after(statement)


def test_the_model_is_reached_by_its_public_name():
    modules_after("import storygan_tf\nassert storygan_tf.StoryGAN.__name__ == 'StoryGAN'")


def test_every_package_is_one():
    """A folder of modules without `__init__.py` would be left out of the wheel."""
    folders = {path.parent for room in FORBIDDEN for path in sources(room)}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_no_paths_of_a_machine_and_no_registries():
    pattern = re.compile("|".join(MACHINE))
    wrong = []
    for path in tracked_files():
        if path == Path(__file__) or b"\0" in (content := path.read_bytes()):
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            if pattern.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert wrong == []


def test_no_generated_files():
    generated = re.compile(r"(\.pyc|\.egg-info|\.log|\.sqlite)(/|$)|^runs/|__pycache__")
    assert [str(path) for path in tracked_files() if generated.search(str(path.relative_to(ROOT)))] == []
