"""The rules of the project: who may import whom, what starts without TensorFlow, and what no tracked file may contain.

A room is one of the top-level packages: `storygan_tf`, `components`, `pipeline`, `serving` and `storygan_cli`.
"""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
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

PACKAGES = (
    "common",
    "config",
    "data",
    "text",
    "models",
    "metrics",
    "export",
    "training",
    "evaluation",
    "reporting",
)
"""The packages of storygan_tf in their order: each imports only itself and those before it."""

FORBIDDEN = {
    "storygan_tf": TFX | {"components", "pipeline", "serving", "storygan_cli"},
    "components": {"pipeline", "serving", "storygan_cli"},
    "pipeline": {"serving", "storygan_cli"},
    "serving": {"pipeline", "storygan_cli"},
    "storygan_cli": set(),
}
"""Packages that each room must not import."""

LIGHT = sys.stdlib_module_names | {"typer", "rich", "storygan_cli"}
"""Packages that the command line may import at the start."""

CONVENTIONAL_NAMES = {"__init__", "__main__", "compat", "component", "executor"}
"""Names of modules that mean the same thing in every package."""

SHARED_NAMES = {
    "evaluate": "the command `storygan evaluate`, and the evaluation that it runs",
    "flintstones": "the reader of the data set FlintstonesSV, and its preset",
    "lineage": "the command `storygan lineage`, and the records that it shows",
    "pororo": "the reader of the data set Pororo-SV, and its preset",
}
"""Names of modules that several packages use for the same thing, with the reason."""

MACHINE = [
    r"(?<![\w.])/(root|home|work|Users)/",
    r"pypi\.org",
    r"files\.pythonhosted",
    r"registry\.npmjs",
    r"repo1?\.maven",
    r"proxy\.golang",
    r"deb\.debian",
]
"""Patterns of paths that exist on one machine only, and of hosts of package registries."""


def sources(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


def imported(node: ast.AST) -> list[str]:
    """Returns the absolute names that an import statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.level == 0:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def all_imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line and the name of every import in a file, also those in functions and for type checkers only."""
    return ((node.lineno, name) for node in ast.walk(parse(path)) for name in imported(node))


def public_names_used(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line and the name of every use of `storygan_tf.NAME`, which imports the module that defines NAME."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "storygan_tf":
            yield node.lineno, f"storygan_tf.{node.attr}"


def statements_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes that run when a module is imported: none in functions, none for type checkers only."""
    for child in ast.iter_child_nodes(node):
        functions = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if not functions and not (isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)):
            yield child
            yield from statements_at_import(child)


def imports_at_import(path: Path) -> Iterator[tuple[int, str]]:
    """Yields the line and the name of every import that runs when a file is imported."""
    return ((node.lineno, name) for node in statements_at_import(parse(path)) for name in imported(node))


def project_modules() -> dict[str, Path]:
    """Returns the file of each module of the project by its name; a package has the name of its folder."""
    files = [path for room in FORBIDDEN for path in sources(room)]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def parents(module: str) -> list[str]:
    """Returns the packages that contain a module, which Python imports before it."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def modules_imported_by(module: str, modules: dict[str, Path]) -> set[str]:
    """Returns the modules of the project that Python imports when it imports `module`.

    Importing `a.b` also imports the package `a`. This counts only if `module` is not itself in `a`, because then Python
    has started to import `a` already.
    """
    found = set()
    for _, name in imports_at_import(modules[module]):
        target = name if name in modules else name.rpartition(".")[0]
        if target in modules:
            found |= {target} | set(parents(target)) - {module, *parents(module)}
    return found


def tracked_files() -> list[Path]:
    """Returns the files that git tracks; skips the test if this is not a git checkout."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


def modules_after(statement: str) -> set[str]:
    """Returns the names of the modules that are loaded after a fresh process has run a statement."""
    done = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_import_only_allowed_packages(room):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(room)
        for line, name in all_imports(path)
        if name.partition(".")[0] in FORBIDDEN[room]
    ]
    assert wrong == []


def test_the_order_has_all_packages_of_storygan_tf():
    folders = {path.relative_to(ROOT / "storygan_tf").parts[0] for path in sources("storygan_tf")} - {"__init__.py"}
    assert folders == set(PACKAGES)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_themselves_and_those_before_them(package):
    names = ("__version__", *PACKAGES[: PACKAGES.index(package) + 1])
    allowed = {"storygan_tf", *(f"storygan_tf.{name}" for name in names)}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources(f"storygan_tf/{package}")
        for line, name in (*all_imports(path), *public_names_used(path))
        if name.partition(".")[0] == "storygan_tf" and ".".join(name.split(".")[:2]) not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_through_others():
    modules = project_modules()
    graph = {module: modules_imported_by(module, modules) for module in modules}
    assert sum(map(len, graph.values())) > len(modules), "found too few imports for the test to mean something"
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"an import cycle: {' is imported by '.join(error.args[1])}")


def test_modules_have_different_names():
    places = defaultdict(list)
    for room in FORBIDDEN:
        for path in sources(room):
            places[path.stem].append(str(path.relative_to(ROOT)))
    repeated = {name: paths for name, paths in places.items() if len(paths) > 1 and name not in CONVENTIONAL_NAMES}
    assert {name: paths for name, paths in repeated.items() if name not in SHARED_NAMES} == {}
    assert set(SHARED_NAMES) <= set(repeated), "SHARED_NAMES has names that are not shared any more"


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_within_the_project_are_absolute(room):
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources(room)
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert wrong == []


def test_the_command_line_imports_lazily():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources("storygan_cli")
        for line, name in imports_at_import(path)
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


def test_every_package_has_an_init():
    """The wheel leaves out a folder of modules without `__init__.py`."""
    folders = {path.parent for room in FORBIDDEN for path in sources(room)}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_no_paths_of_one_machine_and_no_registries():
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


DOCUMENTS = ("README.md", "Makefile", "Dockerfile", ".ci/run", "docs/*.md", "scripts/**/*.*")
NOT_IN_THE_TREE = {
    "pipeline.py",
    "pipeline.yaml",  # files, not attributes
    "serving.bulk_infer",  # a setting
    "storygan_tf/export/pretrained/NAME",
}


def defined_names(module: Path) -> set[str]:
    """Returns all names that a module defines or imports, at any depth."""
    nodes = list(ast.walk(ast.parse(module.read_bytes())))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name)}
    return names | {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}


def exists(dotted: str) -> bool:
    """Returns whether a dotted name is a package, a module, or a name in a module of the project."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:length])
        for source in (path.with_suffix(".py"), path / "__init__.py"):
            if source.is_file():
                return length == len(parts) or parts[length] in defined_names(source)
    return False


def test_paths_and_names_in_documents_exist():
    rooms = "|".join(FORBIDDEN)
    dotted = re.compile(rf"(?<![\w./])(?:{rooms})(?:\.\w+)+")
    path = re.compile(rf"(?<![\w./-])(?:{rooms}|tests|benchmarks|scripts|docs)/[\w./-]*\w")
    wrong = []
    for document in sorted(file for pattern in DOCUMENTS for file in ROOT.glob(pattern) if file.is_file()):
        text = document.read_text(errors="replace")
        names = {name for name in dotted.findall(text) if not exists(name)}
        paths = {name for name in path.findall(text) if not (ROOT / name).exists()}
        wrong += [f"{document.relative_to(ROOT)}: {name}" for name in sorted((names | paths) - NOT_IN_THE_TREE)]
    assert wrong == []
