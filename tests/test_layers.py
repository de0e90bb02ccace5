"""Test that modules import from lower layers without cycles, and only anyio and attrs otherwise.

All modules may import the standard library.
"""

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
    "closing": 0,
    "error_chains": 0,
    "errors": 0,
    "eventloop": 0,
    "function_builder": 0,
    "interrupts": 0,
    "plain": 0,
    "quantities": 0,
    "registry": 0,
    "suggestions": 0,
    "uapi": 0,
    "netlink": 1,
    "kernel_modules": 2,
    "model": 2,
    "codec": 3,
    "proc_sys": 3,
    "filters": 4,
    "sandbox": 4,
    "socket_factory": 4,
    "trace": 4,
    "tracking": 4,
    "streams": 6,
    "bulk": 7,
    "session": 8,
    "table": 9,
    "operations": 10,
    "connection": 11,
    "connecting": 12,
    "__init__": 13,
    "testing": 13,
    "export": 14,
    "cli": 15,
    "__main__": 16,
}
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
ALLOWED = {"anyio", "attrs"} | set(sys.stdlib_module_names)


def package_of(module: Path) -> str:
    """Return the package or module at the top level that a module is in."""
    return module.parts[0].removesuffix(".py")


def import_nodes(source: str) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield all imports of a module, including those in functions and under ``TYPE_CHECKING``."""
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


def imported_packages(module: Path) -> set[str]:
    """Return the other areas of the package that a module imports from."""
    packages: set[str] = set()
    for level, name in imports(module):
        if level:
            above = module.parts[: len(module.parts) - level]
            first = [*above, *name.split(".")][0]
            packages.add(first if first in LAYERS else "__init__")
    return packages - {package_of(module)}


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
    """Return the module that a name denotes, or that contains the name."""
    for candidate in (name, name.rpartition(".")[0]):
        for module in (candidate, f"{candidate}.__init__"):
            if module in modules:
                return module
    return None


def find_cycle(graph: Mapping[str, Collection[str]]) -> list[str] | None:
    """Return the modules of an import cycle, the first one also last, or ``None``."""
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


def test_every_package_has_a_layer() -> None:
    assert {package_of(module) for module in MODULES} == LAYERS.keys()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_modules_import_only_from_lower_layers(module: Path) -> None:
    layer = LAYERS[package_of(module)]
    above = {package for package in imported_packages(module) if LAYERS[package] >= layer}
    assert not above, f"{module} in layer {layer} imports {above}"


def test_there_is_no_import_cycle() -> None:
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
    assert find_cycle(graph) is None


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
def test_an_import_cycle_is_found(back: str) -> None:
    sources = {
        "p.__init__": "",
        "p.a": back,
        "p.b": "import os\nfrom .package import x",
        "p.package.__init__": "from .c import x",
        "p.package.c": "from ..a import x",
        "p.d": "from . import a, b",
    }
    found = find_cycle(imported_modules(sources))
    assert found is not None
    assert found[0] == found[-1]
    assert {"p.a", "p.package.c"} <= {*found}
    assert "p.d" not in found


def test_no_cycle_is_found_where_there_is_none() -> None:
    sources = {
        "p.__init__": "from .a import x",
        "p.a": "from .b import x\nfrom .c import y",
        "p.b": "from .c import y\nfrom other.a import a",
        "p.c": "import os",
    }
    assert imported_modules(sources)["p.a"] == {"p.b", "p.c"}
    assert find_cycle(imported_modules(sources)) is None


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_only_anyio_and_attrs_are_imported_from_third_parties(module: Path) -> None:
    others = {name.split(".")[0] for level, name in imports(module) if level == 0}
    if package_of(module) == "export":  # it names the public interface as programs do
        others.discard(PACKAGE.name)
    assert others <= ALLOWED


@pytest.mark.parametrize(
    "module", [module for module in MODULES if package_of(module) == "export"], ids=str
)
def test_exports_use_the_public_interface_alone(module: Path) -> None:
    assert imported_packages(module) == set()
    own = {name for level, name in imports(module) if not level and name.startswith(PACKAGE.name)}
    assert own <= {PACKAGE.name}


def test_imports_of_modules_are_seen() -> None:
    assert imported_packages(Path("connecting.py")) >= {"codec", "session", "netlink"}
    assert imported_packages(Path("netlink/socket.py")) == {"errors", "eventloop", "uapi"}


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if package_of(module) == "netlink"],
    ids=str,
)
def test_netlink_does_not_use_constants_of_conntrack(module: Path) -> None:
    text = (PACKAGE / module).read_text()
    assert "uapi.nfnetlink_conntrack" not in text
    assert "uapi.nf_conntrack" not in text
    assert "CTNETLINK" not in text


def test_the_model_does_not_import_netlink() -> None:
    assert not any("netlink" in imported_packages(m) for m in MODULES if package_of(m) == "model")


def test_importing_the_package_imports_no_expensive_modules() -> None:
    expensive = {"argparse", "ctypes", "subprocess", "trio", "uvloop", "json"}
    expensive |= {"duckdb", "nanoarrow", "pyarrow"}
    code = (
        "import conntrack_aio, sys; conntrack_aio.connect, conntrack_aio.Match; "
        f"print(sorted({expensive!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    bare = f"import anyio, attrs, sys; print(sorted({expensive!r} & sys.modules.keys()))"
    base = subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True)
    # The library imports anyio only where it is needed, and old versions of anyio import more.
    assert set(ast.literal_eval(done.stdout)) <= set(ast.literal_eval(base.stdout))


def test_importing_the_package_imports_no_submodules() -> None:
    code = (
        "import sys, conntrack_aio; "
        "print(sorted(name for name in sys.modules if name.startswith('conntrack_aio')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['conntrack_aio', 'conntrack_aio.interrupts']"
