"""Lazy fields: fields of a decoded object that get their values when the program first reads one.

A program reads few of the fields of a flow. Setting all of them takes most of the time of decoding,
and most of the memory of a flow that is kept. So a decoded object keeps its message, and its fields
are set in two groups: those that programs often read, and the others.

Until then, the object belongs to a private subclass of its class. In the subclass, the fields that
have no value yet are properties. Reading one sets all fields of its group, and makes the object
belong to the next class: at last, to its own. So a field that has a value costs no more than that
of any other object. Assigning to a property sets all fields first, so that nothing overwrites the
assigned value later.

The message was checked completely when it was decoded, so setting a field cannot fail.
"""

# Annotations are evaluated here: a NamedTuple compiles each one that is a text, which would take a
# quarter of this module's import.

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import attrs

SetFields = Callable[[Any, bytes], None]
"""Sets the fields of a group from a message, and assigns the next class."""


WriteLine = Callable[[Any, bytes], str | None]
"""Returns the line of an object of which nothing was read, from its message.

``None`` if the line has to be written from the object's fields."""


class FieldReader:
    """Reads the objects that are decoded from messages of one skeleton."""

    __slots__ = (
        "absent",
        "line_writers",
        "set_often_read",
        "set_others",
        "start",
        "write_json",
        "write_text",
    )

    absent: frozenset[str]
    """The fields that are always absent, by the skeleton."""
    line_writers: dict[Any, WriteLine]
    """Write an object in other forms of lines, by the form. The codec adds a missing one."""
    set_often_read: SetFields
    set_others: SetFields
    start: int
    """The offset of the first attribute in the bytes that an object keeps."""
    write_json: WriteLine
    """Writes an object as one line of JSON."""
    write_text: WriteLine
    """Writes an object as :class:`str` does."""


class LazyFields:
    """The base of a class with lazy fields."""

    __slots__ = ("_message", "_reader")

    _message: bytes | None
    """The message; ``None`` once every field is set. Only decoded objects have it."""
    _reader: FieldReader


class LazyClasses(NamedTuple):
    """The classes that a decoded object belongs to, one after the other, and their fields."""

    at_once: tuple[str, ...]
    """The fields that are set when the object is created."""
    often_read: tuple[str, ...]
    """The fields of the first group. If there are none, :attr:`unread` is :attr:`partly_read`."""
    others: tuple[str, ...]
    """The fields of the second group."""
    unread: type
    """The subclass of which neither group is set."""
    partly_read: type
    """The subclass of which only the second group is not set."""
    complete: type
    """The class itself."""

    def set_in(self, cls: type) -> tuple[str, ...]:
        """Return the fields that are set in objects of one of these classes."""
        if cls is self.complete:
            return self.at_once + self.often_read + self.others
        return self.at_once if cls is self.unread else self.at_once + self.often_read


_classes: Final[dict[type, LazyClasses]] = {}
unread_classes: Final[set[type]] = set()
"""The subclasses of which no group is set: what their objects are is in their messages alone."""
set_class: Final = vars(object)["__class__"].__set__
"""Assign the class of an object, also where ``__class__`` is a property."""


def slot_name(name: str) -> str:
    """Return the attribute that sets a field of an object for which the field is a property."""
    return f"slot_{name}"


def lazy_classes_of(cls: type) -> LazyClasses:
    """Return the classes of the decoded objects of a class with lazy fields.

    :param cls: the class or one of its private subclasses.
    """
    return _classes[cls]


def has_lazy_fields(cls: type) -> bool:
    """Return whether a class, or the class of which it is a private subclass, has lazy fields."""
    return cls in _classes


def own_class(obj: object) -> type[object]:
    """Return the class of an object, also where it belongs to a private subclass for now."""
    cls = type(obj)
    classes = _classes.get(cls)
    return cls if classes is None else classes.complete


