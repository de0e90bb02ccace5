"""What every test shares: the event loops, and a namespace of one's own.

Kernel tests need a network namespace each. As root that is no matter; else the whole test process
moves into a user namespace first, while it has one thread. Where neither is allowed, they are
skipped, and say why.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings
from support.effort import GUEST, QUICK, examples
from support.event_loops import BACKENDS as LOOPS
from support.event_loops import INSTALLED_BACKENDS
from support.lab import Lab
from support.namespaces import new_network_namespace
from support.other_namespaces import OtherNamespaces

from conntrack_aio import Connection, ConntrackError, connect
from conntrack_aio.netlink import namespaces
from conntrack_aio.sandbox.namespace import enter_sandbox

# What only other kernels can show: tests/kernels runs it in its guests.
collect_ignore = [] if GUEST else ["kernels"]

ROOTLESS = "CONNTRACK_AIO_TEST_ROOTLESS"
"""Set to have the tests run in a user namespace even as root."""

_obstacle: str | None = None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Of several test processes one that has no test left takes some of another."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_configure() -> None:
    global _obstacle
    # A shell has its background jobs ignore interrupts, and their children with them; some tests
    # end a program by one.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # To make an example that fails smaller takes a guest many minutes.
    phases = [each for each in Phase if not (GUEST and each is Phase.shrink)]
    settings.register_profile("effort", max_examples=examples(100), phases=phases)
    settings.load_profile("effort")
    try:
        # Test processes that this one starts are in the user namespace already.
        if os.environ.pop(ROOTLESS, None):
            enter_sandbox()
        try:
            os.close(new_network_namespace())
        except ConntrackError:
            enter_sandbox()
            os.close(new_network_namespace())
    except ConntrackError as error:
        _obstacle = str(error)


def _is_chosen(item: pytest.Item) -> bool:
    """Return whether a quick run, or one in a guest, has this test.

    A quick run and a guest have each test on one event loop. A quick run has a quarter of the cases
    of a test with parameters. Which ones depends on the name of the test and on the version of
    Python, so that runs on several versions have other cases and other loops.
    """
    params = dict(getattr(getattr(item, "callspec", None), "params", {}))
    if not (QUICK or GUEST) or not params:
        return True
    loop = params.pop("backend", None)  # of tests that start it themselves
    if "anyio_backend" in params:
        loop = LOOPS[BACKENDS.index(params.pop("anyio_backend"))]
    if loop in LOOPS and loop not in INSTALLED_BACKENDS:
        return False
    test = re.sub("|".join(LOOPS), "", item.nodeid)
    name, python = zlib.crc32(test.encode()), sys.version_info.minor
    if loop in INSTALLED_BACKENDS and INSTALLED_BACKENDS.index(loop) != (name + python) % len(
        INSTALLED_BACKENDS
    ):
        return False
    return bool(GUEST) or not params or (name // len(LOOPS) + python) % 4 == 0


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if not _is_chosen(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if _is_chosen(item)]
    for item in items:
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.kernel)
        if _obstacle is not None and item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason=f"no network namespace: {_obstacle}"))
        for marker in item.iter_markers("program"):
            name, package = marker.args
            if shutil.which(name) is None:
                reason = f"{name} is missing: apt-get install {package}"
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Spare the garbage collector the thousands of tests: many of them have it run."""
    gc.collect()
    gc.freeze()


BACKENDS: list[tuple[str, dict[str, bool]]] = [
    ("asyncio", {"use_uvloop": False}),
    ("asyncio", {"use_uvloop": True}),
    ("trio", {}),
]


@pytest.fixture(params=BACKENDS, ids=LOOPS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    backend: tuple[str, dict[str, bool]] = request.param
    return backend


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A fresh network namespace with loopback up, whose flows all emit events."""
    descriptor = new_network_namespace()
    lab = Lab(descriptor)
    lab.sysctl("nf_conntrack_events", 1)
    yield lab
    os.close(descriptor)


@pytest.fixture
def new_namespace() -> Iterator[Callable[[], int]]:
    """A function that creates a network namespace and returns a descriptor of it."""
    descriptors: list[int] = []

    def new() -> int:
        descriptors.append(new_network_namespace())
        return descriptors[-1]

    yield new
    for fd in descriptors:
        os.close(fd)


@pytest.fixture
async def conn(lab: Lab) -> AsyncIterator[Connection]:
    """A connection to the lab."""
    async with connect(netns=lab.netns) as connection:
        yield connection


@pytest.fixture
def around(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherNamespaces]:
    """Namespaces around the lab, with names in a directory of the test's own."""
    monkeypatch.setattr(namespaces, "NAMED", str(tmp_path))
    around = OtherNamespaces(lab, tmp_path)
    yield around
    around.close()
