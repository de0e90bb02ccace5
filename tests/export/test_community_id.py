"""Community IDs are those that the package ``communityid`` 1.5.0 computes."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from conntrack_aio import Tuple
from conntrack_aio.export.community_id import community_id

IDS = [
    # source, destination, protocol, ports or type and code, ID
    ("2001:db8::204f", "2001:db8::8298", 6, 58915, 61898, "1:SLPP/lxfGx1223RuzXwCuBrr890="),
    ("10.107.48.249", "10.14.199.221", 47, None, None, "1:RGVt/elq+9KNir1VlNWJi6wZvBc="),
    ("2001:db8::e409", "2001:db8::885c", 17, 13399, 41606, "1:IJuQgml39F9nIk6ahiMX51HiNL4="),
    ("2001:db8::d07", "2001:db8::4b6", 58, 130, 0, "1:tUhFZh3HhbZgHJ8GD6axZ4l6tZI="),
    ("2001:db8::7181", "2001:db8::e032", 58, 2, 0, "1:uK326XCQwB9dO/WDnPY8/zlQK0o="),
    ("10.235.148.11", "10.213.51.95", 132, 43607, 55326, "1:qUzDtysnHTqiJsRBpb5uoxsxMJ4="),
    ("10.97.155.145", "10.255.201.17", 1, 10, 1, "1:XQvRIL32Ea6x4WSyj+WDYRKdwn4="),
    ("10.88.187.191", "10.44.224.55", 17, 51544, 48565, "1:Npa+6YzgK4FR+j8FF98A3fcIqO4="),
    ("10.182.212.177", "10.182.212.177", 47, None, None, "1:8om5ZYRTAv6I/EWdZ2hagWmcSyU="),
    ("2001:db8::55be", "2001:db8::51ba", 132, 22039, 35771, "1:vJofpUzeWQvkASafPAq7uT215JQ="),
    ("10.150.232.164", "10.254.242.58", 6, 45002, 55170, "1:ZPOU9xXcCBEnC/SOiN7oY5RvwLY="),
    ("10.132.55.129", "10.132.55.129", 17, 19197, 4630, "1:JV5R4fVNWqxNMgpxiZL6MoozdaA="),
    ("2001:db8::32b3", "2001:db8::6959", 47, None, None, "1:7tJloj09c4PHpK1WTl716Hb3oq8="),
    ("10.58.149.120", "10.58.149.120", 132, 9593, 49837, "1:/kE+yzWfimpCZMG+B3stv2AAr64="),
    ("10.72.16.161", "10.105.91.153", 1, 8, 0, "1:6SuHk037RVMnHsb8j9yQiTfvtyg="),
    ("10.166.224.64", "10.249.108.61", 1, 3, 0, "1:Sr75AXFY6PaxXcEm1XAPv5+A5V8="),
    ("10.172.34.252", "10.126.148.10", 1, 0, 0, "1:Zd1OezU0GmJ7ry5DQcD/HKBOsbw="),
    ("2001:db8::51f4", "2001:db8::51f4", 6, 19028, 7486, "1:AM2tldI8IjAlN5ygze3WExW7xVA="),
    ("2001:db8::a6b1", "2001:db8::a6b1", 47, None, None, "1:wuj7+VjvcRZncMPPB2JdfiQakI4="),
    ("10.83.129.4", "10.217.18.188", 1, 11, 0, "1:U4y0DA+TFJpHNYoIo8fnLBDwz0U="),
    ("10.213.147.252", "10.213.147.252", 6, 45466, 35066, "1:h7bSQVjqz8dEgmlD/XEZOYvcSX8="),
    ("10.62.136.234", "10.100.28.184", 1, 5, 0, "1:mTeI79oUd4fs9+XpFZykBvmUWsU="),
    ("2001:db8::4dd0", "2001:db8::4dd0", 132, 40273, 58231, "1:Zo+rBf7lcWgJkgGSlwr9oz8jrLY="),
    ("10.221.224.243", "10.93.182.100", 1, 13, 0, "1:jlFmwIF8FVs0xFKQpzPE1NrMgFY="),
    ("2001:db8::48db", "2001:db8::48db", 17, 63663, 47563, "1:olMN5Kw8SH7VsuZIhttoFIRLL4s="),
    ("2001:db8::cb59", "2001:db8::5d2d", 58, 128, 0, "1:UTMbI8rdrYmqXFMfj9cHudz8b1s="),
]


def tuple_of(source: str, target: str, proto: int, first: int | None, second: int | None) -> Tuple:
    ends = {"src": ip_address(source), "dst": ip_address(target), "proto": proto}
    if proto in (1, 58):
        return Tuple(**ends, icmp_type=first, icmp_code=second, icmp_id=1)  # type: ignore[arg-type]
    return Tuple(**ends, sport=first, dport=second)  # type: ignore[arg-type]


@pytest.mark.parametrize(("source", "target", "proto", "first", "second", "expected"), IDS)
def test_known_ids(
    source: str, target: str, proto: int, first: int | None, second: int | None, expected: str
) -> None:
    assert community_id(tuple_of(source, target, proto, first, second)) == expected


def test_both_directions_have_the_same_id() -> None:
    for tuple_ in (
        Tuple.tcp("10.0.0.1", 40000, "10.0.0.2", 80),
        Tuple.udp("2001:db8::2", 53, "2001:db8::1", 40000),
        Tuple.icmp("10.0.0.1", "10.0.0.2", id=5),
    ):
        assert community_id(tuple_) == community_id(tuple_.inverse)


def test_a_seed_changes_the_id() -> None:
    tuple_ = Tuple.tcp("10.0.0.1", 40000, "10.0.0.2", 80)
    assert community_id(tuple_, 1) != community_id(tuple_)
    for seed in (-1, 65_536):
        with pytest.raises(ValueError, match=f"from 0 to 65535; got {seed}"):
            community_id(tuple_, seed)
