"""The declarations of settings are complete for this kernel, and check values."""

from __future__ import annotations

import os

import pytest
from support.hostile_arguments import INTEGERS, RaisingObject
from support.lab import Lab

from conntrack_aio.codec.json import from_dict, to_dict
from conntrack_aio.errors import DecodeError
from conntrack_aio.model.settings import SETTINGS, BlindSpot, ConntrackSysctls, EventMode, sysctl_of

OTHER_FILES = {"nf_log", "nf_log_all_netns", "nf_hooks_lwtunnel"}
"""Other files in the directory: of logging, and of lightweight tunnels."""


def names(**criteria: object) -> set[str]:
    """Return the settings with these values in their declaration."""
    return {
        name
        for name, declared in SETTINGS.items()
        if all(getattr(declared, key) == value for key, value in criteria.items())
    }


@pytest.mark.kernel
def test_every_file_of_this_kernel_is_declared(lab: Lab) -> None:
    files = set(lab.run(os.listdir, "/proc/sys/net/netfilter"))
    declared_files = {sysctl_of(name).removeprefix("net.netfilter.") for name in SETTINGS}
    assert files - declared_files <= OTHER_FILES
    unconditional = {
        sysctl_of(name).removeprefix("net.netfilter.") for name in names(since="", until="")
    }
    # A kernel may be built without these; it always has the others.
    optional = ("events", "timestamp", "frag6", "sctp", "gre", "flowtable")
    assert not [
        file for file in unconditional - files if not any(word in file for word in optional)
    ]


@pytest.mark.kernel
def test_settings_of_the_machine_are_read_only_in_a_namespace(lab: Lab) -> None:
    def writable() -> set[str]:
        return {
            name
            for name in SETTINGS
            if os.path.exists(path := "/proc/sys/" + sysctl_of(name).replace(".", "/"))
            and os.stat(path).st_mode & 0o200
        }

    assert not lab.run(writable) & (names(machine=True) | {"count"})
    assert lab.run(writable) >= {"events", "acct", "timestamp", "udp_timeout"}


def test_the_names_of_sysctls() -> None:
    assert sysctl_of("acct") == "net.netfilter.nf_conntrack_acct"
    assert sysctl_of("flowtable_udp_timeout") == "net.netfilter.nf_flowtable_udp_timeout"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("acct", "0", False),
        ("acct", "1", True),
        ("tcp_loose", "2", True),  # an int in 5.4
        ("events", "2", EventMode.AUTO),
        ("events", "3", 3),
        ("udp_timeout", "-1", -1),
        ("frag6_high_thresh", "18446744073709551615", (1 << 64) - 1),
    ],
)
def test_values_are_read(name: str, text: str, value: object) -> None:
    read = SETTINGS[name].read(text)
    assert (read, type(read)) == (value, type(value))


def test_text_that_is_not_a_number_is_refused() -> None:
    with pytest.raises(DecodeError, match="expected a number; got 'x'"):
        SETTINGS["acct"].read("x")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("acct", 1, TypeError),
        ("acct", "1", TypeError),
        ("events", 1, TypeError),
        ("events", True, TypeError),
        ("udp_timeout", True, TypeError),
        ("udp_timeout", 1.5, TypeError),
        ("udp_timeout", -1, ValueError),
    ],
)
def test_values_of_another_type_are_refused(
    name: str, value: object, error: type[Exception]
) -> None:
    with pytest.raises(error, match=f"^{name} "):
        SETTINGS[name].check(name, value)


def test_blind_spots() -> None:
    def spots(events: EventMode | None = None, **switches: bool) -> dict[str, BlindSpot]:
        settings = ConntrackSysctls(events=events, **switches)  # type: ignore[arg-type]
        return {spot.setting: spot for spot in settings.blind_spots()}

    assert spots() == spots(events=EventMode.ALWAYS, acct=True, timestamp=True) == {}
    assert spots(acct=False, timestamp=False).keys() == {"acct", "timestamp"}
    assert str(spots(acct=False)["acct"]) == (
        "flows have no counters here: net.netfilter.nf_conntrack_acct is 0"
    )
    assert spots(events=EventMode.AUTO)["events"].what.endswith(
        "no program listened emit no events"
    )
    assert spots(events=EventMode.OFF)["events"].why.endswith("nf_conntrack_events is 0")


def test_a_namespace_without_flows_is_a_blind_spot() -> None:
    assert ConntrackSysctls(count=1).blind_spots() == []
    (spot,) = ConntrackSysctls(count=0).blind_spots()
    assert str(spot).startswith("the table is empty here: if no firewall rule needs")


def test_settings_survive_json() -> None:
    settings = ConntrackSysctls(events=EventMode.AUTO, acct=False, udp_timeout=30, count=0)
    data = to_dict(settings)
    assert data == {"events": "AUTO", "acct": False, "udp_timeout": 30, "count": 0}
    assert from_dict(ConntrackSysctls, data) == settings


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_of_any_type_are_accepted(kind: str) -> None:
    value = SETTINGS["udp_timeout"].check("udp_timeout", INTEGERS[kind](30))
    assert (value, type(value)) == (30, int)
    for name in ("acct", "events"):
        with pytest.raises(TypeError, match=f"^{name} "):
            SETTINGS[name].check(name, INTEGERS[kind](1))


def test_switches_and_modes_take_their_own_types() -> None:
    assert SETTINGS["acct"].check("acct", True) == 1
    assert SETTINGS["events"].check("events", EventMode.AUTO) == 2


@pytest.mark.parametrize("name", ["acct", "events", "udp_timeout", "max"])
@pytest.mark.parametrize(
    "wrong", [10**5000, -(10**5000), RaisingObject(KeyError)], ids=["large", "below", "hostile"]
)
def test_errors_name_the_setting(name: str, wrong: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{name} .*"):
        SETTINGS[name].check(name, wrong)
