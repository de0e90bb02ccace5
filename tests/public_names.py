"""List the public names: classes with their members, functions with their parameters.

``python tests/public_names.py`` writes the list to ``public_names.txt`` beside this file. A test
compares it with the package, so that a change of the public interface is a decision.
"""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import attrs

import conntrack_aio
import conntrack_aio.testing

FILE = Path(__file__).with_suffix(".txt")
MODULES: dict[str, ModuleType] = {"": conntrack_aio, "testing.": conntrack_aio.testing}


def public_names() -> list[str]:
    """Return a line for each public name, sorted."""
    return sorted(
        line
        for prefix, module in MODULES.items()
        for name in module.__all__
        for line in _lines(prefix + name, getattr(module, name))
    )


def _lines(name: str, thing: object) -> Iterator[str]:
    if not inspect.isclass(thing):
        yield name + (_parameters(thing) if inspect.isfunction(thing) else "")
        return
    yield name + (_parameters(thing.__init__) if _is_constructed(thing) else "")
    if issubclass(thing, enum.Enum):
        yield from (f"{name}.{each} = {m.value!r}" for each, m in thing.__members__.items())
    elif typing.is_typeddict(thing):
        yield from (f"{name}[{key!r}]" for key in thing.__annotations__)
    else:
        yield from (f"{name}.{member}{shown}" for member, shown in _members(thing).items())


def _is_constructed(thing: type) -> bool:
    """Return whether users construct objects of this class."""
    return attrs.has(thing) or thing.__module__.endswith((".labels", ".match", ".testing.kernel"))


def _members(thing: type) -> dict[str, str]:
    """Return the public members that the library defines, with their parameters."""
    members: dict[str, str] = {}
    for cls in reversed(thing.__mro__):
        if cls.__module__.startswith("conntrack_aio"):
            names = [*vars(cls).get("__annotations__", {}), *vars(cls)]
            for name in names:
                if not name.startswith("_"):
                    members[name] = _shown(vars(cls).get(name))
    return members


def _shown(value: object) -> str:
    if isinstance(value, classmethod | staticmethod):
        value = value.__func__
    return _parameters(value) if inspect.isfunction(value) else ""


def _parameters(function: object) -> str:
    """Return the parameters without the object or class of a method, and without defaults."""
    signature = inspect.signature(typing.cast("typing.Callable[..., object]", function))
    shown: list[str] = []
    positional_only = False
    for each in signature.parameters.values():
        if positional_only and each.kind is not each.POSITIONAL_ONLY:
            shown.append("/")
        positional_only = each.kind is each.POSITIONAL_ONLY
        if each.kind is each.KEYWORD_ONLY and not any(text.startswith("*") for text in shown):
            shown.append("*")
        star = {each.VAR_POSITIONAL: "*", each.VAR_KEYWORD: "**"}.get(each.kind, "")
        shown.append(star + each.name + ("" if each.default is each.empty else "=…"))
    if positional_only:
        shown.append("/")
    is_method = "." in getattr(function, "__qualname__", "")
    return f"({', '.join(shown[is_method:])})"


if __name__ == "__main__":
    FILE.write_text("\n".join(public_names()) + "\n", encoding="utf-8")
