"""Summarize on standard error what a command did, unless it is quiet."""

from __future__ import annotations

import argparse

from .output import flush_output, report


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
