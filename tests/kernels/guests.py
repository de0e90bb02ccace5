"""List the guests that the tests run in, and how qemu emulates the architecture of each."""

from __future__ import annotations

import attrs


@attrs.frozen
class Architecture:
    """The qemu command line for one of Debian's architectures."""

    program: str
    package: str
    """The Debian package that contains the program."""
    arguments: tuple[str, ...]
    console: str
    """The kernel arguments that select the console that qemu copies to its standard output."""


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
    """A guest: its kernel, the modules that are loaded before the tests, and its tests."""

    name: str
    suite: str | None
    """The Debian suite of the kernel; ``None`` for the stable release."""
    flavor: str
    modules: tuple[str, ...] = ()
    """The modules to load before the tests.

    Without them, the first test is the first program that uses connection tracking.
    """
    extra_tests: tuple[str, ...] = ()
    """The tests to run without the marker ``kernels``, besides those with it."""
    selected_tests: tuple[str, ...] = ()
    """The paths of the tests to run with the marker ``kernels``; empty for all.

    A guest that has them runs the smoke tests in addition, unless it loads modules.
    """
    uses_disks: bool = False
    """Whether the directories are shared as disks, because the kernel lacks the 9p file system."""
    is_chroot: bool = False
    """Whether the guest is no virtual machine, but other user-space programs on this kernel."""

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

BYTE_LAYOUT_TESTS = (
    "tests/codec",
    "--ignore=tests/codec/test_arrow.py",  # it needs packages that are not pure Python
    "tests/model",
    # This file has many tests, and they check arguments, which depend on no byte order.
    "--ignore=tests/model/test_passed_in.py",
    "tests/netlink",
    "tests/trace",
    "tests/uapi",
    "tests/filters/test_program.py",
    "tests/filters/test_predicate.py",
)
"""The tests whose result may depend on the byte order or on the size of integers."""

KERNEL_TESTS = (
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
"""The tests whose result may depend on the modules, flavor, processor or version of a kernel.

They include no test of first uses: of those, such a guest runs only the smoke tests.
"""

STABLE, BACKPORTS, NEWEST = None, "bookworm-backports", "sid"

GUESTS = (
    Guest("6.1", STABLE, "amd64"),
    Guest("6.1-loaded", STABLE, "amd64", modules=MODULES, selected_tests=KERNEL_TESTS),
    Guest("6.1-cloud", STABLE, "cloud-amd64", uses_disks=True, selected_tests=KERNEL_TESTS),
    Guest("6.12", BACKPORTS, "amd64"),
    Guest("6.12-loaded", BACKPORTS, "amd64", modules=MODULES, selected_tests=KERNEL_TESTS),
    Guest("newest", NEWEST, "amd64", selected_tests=KERNEL_TESTS),
    Guest("6.1-arm64", STABLE, "arm64", selected_tests=KERNEL_TESTS),
    Guest("6.1-s390x", STABLE, "s390x", extra_tests=BYTE_LAYOUT_TESTS),
    Guest("i386", STABLE, "i386", extra_tests=BYTE_LAYOUT_TESTS, is_chroot=True),
)
