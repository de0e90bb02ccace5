"""Test the classes and the texts of errors."""

from __future__ import annotations

import copy
import errno
import os
import pickle

import pytest

from conntrack_aio import errors
from conntrack_aio.errors import (
    ConntrackError,
    DecodeError,
    EventsLost,
    KernelError,
    NamespaceError,
    call_error,
    kernel_error,
    request_error,
)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (errno.ENOENT, errors.NotFound),
        (errno.EEXIST, errors.AlreadyExists),
        (errno.EPERM, errors.PermissionDenied),
        (errno.EACCES, errors.PermissionDenied),
        (errno.EOPNOTSUPP, errors.NotSupported),
        (errno.EINVAL, errors.InvalidRequest),
        (errno.ERANGE, errors.InvalidRequest),
        (errno.EBUSY, errors.ResourceBusy),
        (errno.ENOSPC, errors.ResourceExhausted),
        (errno.EMFILE, errors.ResourceExhausted),
        (errno.ENFILE, errors.ResourceExhausted),
        (errno.EAGAIN, errors.ResourceExhausted),
        (errno.ENOPROTOOPT, errors.NotSupported),
        (errno.EIO, KernelError),
        (9999, KernelError),
        (1 << 31, KernelError),
    ],
)
def test_the_errno_determines_the_class(code: int, cls: type[KernelError]) -> None:
    error = kernel_error(code, "delete x")
    assert type(error) is cls
    assert isinstance(error, OSError)
    assert (error.errno, error.request) == (code, "delete x")


def test_the_text_has_the_request_the_detail_and_the_hint() -> None:
    error = kernel_error(errno.EINVAL, "update x", "reserved bit set", "Do otherwise")
    assert str(error) == "update x: reserved bit set (EINVAL). Do otherwise"
    plain = kernel_error(errno.EBUSY, "update x")
    assert str(plain) == "update x: Device or resource busy (EBUSY)"
    assert "CAP_NET_ADMIN" in str(kernel_error(errno.EPERM, "x"))


@pytest.mark.parametrize("code", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_the_error_of_a_refused_system_call_says_who_may_refuse_it(code: int) -> None:
    error = call_error(OSError(code, os.strerror(code)), "sendto()")
    assert (type(error), error.request) == (type(kernel_error(code, "")), "sendto()")
    assert "seccomp" in str(error)
    assert "CAP_" not in str(error)
    privileged = call_error(OSError(code, os.strerror(code)), "setns()", needs="This needs CAP_X")
    assert "seccomp" in str(privileged)
    assert ("CAP_X" in str(privileged)) == (code != errno.ENOSYS)
    assert call_error(error, "something else") is error
    wrapped = request_error("dump the table", error)
    assert type(wrapped) is type(error)
    assert str(wrapped) == f"dump the table: {error}"


def test_the_error_of_a_failed_system_call_names_no_capability() -> None:
    error = call_error(OSError(errno.EIO, "no"), "sendto()", needs="CAP_X", cls=NamespaceError)
    assert type(error) is NamespaceError
    assert str(error) == "sendto(): Input/output error (EIO)"
    assert str(request_error("dump it", OSError(errno.EMFILE, "no"))).startswith(
        "dump it: Too many open"
    )


@pytest.mark.parametrize(
    "error",
    [
        kernel_error(errno.ENOENT, "get x", "detail", "hint"),
        DecodeError("short", ("CTA_MARK",)),
        EventsLost(7),
        EventsLost(None),
    ],
)
def test_errors_can_be_copied_and_pickled(error: ConntrackError) -> None:
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert str(other) == str(error)


def test_the_text_begins_with_the_path() -> None:
    assert str(DecodeError("short", ("CTA_TUPLE_ORIG", "CTA_TUPLE_IP"))) == (
        "CTA_TUPLE_ORIG/CTA_TUPLE_IP: short"
    )
    assert str(DecodeError("short")) == "short"


def test_every_error_is_a_conntrack_error() -> None:
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), ConntrackError)


@pytest.mark.parametrize(
    ("lost", "text"),
    [(1, "1 event was lost"), (2, "2 events were lost"), (None, "some events were lost")],
)
def test_the_text_has_the_number_of_lost_events(lost: int | None, text: str) -> None:
    assert str(EventsLost(lost)).startswith(text)
