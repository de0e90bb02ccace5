"""Writes docs/api/command-line.md from the help of the command.

Run ``python docs/make_command_page.py`` after a change of the command's arguments.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from conntrack_aio.cli.command import build_parser, parse
from conntrack_aio.cli.parsing import Parser

PAGE: Final = Path(__file__).with_name("api") / "command-line.md"

INTRODUCTION: Final = """\
# Command line

`conntrack-aio` reads and changes the table and follows events from a shell.
`python -m conntrack_aio` is the same command.

```sh
conntrack-aio list 'orig.dport in {80, 443} and timeout > 60'
conntrack-aio events --type new proto tcp and orig.dport 22 and not orig.src in 10.0.0.0/8
conntrack-aio count --netns blue
conntrack-aio delete --dry-run orig.src 10.0.0.5
conntrack-aio update 'mark 0x10/0xf0' --mark 0x20/0xf0
```

[Match conditions](../match-reference.md) lists what a `MATCH` can contain. With `--json`, each line
is one object in the [JSON format](json.md#format).

Subcommands that change something print it on standard output, and a summary on standard error,
which `--quiet` leaves out. `delete` and `update` change each flow just after it was read; a flow
whose mark or state changes at that very moment may be changed although it no longer matches.
At a terminal, they ask before they change more than 200 flows, and `flush` always asks; `--yes`
prevents that. A script, whose standard input or standard error is no terminal, is never asked.
`--dry-run` shows what would be affected. If a command is interrupted or fails in between, it
reports how many flows it has changed.

| exit status | meaning |
| --- | --- |
| 0 | The command did what was asked, or the reader of its output closed the pipe. |
| 1 | It failed. Standard error has the reason. |
| 2 | The arguments are wrong. |
| 130 | It was interrupted, as by Ctrl-C. |

The same is installed as manual pages: `man conntrack-aio`, `man conntrack-aio-list`, and so on for
each subcommand, with examples. `man conntrack-aio-conntrack` and `man conntrack-aio-nfct` describe
the command lines of conntrack(8) and nfct(8). bash, zsh and fish
[complete command lines](../install.md#manual-pages-and-completion).

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


def commands_of(parser: Parser, *command: str) -> Iterator[tuple[str, ...]]:
    """Yield a command and its subcommands, each as the words that name it."""
    yield command
    for name, subcommand in parser.subcommands.items():
        yield from commands_of(subcommand, *command, name)


def page() -> str:
    """Return the page."""
    sections = [INTRODUCTION]
    for command in commands_of(build_parser()):
        heading = " ".join(("conntrack-aio", *command))
        sections.append(f"## {heading}\n\n```text\n{help_of(*command)}\n```\n")
    return "\n".join(sections)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
