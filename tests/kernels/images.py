"""Build what a guest boots: a kernel, its modules, an initial and a root file system.

- A guest reads the shared directories by 9p or, if its kernel lacks 9p, from ext4 disks.
- A virtual machine can change only ``job``. Whatever else it writes goes to overlays in its memory.
"""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs
from debian import Archive, Unavailable, unpack

SHARED = ("root", "code", "job", "modules", "python")
"""The directories that a guest shares, in the order of its disks if it has disks."""

MODULES_FOR_9P = ("virtio_pci", "9pnet_virtio", "9p", "overlay")
MODULES_FOR_DISKS = ("virtio_pci", "virtio_blk", "ext4", "overlay")
"""The modules that the initial file system loads to mount the shared directories."""

INIT = """\
#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /order); do insmod /modules/$module; done
{share}
mount -t tmpfs upper /upper
writable() {{ # what is written stays in memory: above all, modules compiled by Python
    mkdir -p /lower/$1 /upper/$1/files /upper/$1/work
    share $1 $2 /lower/$1
    mount -t overlay \\
        -o lowerdir=/lower/$1,upperdir=/upper/$1/files,workdir=/upper/$1/work overlay $3
}}
writable root /dev/vda /new
for name in proc sys dev; do mkdir -p /new/$name; mount -o move /$name /new/$name; done
mkdir -p /new/run /new/tmp /new/dev/shm /new/dev/pts
mount -t tmpfs run /new/run
mount -t tmpfs shm /new/dev/shm
mount -t devpts pts /new/dev/pts
mkdir -p /new/run/netns /new/run/code /new/run/job /new/run/python /new/lib/modules/{version}
writable code /new/dev/vdb /new/run/code
{job}
share modules /new/dev/vdd /new/lib/modules/{version}
if [ -n "{python}" ]; then writable python /new/dev/vde /new/run/python; fi
exec switch_root /new /bin/sh /run/job/start
"""

_9P = "trans=virtio,version=9p2000.L,msize=262144"
SHARE_BY_9P = f'share() {{ mount -t 9p -o {_9P},ro,cache=loose $1 $3 || echo "no $1"; }}'
SHARE_BY_DISK = 'share() { mount -t ext4 -o ro $2 $3 || echo "no $1"; }'
JOB_BY_9P = f"mount -t 9p -o {_9P} job /new/run/job"
JOB_BY_DISK = "tar -xf /new/dev/vdc -C /new/run/job"
SAVE_BY_DISK = "tar -cf /dev/vdc -C /run/job ."
"""The command that writes the results to the disk of the job, in a guest that has disks."""


@attrs.frozen
class Image:
    """A kernel that qemu can boot."""

    version: str
    kernel: Path
    initial: Path
    modules: Path


def build(
    archive: Archive, flavor: str, suite: str | None, cache: Path, *, python: bool, disks: bool
) -> Image:
    """Fetch a kernel and build its initial file system.

    :param flavor: the flavor and architecture, such as ``cloud-amd64``.
    :param suite: the Debian suite; ``None`` for the stable release.
    :param cache: the directory that keeps the results.
    :param python: whether the guest shares a directory of Python packages too.
    :param disks: whether the directories are shared as disks, instead of by 9p.
    :raises Unavailable: when a package or a module is missing.
    """
    package = archive.kernel(flavor, suite)
    version = package.removeprefix("linux-image-")
    directory = cache / package
    if not (directory / "usr").is_dir():
        unpack(archive.fetch(*archive.kernel_packages(package)), directory)
        if not (directory / "lib").exists():
            (directory / "lib").symlink_to("usr/lib")
    modules = _modules(directory, version)
    if not (modules / "modules.dep").exists():
        subprocess.run(["depmod", "-b", str(directory), version], check=True)
    initial = directory / "initial.gz"
    busybox = cache / f"busybox-{archive.architecture}"
    if not busybox.is_dir():
        unpack(archive.fetch("busybox-static"), busybox)
    order = load_order(modules, MODULES_FOR_DISKS if disks else MODULES_FOR_9P)
    init = INIT.format(
        version=version,
        share=SHARE_BY_DISK if disks else SHARE_BY_9P,
        job=JOB_BY_DISK if disks else JOB_BY_9P,
        python="yes" if python else "",
    )
    _build_initial(directory / "initial", init, order, busybox / "bin/busybox", initial)
    kernel = directory / f"boot/vmlinuz-{version}"
    return Image(version, kernel if kernel.exists() else modules / "vmlinuz", initial, modules)


def _modules(directory: Path, version: str) -> Path:
    return directory / "lib/modules" / version


