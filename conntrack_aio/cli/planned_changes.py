"""Check what ``--dry-run`` would create or change, and return it as it would then be.

Each function raises what the change itself would raise, as far as that can be found out without it.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, TypeVar

from ..errors import NotFound, kernel_error
from .failures import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..connection import Connection
    from ..model.expectations import Expectation
    from ..model.helpers import ExpectPolicy, HelperStatus, UserspaceHelper
    from ..model.timeouts import ProtocolTimeouts, TimeoutPolicy
    from ..netlink.exchange import Request

K = TypeVar("K", bound="ProtocolTimeouts")


def _exists(request: Request) -> Exception:
    """Return the error for an object that exists already: :exc:`AlreadyExists`."""
    return kernel_error(errno.EEXIST, str(request))


# Expectations


async def expectation_to_create(
    conn: Connection, expectation: Expectation, *, helper: str | None, zone: int | None
) -> Expectation:
    """Check the parameters of :meth:`Expectations.create`, and return the expectation.

    :raises CommandError: when its master does not exist, or has no helper.
    :raises AlreadyExists: when there is an expectation with its tuple.
    :raises EncodeError: when a field holds no valid value.
    """
    from ..codec.requests import expectations as requests
    from .looking_up import look_up

    request = requests.create(expectation, helper, zone)
    master = await look_up(conn, expectation.master, zone)
    if master.helper is None:
        raise CommandError(f"{request}: its master has no helper")
    with suppress(NotFound):
        # The kernel looks for it under the masks of those that exist, as here.
        await conn.expectations.find(expectation.tuple, zone=zone)
        raise _exists(request)
    return expectation


# Timeout policies and default timeouts


async def policy_to_create(conn: Connection, policy: TimeoutPolicy) -> TimeoutPolicy:
    """Check a policy, and return it with the defaults that it would get.

    :raises AlreadyExists: when there is a policy of its name.
    :raises NotSupported: when this kernel has no timeouts for its protocol.
    :raises EncodeError: when a field holds no valid value.
    """
    from ..codec.requests import timeouts as requests

    request = requests.create(policy)
    with suppress(NotFound):
        await conn.timeouts.get(policy.name)
        raise _exists(request)
    return await _with_defaults(conn, policy)


async def policy_to_replace(conn: Connection, policy: TimeoutPolicy) -> TimeoutPolicy:
    """Check a policy as :func:`policy_to_create` does, which may have another's name.

    :raises CommandError: when the policy of this name has another family or protocol.
    """
    from ..codec.requests import timeouts as requests

    request = requests.replace(policy)
    use: int | None = None
    with suppress(NotFound):
        found = await conn.timeouts.get(policy.name)
        if (found.family, found.proto) != (policy.family, policy.proto):
            raise CommandError(f"{request}: its family and its protocol cannot change")
        use = found.use
    planned = await _with_defaults(conn, policy)
    planned.use = use
    return planned


async def _with_defaults(conn: Connection, policy: TimeoutPolicy) -> TimeoutPolicy:
    given = policy.timeouts
    assert given is not None
    defaults = await conn.timeouts.get_defaults(type(given), proto=policy.proto)
    planned = copy(policy)
    planned.timeouts = _changed(defaults, given)
    return planned


def policy_to_update(policy: TimeoutPolicy, timeouts: ProtocolTimeouts) -> TimeoutPolicy:
    """Return a policy with some of its timeouts changed.

    :raises EncodeError: when a timeout is not valid.
    """
    from ..codec.requests import timeouts as requests

    requests.update(policy, timeouts)
    planned = copy(policy)
    planned.timeouts = _changed(policy.timeouts or timeouts, timeouts)
    return planned


async def defaults_to_set(conn: Connection, timeouts: K, proto: int) -> K:
    """Return the default timeouts of a protocol with some of them changed.

    :raises NotSupported: when this kernel has no timeouts for the protocol.
    :raises EncodeError: when a timeout is not valid.
    """
    from ..codec.requests import timeouts as requests

    requests.set_defaults(timeouts, proto)
    return _changed(await conn.timeouts.get_defaults(type(timeouts), proto=proto), timeouts)


def _changed(timeouts: K, changes: ProtocolTimeouts) -> K:
    """Return timeouts with those changes that are not ``None``."""
    from .object_lines import field_names

    changed = copy(timeouts)
    for name in field_names(type(changes)):
        value: int | None = getattr(changes, name)
        if value is not None:
            setattr(changed, name, value)
    return changed


# User-space helpers


async def helper_to_create(conn: Connection, helper: UserspaceHelper) -> UserspaceHelper:
    """Check a helper, and return it.

    :raises AlreadyExists: when there is one with its name, family and protocol.
    :raises EncodeError: when a field holds no valid value.
    """
    from ..codec.requests import helpers as requests

    request = requests.create(helper)
    with suppress(NotFound):
        await conn.helpers.get(*helper.key)
        raise _exists(request)
    return helper


async def helper_to_update(
    conn: Connection,
    key: tuple[str, int, int],
    *,
    queue: int | None,
    policies: Sequence[ExpectPolicy] | None,
    status: HelperStatus | None,
) -> UserspaceHelper:
    """Check the parameters of :meth:`Helpers.update`, and return the changed helper.

    :raises NotFound: when there is no such helper.
    :raises CommandError: when the policies have other names than those of the helper.
    :raises EncodeError: when a value is not valid.
    """
    from ..codec.requests import helpers as requests

    request = requests.update(requests.HelperKey(*key), queue, policies, status)
    helper = await conn.helpers.get(*key)
    if policies is not None:
        names = [policy.name for policy in helper.policies]
        if [policy.name for policy in policies] != names:
            raise CommandError(
                f"{request}: its policies must be, in this order: {', '.join(names)}"
            )
        helper.policies = tuple(policies)
    if queue is not None:
        helper.queue = queue
    if status is not None:
        helper.status = status
    return helper
