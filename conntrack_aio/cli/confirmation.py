"""Ask the person at the terminal before a command changes many entries."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from .failures import CommandError
from .output import Interrupted, flush_output, interruptible, resume_writes

MOST_UNASKED: Final = 200
"""Commands that change the flows that match ask before they change more than these."""


def is_person_asked(options: argparse.Namespace) -> bool:
    """Return whether a person can be asked: standard input and standard error are terminals.

    A script has no terminal, so it is never asked. Nor is a person who passed ``--yes``.
    """
    return not options.yes and _is_terminal(sys.stdin) and _is_terminal(sys.stderr)


def _is_terminal(stream: object) -> bool:
    try:
        return stream is not None and bool(stream.isatty())  # type: ignore[attr-defined]
    except ValueError:  # the stream is closed
        return False


def confirm(question: str, otherwise: str) -> None:
    """Ask a question on standard error, and return if the answer is ``y`` or ``yes``.

    :param question: the question, without its question mark.
    :param otherwise: what the error says for any other answer, and at the end of input.
    :raises CommandError: when the answer is another one.
    :raises Interrupted: when an interrupt ended the wait for the answer.
    """
    flush_output()
    try:
        with interruptible():
            sys.stderr.write(f"conntrack-aio: {question}? [y/N] ")
            answer = sys.stdin.readline()
    except Interrupted:
        resume_writes()
        sys.stderr.write("\n")
        raise
    if not answer.endswith("\n"):
        sys.stderr.write("\n")  # the end of input left the cursor after the question
    if answer.strip().lower() not in ("y", "yes"):
        raise CommandError(otherwise)


def confirm_many(options: argparse.Namespace, count: int, question: str, otherwise: str) -> None:
    """Ask the person at the terminal, if there is one, before more than a few are changed.

    :param options: the options of the subcommand: ``yes``.
    :param count: how many are changed.

    The question and ``otherwise`` are those of :func:`confirm`, which also has the errors.
    """
    if count > MOST_UNASKED and is_person_asked(options):
        confirm(question, otherwise)
