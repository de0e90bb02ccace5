"""Test that the public names are complete and documented, and that there is one version."""

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


def test_all_names_are_imported_for_type_checkers_and_lazily() -> None:
    """Compare the imports for type checkers, ``__all__`` and the modules of lazy imports."""
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
    for item in conntrack_aio._MODULES.split():
        if item.endswith(":"):
            module = item[:-1]
        else:
            modules[item] = module
    assert modules == imported


def test_lazily_imported_names_are_attributes_of_the_package() -> None:
    assert set(NAMES) <= set(dir(conntrack_aio))
    for name in NAMES:
        assert getattr(conntrack_aio, name) is getattr(conntrack_aio, name)


@pytest.mark.parametrize("name", ["no_such_name", "session", "model.flow:", "_Flow"])
def test_an_unknown_name_raises_attribute_error(name: str) -> None:
    # Another test may have imported a submodule of this name.
    conntrack_aio.__dict__.pop(name, None)
    with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
        getattr(conntrack_aio, name)


def test_the_version_equals_that_of_the_distribution() -> None:
    assert metadata.version("conntrack_aio") == conntrack_aio.__version__


def public_objects() -> Iterator[tuple[str, object]]:
    for prefix, module in MODULES.items():
        for name in module.__all__:
            yield prefix + name, getattr(module, name)


def documented_objects() -> Iterator[tuple[str, object]]:
    """Yield every public object, and every public method and property of the classes."""
    for name, public in public_objects():
        yield name, public
        if inspect.isclass(public) and not issubclass(public, enum.Enum):
            for member in dir(public):
                attribute = inspect.getattr_static(public, member)
                if member.startswith("_") or hasattr(object, member):
                    continue
                if isinstance(attribute, classmethod | staticmethod):
                    attribute = attribute.__func__
                if inspect.isfunction(attribute) or isinstance(attribute, property):
                    yield f"{name}.{member}", attribute


@pytest.mark.parametrize(
    ("name", "value"), [pytest.param(*pair, id=pair[0]) for pair in documented_objects()]
)
def test_everything_has_a_docstring(name: str, value: object) -> None:
    assert inspect.getdoc(value), f"{name} has no docstring"


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(conntrack_aio.__file__).parent / "py.typed").exists()


def test_the_public_names_are_frozen() -> None:
    """A change is a decision: write the list anew, and say so in the changelog."""
    frozen = public_names.FILE.read_text(encoding="utf-8").splitlines()
    assert public_names.public_names() == frozen, "run: python tests/public_names.py"
