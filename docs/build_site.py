"""Builds the documentation site in build/site, and checks it: ``python docs/build_site.py``.

Needs the extra ``docs``. Any warning is an error: of zensical, of mkdocstrings, a link that leads
nowhere, anything that a page would load from another server. ``--mkdocs`` builds with
mkdocs-material, which reads the same mkdocs.yml and is to be installed for that. ``--serve`` shows
the site while the pages are edited, and checks nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from check_site import problems

ROOT: Final = Path(__file__).parents[1]
SITE: Final = ROOT / "build" / "site"

LAST: Final = 50
"""How many lines of a failed tool are shown."""

_COLOR: Final = re.compile(r"\x1b\[[0-9;]*m")
_WARNING: Final = re.compile(r"^(?:griffe|mkdocstrings|autorefs|Warning|WARNING)\b.*", re.MULTILINE)


def environment() -> dict[str, str]:
    """Return the environment, in which the Markdown extension in this folder can be imported."""
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    # mkdocs-material would print an advertisement, as a warning, for another tool.
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "NO_MKDOCS_2_WARNING": "1",
    }


def build(*, mkdocs: bool = False) -> list[str]:
    """Build the site; return what is wrong with it, each as a line."""
    command = ["mkdocs", "build", "--strict", "--quiet"]
    if not mkdocs:
        command = ["zensical", "build", "--strict", "--clean"]
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    output = _COLOR.sub("", done.stdout)
    if done.returncode:
        return [f"{command[0]} failed:", *output.splitlines()[-LAST:]]
    return [*_WARNING.findall(output), *problems(SITE)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--mkdocs", action="store_true", help="build with mkdocs-material")
    parser.add_argument("--serve", action="store_true", help="show the site while it is edited")
    options = parser.parse_args()
    if options.serve:
        tool = "mkdocs" if options.mkdocs else "zensical"
        sys.exit(
            subprocess.run(
                [sys.executable, "-m", tool, "serve"], cwd=ROOT, env=environment(), check=False
            ).returncode
        )
    found = build(mkdocs=options.mkdocs)
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"built and checked: {SITE.relative_to(ROOT)}/index.html")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
