"""A griffe extension that prepares the docstrings of the package for the site.

mkdocstrings shows what griffe reads from the source. This extension changes it before:

- Roles such as ``:class:`Flow``` become links to the public name, or code for other names.
- Blocks behind ``::`` become fenced Python code.
- Paragraphs behind the fields of a docstring stay behind them. Griffe takes them for a part of the
  last field.
- ``**changes: Unpack[FlowUpdate]`` becomes the keyword arguments that ``FlowUpdate`` lists.
- Classes that attrs made get the signature of their constructor, and their fields the defaults.
- Members of enumerations get their values.
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple, cast

import attrs
from griffe import (
    Alias,
    Attribute,
    Class,
    DocstringSectionRaises,
    DocstringSectionText,
    Expr,
    ExprAttribute,
    ExprBinOp,
    ExprName,
    ExprSubscript,
    Extension,
    Function,
    GriffeLoader,
    Module,
    Object,
    Parameter,
    ParameterKind,
    Parameters,
)

import conntrack_aio
import conntrack_aio.testing

PUBLIC: Final[Mapping[str, str]] = {
    **{name: f"conntrack_aio.testing.{name}" for name in conntrack_aio.testing.__all__},
    **{name: f"conntrack_aio.{name}" for name in conntrack_aio.__all__},
}
"""The path of each public name."""

MODULES: Final = ("conntrack_aio", "conntrack_aio.testing")
"""The modules whose docstrings are on pages."""

CONSTRUCTED_ELSEWHERE: Final = frozenset(
    {
        "BulkOperation",
        "Changes",
        "Connection",
        "Dump",
        "EventFilter",
        "EventStream",
        "Expectations",
        "Explanation",
        "FakeSocket",
        "FlowTable",
        "Helpers",
        "Sysctls",
        "Timeouts",
    }
)
"""Public classes whose constructors are not public: other calls return their objects."""

LONGEST_MEANING: Final = 32
"""The length up to which a signature shows what a private type alias stands for."""

SILENT_LABELS: Final = frozenset(
    {"class-attribute", "dataclass", "instance-attribute", "module-attribute", "writable"}
)
"""Labels of griffe that say nothing to users."""

_ROLE: Final = re.compile(r":(?P<role>\w+):`(?P<target>[^`]+)`")
_FIELD: Final = re.compile(r":\w+(?: [^:]*)?:(?: |$)")
_CALLED: Final = ("func", "meth")


class Parts(NamedTuple):
    """The parts of a docstring: text, fields, and the text behind the fields."""

    text: str
    fields: str
    rest: str


def parts_of(docstring: str) -> Parts:
    """Divide a docstring whose fields have the form ``:param name: description``."""
    text: list[str] = []
    fields: list[str] = []
    rest: list[str] = []
    lines = text
    for line in docstring.splitlines():
        if _FIELD.match(line):
            lines = fields
        elif lines is fields and line and not line.startswith(" "):
            lines = rest
        lines.append(line)
    return Parts(*("\n".join(part).strip("\n") for part in (text, fields, rest)))


def fence_blocks(text: str) -> str:
    """Return the text with the indented blocks behind ``::`` as fenced Python code."""
    lines: list[str] = []
    block: list[str] | None = None

    def close() -> None:
        nonlocal block
        if block is not None:
            margin = min(len(line) - len(line.lstrip()) for line in block if line)
            while not block[-1]:
                block.pop()
            lines.extend(["```python", *(line[margin:] for line in block), "```", ""])
        block = None

    for line in text.splitlines():
        if block is not None and line and not line.startswith("    "):
            close()
        if block is not None:
            if line or block:
                block.append(line.rstrip())
        elif line.endswith("::"):
            before = line.removesuffix("::")
            lines += [f"{before}:", ""] if before else []
            block = []
        else:
            lines.append(line)
    close()
    return "\n".join(lines)


def text_of_role(role: str, target: str) -> str:
    """Return what is shown for a role: the last name behind ``~``, a call with parentheses."""
    name = target.removeprefix("~").lstrip(".")
    if target.startswith("~"):
        name = name.rpartition(".")[2]
    if name not in MODULES:
        name = name.removeprefix("conntrack_aio.testing.").removeprefix("conntrack_aio.")
    return f"{name}()" if role in _CALLED else name


class Names:
    """Finds the public path of what a role names."""

    def __init__(self, package: Module) -> None:
        self.package = package
        self._public = {path: path for path in PUBLIC.values()}
        for path in PUBLIC.values():
            self._public[package[path.removeprefix("conntrack_aio.")].canonical_path] = path

    def public_path(self, target: str, scope: Object) -> str | None:
        """Return the path of a name that a page shows; ``None`` if no page shows it."""
        if target.lstrip("~") in MODULES:
            return target.lstrip("~")
        name = target.removeprefix("~").lstrip(".")
        name = name.removeprefix("conntrack_aio.testing.").removeprefix("conntrack_aio.")
        owner, _, member = name.partition(".")
        if owner in PUBLIC:
            return self._member(PUBLIC[owner], member)
        place: Object | None = scope
        while place is not None:
            path = self._public.get(place.canonical_path)
            if path is not None and place.is_class:
                return self._member(path, name)
            place = place.parent
        return None

    def _member(self, path: str, name: str) -> str | None:
        if not name:
            return path
        owner = self.package[path.removeprefix("conntrack_aio.")]
        shown = not name.startswith("_") and name in owner.all_members
        return f"{path}.{name}" if shown else None

    def annotation(self, expression: str | Expr | None) -> str | Expr | None:
        """Return an expression whose names lead to public names or nowhere.

        Without this, a link has the path of a private module as its title, and the name of a
        builtin type leads to whatever heading has the same name.
        """
        if isinstance(expression, ExprName):
            path = self._public.get(expression.canonical_path)
            if path is None:
                return self._unfolded(expression)
            return ExprName(expression.name, parent=path.rpartition(".")[0])
        if isinstance(expression, ExprAttribute):
            return str(expression)
        if isinstance(expression, Expr):
            expression = copy.copy(expression)
            for field in dataclasses.fields(expression):
                value: object = getattr(expression, field.name)
                if isinstance(value, Expr):
                    setattr(expression, field.name, self.annotation(value))
                elif isinstance(value, list):
                    each = cast("list[str | Expr]", value)
                    setattr(expression, field.name, [self.annotation(item) for item in each])
        return expression

    def _unfolded(self, name: ExprName) -> str:
        """Return what a private name of a type stands for, if that is short; else the name."""
        path = name.canonical_path.removeprefix("conntrack_aio.")
        try:
            alias = definition(self.package[path])
        except KeyError:
            return name.name
        if isinstance(alias, Attribute) and isinstance(alias.value, ExprBinOp | ExprSubscript):
            meaning = str(alias.value)
            if len(meaning) <= LONGEST_MEANING:
                return meaning
        return name.name

    def link(self, role: str, target: str, scope: Object) -> str:
        """Return a role as Markdown."""
        code = f"`{text_of_role(role, target)}`"
        path = self.public_path(target, scope)
        return code if path is None else f"[{code}][{path}]"

    def markdown(self, text: str, scope: Object) -> str:
        """Return reStructuredText, as far as the package uses it, as Markdown."""
        text = _ROLE.sub(lambda role: self.link(role["role"], role["target"], scope), text)
        return fence_blocks(text)


def objects(owner: Object) -> Iterator[Object]:
    """All objects in a module or class, itself first."""
    yield owner
    for member in owner.members.values():
        if not member.is_alias:
            yield from objects(member)  # type: ignore[arg-type]


def definition(member: Object | Alias | None) -> Object | None:
    """Return what an imported or inherited name stands for."""
    return member.final_target if isinstance(member, Alias) else member


@cache
def runtime(obj: Object) -> object:
    """What the object of griffe is in Python."""
    module = obj.module.canonical_path
    value: object = import_module(module)
    for name in obj.canonical_path.removeprefix(f"{module}.").split("."):
        value = getattr(value, name)
    return value


class SiteReference(Extension):
    """The extension; griffe finds it by its base class."""

    def on_package(self, *, pkg: Module, loader: GriffeLoader, **kwargs: Any) -> None:
        """Prepare the package when all of it has been read."""
        if pkg.path != "conntrack_aio":
            return
        names = Names(pkg)
        everything = list(objects(pkg))
        for obj in everything:
            if isinstance(obj, Function):
                expand_keywords(obj, pkg)
        for obj in everything:
            obj.labels -= SILENT_LABELS
            prepare_annotations(obj, names)
        for obj in everything:  # griffe takes the types of parameters from the signatures
            if obj.docstring is not None:
                prepare_docstring(obj, names)
        for name, path in PUBLIC.items():
            target = definition(pkg[path.removeprefix("conntrack_aio.")])
            if isinstance(target, Class):
                prepare_class(target, name)


def prepare_annotations(obj: Object, names: Names) -> None:
    """Make the names in a signature lead to public names."""
    if isinstance(obj, Attribute):
        obj.annotation = names.annotation(obj.annotation)
        obj.value = names.annotation(obj.value)
    if isinstance(obj, Function):
        obj.returns = names.annotation(obj.returns)
        for parameter in obj.parameters:
            parameter.annotation = names.annotation(parameter.annotation)
            parameter.default = names.annotation(parameter.default)
        for overload in obj.overloads or ():
            prepare_annotations(overload, names)


def list_after_lead(parts: Parts) -> Parts:
    """Make the errors a list of the text if it ends with a colon, as in "Iterating raises:".

    Otherwise they would have another heading after that line.
    """
    if not (parts.text.endswith(":") and parts.fields.startswith(":raises")):
        return parts
    errors = re.sub(r"^:raises ([\w.]+): ", r"- :exc:`\1`: ", parts.fields, flags=re.MULTILINE)
    return Parts(f"{parts.text}\n\n{errors}", "", parts.rest)


def prepare_docstring(obj: Object, names: Names) -> None:
    """Change a docstring to Markdown with fields."""
    docstring = obj.docstring
    assert docstring is not None
    parts = list_after_lead(parts_of(docstring.value))
    text, fields, rest = (names.markdown(part, obj) for part in parts)
    docstring.value = f"{text}\n\n{fields}".strip("\n")
    sections = docstring.parse("sphinx", warn_missing_types=False)
    for section in sections:
        if isinstance(section, DocstringSectionRaises):
            for raised in section.value:
                # A method that raises an exception need not import it.
                name = str(raised.annotation)
                path = PUBLIC.get(name)
                owner = None if path is None else path.rpartition(".")[0]
                raised.annotation = name if owner is None else ExprName(name, parent=owner)
    if rest:
        sections.append(DocstringSectionText(rest))
    docstring.__dict__["parsed"] = sections


def expand_keywords(function: Function, package: Module) -> None:
    """Put the keys of a typed dictionary in the place of ``**changes: Unpack[...]``."""
    if any(str(decorator.value).startswith("_keywords_of(") for decorator in function.decorators):
        # The fields of a class: they are listed there, and too many for a signature.
        changes = function.parameters["changes"]
        changes.kind, changes.annotation = ParameterKind.var_keyword, None
    for parameter in list(function.parameters):
        annotation = parameter.annotation
        if not isinstance(annotation, ExprSubscript) or str(annotation.left) != "Unpack":
            continue
        assert isinstance(annotation.slice, Expr)
        keys = package[annotation.slice.canonical_path.removeprefix("conntrack_aio.")]
        del function.parameters[parameter.name]
        fields: list[str] = []
        for key in keys.attributes.values():
            function.parameters.add(
                Parameter(
                    key.name,
                    annotation=key.annotation,
                    kind=ParameterKind.keyword_only,
                    default="None",
                )
            )
            if key.docstring is not None:
                said = key.docstring.value.replace("\n", "\n    ")
                fields.append(f":param {key.name}: {said}")
        if function.docstring is not None and fields:
            text, old, rest = parts_of(function.docstring.value)
            old = re.sub(
                rf"^:param \**{parameter.name}:.*\n?(?: +.*\n?|\n(?= ))*", "", old, flags=re.M
            )
            cut = re.search(r"^:(?!param )", old, re.M)
            where = len(old) if cut is None else cut.start()
            params, others = old[:where].rstrip("\n"), old[where:]
            new = "\n".join(filter(None, [params, *fields, "", others]))
            function.docstring.value = "\n\n".join(filter(None, [text, new, rest]))


def prepare_class(cls: Class, name: str) -> None:
    """Show what Python knows of a class, and the source does not show."""
    made = cast("type[object]", runtime(cls))
    if issubclass(made, enum.Enum):
        for member in made.__members__.values():
            if isinstance(attribute := cls.members.get(member.name), Attribute):
                attribute.value = value_of(member)
        for alias, member in made.__members__.items():
            if alias != member.name and isinstance(attribute := cls.members.get(alias), Attribute):
                attribute.value = value_of(member)
        return
    if not attrs.has(made):
        init = definition(cls.all_members.get("__init__"))
        given = init.parameters if isinstance(init, Function) else Parameters()
        for inherited in cls.all_members.values():
            attribute = definition(inherited)
            if not isinstance(attribute, Attribute):
                continue
            attribute.value = None
            if attribute.docstring is None and not issubclass(made, BaseException):
                hide(attribute)
            if attribute.annotation is None and attribute.name in given:
                attribute.annotation = given[attribute.name].annotation
    elif name not in CONSTRUCTED_ELSEWHERE:
        prepare_fields(cls, made)
    while name in CONSTRUCTED_ELSEWHERE:
        init = definition(cls.all_members.get("__init__"))
        if init is None or init.parent is None:
            break
        init.parent.members.pop("__init__")  # its own, then those of its bases


def hide(attribute: Attribute) -> None:
    """Leave out what is not for users, and has no underscore as other modules read it."""
    assert attribute.parent is not None
    attribute.parent.members.pop(attribute.name, None)


def value_of(member: enum.Enum) -> str:
    """Return the value of a member as the reference shows it."""
    value: object = member.value
    if isinstance(member, enum.IntFlag):
        return f"{int(member):#x}"
    return str(int(value)) if isinstance(value, int) else repr(value)


def prepare_fields(cls: Class, made: type) -> None:
    """Give a class that attrs made its constructor, and its fields their defaults."""
    fields: list[attrs.Attribute[object]] = list(attrs.fields(made))
    signature = inspect.signature(made)
    own_constructor = "__init__" in cls.members
    parameters = [Parameter("self", kind=ParameterKind.positional_or_keyword)]
    for field in fields:
        attribute = definition(cls.all_members.get(field.name))
        if not isinstance(attribute, Attribute):
            continue
        default = None if field.default is attrs.NOTHING else default_of(field)
        attribute.value = default
        given = signature.parameters.get(field.alias or field.name)
        if given is None and (own_constructor or attribute.docstring is None):
            hide(attribute)
        elif given is not None:
            parameters.append(
                Parameter(
                    given.name,
                    annotation=attribute.annotation,
                    kind=ParameterKind.keyword_only
                    if given.kind is inspect.Parameter.KEYWORD_ONLY
                    else ParameterKind.positional_or_keyword,
                    default=default,
                )
            )
    if "__init__" not in cls.members:
        cls.set_member("__init__", Function("__init__", parameters=Parameters(*parameters)))


def default_of(field: attrs.Attribute[object]) -> str:
    """Return the default of a field as source."""
    default: object = field.default
    if isinstance(factory := default, attrs.Factory):  # type: ignore[arg-type]
        return f"{factory.factory.__name__}()"  # type: ignore[attr-defined]
    return str(default) if isinstance(default, enum.Enum) else repr(default)
