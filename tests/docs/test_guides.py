"""Every block of every page runs unmodified and prints what the page shows."""

from __future__ import annotations

import ast
import configparser
import inspect
import json
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections import deque
from functools import partial
from pathlib import Path
from types import CodeType

import anyio
import anyio.to_thread
import pytest
import yaml
from blocks import PAGES, ROOT, Block, blocks_of, commands_of, output_of, pattern_of
from make_reference import anchor
from running import Running, Shell, environment
from scenes import EXCEPTIONS, EXCERPTS, SCENES, Scene
from support.lab import Lab
from support.polling import wait_until
from support.processes import TIMEOUT

import conntrack_aio
from conntrack_aio import Connection, connect

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
DATA_LANGUAGES = {"toml", "ini", "yaml", "json", "nft"}


def keys_of(block: Block) -> tuple[str, str]:
    """Return the possible keys of the scene of a block: for it alone, and for its heading."""
    heading = f"{block.page}: {block.heading}"
    same_language = [
        each.number
        for each in blocks_of(block.page)
        if (each.heading, each.language) == (block.heading, block.language)
    ]
    position = same_language.index(block.number) + 1
    return f"{heading} ({block.language} {position})", heading


def scene_of(block: Block) -> Scene:
    """Return the scene of a block, or an empty one."""
    return next((SCENES[key] for key in keys_of(block) if key in SCENES), Scene())


def commands(page: str) -> list[str]:
    """Return all commands of a page."""
    consoles = [block for block in blocks_of(page) if block.language == "console"]
    return [command for block in consoles for command, _ in commands_of(block.text)]


def is_saved(block: Block) -> bool:
    """Return whether another block of the page runs the file that this one is saved as."""
    if not block.title:
        return False
    if any(block.title in command for command in commands(block.page)):
        return True
    stem = re.escape(block.title.removesuffix(".py"))
    return not block.is_test and any(
        each.is_test and re.search(rf"^ *(from|import) {stem}\b", each.text, re.MULTILINE)
        for each in blocks_of(block.page)
    )


def save_files(page: str, directory: Path, before: int | None = None) -> None:
    """Save the files that a page shows.

    :param before: the number of a block; only files above it are saved.
    """
    for block in blocks_of(page)[: before and before - 1]:
        save(block, directory)


def save(block: Block, directory: Path) -> None:
    """Save a block if it has a file name."""
    if block.title:
        (directory / block.title).write_text(block.text)


def chosen(kind: str) -> list[object]:
    """Return the blocks of one kind as parameters of a test."""
    return [pytest.param(block, id=block.name) for block in BLOCKS if kind_of(block) == kind]


def kind_of(block: Block) -> str:
    """Return how a block is tested.

    :raises AssertionError: when no test covers it.
    """
    if block.language == "console":
        return "console"
    if block.language == "text":
        above = blocks_of(block.page)[block.number - 2]
        assert above.language == "python", f"{block.name} does not follow a Python block"
        assert above.heading == block.heading, f"{block.name} does not follow a Python block"
        return "output"
    if block.language in DATA_LANGUAGES:
        return "data"
    assert block.language == "python", (
        f"{block.name}: no test covers the language {block.language!r}"
    )
    if block.name in EXCERPTS:
        return "excerpt"
    if is_saved(block):
        return "saved"
    return "program" if block.is_program else "test" if block.is_test else "fragment"


# Coverage


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_every_block_is_covered(block: Block) -> None:
    assert kind_of(block)


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_a_block(page: str) -> None:
    fences = re.findall(r"^ *```", (ROOT / page).read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks_of(page))


def test_every_scene_and_excerpt_has_a_block() -> None:
    assert not SCENES.keys() - {key for block in BLOCKS for key in keys_of(block)}
    assert not EXCERPTS.keys() - {block.name for block in BLOCKS}


def test_every_exception_is_a_command_of_its_page() -> None:
    assert not [(page, each) for page, each in EXCEPTIONS if each not in commands(page)]


