"""The options of conntrack(8): their names, and which actions accept or need them.

The order of :data:`OPTIONS` is the order in which options are checked. Which actions accept an
option was found by giving each option to each action.
"""

# Annotations are evaluated here: a NamedTuple compiles each one that is a text, which would take a
# quarter of this module's import.

from collections.abc import Iterable
from typing import Final, NamedTuple

from .actions import Action
from .getopt import Argument, LongOption
from .messages import invalid

_NONE, _REQUIRED, _OPTIONAL = Argument.NONE, Argument.REQUIRED, Argument.OPTIONAL


def actions(names: str) -> frozenset[Action]:
    """Return the actions with these letters; a letter after ``x`` is the action on ``expect``."""
    return frozenset(
        Action(f"-{name[1:]} expect" if name.startswith("x") else f"-{name}")
        for name in names.split()
    )


class Option(NamedTuple):
    """An option of the command line."""

    name: str
    """The name that messages use, after ``--``."""
    code: str
    """The short name, and what the option is returned as. Those that are no letters work, too."""
    long_names: tuple[str, ...]
    argument: Argument
    accepted: frozenset[Action]
    """The actions that accept the option."""
    needed: frozenset[Action] = frozenset()
    """The actions that cannot be carried out without the option."""


def _option(
    name: str,
    code: str,
    accepted: str,
    needed: str = "",
    argument: Argument = _REQUIRED,
    long_names: str = "",
) -> Option:
    return Option(
        name,
        code,
        tuple((long_names or name).split()),
        argument,
        actions(accepted),
        actions(needed),
    )


OPTIONS: Final = (
    _option("src", "s", "L I U D G E A xI xD xG", "xI xD xG", long_names="orig-src src"),
    _option("dst", "d", "L I U D G E A xI xD xG", "xI xD xG", long_names="orig-dst dst"),
    _option("reply-src", "r", "L I U D G E A xI xD xG"),
    _option("reply-dst", "q", "L I U D G E A xI xD xG"),
    _option("protonum", "p", "L I U D G E A xI xD xG h", "I A G xI xD xG"),
    _option("timeout", "t", "I A U D xI", "I A xI"),
    _option("status", "u", "L I A U D xI"),
    _option("zero", "z", "L", argument=_NONE),
    _option("event-mask", "e", "E"),
    _option("tuple-src", "[", "xI", "xI"),
    _option("tuple-dst", "]", "xI", "xI"),
    _option("mask-src", "{", "L U D E xI", "xI"),
    _option("mask-dst", "}", "L U D E xI", "xI"),
    _option("mark", "m", "L I A U D E"),
    _option("id", "i", "U D G"),
    _option("family", "f", "L U D E F xL"),
    _option("src-nat", "n", "L I A U D E", argument=_OPTIONAL),
    _option("dst-nat", "g", "L I A U D E", argument=_OPTIONAL),
    _option("output", "o", "L U D G E xL xE"),
    _option("secmark", "c", "L E"),
    _option("buffer-size", "b", "E"),
    _option("any-nat", "j", "L E", argument=_OPTIONAL),
    _option("zone", "w", "L I A D E"),
    _option("label", "l", "L U D G E"),
    _option("label-add", "<", "I A U"),
    _option("label-del", ">", "U", argument=_OPTIONAL),
    _option("orig-zone", "(", "L I A D E"),
    # Without an action, the program accepts this option alone, and shows its help.
    _option("reply-zone", ")", "L I A D E")._replace(accepted=actions("L I A D E") | {Action.NONE}),
)

ACTION_CODES: Final = {
    "L": (Action.LIST, ("dump",), _OPTIONAL),
    "I": (Action.CREATE, ("create",), _OPTIONAL),
    "D": (Action.DELETE, ("delete",), _OPTIONAL),
    "G": (Action.GET, ("get",), _OPTIONAL),
    "U": (Action.UPDATE, ("update",), _OPTIONAL),
    "A": (Action.ADD, ("add",), _OPTIONAL),
    "F": (Action.FLUSH, ("flush",), _OPTIONAL),
    "E": (Action.EVENT, ("event",), _OPTIONAL),
    "C": (Action.COUNT, ("counter",), _OPTIONAL),
    "S": (Action.STATISTICS, ("stats",), _NONE),
    "V": (Action.VERSION, ("version",), _NONE),
    "h": (Action.HELP, ("help",), _NONE),
}
"""The action, the long names and the argument of each option that selects an action.

The argument is the table, which may also be the next word.
"""

IGNORED_CODE: Final = "a"
"""The option that is ignored with a warning."""

SHORT_OPTIONS: Final = {
    IGNORED_CODE: _REQUIRED,
    **{code: argument for code, (_, _, argument) in ACTION_CODES.items()},
    **{option.code: option.argument for option in OPTIONS},
}

LONG_OPTIONS: Final = (
    LongOption("nat-range", _REQUIRED, IGNORED_CODE),
    *(
        LongOption(name, argument, code)
        for code, (_, names, argument) in ACTION_CODES.items()
        for name in names
    ),
    *(
        LongOption(name, option.argument, option.code)
        for option in OPTIONS
        for name in option.long_names
    ),
)

BY_CODE: Final = {option.code: option for option in OPTIONS}


class Checked(NamedTuple):
    """What is checked of an option."""

    name: str
    accepted: frozenset[Action]
    needed: frozenset[Action]


def check_options(action: Action, given: frozenset[str], options: Iterable[Checked]) -> None:
    """Check that an action has the options that it needs, and no others.

    :param action: the action.
    :param given: the names of the options that were given.
    :param options: the options, in the order in which to check them.
    :raises CommandFailure: for the first option that is missing or not accepted.
    """
    for name, accepted, needed in options:
        if name not in given:
            if action in needed:
                raise invalid(f"You need to supply the `--{name}' option for this command")
        elif action not in accepted:
            raise invalid(f"Illegal option `--{name}' with this command")


COMPARED: Final = frozenset(
    (
        *("src", "dst", "reply-src", "reply-dst", "protonum", "mark", "secmark"),
        *("status", "id", "zone", "orig-zone", "reply-zone", "label"),
    )
)
"""The options whose values the program compares with entries all at once."""

CHECKED: Final = tuple(Checked(option.name, option.accepted, option.needed) for option in OPTIONS)
