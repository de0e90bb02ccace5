"""Test ``features``: what the kernel supports."""

from __future__ import annotations

import json

import attrs
import pytest
from support.command import do, run_process
from support.lab import Lab

from conntrack_aio import Connection, Features
from conntrack_aio.cli.field_descriptions import field_descriptions

pytestmark = pytest.mark.kernel


def test_the_features_of_this_kernel_are_printed(lab: Lab) -> None:
    found: list[dict[str, bool]] = []

    async def action(conn: Connection) -> None:
        found.append(attrs.asdict(await conn.features()))

    do(lab, action)
    status, out, err = run_process(lab, "features", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == found[0]
    status, out, err = run_process(lab, "features")
    assert (status, err) == (0, "")
    words = [line.split()[:2] for line in out.splitlines()]
    assert words == [[name, "yes" if has else "no"] for name, has in found[0].items()]
    assert all(len(line.split()) > 4 for line in out.splitlines())


def test_every_feature_has_a_description() -> None:
    assert list(field_descriptions(Features)) == [field.name for field in attrs.fields(Features)]
