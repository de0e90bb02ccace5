"""Look up the ports of services, as in ``/etc/services``."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from ..errors import MatchError
from ..plain import describe_value

_PROTOCOLS: Final = ("tcp", "udp", "sctp", "dccp", "udplite")
"""The protocols with ports, by their names in that file."""


def service_port(field: str, name: str) -> int | None:
    """Return the port of a service, or ``None`` if there is no service of this name.

    :param field: the name of the field, for the error message.
    :param name: the name of the service.
    :raises MatchError: when the service has different ports with different protocols.
    """
    from socket import getservbyname

    found: dict[str, int] = {}
    for proto in _PROTOCOLS:
        with suppress(OSError, ValueError):  # ValueError: the name has a NUL, or is not UTF-8
            found[proto] = getservbyname(name, proto)
    ports = set(found.values())
    if len(ports) > 1:
        shown = ", ".join(f"{port} of {proto}" for proto, port in found.items())
        raise MatchError(
            f"{field}: the service {describe_value(name)} has several ports ({shown}); "
            "write the number"
        )
    return ports.pop() if ports else None