def anchors(path: Path) -> set[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES)
def test_links_have_targets(page: str) -> None:
    """Links to the API reference are checked when the site is built, in test_site.py."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"(?<!\\)\]\(([^)]+)\)", text):
        target, _, fragment = link.partition("#")
        if "://" in target or "/api/" in f"/{target}":
            continue
        path = (ROOT / page).parent / target if target else ROOT / page
        assert path.exists(), target
        assert not fragment or fragment in anchors(path), link


# Fragments


class Printed:
    """The output of a fragment, which is compared with the output on the page."""

    def __init__(self, expected: str | None, *, endless: bool) -> None:
        self.text = ""
        self.changed = anyio.Event()
        self.complete = anyio.Event()
        self._pattern = None if expected is None else re.compile(pattern_of(expected))
        self._endless = endless
        self.check()

    def __call__(self, *values: object, end: str = "\n", flush: bool = False) -> None:
        self.text += " ".join(map(str, values)) + end
        self.check()

    def check(self) -> None:
        self.changed.set()
        if self.is_as_shown():
            self.complete.set()

    async def until(self, lines: int) -> None:
        """Wait until this number of lines was printed."""
        while self.text.count("\n") < lines:
            self.changed = anyio.Event()
            await self.changed.wait()

    def is_as_shown(self) -> bool:
        """Return whether the output is the one on the page."""
        if self._pattern is None:
            return True
        match = self._pattern.match if self._endless else self._pattern.fullmatch
        return match(self.text) is not None


def compiled(block: Block) -> CodeType:
    """Compile a block that may use ``await`` at the top level."""
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(
        "\n" * block.line + block.text, str(ROOT / block.page), "exec", flags, dont_inherit=True
    )
    return code


@pytest.mark.anyio
@pytest.mark.kernel
@pytest.mark.parametrize("block", chosen("fragment"))
async def test_fragment(
    lab: Lab, conn: Connection, block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = scene_of(block)
    monkeypatch.chdir(tmp_path)
    # A fragment that connects itself must not use the namespace of the machine.
    monkeypatch.setattr(conntrack_aio, "connect", partial(connect, netns=lab.netns))
    await scene.before(lab, conn)
    expected = output_of(block) or scene.output
    assert expected or not scene.endless, "an endless fragment needs its output on the page"
    printed = Printed(expected, endless=scene.endless)
    names = {"conn": conn, "print": printed, **scene.names}

    async def run() -> None:
        result = eval(compiled(block), names)
        if inspect.isawaitable(result):  # not if the block awaits nothing
            await result
        assert not scene.endless, printed.text

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(TIMEOUT):
            if scene.endless:
                tasks.start_soon(run)
                await anyio.wait_all_tasks_blocked()
                for lines, action in scene.meanwhile:
                    await printed.until(lines)
                    await action(lab, conn)
                await printed.complete.wait()
            else:
                await run()
        tasks.cancel_scope.cancel()
    assert printed.is_as_shown(), printed.text
    if expected is None and block.page != "README.md":
        assert not printed.text, f"the page does not show what is printed: {printed.text}"


# Programs


@pytest.mark.kernel
@pytest.mark.parametrize("block", chosen("program"))
def test_program(lab: Lab, block: Block, tmp_path: Path) -> None:
    """A program runs until it ends. An endless one runs until it has printed the shown output."""
    anyio.run(connect_and_run_program, lab, block, tmp_path)


async def connect_and_run_program(lab: Lab, block: Block, tmp_path: Path) -> None:
    async with connect(netns=lab.netns) as conn:
        await run_program(lab, conn, block, tmp_path)


async def run_program(lab: Lab, conn: Connection, block: Block, tmp_path: Path) -> None:
    scene = scene_of(block)
    save_files(block.page, tmp_path, before=block.number)
    name = block.title or "program.py"
    (tmp_path / name).write_text(block.text)
    await scene.before(lab, conn)
    expected = output_of(block) or scene.output
    pattern = re.compile(pattern_of(expected or ""))
    command = f"{scene.prelude}\nexec {shlex.quote(sys.executable)} {name} {scene.arguments}"
    with Running(lab, tmp_path, "bash", "-ec", command) as program:
        async with anyio.create_task_group() as tasks:
            deadline = time.monotonic() + TIMEOUT
            steps = deque(scene.meanwhile)
            while time.monotonic() < deadline and not program.ended:
                if scene.endless and not steps and pattern.match(program.output):
                    break
                if (
                    steps
                    and program.output.count("\n") >= steps[0][0]
                    and (not scene.listens or program.listeners())
                ):
                    tasks.start_soon(steps.popleft()[1], lab, conn)
                await anyio.to_thread.run_sync(program.read, 0.01)
            tasks.cancel_scope.cancel()
        if scene.endless:
            assert expected is not None, "an endless program needs its output on the page"
            assert pattern.match(program.output), program.output + program.errors
            assert "Traceback" not in program.errors, program.errors
        else:
            assert program.ended, program.output + program.errors
            assert pattern.fullmatch(program.output), program.output + program.errors
            assert (program.status(), program.errors) == (0, "")


# Test modules


@pytest.mark.kernel
@pytest.mark.parametrize("block", chosen("test"))
def test_test_module(lab: Lab, block: Block, tmp_path: Path) -> None:
    save_files(block.page, tmp_path)
    name = block.title or "test_page.py"
    (tmp_path / name).write_text(scene_of(block).prelude + block.text)
    if not (tmp_path / "pyproject.toml").exists():
        (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = lab.run(
        lambda: subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name],
            cwd=tmp_path,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
    )
    assert done.returncode == 0, done.stdout
    expected = output_of(block)
    assert expected is None or re.fullmatch(pattern_of(expected), done.stdout), done.stdout


# Commands


@pytest.mark.kernel
@pytest.mark.program("nft", "nftables")
@pytest.mark.program("iptables", "iptables")
@pytest.mark.program("capsh", "libcap2-bin")
@pytest.mark.program("sysctl", "procps")
@pytest.mark.program("ip", "iproute2")
@pytest.mark.program("curl", "curl")
@pytest.mark.program("conntrack", "conntrack")
@pytest.mark.parametrize(
    "page", sorted({block.page for block in BLOCKS if block.language == "console"})
)
def test_commands(lab: Lab, page: str, tmp_path: Path) -> None:
    """The commands of a page run one after the other in one shell."""
    anyio.run(run_commands, lab, page, tmp_path)


async def run_commands(lab: Lab, page: str, tmp_path: Path) -> None:
    exceptions = frozenset(command for where, command in EXCEPTIONS if where == page)
    async with connect(netns=lab.netns) as conn:
        with Shell(lab, tmp_path) as shell:
            for block in blocks_of(page):
                save(block, tmp_path)
                if block.language == "console":
                    await run_console(lab, conn, shell, block, exceptions)


async def run_console(
    lab: Lab, conn: Connection, shell: Shell, block: Block, exceptions: frozenset[str]
) -> None:
    scene = scene_of(block)
    await scene.before(lab, conn)
    listeners = shell.listeners()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(
            anyio.to_thread.run_sync, shell.run_block, block.text, block.name, exceptions
        )
        for _, action in scene.meanwhile:
            await wait_until(partial(shell.has_more_listeners_than, listeners))
            await action(lab, conn)


# Data and excerpts


@pytest.mark.kernel
@pytest.mark.program("nft", "nftables")
@pytest.mark.parametrize("block", chosen("data"))
def test_data(lab: Lab, block: Block) -> None:
    match block.language:
        case "toml":
            assert tomllib.loads(block.text)
        case "ini":
            # Files of sysctl(8) and modules-load.d(5) have no sections.
            text = block.text if re.search(r"^\[", block.text, re.M) else f"[-]\n{block.text}"
            parser = configparser.ConfigParser(
                strict=False, interpolation=None, allow_no_value=True
            )
            parser.read_string(text)
            assert all(parser.items(section) for section in parser.sections())
        case "yaml":
            assert all(isinstance(each, dict) for each in yaml.safe_load_all(block.text))
        case "json":
            assert all(json.loads(line) for line in block.text.splitlines())
        case "nft":
            lab.program("nft", "-c", "-f", "-", input=block.text)


@pytest.mark.parametrize("block", chosen("excerpt"))
def test_excerpt(block: Block) -> None:
    """The lines of an excerpt are lines of the file, in their order. It may omit lines."""
    lines = iter((ROOT / EXCERPTS[block.name]).read_text().splitlines())
    for line in filter(None, map(str.strip, block.text.splitlines())):
        assert any(line == each.strip() for each in lines), line


def test_the_first_example_is_the_program_of_the_readme() -> None:
    block = next(block for block in BLOCKS if block.page == "README.md")
    program = (ROOT / "examples" / "first.py").read_text(encoding="utf-8")
    assert program.partition('"""\n\n')[2] == block.text
