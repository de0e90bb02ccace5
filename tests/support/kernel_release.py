"""Which kernel this is, with the patch level that Debian leaves out of its release."""

from __future__ import annotations

import os
import re
from pathlib import Path

from conntrack_aio.testing.releases import Release


def release_text() -> str:
    """``6.1.192``, where ``uname -r`` has 6.1.0-56-amd64; otherwise what that has."""
    said = re.search(r" Debian (\d+\.\d+\.\d+)", Path("/proc/version").read_text())
    return said[1] if said else os.uname().release


RELEASE = Release.parse(release_text())
