"""The fake kernel injects the faults that a test requests."""

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


async def test_the_next_request_with_the_verb_is_refused(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.refuse(errno.EBUSY, "delete")
        assert await conn.count() == 2
        with pytest.raises(ResourceBusy):
            await conn.delete(flows.tcp(1).orig)
        await conn.delete(flows.tcp(1).orig)
        assert len(kernel.flows) == 1


async def test_a_refusal_has_the_detail(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.refuse(errno.EINVAL, detail="refused by the test", offset=20)
        with pytest.raises(InvalidRequest) as caught:
            await conn.count()
    assert (caught.value.errno, caught.value.detail) == (errno.EINVAL, "refused by the test")


async def test_faults_apply_in_order_and_as_often_as_requested(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.refuse(errno.EBUSY, times=2)
        kernel.refuse(errno.EPERM)
        for error in (ResourceBusy, ResourceBusy, PermissionDenied):
            with pytest.raises(error):
                await conn.count()
        assert await conn.count() == 2
    with pytest.raises(ValueError, match="at least 1"):
        kernel.refuse(errno.EPERM, times=0)


async def test_a_function_selects_the_request_to_refuse(kernel: FakeKernel) -> None:
    def is_second_flow(request: ReceivedRequest) -> bool:
        return request.attributes.get("orig") == flows.tcp(2).orig

    async with kernel.connect() as conn:
        kernel.refuse(errno.EPERM, is_second_flow)
        await conn.delete(flows.tcp(1).orig)
        with pytest.raises(PermissionDenied):
            await conn.delete(flows.tcp(2).orig)


async def test_a_dump_is_refused(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.refuse(errno.EBUSY, "dump")
        with pytest.raises(ResourceBusy):
            await conn.list()
        assert len(await conn.list()) == 2


@pytest.mark.parametrize(("execute", "left"), [(False, 2), (True, 1)])
async def test_a_request_is_left_unanswered(kernel: FakeKernel, execute: bool, left: int) -> None:
    async with kernel.connect(reply_timeout=0.05) as conn:
        kernel.leave_unanswered("delete", execute=execute)
        with pytest.raises(NoReply):
            await conn.delete(flows.tcp(1).orig)
        assert await conn.count() == left


@pytest.mark.parametrize("execute", [False, True])
async def test_a_dump_is_left_unanswered(kernel: FakeKernel, execute: bool) -> None:
    async with kernel.connect(reply_timeout=0.05) as conn:
        kernel.leave_unanswered("dump", execute=execute)
        with pytest.raises(NoReply):
            await conn.list()
        assert len(await conn.list()) == 2


async def test_requests_are_answered_with_garbage(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn:
        kernel.garble("delete")
        with pytest.raises(DecodeError):
            await conn.delete(flows.tcp(1).orig)
        kernel.garble("dump")
        with pytest.raises(KernelError, match="EBADMSG"):
            await conn.list()
        assert len(await conn.list()) == 2


async def test_a_delayed_reply_arrives_after_its_release(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn, anyio.create_task_group() as tasks:
        delayed = kernel.delay("delete")
        assert delayed.request is None
        tasks.start_soon(conn.delete, flows.tcp(1).orig)
        await anyio.wait_all_tasks_blocked()
        assert delayed.request is not None
        assert delayed.request.verb == "delete"
        assert len(kernel.flows) == 1
        delayed.release()
        delayed.release()
    assert len(kernel.flows) == 1


async def test_a_dump_is_delayed(kernel: FakeKernel) -> None:
    async with kernel.connect() as conn, anyio.create_task_group() as tasks:
        delayed = kernel.delay("dump")
        seen: list[Flow] = []

        async def read() -> None:
            seen.extend(await conn.list())

        tasks.start_soon(read)
        while delayed.request is None:
            await anyio.wait_all_tasks_blocked()
        assert seen == []
        delayed.release()
    assert len(seen) == 2


async def test_a_delay_can_be_released_before_the_request(kernel: FakeKernel) -> None:
    delayed = kernel.delay("delete")
    delayed.release()
    async with kernel.connect() as conn:
        await conn.delete(flows.tcp(1).orig)
