"""Test what is printed, byte for byte as nfct 1.4.7 prints it."""

from __future__ import annotations

from socket import AF_INET, AF_INET6

import pytest

from conntrack_aio import ExpectPolicy, HelperStatus, UserspaceHelper
from conntrack_aio.cli.nfct.rendering import render_helper, render_policy, render_timeouts
from conntrack_aio.model.timeouts import DCCPTimeouts, SCTPTimeouts, TCPTimeouts, TimeoutPolicy

TCP = """\
.web = {
	.l3proto = 10,
	.l4proto = 6,
	.policy = {
		.SYN_SENT = 1,
		.SYN_RECV = 2,
		.ESTABLISHED = 432000,
		.FIN_WAIT = 4,
		.CLOSE_WAIT = 5,
		.LAST_ACK = 6,
		.TIME_WAIT = 7,
		.CLOSE = 8,
		.SYN_SENT2 = 9,
		.RETRANS = 10,
		.UNACKNOWLEDGED = 4294967295,
	},
};
"""
SCTP = """\
	.l3proto = 2,
	.l4proto = 132,
	.policy = {
		.CLOSED = 1,
		.COOKIE_WAIT = 2,
		.COOKIE_ECHOED = 3,
		.ESTABLISHED = 4,
		.SHUTDOWN_SENT = 5,
		.SHUTDOWN_RECD = 6,
		.SHUTDOWN_ACK_SENT = 7,
	},
};
"""
DCCP = """\
	.l3proto = 2,
	.l4proto = 33,
	.policy = {
		.REQUEST = 240,
		.RESPOND = 480,
		.PARTOPEN = 480,
		.OPEN = 43200,
		.CLOSEREQ = 64,
		.CLOSING = 64,
		.TIMEWAIT = 240,
	},
};
"""
HELPER = """\
{
	.name = weird,
	.queuenum = 65535,
	.l3protonum = 10,
	.l4protonum = 6,
	.priv_data_len = 32,
	.status = enabled,
};
"""


def test_a_policy() -> None:
    timeouts = TCPTimeouts(
        syn_sent=1,
        syn_recv=2,
        established=432000,
        fin_wait=4,
        close_wait=5,
        last_ack=6,
        time_wait=7,
        close=8,
        syn_sent2=9,
        retrans=10,
        unack=0xFFFFFFFF,
    )
    assert render_policy(TimeoutPolicy.of("web", timeouts, family=AF_INET6)) == TCP


def test_default_timeouts_have_no_name() -> None:
    sctp = SCTPTimeouts(
        closed=1,
        cookie_wait=2,
        cookie_echoed=3,
        established=4,
        shutdown_sent=5,
        shutdown_recd=6,
        shutdown_ack_sent=7,
        heartbeat_sent=8,
        heartbeat_acked=9,
    )
    dccp = DCCPTimeouts(
        request=240,
        respond=480,
        partopen=480,
        open=43200,
        closereq=64,
        closing=64,
        timewait=240,
    )
    assert render_timeouts(AF_INET, 132, sctp) == SCTP
    assert render_timeouts(AF_INET, 33, dccp) == DCCP


@pytest.mark.parametrize(
    ("status", "text"),
    [(HelperStatus.ENABLED, "enabled"), (HelperStatus.DISABLED, "disabled"), (None, "disabled")],
)
def test_a_helper(status: HelperStatus | None, text: str) -> None:
    helper = UserspaceHelper(
        name="weird",
        family=AF_INET6,
        proto=6,
        policies=(ExpectPolicy(name="class", expect_max=1, expect_timeout=300),),
        queue=65535,
        private_data_length=32,
        status=status,
    )
    assert render_helper(helper) == HELPER.replace("enabled", text)
