"""A module imports from floors below its own alone, and the runtime needs anyio and attrs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import conntrack_aio

PACKAGE = Path(conntrack_aio.__file__).parent
FLOORS = {
    "errors": 0,
    "generated": 0,
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


def room_of(module: Path) -> str:
    """The folder or file at the top that the module is in."""
    return module.parts[0].removesuffix(".py")


def imports(module: Path) -> Iterator[tuple[int, str]]:
    """What it imports, at whatever place: the number of leading dots, and the name."""
    for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is None:
            yield from ((node.level, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            yield node.level, node.module


def rooms(module: Path) -> set[str]:
    """The rooms of the package that a module imports from."""
    found: set[str] = set()
    for level, name in imports(module):
        if level:
            above = module.parts[: len(module.parts) - level]
            first = [*above, *name.split(".")][0]
            found.add(first if first in FLOORS else "__init__")
    return found - {room_of(module)}


def test_every_room_has_a_floor() -> None:
    assert {room_of(module) for module in MODULES} == FLOORS.keys()


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_go_down(module: Path) -> None:
    floor = FLOORS[room_of(module)]
    above = {room for room in rooms(module) if FLOORS[room] >= floor}
    assert not above, f"{module} (floor {floor}) imports {above}"


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_third_parties_are_anyio_and_attrs(module: Path) -> None:
    others = {name.split(".")[0] for level, name in imports(module) if level == 0}
    assert others <= ALLOWED


def test_the_rules_can_fail() -> None:
    assert rooms(Path("connection.py")) >= {"codec", "session", "verbs", "netlink"}
    assert rooms(Path("netlink/socket.py")) == {"errors", "eventloop", "uapi"}


@pytest.mark.parametrize(
    "module",
    [module for module in MODULES if room_of(module) == "netlink"],
    ids=str,
)
def test_netlink_knows_nothing_of_conntrack(module: Path) -> None:
    text = (PACKAGE / module).read_text()
    assert "uapi.nfnetlink_conntrack" not in text
    assert "uapi.nf_conntrack" not in text


def test_the_model_has_no_bytes() -> None:
    assert not any("netlink" in rooms(m) for m in MODULES if room_of(m) == "model")


def test_nothing_heavy_is_imported() -> None:
    heavy = {"argparse", "ctypes", "subprocess", "trio", "uvloop", "json"}
    code = f"import conntrack_aio, sys; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lean = f"import anyio, attrs, sys; print(sorted({heavy!r} & sys.modules.keys()))"
    base = subprocess.run([sys.executable, "-c", lean], capture_output=True, text=True, check=True)
    assert done.stdout == base.stdout
