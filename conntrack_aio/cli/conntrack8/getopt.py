"""Read options as ``getopt_long`` of the C library does.

Options and words may be in any order. Words are moved behind the options, as the caller sees in
:attr:`OptionReader.arguments`: messages name the argument before :attr:`OptionReader.index`.
"""

# Annotations are evaluated here: a NamedTuple compiles each one that is a text, which would take a
# quarter of this module's import.

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Argument(enum.Enum):
    """Whether an option has an argument."""

    NONE = 0
    REQUIRED = 1
    OPTIONAL = 2


class LongOption(NamedTuple):
    """An option with a long name."""

    name: str
    argument: Argument
    code: str
    """What the option is returned as."""


class Found(NamedTuple):
    """An option that was found, with its argument."""

    code: str
    argument: str | None


class UnknownOption(Exception):
    """An option is unknown or ambiguous, or has an argument that it does not take."""


class MissingArgument(Exception):
    """An option lacks its argument."""


class OptionReader:
    """Reads the options of a command line, one after the other."""

    def __init__(
        self, arguments: Sequence[str], short: Mapping[str, Argument], long: Sequence[LongOption]
    ) -> None:
        """Initialize the reader.

        :param arguments: the command line. The first item is the name of the program.
        :param short: whether each option with a short name has an argument, by its letter.
        :param long: the options with long names. More may be appended to :attr:`long` later.
        """
        self.arguments = list(arguments)
        """The command line, in an order in which words follow the options that were read."""
        self.index = 1
        """The index of the next argument."""
        self.long = list(long)
        self._short = short
        self._rest = ""
        """The letters that follow in an argument with several short options."""
        self._words: tuple[int, int] = (1, 1)
        """The indices of the words that were passed over: the first, and the one after the last."""

    def next(self) -> Found | None:
        """Return the next option; ``None`` at the end, where :attr:`index` is at the first word.

        :raises UnknownOption: when the option is unknown. Reading may continue.
        :raises MissingArgument: when the option lacks its argument.
        """
        if not self._rest:
            if not self._find_argument():
                return None
            argument = self.arguments[self.index]
            if argument.startswith("--"):
                return self._read_long(argument[2:])
            self._rest = argument[1:]
        return self._read_short()

    def take_word(self) -> str | None:
        """Return the next argument if it is a word, and move past it: a separate argument of an
        option that has an optional one."""
        if self.index < len(self.arguments):
            word = self.arguments[self.index]
            if not word.startswith(("-", "!")):
                self.index += 1
                return word
        return None

    def read_as_options(self, letters: str) -> None:
        """Read letters that were joined to a short option as options instead of its argument."""
        self.index -= 1
        self._rest = letters

    def _find_argument(self) -> bool:
        """Move to the next argument with options, and words that precede it behind it."""
        first, last = self._words
        self._words = min(first, self.index), min(last, self.index)
        self._collect_words()
        while self.index < len(self.arguments) and _is_word(self.arguments[self.index]):
            self.index += 1
        self._words = self._words[0], self.index
        if self.index < len(self.arguments) and self.arguments[self.index] == "--":
            self.index += 1
            self._collect_words()
            self._words = self._words[0], len(self.arguments)
            self.index = len(self.arguments)
        if self.index < len(self.arguments):
            return True
        first, last = self._words
        if first != last:
            self.index = first
        return False

    def _collect_words(self) -> None:
        """Exchange the words that were passed over with the options that follow them."""
        first, last = self._words
        if first == last:
            self._words = self.index, last
        elif last != self.index:
            words, options = self.arguments[first:last], self.arguments[last : self.index]
            self.arguments[first : self.index] = options + words
            self._words = first + len(options), self.index

    def _read_short(self) -> Found:
        letter, self._rest = self._rest[0], self._rest[1:]
        if not self._rest:
            self.index += 1
        kind = self._short.get(letter)
        if kind is None:
            raise UnknownOption
        if kind is Argument.NONE:
            return Found(letter, None)
        argument: str | None = None
        if self._rest:
            argument, self._rest = self._rest, ""
            self.index += 1
        elif kind is Argument.REQUIRED:
            argument = self._take_argument()
        return Found(letter, argument)

    def _read_long(self, text: str) -> Found:
        self.index += 1
        name, equals, value = text.partition("=")
        option = self._find_long(name)
        if option is None or (equals and option.argument is Argument.NONE):
            raise UnknownOption
        if equals:
            return Found(option.code, value)
        if option.argument is Argument.REQUIRED:
            return Found(option.code, self._take_argument())
        return Found(option.code, None)

    def _find_long(self, name: str) -> LongOption | None:
        """Return the option with a name or, if there is none, the only one that it abbreviates."""
        for option in self.long:
            if option.name == name:
                return option
        options = [option for option in self.long if option.name.startswith(name)]
        if len({option[1:] for option in options}) != 1:
            return None
        return options[0]

    def _take_argument(self) -> str:
        if self.index >= len(self.arguments):
            raise MissingArgument
        argument = self.arguments[self.index]
        self.index += 1
        return argument


def _is_word(argument: str) -> bool:
    return not argument.startswith("-") or argument == "-"
