"""Provide the fixtures that all tests share: event loops, and a network namespace for each test.

Each kernel test needs a network namespace. Root can create one. Otherwise the whole test process
first moves into a user namespace, while it has one thread. Where neither is allowed, the kernel
tests are skipped, and the reason of the skip is the error.
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
from conntrack_aio.codec import decoder, packers
from conntrack_aio.netlink import namespaces
from conntrack_aio.sandbox.namespace import enter_sandbox

# tests/kernels tests what only other kernels can show. It runs in its guests only.
collect_ignore = [] if GUEST else ["kernels"]

ROOTLESS = "CONNTRACK_AIO_TEST_ROOTLESS"
"""Environment variable: if it is set, the tests run in a user namespace even as root."""

# The tests read and write single messages with compiled functions, too. Programs that make few
# requests do not compile any: see tests/codec/test_first_messages.py.
decoder.NOT_COMPILED = packers.NOT_COMPILED = 0

_skip_reason: str | None = None


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let a test process that has finished its tests take over tests of another process."""
    if getattr(config.option, "numprocesses", None) and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_configure() -> None:
    global _skip_reason
    # A shell makes its background jobs ignore SIGINT, and their children inherit that. Some tests
    # end a program with SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Shrinking a failing example takes many minutes in a guest.
    phases = [phase for phase in Phase if not (GUEST and phase is Phase.shrink)]
    settings.register_profile("effort", max_examples=examples(100), phases=phases)
    settings.load_profile("effort")
    try:
        # The variable is removed: processes that this one starts inherit the user namespace.
        if os.environ.pop(ROOTLESS, None):
            enter_sandbox()
        try:
            os.close(new_network_namespace())
        except ConntrackError:
            enter_sandbox()
            os.close(new_network_namespace())
    except ConntrackError as error:
        _skip_reason = str(error)


def _is_chosen(item: pytest.Item) -> bool:
    """Return whether a quick run, or a run in a guest, includes this test.

    Both run each test on one event loop. A quick run includes a quarter of the cases of a
    parametrized test. The choice depends on the name of the test and on the version of Python, so
    that runs on several versions cover different cases and loops.
    """
    params = dict(getattr(getattr(item, "callspec", None), "params", {}))
    if not (QUICK or GUEST) or not params:
        return True
    loop = params.pop("backend", None)  # the test starts the event loop itself
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
        if _skip_reason is not None and item.get_closest_marker("kernel"):
            item.add_marker(pytest.mark.skip(reason=f"no network namespace: {_skip_reason}"))
        for marker in item.iter_markers("program"):
            name, package = marker.args
            if shutil.which(name) is None:
                reason = f"{name} is missing: apt-get install {package}"
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Exclude the thousands of collected tests from garbage collections, which many tests run."""
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
    """Create a network namespace with loopback up, whose flows all emit events."""
    descriptor = new_network_namespace()
    lab = Lab(descriptor)
    lab.sysctl("nf_conntrack_events", 1)
    yield lab
    os.close(descriptor)


@pytest.fixture
def new_namespace() -> Iterator[Callable[[], int]]:
    """Return a function that creates a network namespace and returns a descriptor of it."""
    descriptors: list[int] = []

    def new() -> int:
        descriptors.append(new_network_namespace())
        return descriptors[-1]

    yield new
    for fd in descriptors:
        os.close(fd)


@pytest.fixture
async def conn(lab: Lab) -> AsyncIterator[Connection]:
    """Open a connection to the network namespace of the lab."""
    async with connect(netns=lab.netns) as connection:
        yield connection


@pytest.fixture
def neighbors(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OtherNamespaces]:
    """Create namespaces beside the lab, with names in a directory of this test."""
    monkeypatch.setattr(namespaces, "NAMES_DIRECTORY", str(tmp_path))
    neighbors = OtherNamespaces(lab, tmp_path)
    yield neighbors
    neighbors.close()
