"""A kernel inside the test: programs are tested without root, and without Linux.

:class:`FakeKernel` has a connection tracking table and speaks ctnetlink as Linux does, in the age
that a test wants. It stands in for the netlink *socket* alone, so that a test runs all of the
library: requests, dumps, event streams, losses.

A program that connects by itself::

    # program.py
    from conntrack_aio import Match, connect

    async def end_marked(mark: int) -> int:
        async with connect() as conn:
            return await conn.delete_matching(Match(mark=mark, orig_dport=[80, 443]))

is tested with the kernel installed in :func:`conntrack_aio.connect`'s place. With pytest-asyncio::

    # test_program.py
    import errno

    import pytest

    from conntrack_aio import Flow, PermissionDenied
    from conntrack_aio.testing import FakeKernel
    from program import end_marked

    OLD = Flow.tcp("10.0.0.1", 40000, "10.0.0.2", 80, timeout=600, mark=7)
    OTHER = Flow.udp("10.0.0.1", 5000, "10.0.0.2", 53, timeout=30)

    @pytest.mark.asyncio
    async def test_the_marked_ones_end():
        kernel = FakeKernel(flows=[OLD, OTHER])
        with kernel.installed():
            assert await end_marked(7) == 1
        assert [flow.orig for flow in kernel.flows] == [OTHER.orig]
        assert [asked.verb for asked in kernel.asked] == ["count", "dump", "delete"]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("release", ["4.19", "6.18"])
    async def test_a_refusal_is_not_hidden(release):
        kernel = FakeKernel(release, flows=[OLD])
        kernel.refuse(errno.EPERM, "delete")
        with kernel.installed(), pytest.raises(PermissionDenied):
            await end_marked(7)

What takes a connection is given one by :meth:`FakeKernel.connect`. On trio::

    # test_follow.py
    import trio
    import trio.testing

    from conntrack_aio import EventsLost, EventType, Flow
    from conntrack_aio.testing import FakeKernel

    async def follow(stream, seen):
        while True:
            try:
                async for event in stream:
                    seen.append(event.type)
            except EventsLost as loss:
                seen.append(loss.lost)

    def test_what_was_lost_is_counted():
        async def main():
            kernel = FakeKernel()
            seen = []
            async with kernel.connect() as conn, trio.open_nursery() as nursery:
                nursery.start_soon(follow, conn.events(), seen)
                await trio.testing.wait_all_tasks_blocked()
                flow = kernel.add(Flow.udp("10.0.0.1", 5000, "10.0.0.2", 53, timeout=30))
                kernel.overrun(lost=3)
                await trio.testing.wait_all_tasks_blocked()
                kernel.remove(flow)
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
            assert seen == [EventType.NEW, 3, EventType.DESTROY]

        trio.run(main)

What a test does with it:

- **The table**: :attr:`~FakeKernel.flows` is what a dump tells. :meth:`~FakeKernel.add`,
  :meth:`~FakeKernel.change` and :meth:`~FakeKernel.remove` are what packets do; the events follow.
  The clock stands still until :meth:`~FakeKernel.advance`.
- **Timeout policies**: :attr:`~FakeKernel.timeout_policies`, and whether rules have them.
- **Events**: any by hand with :meth:`~FakeKernel.emit`, from a forger too. More than a socket's
  buffer holds are lost as the kernel loses them; :meth:`~FakeKernel.overrun` loses some at once.
- **Faults**: :meth:`~FakeKernel.refuse`, :meth:`~FakeKernel.ignore`, :meth:`~FakeKernel.garble`
  and :meth:`~FakeKernel.delay` befall the next request, or the next of a kind.
- **Age and rights**: ``FakeKernel("5.4")``, ``FakeKernel(without=["CAP_NET_ADMIN"])``, and
  ``FakeKernel(sysctls={"nf_conntrack_acct": 1})``.
- **What was asked**: :attr:`~FakeKernel.asked`, read into the model's objects.
- **By hand**: a ``script`` sees each request first, and answers by the :class:`FakeSocket`.

Its traps are the kernel's. A delete without a tuple empties the table; the address filter of IPv6
selects what it should not; an attribute that is younger than the release is not seen; a flow that
was made while nobody listened never emits an event, unless ``nf_conntrack_events`` is 1. The
library's own tests send the same random requests to it and to Linux, and compare the answers byte
by byte.

It knows flows, timeout policies and user-space helpers. It has no packets and no rules, so that a
policy holds for no flow; its kernels are built without expectations, and it sees no socket filters.
"""

from .asked import Asked
from .faults import Delayed
from .kernel import FakeKernel
from .sockets import FakeSocket

__all__ = ["Asked", "Delayed", "FakeKernel", "FakeSocket"]
