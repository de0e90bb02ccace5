"""Check the security context of an entry, on a kernel with AppArmor."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.lab import Lab

from conntrack_aio import Connection, Match
from conntrack_aio.sandbox import traffic

LSM = Path("/sys/kernel/security/lsm")

RULES = """
table inet s {
    secmark label {
        "unconfined"
    }
    chain out {
        type filter hook output priority 0
        meta secmark set "label"
        ct secmark set meta secmark
    }
}
"""

pytestmark = [pytest.mark.kernels, pytest.mark.anyio]


@pytest.fixture
def lab_with_contexts(lab: Lab) -> Lab:
    """Return a lab whose rules give each entry the context ``unconfined``."""
    if not LSM.exists():
        lab.program("mount", "-t", "securityfs", "none", "/sys/kernel/security")
    if "apparmor" not in LSM.read_text():
        pytest.skip("this kernel runs without AppArmor")
    lab.program("nft", "-f", "-", input=RULES)
    return lab


async def test_a_flow_has_the_security_context_of_its_entry(
    lab_with_contexts: Lab, conn: Connection
) -> None:
    lab_with_contexts.run(traffic.udp_exchange)
    (flow,) = await conn.list(Match(proto=17))
    assert flow.secctx == "unconfined"
