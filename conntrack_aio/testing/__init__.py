"""Test programs with a fake kernel, without root and without Linux.

:class:`FakeKernel` has a conntrack table and speaks ctnetlink as Linux does, in the release that a
test chooses. It replaces only the netlink *socket*, so a test runs all of the library: requests,
dumps, event streams and overruns.

A program that opens a connection by itself::

    # program.py
    from conntrack_aio import Match, connect

    async def delete_marked(mark: int) -> int:
        async with connect() as conn:
            return await conn.delete_matching(Match(mark=mark, orig_dport=[80, 443]))

is tested with :meth:`FakeKernel.installed`, which lets :func:`conntrack_aio.connect` connect to the
fake kernel. With pytest-asyncio::

    # test_program.py
    import errno

    import pytest

    from conntrack_aio import Flow, PermissionDenied
    from conntrack_aio.testing import FakeKernel
    from program import delete_marked

    MARKED = Flow.tcp("10.0.0.1", 40000, "10.0.0.2", 80, timeout=600, mark=7)
    OTHER = Flow.udp("10.0.0.1", 5000, "10.0.0.2", 53, timeout=30)

    @pytest.mark.asyncio
    async def test_only_marked_flows_are_deleted():
        kernel = FakeKernel(flows=[MARKED, OTHER])
        with kernel.installed():
            assert await delete_marked(7) == 1
        assert [flow.orig for flow in kernel.flows] == [OTHER.orig]
        assert [request.verb for request in kernel.requests] == ["count", "dump", "delete"]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("release", ["4.19", "6.18"])
    async def test_a_refusal_is_raised(release):
        kernel = FakeKernel(release, flows=[MARKED])
        kernel.refuse(errno.EPERM, "delete")
        with kernel.installed(), pytest.raises(PermissionDenied):
            await delete_marked(7)

A function that takes a connection gets one from :meth:`FakeKernel.connect`. On trio::

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

    def test_lost_events_are_counted():
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

A test controls the kernel by these members:

- **The table**: :attr:`~FakeKernel.flows` has the flows as a dump returns them.
  :meth:`~FakeKernel.add`, :meth:`~FakeKernel.change` and :meth:`~FakeKernel.remove` do what packets
  do, and emit the events. The clock changes only with :meth:`~FakeKernel.advance`.
- **Timeout policies**: :attr:`~FakeKernel.timeout_policies` has the policies, and whether rules
  refer to them.
- **Events**: :meth:`~FakeKernel.emit` sends any event, even a forged one. The kernel drops events
  when the receive buffer is full; :meth:`~FakeKernel.overrun` drops some at once.
- **Faults**: :meth:`~FakeKernel.refuse`, :meth:`~FakeKernel.leave_unanswered`,
  :meth:`~FakeKernel.garble` and :meth:`~FakeKernel.delay` apply to the next request, or to the next
  request of a kind.
- **Release, capabilities and settings**: ``FakeKernel("5.4")``,
  ``FakeKernel(without=["CAP_NET_ADMIN"])``, ``FakeKernel(sysctls={"nf_conntrack_acct": 1})``.
- **Requests**: :attr:`~FakeKernel.requests` has the requests that the kernel has received, decoded
  into objects of the model.
- **Custom replies**: :attr:`~FakeKernel.on_request` gets each request first, and may reply by the
  :class:`FakeSocket`.

The fake kernel behaves as Linux does even where that is surprising:

- A delete request without a tuple deletes all entries.
- A filter by IPv6 addresses selects the entries with other addresses.
- The kernel ignores attributes that are newer than its release.
- A flow that is created while no socket subscribes to events never emits an event, unless
  ``nf_conntrack_events`` is 1.

The library's own tests send the same random requests to the fake kernel and to Linux, and compare
the replies byte by byte.

The fake kernel supports flows, timeout policies and user-space helpers, with these limits:

- It has no packets and no rules, so a timeout policy applies to no flow.
- It has no expectations: it is a kernel that was built without them.
- It runs the socket filters of this library, and refuses BPF programs with other instructions.
"""

from .faults import DelayedReply
from .kernel import FakeKernel
from .received import ReceivedRequest
from .sockets import FakeSocket

__all__ = ["DelayedReply", "FakeKernel", "FakeSocket", "ReceivedRequest"]
