"""What users can name: complete, documented, and of one version."""

from __future__ import annotations

import ast
import enum
import inspect
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import public_names
import pytest

import conntrack_aio
import conntrack_aio.testing

NAMES = conntrack_aio.__all__
MODULES = {"": conntrack_aio, "testing.": conntrack_aio.testing}


def test_all_is_all() -> None:
    """The imports for type checkers, ``__all__`` and the modules of lazy imports agree."""
    tree = ast.parse(Path(conntrack_aio.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported: dict[str, str] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        assert node.module is not None
        imported |= {alias.name: node.module for alias in node.names}
    assert imported.keys() == set(NAMES)
    assert len(NAMES) == len(set(NAMES))
    modules: dict[str, str] = {}
    for word in conntrack_aio._MODULES.split():
        if word.endswith(":"):
            module = word[:-1]
        else:
            modules[word] = module
    assert modules == imported


def test_names_are_what_their_modules_have() -> None:
    assert set(NAMES) <= set(dir(conntrack_aio))
    for name in NAMES:
        assert getattr(conntrack_aio, name) is getattr(conntrack_aio, name)


@pytest.mark.parametrize("name", ["no_such_name", "session", "model.flow:", "_Flow"])
def test_an_unknown_name(name: str) -> None:
    vars(conntrack_aio).pop(name, None)  # a submodule that another test imported
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(conntrack_aio, name)


def test_the_version_is_the_distributions() -> None:
    assert metadata.version("conntrack_aio") == conntrack_aio.__version__


def public_things() -> Iterator[tuple[str, object]]:
    for prefix, module in MODULES.items():
        for name in module.__all__:
            yield prefix + name, getattr(module, name)


def documented() -> Iterator[tuple[str, object]]:
    """Every public thing, and every public method and property of the classes."""
    for name, thing in public_things():
        yield name, thing
        if inspect.isclass(thing) and not issubclass(thing, enum.Enum):
            for member in dir(thing):
                value = inspect.getattr_static(thing, member)
                if member.startswith("_") or hasattr(object, member):
                    continue
                if isinstance(value, classmethod | staticmethod):
                    value = value.__func__
                if inspect.isfunction(value) or isinstance(value, property):
                    yield f"{name}.{member}", value


@pytest.mark.parametrize(
    ("name", "thing"), [pytest.param(*each, id=each[0]) for each in documented()]
)
def test_everything_has_a_docstring(name: str, thing: object) -> None:
    assert inspect.getdoc(thing), f"{name} has no docstring"


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(conntrack_aio.__file__).parent / "py.typed").exists()


def test_the_public_names_are_frozen() -> None:
    """A change is a decision: write the list anew, and say so in the changelog."""
    frozen = public_names.FILE.read_text(encoding="utf-8").splitlines()
    assert public_names.public_names() == frozen, "run: python tests/public_names.py"
