"""Kernels that misbehave on demand."""

from __future__ import annotations

import errno

import anyio
import pytest
from support import flows

from conntrack_aio import (
    DecodeError,
    Flow,
    InvalidRequest,
    KernelError,
    NoReply,
    PermissionDenied,
    ResourceBusy,
)
from conntrack_aio.testing import FakeKernel, ReceivedRequest

pytestmark = pytest.mark.anyio


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel(flows=[flows.tcp(1), flows.tcp(2)])


async def test_refused(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.refuse(errno.EBUSY, "delete")
        assert await conn.count() == 2
        with pytest.raises(ResourceBusy):
            await conn.delete(flows.tcp(1).orig)
        await conn.delete(flows.tcp(1).orig)
        assert len(kernel.flows) == 1


async def test_refused_with_words(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.refuse(errno.EINVAL, detail="no such luck", offset=20)
        with pytest.raises(InvalidRequest) as caught:
            await conn.count()
    assert (caught.value.errno, caught.value.detail) == (errno.EINVAL, "no such luck")


async def test_refused_several_times_and_in_order(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.refuse(errno.EBUSY, times=2)
        kernel.refuse(errno.EPERM)
        for error in (ResourceBusy, ResourceBusy, PermissionDenied):
            with pytest.raises(error):
                await conn.count()
        assert await conn.count() == 2
    with pytest.raises(ValueError, match="at least 1"):
        kernel.refuse(errno.EPERM, times=0)


async def test_refused_where_a_function_says_so(kernel: FakeKernel) -> None:
    def second(asked: ReceivedRequest) -> bool:
        return asked.attributes.get("orig") == flows.tcp(2).orig

    async with kernel.connect() as conn:
        kernel.refuse(errno.EPERM, second)
        await conn.delete(flows.tcp(1).orig)
        with pytest.raises(PermissionDenied):
            await conn.delete(flows.tcp(2).orig)


async def test_a_refused_dump(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.refuse(errno.EBUSY, "dump")
        with pytest.raises(ResourceBusy):
            await conn.list()
        assert len(await conn.list()) == 2


@pytest.mark.parametrize(("execute", "left"), [(False, 2), (True, 1)])
async def test_unanswered(kernel: FakeKernel, execute: bool, left: int) -> None:
    async with kernel.connect(reply_timeout=0.05) as conn:
        kernel.leave_unanswered("delete", execute=execute)
        with pytest.raises(NoReply):
            await conn.delete(flows.tcp(1).orig)
        assert await conn.count() == left


@pytest.mark.parametrize("execute", [False, True])
async def test_an_unanswered_dump(kernel: FakeKernel, execute: bool) -> None:
    async with kernel.connect(reply_timeout=0.05) as conn:
        kernel.leave_unanswered("dump", execute=execute)
        with pytest.raises(NoReply):
            await conn.list()
        assert len(await conn.list()) == 2


async def test_garbage(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.garble("delete")
        with pytest.raises(DecodeError):
            await conn.delete(flows.tcp(1).orig)
        kernel.garble("dump")
        with pytest.raises(KernelError, match="EBADMSG"):
            await conn.list()
        assert len(await conn.list()) == 2


async def test_late(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn, anyio.create_task_group() as tasks:
        late = kernel.delay("delete")
        assert late.request is None
        tasks.start_soon(conn.delete, flows.tcp(1).orig)
        await anyio.wait_all_tasks_blocked()
        assert late.request is not None
        assert late.request.verb == "delete"
        assert len(kernel.flows) == 1
        late.release()
        late.release()
    assert len(kernel.flows) == 1


async def test_a_late_dump(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn, anyio.create_task_group() as tasks:
        late = kernel.delay("dump")
        seen: list[Flow] = []

        async def read() -> None:
            seen.extend(await conn.list())

        tasks.start_soon(read)
        while late.request is None:
            await anyio.wait_all_tasks_blocked()
        assert seen == []
        late.release()
    assert len(seen) == 2


async def test_not_late_any_more(kernel: FakeKernel) -> None:
    late = kernel.delay("delete")
    late.release()
    async with kernel.connect() as conn:
        await conn.delete(flows.tcp(1).orig)