def text_if_unread(obj: Any) -> str | None:
    """Return the text of any object, written from its message, if nothing of it was read.

    :returns: the text; ``None`` if it has to be written from the fields.
    """
    if type(obj) not in unread_classes:
        return None
    message = obj._message
    if message is None:  # another thread has read it
        return None
    try:
        text: str | None = obj._reader.write_text(obj, message)
        return text
    except AttributeError:  # a field that was set at once was deleted
        return None


def is_absent(obj: LazyFields, name: str) -> bool:
    """Return whether a field is ``None``, without setting the fields of a new object.

    :param obj: the object.
    :param name: the name of the field, which is not set at once.
    """
    if type(obj) in unread_classes:
        return name in obj._reader.absent  # pyright: ignore[reportPrivateUsage]
    return getattr(obj, name) is None


def make_lazy(cls: type, at_once: Sequence[str], often_read: Sequence[str]) -> None:
    """Make the subclasses of a class with lazy fields.

    :param cls: an attrs class whose base is :class:`LazyFields`.
    :param at_once: the fields that are set when an object is created.
    :param often_read: the fields of the first group.
    """
    names = [field.name for field in attrs.fields(cls)]
    others = [name for name in names if name not in (*at_once, *often_read)]
    partly = _subclass(cls, dict.fromkeys(others, ("set_others",)))
    unread = partly
    if often_read:
        setters = dict.fromkeys(often_read, ("set_often_read",))
        unread = _subclass(
            cls, {**setters, **dict.fromkeys(others, ("set_often_read", "set_others"))}
        )
    classes = LazyClasses(tuple(at_once), tuple(often_read), tuple(others), unread, partly, cls)
    _classes.update(dict.fromkeys((unread, partly, cls), classes))
    unread_classes.add(unread)


def _subclass(cls: type, unset: dict[str, tuple[str, ...]]) -> type:
    """Return a subclass of which some fields are not set.

    :param cls: the class.
    :param unset: these fields, and which methods of their reader set them.
    """
    all_methods = max(unset.values(), key=len)

    def complete(self: LazyFields) -> None:
        message = self._message  # pyright: ignore[reportPrivateUsage]
        if message is not None:
            for method in all_methods:
                getattr(self._reader, method)(self, message)  # pyright: ignore[reportPrivateUsage]

    def reduce(self: LazyFields, protocol: Any) -> Any:
        complete(self)
        return object.__reduce_ex__(self, protocol)

    members: dict[str, object] = {
        "__slots__": (),
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__class__": property(lambda self: cls),
        "__reduce_ex__": reduce,
    }
    for name, methods in unset.items():
        slot: Any = vars(cls)[name]
        members[slot_name(name)] = slot
        members[name] = property(
            _getter(slot, methods),
            _after(complete, slot.__set__),
            _after(complete, slot.__delete__),
        )
    return type(cls.__name__, (cls,), members)


def _getter(slot: Any, methods: Sequence[str]) -> Callable[[Any], object]:
    """Return the function that sets fields of an object, and returns the value of one.

    :param slot: the descriptor of the field in the class.
    :param methods: which methods of the object's reader set it and other fields.
    """
    get_value: Callable[[object], object] = slot.__get__

    # Another thread may have set the fields, and removed the message, in the meantime.
    def get_often_read(self: LazyFields) -> object:
        message = self._message  # pyright: ignore[reportPrivateUsage]
        if message is not None:
            self._reader.set_often_read(self, message)  # pyright: ignore[reportPrivateUsage]
        return get_value(self)

    def get_other(self: LazyFields) -> object:
        message = self._message  # pyright: ignore[reportPrivateUsage]
        if message is not None:
            for method in methods:
                getattr(self._reader, method)(self, message)  # pyright: ignore[reportPrivateUsage]
        return get_value(self)

    return get_often_read if tuple(methods) == ("set_often_read",) else get_other


def _after(complete: Callable[[Any], None], change: Callable[..., None]) -> Callable[..., None]:
    """Return a function that sets all fields of an object, and then changes one."""

    def changed(self: object, *value: object) -> None:
        complete(self)
        change(self, *value)

    return changed
