"""What users can name: complete, documented, and of one version."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

import conntrack_aio
import conntrack_aio.testing

NAMES = conntrack_aio.__all__
MODULES = {"": conntrack_aio, "testing.": conntrack_aio.testing}


def test_all_is_all() -> None:
    public = {
        name
        for name, value in vars(conntrack_aio).items()
        if not name.startswith("_") and not inspect.ismodule(value)
    }
    assert public == set(NAMES)
    assert len(NAMES) == len(set(NAMES))


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
