"""Test the links ``conntrack`` and ``nfct``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conntrack_aio.cli.failures import CommandError
from conntrack_aio.cli.program_links import earlier_in_path, make_links, path_of_program

SCRIPT = f"""\
#!{sys.executable}
import sys
from conntrack_aio.cli import main
sys.exit(main())
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The program as it is installed."""
    path = tmp_path / "bin" / "conntrack-aio"
    path.parent.mkdir()
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The directory for the links."""
    path = tmp_path / "links"
    path.mkdir()
    return path


def run(*command: str | Path) -> tuple[int, str, str]:
    """Run a command without the directories of this machine in ``PATH``."""
    environment = {**os.environ, "PATH": "/nowhere"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_links_run_the_other_languages(program: Path, directory: Path) -> None:
    conntrack, nfct = directory / "conntrack", directory / "nfct"
    status, out, err = run(program, "install-links", directory)
    assert (status, out) == (0, f"{conntrack} -> {program}\n{nfct} -> {program}\n")
    assert err.count(f"{directory} is not in PATH") == 2
    assert run(nfct) == (1, "", "Usage: nfct command subsystem [parameters]...\n")
    status, out, err = run(conntrack, "--version")
    assert (status, err) == (0, "")
    assert out.startswith("conntrack v")
    assert run(program, "install-links", "--quiet", directory) == (
        0,
        f"{conntrack} is already there\n{nfct} is already there\n",
        "",
    )


def test_an_alias_runs_conntrack8(program: Path) -> None:
    script = f"shopt -s expand_aliases\nalias conntrack={program}\nconntrack -V"
    status, out, err = run(shutil.which("bash") or "bash", "-c", script)
    assert (status, err) == (0, "")
    assert out.startswith("conntrack v")


def test_nothing_is_replaced_unless_forced(program: Path, directory: Path) -> None:
    nfct = directory / "nfct"
    nfct.write_text("another program")
    status, out, err = run(program, "install-links", directory)
    assert (status, out) == (1, "")
    assert err == (
        f"conntrack-aio: {nfct} exists and is no link to this program; no link was made; "
        "--force replaces it\n"
    )
    assert [path.name for path in directory.iterdir()] == ["nfct"]
    assert run(program, "install-links", "--quiet", "--force", directory)[0] == 0
    assert sorted(path.name for path in directory.iterdir()) == ["conntrack", "nfct"]
    assert nfct.readlink() == program


def test_a_broken_link_is_not_replaced(program: Path, directory: Path) -> None:
    (directory / "conntrack").symlink_to(directory / "gone")
    with pytest.raises(CommandError, match="conntrack exists"):
        make_links(str(program), str(directory), replace=False)


def test_a_directory_is_never_replaced(program: Path, directory: Path) -> None:
    (directory / "nfct").mkdir()
    with pytest.raises(CommandError, match="nfct is a directory"):
        make_links(str(program), str(directory), replace=True)
    assert not (directory / "conntrack").is_symlink()


def test_a_missing_directory_is_an_error(program: Path, tmp_path: Path) -> None:
    assert run(program, "install-links", tmp_path / "gone") == (
        1,
        "",
        f"conntrack-aio: {tmp_path / 'gone'}: there is no such directory\n",
    )


def test_a_module_that_python_runs_has_no_links(directory: Path) -> None:
    status, out, err = run(sys.executable, "-m", "conntrack_aio", "install-links", directory)
    assert (status, out) == (1, "")
    assert "run the installed program instead: conntrack-aio install-links DIR" in err
    with pytest.raises(CommandError, match="python -m"):
        path_of_program("-c")


def test_another_program_that_comes_first_is_named(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "nfct"
    other.write_text("")
    other.chmod(0o755)
    link = directory / "nfct"
    link.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path}:{directory}")
    assert (
        earlier_in_path(str(link)) == f"a shell starts {other} as nfct, which comes first in PATH"
    )
    monkeypatch.setenv("PATH", f"{directory}:{tmp_path}")
    assert earlier_in_path(str(link)) is None
