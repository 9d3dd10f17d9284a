"""A fingerprint of the code behind a pipeline step.

TFX's cache key knows a step's inputs and properties, not the code behind a dotted name: after an edit it would serve
the old output. The fingerprint of the code goes into such a step's properties, so that an edit runs again exactly the
steps that depend on what was edited.

Computed from source files alone; nothing is imported or run. What it cannot see are imports by a computed name
(`importlib.import_module`) and modules started as processes: name those modules as well.
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
    """Returns a SHA-256 over the named modules and all project modules that they import, directly or not.

    Included are the `__init__.py` of every package on the way, and a module's data files (templates and the like):
    those beside it, or in folders below that are no packages, which it names, or which no module beside them names.

    Args:
        modules: dotted names, such as `pipeline.preprocessing`.
        root: the folder of the project's packages; by default the one that this package lies in.

    Returns:
        64 hexadecimal digits. The same for the same files, wherever they lie.

    Raises:
        ModuleNotFoundError: where a named module is not one of the project's.
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
        """Returns the source file of module `name`, None where the project has none."""
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
    for name in _closure(tree, modules):
        path = tree.source(name)
        if path is not None:
            files.update((path, *_data_of(path)))
        for package in _ancestors(name):
            files.update(filter(None, [tree.source(package)]))
    return files


def _closure(tree: _Tree, modules: tuple[str, ...]) -> set[str]:
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name not in seen and tree.source(name) is not None:
            seen.add(name)
            for module in (name, *_ancestors(name)):
                waiting.extend(_imports(tree, module))
    return seen


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def _data_of(source: Path) -> Iterator[Path]:
    """Yields the data files beside a module, or in folders below that are no packages, that may be the module's.

    Those that the modules beside name belong to the modules that name them, those that none names to all of them.
    """
    siblings = {path: path.read_bytes() for path in source.parent.glob("*.py")}
    for entry in source.parent.iterdir():
        if entry.name == "__pycache__" or (entry / "__init__.py").exists():
            continue
        for path in filter(_is_data, entry.rglob("*") if entry.is_dir() else [entry]):
            users = [user for user, text in siblings.items() if {entry.name, path.name} & _names_in(text)]
            if not users or source in users:
                yield path


def _is_data(path: Path) -> bool:
    """Tells data from code and from what editors leave behind."""
    return (
        path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith(".") and path.name[-1] != "~"
    )


def _imports(tree: _Tree, name: str) -> Iterator[str]:
    """Yields the project modules that running module `name` may import, at any depth of nesting."""
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
    """Yields the modules behind `import a.b`, which binds `a`, so that any lazy name of `a` may be used then."""
    yield alias.name
    for package in [alias.name] if alias.asname else [alias.name, *_ancestors(alias.name)]:
        yield from _homes(tree, package).values()


def _imported_from(tree: _Tree, node: ast.ImportFrom, package: str) -> Iterator[str]:
    base = _base(node, package)
    homes = _homes(tree, base)
    yield base
    for alias in node.names:
        if alias.name == "*":
            yield from homes.values()
        yield homes.get(alias.name, f"{base}.{alias.name}")


def _base(node: ast.ImportFrom, package: str) -> str:
    """Returns the absolute name of the module that `node` imports from."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1]
    return ".".join([*above, *([node.module] if node.module else [])])


def _homes(tree: _Tree, package: str) -> dict[str, str]:
    """Returns the names that a package loads on first use, each with the module that it comes from.

    Such a package imports them for type checkers, below `if TYPE_CHECKING:`.
    """
    path = tree.source(package)
    if path is None or path.name != "__init__.py":
        return {}
    guards = [node for node in _parse(path.read_bytes()).body if _is_type_checking(node)]
    imports = [node for guard in guards for node in ast.walk(guard) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: _base(node, package) for node in imports for alias in node.names}


@functools.lru_cache(maxsize=512)
def _import_nodes(source: bytes) -> tuple[ast.Import | ast.ImportFrom, ...]:
    return tuple(node for node in _run_nodes(_parse(source)) if isinstance(node, ast.Import | ast.ImportFrom))


def _run_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Walks a syntax tree, leaving out what is there for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if not _is_type_checking(child):
            yield child
            yield from _run_nodes(child)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@functools.lru_cache(maxsize=512)
def _names_in(source: bytes) -> frozenset[str]:
    """Returns the parts, between slashes, of all strings in a source."""
    strings = (node.value for node in ast.walk(_parse(source)) if isinstance(node, ast.Constant))
    return frozenset(part for text in strings if isinstance(text, str) for part in text.split("/"))


@functools.lru_cache(maxsize=512)
def _parse(source: bytes) -> ast.Module:
    return ast.parse(source)
