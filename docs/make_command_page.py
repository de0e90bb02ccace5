"""Writes docs/api/command-line.md from the help of the command.

Run ``python docs/make_command_page.py`` after a change of the command's arguments.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Final

from conntrack_aio.cli.command import COMMANDS, parse

PAGE: Final = Path(__file__).with_name("api") / "command-line.md"

INTRODUCTION: Final = """\
# Command line

`conntrack-aio` reads the table and follows events from a shell. `python -m conntrack_aio` is the
same command.

```sh
conntrack-aio list 'orig.dport in {80, 443} and timeout > 60'
conntrack-aio events --type new proto tcp and orig.dport 22 and not orig.src in 10.0.0.0/8
conntrack-aio count --netns blue
```

[Match conditions](../match-reference.md) lists what a `MATCH` can contain. With `--json`, each line
is one object in the [JSON format](json.md#format).

| exit status | meaning |
| --- | --- |
| 0 | The command did what was asked, or the reader of its output closed the pipe. |
| 1 | It failed. Standard error has the reason. |
| 2 | The arguments are wrong. |
| 130 | It was interrupted, as by Ctrl-C. |

`CONNTRACK_AIO_DEBUG=1` in the environment [prints every netlink message](../debugging.md).
"""


def help_of(*command: str) -> str:
    """Return the help of the command, or of a subcommand, 80 columns wide."""
    output = io.StringIO()
    columns = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            parse([*command, "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return output.getvalue().strip()


def page() -> str:
    """Return the page."""
    sections = [INTRODUCTION]
    for command in ((), *((name,) for name in COMMANDS)):
        heading = " ".join(("conntrack-aio", *command))
        sections.append(f"## {heading}\n\n```text\n{help_of(*command)}\n```\n")
    return "\n".join(sections)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
