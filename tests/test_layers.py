"""Imports: only from lower layers, without circles, and from anyio and attrs alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pytest

import conntrack_aio

PACKAGE = Path(conntrack_aio.__file__).parent
LAYERS = {
    "errors": 0,
    "function_builder": 0,
    "interrupts": 0,
    "plain": 0,
    "uapi": 0,
    "proc_sys": 0,
    "netlink": 1,
    "model": 2,
    "sandbox": 2,
    "codec": 3,
    "filters": 4,
    "trace": 4,
    "streams": 6,
    "eventloop": 0,
    "registry": 0,
    "tracking": 4,
    "bulk": 7,
    "session": 8,
    "table": 9,
    "verbs": 10,
    "connection": 11,
    "testing": 13,
    "connecting": 12,
    "__init__": 13,
    "cli": 14,
    "__main__": 15,
}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
ALLOWED = {"anyio", "attrs"} | set(sys.stdlib_module_names)


def area_of(module: Path) -> str:
    """Return the package or module at the top level that a module is in."""
    return module.parts[0].removesuffix(".py")


def import_nodes(source: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield all imports of a module, wherever they are: in functions and type checks, too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node


def imports(module: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of leading dots and the name of everything that a module imports."""
    for node in import_nodes((PACKAGE / module).read_text()):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif node.module is None:
            yield from ((node.level, alias.name) for alias in node.names)
        else:
            yield node.level, node.module


def imported_areas(module: Path) -> set[str]:
    """Return the other areas of the package that a module imports from."""
    found: set[str] = set()
    for level, name in imports(module):
        if level:
            above = module.parts[: len(module.parts) - level]
            first = [*above, *name.split(".")][0]
            found.add(first if first in LAYERS else "__init__")
    return found - {area_of(module)}


def imported_modules(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Return which modules each module imports.

    :param sources: the source of each module by its dotted name; that of a package ends in
        ``.__init__``.
    """
    return {
        module: {
            found
            for node in import_nodes(source)
            for name in _imported_names(module, node)
            if (found := _module_of(name, sources)) is not None
        }
        for module, source in sources.items()
    }


def _imported_names(module: str, node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = module.split(".")[: -node.level] if node.level else []
    if node.module is not None:
        base.append(node.module)
    return [".".join([*base, alias.name]) for alias in node.names]


def _module_of(name: str, modules: Collection[str]) -> str | None:
    """Return the module that a name is or is in."""
    for candidate in (name, name.rpartition(".")[0]):
        for module in (candidate, f"{candidate}.__init__"):
            if module in modules:
                return module
    return None


def circle(graph: Mapping[str, Collection[str]]) -> list[str] | None:
    """Return modules that import one another, the first one again at the end, if there are any."""
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str] | None:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return None
        for imported in sorted(graph[module]):
            if found := visit(imported, [*path, module]):
                return found
        done.add(module)
        return None

    return next(filter(None, (visit(module, []) for module in sorted(graph))), None)


def test_every_area_has_a_layer() -> None:
    assert {area_of(module) for module in MODULES} == LAYERS.keys()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_down(module: Path) -> None:
    layer = LAYERS[area_of(module)]
    above = {area for area in imported_areas(module) if LAYERS[area] >= layer}
    assert not above, f"{module} (layer {layer}) imports {above}"


def test_no_modules_import_one_another() -> None:
    sources = {
        ".".join([PACKAGE.name, *path.with_suffix("").parts]): (PACKAGE / path).read_text()
        for path in MODULES
    }
    graph = imported_modules(sources)
    assert graph["conntrack_aio.model.flow"] >= {
        "conntrack_aio.errors",
        "conntrack_aio.model.text",
        "conntrack_aio.uapi.nfnetlink_conntrack",
    }
    assert circle(graph) is None


@pytest.mark.parametrize(
    "back",
    [
        "from .b import x",
        "from . import b",
        "import p.b",
        "import p.b as other",
        "from p import b",
        "from p.b import x as y",
        "def f():\n    from .b import x",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import x",
        "from .package import x",
        "from .package.c import x",
    ],
)
def test_a_circle_is_found(back: str) -> None:
    sources = {
        "p.__init__": "",
        "p.a": back,
        "p.b": "import os\nfrom .package import x",
        "p.package.__init__": "from .c import x",
        "p.package.c": "from ..a import x",
        "p.d": "from . import a, b",
    }
    found = circle(imported_modules(sources))
    assert found is not None
    assert found[0] == found[-1]
    assert {"p.a", "p.package.c"} <= {*found}
    assert "p.d" not in found


def test_no_circle_is_found_where_there_is_none() -> None:
    sources = {
        "p.__init__": "from .a import x",
        "p.a": "from .b import x\nfrom .c import y",
        "p.b": "from .c import y\nfrom other.a import a",
        "p.c": "import os",
    }
    assert imported_modules(sources)["p.a"] == {"p.b", "p.c"}
    assert circle(imported_modules(sources)) is None


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_third_parties_are_anyio_and_attrs(module: Path) -> None:
    others = {name.split(".")[0] for level, name in imports(module) if level == 0}
    assert others <= ALLOWED


def test_the_rules_can_fail() -> None:
    assert imported_areas(Path("connecting.py")) >= {"codec", "session", "netlink"}
    assert imported_areas(Path("netlink/socket.py")) == {"errors", "eventloop", "uapi"}


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if area_of(module) == "netlink"],
    ids=str,
)
def test_netlink_knows_nothing_of_conntrack(module: Path) -> None:
    text = (PACKAGE / module).read_text()
    assert "uapi.nfnetlink_conntrack" not in text
    assert "uapi.nf_conntrack" not in text


def test_the_model_has_no_bytes() -> None:
    assert not any("netlink" in imported_areas(m) for m in MODULES if area_of(m) == "model")


def test_nothing_heavy_is_imported() -> None:
    heavy = {"argparse", "ctypes", "subprocess", "trio", "uvloop", "json"}
    code = (
        "import conntrack_aio, sys; conntrack_aio.connect, conntrack_aio.Match; "
        f"print(sorted({heavy!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lean = f"import anyio, attrs, sys; print(sorted({heavy!r} & sys.modules.keys()))"
    base = subprocess.run([sys.executable, "-c", lean], capture_output=True, text=True, check=True)
    assert done.stdout == base.stdout


def test_names_are_imported_at_first_use() -> None:
    code = (
        "import sys, conntrack_aio; "
        "print(sorted(name for name in sys.modules if name.startswith('conntrack_aio')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['conntrack_aio', 'conntrack_aio.interrupts']"
