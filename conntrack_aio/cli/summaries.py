"""Summarize on standard error what a command did, unless it is quiet."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from .output import flush_output, report, write_line


def count_of(number: int, noun: str) -> str:
    """Return a number with its noun: ``1 flow`` or ``2 flows``. A final y becomes ies."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number} {plural}"


def report_summary(options: argparse.Namespace, summary: object) -> None:
    """Report a summary after the output, unless the options have ``quiet``."""
    if not options.quiet:
        flush_output()  # the output precedes the summary where both go to one terminal
        report(summary)


def report_numbers(options: argparse.Namespace, numbers: Mapping[str, int], text: object) -> None:
    """Print numbers as an object if the options have ``json``, and report them as text.

    :param numbers: the numbers by name.
    :param text: the text of the summary.
    """
    if options.json:
        import json

        write_line(json.dumps(numbers))
    report_summary(options, text)
