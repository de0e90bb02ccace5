"""Test the subcommand ``completion``."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from conntrack_aio.cli.command import run
from conntrack_aio.cli.completion import scripts
from conntrack_aio.cli.completion.scripts import PARSERS, SHELLS, make_script


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the scripts that were built, which is empty."""
    monkeypatch.setattr(scripts, "BUILT", tmp_path)
    return tmp_path


@pytest.mark.usefixtures("built")
def test_a_script_is_made_where_none_was_built(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in SHELLS:
        for program in PARSERS:
            assert run(["completion", shell, program]) == 0
            assert capsys.readouterr() == (make_script(shell, program), "")


def test_the_script_that_was_built_is_printed(
    built: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    (built / "conntrack-aio.fish").write_text("built\n")
    (built / "nfct.fish").write_text("built, too\n")
    assert run(["completion", "fish"]) == 0
    assert run(["completion", "fish", "nfct"]) == 0
    assert capsys.readouterr() == ("built\nbuilt, too\n", "")


@pytest.mark.usefixtures("built")
def test_without_a_script_the_error_says_how_to_make_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert run(["completion", "bash"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("conntrack-aio: this installation has no scripts")
    assert err.endswith("install the package shtab\n")
