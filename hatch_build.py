"""Makes the manual pages and the scripts for shells, when a wheel is built.

They become data files of the wheel, which pip installs where man and shells look for them, below
the environment. The scripts are in the package, too, for ``conntrack-aio completion``.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualAndCompletion(BuildHookInterface):
    """Adds the files that are made from the parsers of the command."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make the files, and add them to the wheel.

        :param version: ``standard``, or ``editable`` for an installation that has none of them.
        :param build_data: where hatchling reads what to add.
        """
        if version == "editable":
            return
        self._files = tempfile.TemporaryDirectory()
        sys.path[:0] = [self.root, str(Path(self.root, "docs"))]
        from manual_pages import manual_pages

        from conntrack_aio.cli.completion.scripts import built_path, installed_path, make_all

        for name, text in manual_pages().items():
            build_data["shared_data"][self._write(name, text)] = f"share/man/man1/{name}"
        for (shell, program), text in make_all().items():
            file = self._write(f"{program}.{shell}", text)
            build_data["shared_data"][file] = f"share/{installed_path(shell, program)}"
            packaged = built_path(shell, program).relative_to(self.root)
            build_data["force_include"][file] = str(packaged)

    def _write(self, name: str, text: str) -> str:
        path = Path(self._files.name, name)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
        return str(path)

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Delete the files, which the wheel has now."""
        if version != "editable":
            self._files.cleanup()
