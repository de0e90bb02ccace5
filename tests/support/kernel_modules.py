"""Load kernel modules that no request makes the kernel load."""

from __future__ import annotations

import subprocess

from .effort import GUEST


def load_in_guest(*names: str) -> None:
    """Load modules into the kernel of a guest. On any other machine, do nothing."""
    if GUEST:
        for name in names:
            subprocess.run(["modprobe", "-q", name], check=False)
