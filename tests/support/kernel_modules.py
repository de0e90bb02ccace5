"""Modules that no request makes a kernel load."""

from __future__ import annotations

import subprocess

from .effort import GUEST


def load_in_guest(*names: str) -> None:
    """Have the kernel of a guest load modules; that of any other machine is left as it is."""
    if GUEST:
        for name in names:
            subprocess.run(["modprobe", "-q", name], check=False)
