"""A fingerprint of the code behind a pipeline step.

TFX's cache key contains a step's inputs and properties, but not the code behind a dotted name: after an edit of that
code TFX would take the old output from the cache. A step therefore has the fingerprint of its code as a property, so
that an edit runs exactly the steps again that depend on the edited code.

The fingerprint is computed from source files alone; nothing is imported or run. It does not cover modules that are
imported by a computed name (`importlib.import_module`) or started as processes; pass the names of those modules, too.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("storygan_tf", "storygan_cli", "components", "pipeline", "serving")
"""The project's own packages. Other packages are pinned by the lock file and not part of the fingerprint."""


def code_fingerprint(*modules: str, root: Path | None = None) -> str:
    """Returns a SHA-256 of the named modules and of all project modules that they import, directly or indirectly.

    It includes the `__init__.py` of the packages that contain these modules, and the data files of each module, such as
    templates. A data file lies in the folder of the module, or in a folder below it that is not a package. It belongs
    to the modules of that folder whose source contains its name, or to all of them if none does.

    Args:
        modules: dotted names, such as `pipeline.preprocessing`.
        root: folder that contains the project's packages; by default the one that contains this package.

    Returns:
        64 hexadecimal digits, the same for the same files in any folder.

    Raises:
        ModuleNotFoundError: if a named module is not part of the project.
    """
    tree = _Tree(root or Path(__file__).resolve().parents[1])
    for name in modules:
        if tree.source(name) is None:
            raise ModuleNotFoundError(f"code_fingerprint: {name!r} is not a module of {', '.join(PACKAGES)}.")
    digest = hashlib.sha256()
    for path in sorted(_files(tree, modules)):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(tree.root).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class _Tree:
    """The project's packages on disk."""

    root: Path

    def source(self, name: str) -> Path | None:
        """Returns the source file of module `name`, or None if the project has no such module."""
        parts = name.split(".")
        if parts[0] not in PACKAGES:
            return None
        stem = self.root.joinpath(*parts)
        for path in (stem / "__init__.py", stem.with_suffix(".py")):
            if path.is_file():
                return path
        return None


def _files(tree: _Tree, modules: tuple[str, ...]) -> set[Path]:
    files: set[Path] = set()
    for name in _reachable_modules(tree, modules):
        path = tree.source(name)
        if path is not None:
            files.update((path, *_data_files(path)))
        for package in _ancestors(name):
            files.update(filter(None, [tree.source(package)]))
    return files


def _reachable_modules(tree: _Tree, modules: tuple[str, ...]) -> set[str]:
    reached: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in reached and tree.source(name) is not None:
            reached.add(name)
            for module in (name, *_ancestors(name)):
                waiting.extend(_imports(tree, module))
    return reached


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _data_files(source: Path) -> Iterator[Path]:
    """Yields the data files that belong to a module (see `code_fingerprint`)."""
    siblings = {path: path.read_bytes() for path in source.parent.glob("*.py")}
    for entry in source.parent.iterdir():
        if entry.name == "__pycache__" or (entry / "__init__.py").exists():
            continue
        for path in filter(_is_data, entry.rglob("*") if entry.is_dir() else [entry]):
            users = [user for user, text in siblings.items() if {entry.name, path.name} & _names_in(text)]
            if not users or source in users:
                yield path


def _is_data(path: Path) -> bool:
    """Returns whether a path is a data file: neither code nor a backup or swap file of an editor."""
    return (
        path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(".") and path.name[-1] != "~"
    )


def _imports(tree: _Tree, name: str) -> Iterator[str]:
    """Yields the modules that module `name` imports when it runs, also inside its functions."""
    path = tree.source(name)
    if path is None:
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _import_nodes(path.read_bytes()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _imported(tree, alias)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(tree, node, package)


def _imported(tree: _Tree, alias: ast.alias) -> Iterator[str]:
    """Yields the modules that `import a.b` makes available: `a.b`, and those behind the lazy names of `a` and `a.b`."""
    yield alias.name
    for package in [alias.name] if alias.asname else [alias.name, *_ancestors(alias.name)]:
        yield from _lazy_names(tree, package).values()


def _imported_from(tree: _Tree, node: ast.ImportFrom, package: str) -> Iterator[str]:
    base = _base(node, package)
    lazy_names = _lazy_names(tree, base)
    yield base
    for alias in node.names:
        if alias.name == "*":
            yield from lazy_names.values()
        yield lazy_names.get(alias.name, f"{base}.{alias.name}")


def _base(node: ast.ImportFrom, package: str) -> str:
    """Returns the absolute name of the module that `node` imports from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _lazy_names(tree: _Tree, package: str) -> dict[str, str]:
    """Returns the names that a package loads on first use, each with the module that defines it.

    These are the names that the package imports below `if TYPE_CHECKING:`.
    """
    path = tree.source(package)
    if path is None or path.name != "__init__.py":
        return {}
    guards = [node for node in _parse(path.read_bytes()).body if _is_type_checking(node)]
    imports = [node for guard in guards for node in ast.walk(guard) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: _base(node, package) for node in imports for alias in node.names}


@functools.lru_cache(maxsize=512)
def _import_nodes(source: bytes) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in _runtime_nodes(_parse(source)) if isinstance(node, ast.Import | ast.ImportFrom))


def _runtime_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yields the nodes below a node of a syntax tree, without those that only type checkers read."""
    for child in ast.iter_child_nodes(node):
        if not _is_type_checking(child):
            yield child
            yield from _runtime_nodes(child)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@functools.lru_cache(maxsize=512)
def _names_in(source: bytes) -> frozenset[str]:
    """Returns the parts between slashes of all strings in a source file."""
    strings = (node.value for node in ast.walk(_parse(source)) if isinstance(node, ast.Constant))
    return frozenset(part for text in strings if isinstance(text, str) for part in text.split("/"))


@functools.lru_cache(maxsize=512)
def _parse(source: bytes) -> ast.Module:
    return ast.parse(source)
