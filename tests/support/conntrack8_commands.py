"""Generate command lines of conntrack(8) at random: valid ones, and ones with mistakes.

What is left out are the commands for which this package differs from the program on purpose; each
place says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

from conntrack_aio.cli.conntrack8.getopt import Argument
from conntrack_aio.cli.conntrack8.options import IGNORED_CODE, LONG_OPTIONS, SHORT_OPTIONS
from conntrack_aio.cli.conntrack8.protocols import PROTOCOLS

T = TypeVar("T")

PORTED = ("tcp", "udp", "udplite", "sctp", "dccp")
NAMED_PROTOCOLS = (*PORTED, "icmp", "icmpv6", "gre")
_STATES = {
    "tcp": ("NONE", "SYN_SENT", "SYN_RECV", "ESTABLISHED", "TIME_WAIT", "CLOSE", "LISTEN"),
    "sctp": ("NONE", "CLOSED", "COOKIE_WAIT", "ESTABLISHED"),
    "dccp": ("REQUEST", "OPEN"),
}

_IPV4 = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "192.0.2.1")
_IPV6 = ("fd00::1", "fd00::2", "2001:db8::1")
_OF_ALL_LINES = ("-m", "--ma", "-o", "--ou")
"""How options begin whose values in a file the program takes from the last line."""
_BAD_ADDRESSES = ("300.1.1.1", "", "x", "10.0.0.1x", "fd00::g", "::1%lo", "\udcff")
_ODD_NUMBERS = ("", "x", "-1", "0x10", "010", "5x", " 5", "99999999999999999999", "65536", "+2")
_STATUS = ("ASSURED", "SEEN_REPLY", "assured", "SEEN", "A", "FIXED_TIMEOUT", "EXPECTED")
_ARGUMENTS = {
    **{f"-{letter}": argument for letter, argument in SHORT_OPTIONS.items()},
    **{f"--{option.name}": option.argument for option in LONG_OPTIONS},
    **{
        f"--{name}": Argument.REQUIRED
        for protocol in PROTOCOLS
        for option in protocol.options
        for name in option.long_names
    },
}
"""Whether each option has an argument."""

_LONG_NAMES = {
    f"-{option.code}": [f"--{each.name}" for each in LONG_OPTIONS if each.code == option.code]
    for option in LONG_OPTIONS
    if option.code.isalpha() and option.code != IGNORED_CODE
}
"""The long names of options with a letter."""


PORTS = ("1", "2", "3", "80", "77")
"""The ports of command lines; the last one is that of translations."""


class Generator:
    """Generates command lines. The same seed generates the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    # -- commands -----------------------------------------------------------------------------

    def reading(self) -> list[str]:
        """Return a command line that changes nothing."""
        kind = self._random.random()
        if kind < 0.55:
            options, table = self._listing(), ["conntrack"] if self._chance(0.1) else []
            return self._written("-L", table, options)
        if kind < 0.75:
            return self._written("-G", [], self._entry("get"))
        if kind < 0.8:
            options = self._some(["-f", self._pick(("ipv4", "ipv6"))], self._output())
            return self._written("-L", ["expect"], [options])
        if kind < 0.85:
            return self._written("-G", ["expect"], self._expectation())
        return self._written(*self._pick(self._OTHERS), [])

    _OTHERS = (
        ("-C", []),
        ("-C", ["expect"]),
        ("-S", []),
        ("-S", ["expect"]),
        ("-V", []),
        ("-h", []),
        ("-L", ["dying"]),
        ("-L", ["unconfirmed"]),
        ("-L", ["unknown"]),
    )

    def changing(self) -> list[str]:
        """Return a command line that may change the table."""
        kind = self._random.random()
        if kind < 0.35:
            return self._written("-I" if self._chance(0.6) else "-A", [], self._entry("create"))
        if kind < 0.65:
            return self._written("-D", [], self._deletion())
        if kind < 0.97:
            return self._written("-U", [], self._update())
        return self._written("-F", self._pick(([], ["conntrack"], ["expect"], ["x"])), [])

    def events(self) -> list[str]:
        """Return a command line that shows events of flows."""
        addresses = _IPV4 if self._chance(0.75) else _IPV6
        options = self._filters(addresses) if self._chance(0.6) else []
        options = [self._some(*options), self._some(self._output(), chance=0.5)]
        types = ("NEW", "UPDATES", "DESTROY", "ALL", "n", "U", "DES", "new,destroy")
        options.append(self._some(["-e", self._pick(types)], ["-b", "1000000"], chance=0.2))
        if self._chance(0.1):
            options.append(self._nat(_IPV4 if addresses is _IPV4 else (), any_nat=True))
        options += self._protocol_filter() if self._chance(0.4) else []
        return self._written("-E", [], [*options, self._labels(("-l",))])

    def invalid(self) -> list[str]:
        """Return a command line with a mistake, most likely."""
        arguments = self.reading() if self._chance(0.6) else self._safe_change()
        for _ in range(self._random.choice((1, 1, 2))):
            self._spoil(arguments)
        return arguments

    def file(self) -> str:
        """Return the lines of a file for ``-R``, with comments, quotes and at times a mistake."""
        lines: list[str] = []
        count = self._random.choice((1, 2, 3, 5, 8))
        for index in range(count):
            kind = self._random.random()
            if kind < 0.1:
                lines.append(self._pick(("# -F", "#", "", "   ", "\t# x", "-F # x")))
                continue
            arguments = self.changing()
            if kind > 0.95:
                self._spoil(arguments)
            # Labels are left out: the program crashes at the second line with a label. Marks and
            # output options are left out but for the last line: the program applies its to all.
            left_out = ("-l", "--l") if index == count - 1 else ("-l", "--l", *_OF_ALL_LINES)
            if not any(word.startswith(left_out) for word in arguments):
                blank = self._pick((" ", " ", "  ", "\t"))
                lines.append(blank.join(map(self._quoted, arguments)))
        text = "".join(f"{line}\n" for line in lines)
        if self._chance(0.1) and text:
            # Behind an option, the character would be a value joined to it. So would be the rest
            # of the line behind a quote before an option.
            places = [place for place in range(len(text)) if text[:place][-1:].isspace()]
            place = self._pick(places or [0])
            odd = self._pick(
                ("\\", "\0", " ", "\udcff", "#", '"')[: 5 if text[place] == "-" else 6]
            )
            text = f"{text[:place]}{odd}{text[place:]}"
        return text.removesuffix("\n") if self._chance(0.2) else text

    def _quoted(self, word: str) -> str:
        if word and not set(word) & set(' \t\n"\\') and self._chance(0.9):
            return word
        text = word.replace("\\", "\\\\").replace('"', '\\"')
        # A quote ends an argument, but text that precedes it belongs to it.
        cut = 0 if set(word) & set(' \t\n"\\') or self._chance(0.8) else len(word) // 2
        return f'{text[:cut]}"{text[cut:]}"'

    def _safe_change(self) -> list[str]:
        return self._written(self._pick(("-I", "-A")), [], self._entry("create"))

    # -- mistakes -----------------------------------------------------------------------------

    def _spoil(self, arguments: list[str]) -> None:
        position = self._random.randrange(len(arguments) + 1)
        kind = self._random.randrange(5)
        if kind == 0 and len(arguments) > 1:
            del arguments[self._random.randrange(len(arguments))]
        elif kind == 1:
            arguments[position:position] = self._pick(self._STRAY)
        elif kind == 2 and arguments:
            index = self._random.randrange(len(arguments))
            # Only values are replaced: another command might be one that changes the table. The
            # program ignores the value of a security mark.
            before = arguments[index - 1] if index else ""
            if not arguments[index].startswith("-") and before not in ("-c", "--secmark"):
                arguments[index] = self._pick((*_BAD_ADDRESSES, *_ODD_NUMBERS))
        elif kind == 3 and len(arguments) > 1:
            index = self._random.randrange(len(arguments))
            arguments.append(arguments.pop(index))
        else:
            arguments += self._pick(
                (["-t", "5"], ["--tuple-src", "10.0.0.1"], ["-m", "1"], ["-o", "xml"], ["-z"])
            )

    _STRAY = (
        ["-X"],
        ["--xyz"],
        ["--re", "10.0.0.1"],
        ["--s"],
        ["-s"],
        ["word"],
        ["--"],
        ["-"],
        ["-a", "1"],
        ["-zX"],
        ["-zXy"],
        ["--zero=1"],
        ["-L"],
        ["-f", "ipx"],
        ["-o", "foo"],
        ["-o", "xml,save"],
        ["-u", "foo"],
        ["-u", "ASSURED,,"],
        ["-u", "d,x"],
        ["-o", "s,xml"],
        ["-l", "nosuch"],
        ["-p", "300"],
        ["-p", "foo"],
        ["-e", "NEW,x"],
        ["-r", "10.0.0.0/8"],
        ["-s", "10.0.0.1/33"],
        ["--mask-src", "255.0.0.0"],
        ["-n", "10.0.0.1:99999"],
        ["-n", "[fd00::1"],
        ["-j", "-n"],
        ["--sport", "5"],
        ["--state", "FOO"],
        ["-R", "x"],
        ["\udcff\udcfe"],
        ["--\udcff"],
        ["!"],
        [""],
    )

    # -- groups of options ----------------------------------------------------------------------

    def _listing(self) -> list[list[str]]:
        """Return options of ``-L``, each with its argument."""
        addresses = _IPV4 if self._chance(0.75) else _IPV6
        # A status after a mark is left out, here and below: the program takes it for the mark.
        options = [self._some(["-u", self._status()]), self._some(*self._filters(addresses))]
        options.append(self._some(self._output()))
        # IPv6 addresses of translations are left out: the program ignores them.
        if self._chance(0.3):
            options.append(self._nat(_IPV4 if addresses is _IPV4 else (), any_nat=True))
        if self._chance(0.05):
            options.append(["-z"])
        # Another number than 0 is left out: the program ignores it.
        options.append(self._some(["-c", "0"], chance=0.03))
        return [*options, *self._protocol_filter(), self._labels(("-l",))]

    def _deletion(self) -> list[list[str]]:
        if self._chance(0.2):  # of one tuple, perhaps in several zones
            return [*self._entry("get"), self._some(["-w", self._pick(("0", "5", "7"))])]
        addresses = _IPV4 if self._chance(0.75) else _IPV6
        options = [self._some(*self._filters(addresses), chance=0.35)]
        if not any(options):
            options.append(["-s", self._pick(addresses)])
        # Statuses that are to be clear are left out: the program deletes the whole table.
        if self._chance(0.15):
            statuses = ("ASSURED", "SEEN_REPLY", "ASSURED,SEEN_REPLY")
            options.insert(0, ["-u", self._pick(statuses)])
        options.append(self._some(self._output(("id", "extended", "labels")), chance=0.1))
        options.append(self._some(["-i", "12345"], chance=0.05))
        if self._chance(0.1):
            options.append(self._nat(_IPV4 if addresses is _IPV4 else ()))
        return [*options, *self._protocol_filter(), self._labels(("-l",), 0.1)]

    def _filters(self, addresses: Sequence[str]) -> list[list[str]]:
        return [
            ["-s", self._network(addresses), *self._mask("src", addresses)],
            ["-d", self._network(addresses), *self._mask("dst", addresses)],
            ["-r", self._pick(addresses)],
            ["-q", self._pick(addresses)],
            ["-f", "ipv6" if ":" in addresses[0] else "ipv4"],
            ["-m", self._mark()],
            ["-w", self._pick(("0", "5", "7"))],
            ["--orig-zone", self._pick(("0", "5", "6"))],
            ["--reply-zone", self._pick(("0", "5", "6"))],
        ]

    def _network(self, addresses: Sequence[str]) -> str:
        address = self._pick(addresses)
        return (
            address + self._pick(("/8", "/24", "/31", "/32", "/0", "/7"))
            if self._chance(0.2)
            else address
        )

    def _mask(self, end: str, addresses: Sequence[str]) -> list[str]:
        ipv4 = ("255.0.0.0", "255.255.255.254", "0.0.0.3", "0.0.0.0")
        masks = ("ffff::", "::1", "::") if ":" in addresses[0] else ipv4
        return self._some([f"--mask-{end}", self._pick(masks)], chance=0.1)

    def _protocol_filter(self, without: str = "") -> list[list[str]]:
        # The keys of GRE are left out: the program ignores them.
        protocol = self._pick((*PORTED, "tcp", "udp", "icmp", "icmpv6", "igmp", "50", "0"))
        if protocol == without or self._chance(0.4):
            return []
        options = [["-p", self._protocol(protocol)]]
        if protocol in PORTED:
            names = ("--sport", "--dport", "--reply-port-src", "--reply-port-dst")
            options += [self._some(*([name, self._port()] for name in names), chance=0.25)]
        if protocol in ("tcp", "sctp") and self._chance(0.3):
            options.append(["--state", self._pick(_STATES[protocol])])
        if protocol in ("icmp", "icmpv6"):
            type_ = self._pick(("8", "0") if protocol == "icmp" else ("128", "129"))
            values = (("type", type_), ("code", "0"), ("id", self._pick(("7", "8"))))
            options += [self._some(*([f"--{protocol}-{name}", value] for name, value in values))]
        return options

    def _entry(self, purpose: str) -> list[list[str]]:
        """Return options that name an entry, for ``-G`` or to create it."""
        protocol = self._pick((*NAMED_PROTOCOLS, "tcp", "udp", "50", "igmp"))
        addresses = _IPV6 if protocol == "icmpv6" or self._chance(0.2) else _IPV4
        if protocol == "icmp":
            addresses = _IPV4
        options = [["-s", self._pick(addresses)], ["-d", self._pick(addresses)]]
        options.append(["-p", self._protocol(protocol)])
        options += self._entry_ports(protocol, purpose)
        if purpose == "get":
            options.append(self._some(self._output(), ["-i", "12345"], chance=0.1))
            return options
        options.append(["-t", self._pick(("1000", "5000", "100000", "0x", "99999999999"))])
        options.append(
            self._some(
                ["-u", self._pick((*_STATUS, "ASSURED,SEEN_REPLY", "UNSET", "OFFLOAD"))],
                ["-m", self._mark()],
                ["-w", self._pick(("0", "5", "7"))],
                ["--label-add", self._pick(("web", "db", "web,last"))],
                chance=0.2,
            )
        )
        if self._chance(0.1):
            # The kernel lets a reply tuple be the original tuple of another entry if one of them
            # has the zone of a direction. The program may then delete the other entry.
            options[0] = ["-s", "fd00::99" if addresses is _IPV6 else "10.0.0.99"]
            options.append([self._pick(("--orig-zone", "--reply-zone")), self._pick("066")])
        # A translated ICMP flow is left out: to the program its destination is translated, too.
        elif self._chance(0.15) and not protocol.startswith("icmp"):
            options.append(self._nat(addresses))
        return options

    def _entry_ports(self, protocol: str, purpose: str) -> list[list[str]]:
        options: list[list[str]] = []
        if protocol in PORTED:
            options += [["--sport", self._port()], ["--dport", self._port()]]
        elif protocol == "gre":
            key = self._pick(("1", "0x10", "010"))
            options += [["--srckey", key], ["--dstkey", self._pick(("2", "0x20"))]]
        elif protocol in ("icmp", "icmpv6"):
            types = ("8", "0", "13", "3") if protocol == "icmp" else ("128", "129", "1")
            options += [[f"--{protocol}-type", self._pick(types)], [f"--{protocol}-code", "0"]]
            options.append(self._some([f"--{protocol}-id", self._pick(("7", "8"))], chance=0.8))
        if purpose == "create" and protocol in _STATES:
            options.append(["--state", self._pick(_STATES[protocol])])
        if purpose == "create" and protocol == "sctp":
            options += [["--orig-vtag", "1"], ["--reply-vtag", "2"]]
        if purpose == "create" and protocol == "dccp":
            options.append(["--role", self._pick(("client", "server"))])
        return options

    def _expectation(self) -> list[list[str]]:
        options = [["-p", "tcp"], ["-s", self._pick(_IPV4)], ["-d", self._pick(_IPV4)]]
        options += [["--sport", self._pick(("5", "6"))], ["--dport", "2000"]]
        return [*options, ["--reply-port-src", "1"], ["--reply-port-dst", "1"]]

    def _update(self) -> list[list[str]]:
        """Return options of ``-U``.

        They give an address of one of few entries: the program prints only some of several.
        """
        addresses = _IPV4 if self._chance(0.75) else _IPV6
        options = [["-s", self._pick(addresses)], ["-d", self._pick(addresses)]]
        # DCCP is left out: to the program, entries whose ports are not known have any port.
        options += self._protocol_filter(without="dccp")
        changes = self._some(
            ["-u", self._pick(("ASSURED", "SEEN_REPLY", "ASSURED,SEEN_REPLY"))],
            ["-m", self._mark()],
            ["-t", self._pick(("1500", "2500"))],
            ["--label-add", self._pick(("web", "db"))],
            chance=0.4,
        )
        options.append(changes)
        if "--label-add" not in changes:
            # The label 127 is left out: the program clears all labels.
            options.append(self._labels(("--label-del",), 0.1))
        return options

    def _nat(self, addresses: Sequence[str], *, any_nat: bool = False) -> list[str]:
        options = ("-n", "-g", "--src-nat", "--dst-nat", *(("-j", "--any-nat") if any_nat else ()))
        option = self._pick(options)
        if not addresses or self._chance(0.4):
            return [option]
        address = self._pick(addresses)
        if self._chance(0.4):
            port = PORTS[-1]
            address = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return [option, address]

    def _labels(self, options: Sequence[str], chance: float = 0.05) -> list[str]:
        return self._some([self._pick(options), self._pick(("web", "db", "web,db"))], chance=chance)

    # -- values -------------------------------------------------------------------------------

    def _output(self, words: Sequence[str] = ()) -> list[str]:
        if not words and self._chance(0.1):
            return ["-o", self._pick(("save", "SAVE", "sa"))]
        words = words or (
            *("extended", "id", "ktimestamp", "labels", "xml", "ext", "I", "userspace"),
            *("timestamp", "XML", "Labels", "k", "src_nat"),
        )
        count = min(self._random.choice((1, 1, 2, 3, 4)), len(words))
        return ["-o", ",".join(self._random.sample(words, count))]

    def _status(self) -> str:
        words = (*_STATUS, "UNREPLIED", "!ASSURED", "!SEEN_REPLY")
        return ",".join(self._random.sample(words, self._random.choice((1, 1, 2))))

    def _mark(self) -> str:
        value = self._pick(("0", "1", "2", "0x10", "255", "4294967295"))
        return f"{value}/{self._pick(('1', '0xff', '0xffffffff'))}" if self._chance(0.3) else value

    def _port(self) -> str:
        return self._pick(PORTS[:4]) if self._chance(0.93) else self._pick(_ODD_NUMBERS)

    def _protocol(self, name: str) -> str:
        numbers = {"tcp": "6", "udp": "17", "icmp": "1", "sctp": "132", "gre": "0x2f"}
        return numbers.get(name, name.upper()) if self._chance(0.1) else name

    # -- choices ------------------------------------------------------------------------------

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _pick(self, values: Sequence[T]) -> T:
        return self._random.choice(values)

    def _some(self, *options: list[str], chance: float = 0.15) -> list[str]:
        """Return some of the options, in one list."""
        return [word for option in options if self._chance(chance) for word in option]

    def _written(
        self, command: str, table: Sequence[str], options: Sequence[list[str]]
    ) -> list[str]:
        """Return a command line with long names, joined arguments, words and other orders at times.

        The options of a protocol stay behind ``-p``.
        """
        action = [self._named(command), *table]
        items = self._items([word for option in options for word in option])
        at_end = bool(table) or not items or self._chance(0.8)
        items = [action, *items] if at_end else [*items, action]
        if self._chance(0.05):
            # A word behind these options would be their argument.
            places = [
                place
                for place in range(len(items) + 1)
                if not place or _ARGUMENTS.get(items[place - 1][-1]) is not Argument.OPTIONAL
            ]
            places = [place for place in places if not place or items[place - 1] is not action]
            items.insert(self._pick(places or [0]), [self._pick(("word", "-", "expect", ""))])
        return [word for item in items for word in item]

    def _items(self, words: Sequence[str]) -> list[list[str]]:
        """Return options, each with its argument, with other names and joined at times."""
        items: list[list[str]] = []
        for word in words:
            if items and not word.startswith("-") and items[-1][0] in _ARGUMENTS:
                items[-1].append(word)
            else:
                items.append([word])
        return [self._joined(item) for item in items]

    def _joined(self, item: list[str]) -> list[str]:
        option, *argument = item
        name = self._named(option)
        if not argument or _ARGUMENTS.get(option) is not Argument.REQUIRED or self._chance(0.8):
            return [name, *argument]
        return [f"{name}={argument[0]}" if name.startswith("--") else f"{name}{argument[0]}"]

    def _named(self, option: str) -> str:
        """Return an option as it is, or a long name of it, which may be shortened."""
        if self._chance(0.8):
            return option
        name = self._pick(_LONG_NAMES.get(option, [option]))
        if name.startswith("--") and self._chance(0.4):
            # An abbreviation of several options is a mistake, in which a table is not changed.
            return name[: self._random.randrange(4, max(len(name), 5))]
        return name
