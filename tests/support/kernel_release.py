"""The release of the running kernel, with the patch level that Debian omits from ``uname -r``."""

from __future__ import annotations

import os
import re
from pathlib import Path

from conntrack_aio.testing.releases import Release


def release_text() -> str:
    """Return the release of the running kernel.

    :returns: the version of Debian's source package, such as ``6.1.192``, where ``uname -r``
        prints 6.1.0-56-amd64; on other systems, the output of ``uname -r``.
    """
    found = re.search(r" Debian (\d+\.\d+\.\d+)", Path("/proc/version").read_text())
    return found[1] if found else os.uname().release


RELEASE = Release.parse(release_text())
