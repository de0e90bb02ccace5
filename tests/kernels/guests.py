"""The machines that the tests are run on, and how qemu imitates each."""

from __future__ import annotations

import attrs


@attrs.frozen
class Architecture:
    """How qemu is called for one of Debian's architectures."""

    program: str
    package: str
    arguments: tuple[str, ...]
    console: str
    """The kernel's arguments that make it write to qemu's standard output."""


ARCHITECTURES = {
    "amd64": Architecture(
        "qemu-system-x86_64", "qemu-system-x86", ("-cpu", "max"), "console=ttyS0 mitigations=off"
    ),
    "arm64": Architecture(
        "qemu-system-aarch64",
        "qemu-system-arm",
        ("-M", "virt", "-cpu", "cortex-a72"),
        "console=ttyAMA0 mitigations=off",
    ),
    "s390x": Architecture("qemu-system-s390x", "qemu-system-misc", (), ""),
}


@attrs.frozen
class Guest:
    """One machine: which kernel it has, and what is loaded when the tests begin."""

    name: str
    suite: str | None
    """A suite beside Debian's stable release."""
    flavor: str
    modules: tuple[str, ...] = ()
    """Loaded first. Without them the first test is the first that uses connection tracking."""
    also: tuple[str, ...] = ()
    """Tests that are run beside those that are marked."""
    only: tuple[str, ...] = ()
    """Tests that are run instead of all that are marked, beside the smoke test."""
    disks: bool = False
    """Whether it sees directories as disks: for a kernel without 9p."""
    here: bool = False
    """Whether it is no machine, but another userland on this machine's kernel."""

    @property
    def architecture(self) -> str:
        return self.flavor.rpartition("-")[2]


MODULES = (
    "nf_conntrack_netlink",
    "nfnetlink_cttimeout",
    "nfnetlink_cthelper",
    "nf_nat_ftp",
    "nf_nat_sip",
    "nf_nat_tftp",
    "nf_conntrack_netbios_ns",
    "nf_flow_table",
    "nf_flow_table_inet",
    "nft_flow_offload",
    "nft_ct",
    "nft_chain_nat",
    "nft_synproxy",
    "nfnetlink_queue",
    "xt_NFQUEUE",
)

BYTES = (
    "tests/codec",
    "tests/model",
    "--ignore=tests/model/test_passed_in.py",  # many, and of what users pass
    "tests/netlink",
    "tests/trace",
    "tests/uapi",
    "tests/filters/test_program.py",
    "tests/filters/test_predicate.py",
)
"""What another byte order may change."""

DIFFERENT = (
    "tests/kernels",
    "tests/programs/test_ftp.py",
    "tests/testing/test_this_kernel.py",
    "tests/operations/test_expectations.py",
    "tests/operations/test_features.py",
    "tests/operations/test_helpers.py",
    "tests/operations/test_labels.py",
    "tests/operations/test_sysctls.py",
    "tests/operations/test_timeouts.py",
)
"""What the modules that are there, a flavor, a processor or a version may change. The first things
are not among it: only what is smoke of them is run."""

STABLE, BACKPORTS, NEWEST = None, "bookworm-backports", "sid"

GUESTS = (
    Guest("6.1", STABLE, "amd64"),
    Guest("6.1-loaded", STABLE, "amd64", modules=MODULES, only=DIFFERENT),
    Guest("6.1-cloud", STABLE, "cloud-amd64", disks=True, only=DIFFERENT),
    Guest("6.12", BACKPORTS, "amd64"),
    Guest("6.12-loaded", BACKPORTS, "amd64", modules=MODULES, only=DIFFERENT),
    Guest("newest", NEWEST, "amd64", only=DIFFERENT),
    Guest("6.1-arm64", STABLE, "arm64", only=DIFFERENT),
    Guest("6.1-s390x", STABLE, "s390x", also=BYTES),
    Guest("i386", STABLE, "i386", also=BYTES, here=True),
)