def load_order(modules: Path, wanted: Sequence[str]) -> list[Path]:
    """Return the files of some modules and of their dependencies, in loading order.

    :param modules: the directory of the kernel's modules, with ``modules.dep``.
    :param wanted: the names of the modules; those that are built in have no file.
    :raises Unavailable: when the kernel has no such module.
    """
    dependencies: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        file, _, rest = line.partition(":")
        dependencies[file] = rest.split()
        files[Path(file).name.split(".")[0]] = file
    builtin = (modules / "modules.builtin").read_text()
    order: dict[str, None] = {}
    for name in wanted:
        if name in files:
            for file in (*reversed(dependencies[files[name]]), files[name]):
                order.setdefault(file)
        elif f"/{name}.ko" not in builtin:
            raise Unavailable(f"the kernel {modules.name} has no module {name}")
    return [modules / file for file in order]


def _build_initial(
    root: Path, init: str, order: Sequence[Path], busybox: Path, initial: Path
) -> None:
    shutil.rmtree(root, ignore_errors=True)
    for name in ("bin", "proc", "sys", "dev", "lower", "upper", "new", "modules"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin/busybox")
    for name in ("sh", "mount", "mkdir", "cat", "insmod", "switch_root", "echo", "tar"):
        (root / "bin" / name).symlink_to("busybox")
    for file in order:
        (root / "modules" / _module_file(file)).write_bytes(_decompress(file))
    (root / "order").write_text("\n".join(map(_module_file, order)) + "\n")
    (root / "init").write_text(init)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    packed = subprocess.run(
        ["cpio", "--quiet", "-o", "-H", "newc"],
        cwd=root,
        input=names.encode(),
        capture_output=True,
        check=True,
    ).stdout
    initial.write_bytes(gzip.compress(packed, 1))


def _module_file(file: Path) -> str:
    """Return the file name of a module without the suffix of its compression."""
    return f"{file.name.split('.')[0]}.ko"


def _decompress(file: Path) -> bytes:
    data = file.read_bytes()
    if file.suffix == ".xz":
        return lzma.decompress(data)
    if file.suffix == ".zst":
        return subprocess.run(["zstd", "-qdc"], input=data, capture_output=True, check=True).stdout
    return data


ROOT_PACKAGES = (
    "base-files",
    "bash",
    "coreutils",
    "dash",
    "grep",
    "sed",
    "findutils",
    "mount",
    "util-linux",
    "kmod",
    "iproute2",
    "nftables",
    "iptables",
    "conntrack",
    "procps",
    "python3",
    "libc-bin",
    "tar",
)
"""The packages in the root file system of a guest of another architecture."""


def build_root(archive: Archive, cache: Path) -> Path:
    """Unpack Debian packages into the root file system of a guest of another architecture."""
    root = cache / f"root-{archive.architecture}"
    if (root / "complete").exists():
        return root
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (root / name).is_symlink():
            (root / name).symlink_to(f"usr/{name}")
    unpack(archive.fetch_all(ROOT_PACKAGES), root)
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
    )
    for name in ("proc", "sys", "dev", "run", "tmp", "root"):
        (root / name).mkdir(exist_ok=True)
    (root / "complete").touch()
    return root


def build_python(cache: Path, pip: list[str]) -> Path:
    """Install the Python packages that the tests need and that run on any architecture.

    :param pip: the command line of pip.
    :returns: the directory of the packages.
    """
    directory = cache / "python"
    if not (directory / "complete").exists():
        packages = ["anyio", "attrs", "pytest", "pytest-asyncio", "pytest-xdist"]
        packages += ["trio", "hypothesis"]
        options = ["--platform", "any", "--python-version", "3.11", "--only-binary", ":all:"]
        subprocess.run(
            [*pip, "install", "-q", "--target", str(directory), *options, *packages], check=True
        )
        os.sync()
        (directory / "complete").touch()
    return directory


CODE = ("conntrack_aio", "tests", "docs", "examples", "benchmarks", "pyproject.toml", "README.md")
"""The files and directories of the repository that the tests need."""


def build_code(repository: Path, directory: Path) -> Path:
    """Copy the part of the repository that the tests need."""
    for name in CODE:
        source, target = repository / name, directory / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return directory


def build_disk(directory: Path, disk: Path) -> Path:
    """Write the contents of a directory to an ext4 disk image, and return the image."""
    size = sum(file.lstat().st_size + 4096 for file in directory.rglob("*"))
    blocks = str(size * 5 // 4 // 1024 + 16384)
    make_ext4 = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-F"]
    subprocess.run([*make_ext4, "-d", str(directory), str(disk), blocks], check=True)
    return disk
