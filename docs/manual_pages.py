"""Make the manual pages of the command from its parsers, and from the texts in manual_pages.toml.

``python docs/manual_pages.py DIRECTORY`` writes them. The build of the wheel does so, too.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import roff

from conntrack_aio import __version__
from conntrack_aio.cli.command import build_parser
from conntrack_aio.cli.parsing import Parser

PROGRAM: Final = "conntrack-aio"
SOURCE: Final = f"conntrack_aio {__version__}"
ROOT: Final = Path(__file__).parents[1]

Texts = Mapping[str, Any]
"""A table of manual_pages.toml."""


@cache
def texts() -> Texts:
    """Return the texts that no parser has."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def changelog() -> str:
    """Return the list of changes, which has the date of each release."""
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def date_of_pages() -> str:
    """Return the date that the pages have: that of the release, or of the build before it."""
    section = rf"^## \[{re.escape(__version__)}\] - (\S+)$"
    released = re.search(section, changelog(), re.MULTILINE)
    if released is not None:
        return released[1]
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.UTC)
    built = now if seconds is None else datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)
    return built.date().isoformat()


def _sentence(text: str) -> str:
    """Return a line of the help as a sentence."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith(".") else ".")


# -- the parts of a parser ------------------------------------------------------------------------


def _value_of(action: argparse.Action) -> str:
    """Return what the help calls the value of an option, or an argument; empty for none."""
    if action.nargs == 0:
        return ""
    metavar = action.metavar if isinstance(action.metavar, str) else None
    if metavar is None and action.choices is not None:
        metavar = f"{{{','.join(map(str, action.choices))}}}"
    name = metavar or (action.dest.upper() if action.option_strings else action.dest)
    return {"*": f"[{name} ...]", "?": f"[{name}]", "+": f"{name} [{name} ...]"}.get(
        str(action.nargs), name
    )


def _usage_of(action: argparse.Action) -> str:
    """Return an option or argument as a synopsis has it, without brackets."""
    value = roff.italic(_value_of(action))
    if not action.option_strings:
        return value
    option = roff.bold(action.option_strings[-1])
    return f"{option} {value}" if action.nargs != 0 else option


def synopsis(command: str, parser: Parser) -> list[str]:
    """Return the synopsis of a command.

    :param command: the words that name the command.
    :param parser: its parser.
    """
    exclusive = {id(action): group for group in parser.exclusive_arguments for action in group}
    options: list[str] = []
    arguments: list[str] = []
    for action in _arguments(parser):
        if action.dest == "help":
            continue
        group = exclusive.get(id(action))
        if group is not None:
            if action is group[0]:
                options.append(f"[{' | '.join(map(_usage_of, group))}]")
        elif not action.option_strings:
            arguments.append(_usage_of(action))
        else:
            usage = _usage_of(action)
            options.append(usage if action.required else f"[{usage}]")
    if parser.subcommands:
        arguments.append(rf"{roff.italic('COMMAND')} ...")
    return roff.lines_of(" ".join([roff.bold(command), *options, *arguments]))


def _arguments(parser: Parser) -> list[argparse.Action]:
    """Return the arguments and options, without the one that is the subcommand."""
    return [
        action
        for action in parser.arguments
        if not (parser.subcommands and not action.option_strings)
    ]


def _item(action: argparse.Action) -> list[str]:
    """Return an argument or option and its explanation."""
    value = roff.italic(_value_of(action))
    names = ", ".join(map(roff.bold, action.option_strings))
    separator = " " if names and action.nargs != 0 else ""
    text = (action.help or "see above").replace("%%", "%")
    return roff.item(f"{names}{separator}{value}", _sentence(text))


def _items(actions: Iterable[argparse.Action]) -> list[str]:
    return [line for action in actions for line in _item(action)]


def _positional(parser: Parser) -> list[argparse.Action]:
    return [action for action in _arguments(parser) if not action.option_strings]


def _options(parser: Parser) -> list[argparse.Action]:
    return [action for action in _arguments(parser) if action.option_strings]


def _shared_options(parser: Parser) -> list[argparse.Action]:
    """Return the options that all subcommands of a subcommand have, with the same explanation."""
    first, *others = map(_options, parser.subcommands.values())
    return [
        action
        for action in first
        if all(_item(action) in map(_item, options) for options in others)
    ]


def _repeated_texts(parser: Parser) -> set[str]:
    """Return the closing texts that several subcommands of a subcommand have."""
    found = [subcommand.closing_text for subcommand in parser.subcommands.values()]
    return {text for text in found if text and found.count(text) > 1}


# -- pages ----------------------------------------------------------------------------------------


def _page(name: str, summary: str, lines: Iterable[str]) -> str:
    return roff.page(
        [
            *roff.header(name, date_of_pages(), SOURCE),
            *roff.section("NAME"),
            *roff.lines_of(rf"{roff.escape(name)} \- {roff.inline(summary)}"),
            *lines,
        ]
    )


def _text_section(title: str, text: str) -> list[str]:
    return [*roff.section(title), *roff.paragraphs(text)] if text.strip() else []


def _item_section(title: str, items: Sequence[Sequence[str]]) -> list[str]:
    """Return a section of terms and explanations."""
    lines = [line for term, text in items for line in roff.item(roff.inline(term), text)]
    return [*roff.section(title), *lines] if items else []


def _examples(examples: Sequence[Sequence[str]]) -> list[str]:
    lines: list[str] = []
    for command, text in examples:
        lines += [".TP", roff.bold(command), *roff.paragraphs(text)]
    return [*roff.section("EXAMPLES"), *lines] if examples else []


def _see_also(names: Sequence[str]) -> list[str]:
    lines = [
        f".BR {roff.escape(name)} ({number[:-1]}){',' if at < len(names) - 1 else ''}"
        for at, (name, _, number) in enumerate(each.partition("(") for each in names)
    ]
    return [*roff.section("SEE ALSO"), *lines]


def _exit_statuses(parser: Parser) -> list[tuple[str, str]]:
    """Return the exit statuses, which the help of the whole command lists."""
    found = re.findall(r"^  (\d+) +(.*)$", parser.closing_text, re.MULTILINE)
    return [(status, _sentence(text)) for status, text in found]


def _description(parser: Parser) -> str:
    return " ".join((parser.description or "").split())


def main_page(parser: Parser) -> str:
    """Return the page of the whole command."""
    own = texts()["main"]
    lines = [*roff.section("SYNOPSIS"), *synopsis(PROGRAM, parser)]
    for line in own["synopsis"]:
        lines += [".br", roff.inline(line)]
    lines += _text_section("DESCRIPTION", f"{_description(parser)}\n\n{own['description']}")
    lines += roff.section("COMMANDS")
    for name, command in parser.subcommands.items():
        lines += roff.item(
            roff.bold(name), f"{_sentence(command.summary)} See {PROGRAM}-{name}(1)."
        )
    lines += [*roff.section("OPTIONS"), *_items(_options(parser))]
    lines += [".PP", *roff.paragraphs(own["common_options"])]
    lines += _text_section("MATCHES", own["matches"])
    matching = next(each for each in parser.subcommands.values() if each.explains_match)
    lines += [".PP", *roff.paragraphs(_match_fields(matching))]
    lines += _item_section("EXIT STATUS", _exit_statuses(parser))
    lines += _item_section("ENVIRONMENT", own["environment"])
    lines += _item_section("FILES", own["files"])
    lines += _examples(own["examples"])
    pages = [f"{PROGRAM}-{name}(1)" for name in (*parser.subcommands, *texts()["pages"])]
    return _page(PROGRAM, own["summary"], [*lines, *_see_also([*pages, *own["see_also"]])])


def _match_fields(parser: Parser) -> str:
    """Return what the help of a subcommand says about matches."""
    return parser.closing_text[parser.closing_text.index("Fields of a MATCH") :]


def command_page(name: str, parser: Parser) -> str:
    """Return the page of a subcommand."""
    own: Texts = texts()["commands"].get(name, {})
    command = f"{PROGRAM} {name}"
    lines = roff.section("SYNOPSIS")
    if parser.subcommands:
        for verb, subcommand in parser.subcommands.items():
            lines += [*synopsis(f"{command} {verb}", subcommand), ".br"]
        lines.pop()
    else:
        lines += synopsis(command, parser)
    lines += _text_section("DESCRIPTION", f"{_description(parser)}\n\n{own.get('description', '')}")
    lines += _group_sections(command, parser) if parser.subcommands else _own_sections(parser)
    lines += _item_section("EXIT STATUS", own.get("exit_status", texts()["exit_status"]))
    lines += _examples(own.get("examples", []))
    return _page(
        f"{PROGRAM}-{name}",
        parser.summary,
        [*lines, *_see_also([f"{PROGRAM}(1)", *own.get("see_also", [])])],
    )


def _own_sections(parser: Parser) -> list[str]:
    """Return the sections about the arguments of a subcommand."""
    arguments = _items(_positional(parser))
    return [
        *(roff.section("ARGUMENTS") if arguments else []),
        *arguments,
        *roff.section("OPTIONS"),
        *_items(_options(parser)),
        *_text_section("NOTES", parser.closing_text),
    ]


def _group_sections(command: str, parser: Parser) -> list[str]:
    """Return the sections about the subcommands of a subcommand.

    :param command: the words that name the subcommand.
    :param parser: its parser.
    """
    shared = [_item(action) for action in _shared_options(parser)]
    repeated = _repeated_texts(parser)
    lines = roff.section("COMMANDS")
    for verb, subcommand in parser.subcommands.items():
        lines += roff.subsection(f"{command} {verb}")
        lines += roff.paragraphs(_description(subcommand))
        lines += _items(_positional(subcommand))
        lines += _items(each for each in _options(subcommand) if _item(each) not in shared)
        if subcommand.closing_text and subcommand.closing_text not in repeated:
            lines += [".PP", *roff.paragraphs(subcommand.closing_text)]
    lines += roff.section("COMMON OPTIONS")
    lines += [line for option in shared for line in option]
    return [*lines, *_text_section("NOTES", "\n\n".join(sorted(repeated)))]


def text_page(name: str, own: Texts) -> str:
    """Return a page that no parser knows anything about."""
    lines = roff.section("SYNOPSIS")
    for line in own["synopsis"]:
        lines += [roff.inline(line), ".br"]
    lines.pop()
    for part in own["sections"]:
        lines += roff.section(part["title"])
        if "text" in part:
            lines += roff.paragraphs(part["text"])
        for term, text in part.get("items", []):
            lines += roff.item(roff.inline(term), text)
    lines += [*_examples(own.get("examples", [])), *_see_also(own["see_also"])]
    return _page(f"{PROGRAM}-{name}", own["summary"], lines)


def manual_pages() -> dict[str, str]:
    """Return the text of every page by the name of its file."""
    parser = build_parser()
    pages = {PROGRAM: main_page(parser)}
    for name, command in parser.subcommands.items():
        pages[f"{PROGRAM}-{name}"] = command_page(name, command)
    for name, own in texts()["pages"].items():
        pages[f"{PROGRAM}-{name}"] = text_page(name, own)
    return {f"{name}.1": text for name, text in pages.items()}


def main() -> None:
    """Write the pages to the directory that the command line names."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in manual_pages().items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
