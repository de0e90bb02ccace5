"""The help of ``-h``: the options of the program, and those of a protocol after ``-p``."""

from __future__ import annotations

from typing import Final

from ... import __version__
from ..output import write_lines
from .commands import Command
from .messages import OK
from .protocols import BY_NUMBER

_HELP: Final = """\
Command line interface for the connection tracking system. Version {version}
Usage: conntrack [commands] [options]

Commands:
  -L [table] [options]\t\tList conntrack or expectation table
  -G [table] parameters\t\tGet conntrack or expectation
  -D [table] parameters\t\tDelete conntrack or expectation
  -I [table] parameters\t\tCreate a conntrack or expectation
  -U [table] parameters\t\tUpdate a conntrack
  -E [table] [options]\t\tShow events
  -F [table]\t\t\tFlush table
  -C [table]\t\t\tShow counter
  -S\t\t\t\tShow statistics

Tables: conntrack, expect, dying, unconfirmed

Conntrack parameters and options:
  -n, --src-nat ip\t\t\tsource NAT ip
  -g, --dst-nat ip\t\t\tdestination NAT ip
  -j, --any-nat ip\t\t\tsource or destination NAT ip
  -m, --mark mark\t\t\tSet mark
  -c, --secmark secmark\t\t\tSet selinux secmark
  -e, --event-mask eventmask\t\tEvent mask, eg. NEW,DESTROY
  -z, --zero \t\t\t\tZero counters while listing
  -o, --output type[,...]\t\tOutput format, eg. xml
  -l, --label label[,...]\t\tconntrack labels

Expectation parameters and options:
  --tuple-src ip\tSource address in expect tuple
  --tuple-dst ip\tDestination address in expect tuple

Updating parameters and options:
  --label-add label\tAdd label
  --label-del label\tDelete label

Common parameters and options:
  -s, --src, --orig-src ip\t\tSource address from original direction
  -d, --dst, --orig-dst ip\t\tDestination address from original direction
  -r, --reply-src ip\t\tSource addres from reply direction
  -q, --reply-dst ip\t\tDestination address from reply direction
  -p, --protonum proto\t\tLayer 4 Protocol, eg. 'tcp'
  -f, --family proto\t\tLayer 3 Protocol, eg. 'ipv6'
  -t, --timeout timeout\t\tSet timeout
  -u, --status status\t\tSet status, eg. ASSURED
  -w, --zone value\t\tSet conntrack zone
  --orig-zone value\t\tSet zone for original direction
  --reply-zone value\t\tSet zone for reply direction
  -b, --buffer-size\t\tNetlink socket buffer size
  --mask-src ip\t\t\tSource mask address
  --mask-dst ip\t\t\tDestination mask address
"""

_PORTS: Final = """\
  --orig-port-src\t\toriginal source port
  --orig-port-dst\t\toriginal destination port
  --reply-port-src\t\treply source port
  --reply-port-dst\t\treply destination port
  --mask-port-src\t\tmask source port
  --mask-port-dst\t\tmask destination port
  --tuple-port-src\t\texpectation tuple src port
  --tuple-port-src\t\texpectation tuple dst port
"""

_STATE: Final = "  --state\t\t\t{protocol} state, fe. {example}\n"

_PROTOCOLS: Final = {
    "tcp": _PORTS + _STATE.format(protocol="TCP", example="ESTABLISHED"),
    "udp": _PORTS,
    "udplite": _PORTS,
    "icmp": (
        "  --icmp-type\t\t\ticmp type\n  --icmp-code\t\t\ticmp code\n  --icmp-id\t\t\ticmp id\n"
    ),
    "icmpv6": (
        "  --icmpv6-type\t\t\ticmpv6 type\n"
        "  --icmpv6-code\t\t\ticmpv6 code\n"
        "  --icmpv6-id\t\t\ticmpv6 id\n"
    ),
    "sctp": (
        _PORTS
        + _STATE.format(protocol="SCTP", example="ESTABLISHED")
        + "  --orig-vtag\t\toriginal verification tag\n"
        "  --reply-vtag\t\treply verification tag\n"
    ),
    "dccp": _PORTS + _STATE.format(protocol="DCCP", example="RESPOND"),
    "gre": _PORTS.replace("-port-", "-key-").replace(" port\n", " key\n"),
}


def show_help(command: Command) -> int:
    """Print the help, and return the exit status."""
    write_lines(_HELP.format(version=__version__))
    write_lines("\n")
    if command.proto is not None:
        protocol = BY_NUMBER.get(command.proto)
        name = _name_of(command.proto) if protocol is None else protocol.name
        options = "  no options (unsupported)\n" if protocol is None else _PROTOCOLS[protocol.name]
        write_lines(f"Proto `{name}' help:\n{options}")
    return OK


def _name_of(number: int) -> str:
    """Return the name of a protocol as in ``/etc/protocols``."""
    try:
        with open("/etc/protocols", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                words = line.partition("#")[0].split()
                if len(words) > 1 and words[1] == str(number):
                    return words[0]
    except OSError:
        pass
    return "unknown"
