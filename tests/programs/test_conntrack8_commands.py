"""The command line of conntrack(8) does what the program does: random command lines, by both.

Commands that read run in one namespace, first by the program. Commands that change the table run
in two namespaces with the same entries, and then the tables are compared. What differs on purpose
is left out by :mod:`support.conntrack8_commands`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
from support.conntrack8_commands import Generator
from support.conntrack8_comparison import difference, lines_difference, lines_of
from support.conntrack8_worker import Worker
from support.effort import EXAMPLES_FACTOR, thorough_or_quick
from support.expectations import ftp, ftp6
from support.lab import Lab

from conntrack_aio import Expectation, NetNS, Tuple, connect

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("nft", "nftables"),
]

COUNT = thorough_or_quick(500, 120) * EXAMPLES_FACTOR
"""How many command lines of each kind are compared."""

SEED = int(os.environ.get("CONNTRACK_AIO_TEST_SEED", "1"))
"""Another seed generates other command lines."""

REFILL = 10
"""After this number of changes the tables are filled again."""

# The kernel reserves room for labels only while a rule uses them.
RULES = """
table inet t {
    chain output {
        type filter hook output priority filter
        ct label 3 counter
    }
}
"""

ENTRIES = """\
-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 80 --state ESTABLISHED -u SEEN_REPLY,ASSURED -m 1
-p tcp -s 10.0.0.3 -d 10.0.0.2 --sport 1 --dport 2 --state SYN_SENT -m 2
-p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 2 --dport 80 --state TIME_WAIT -w 5 -m 255
-p udp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 -n 192.0.2.1 -m 7 --label-add web
-p udp -s 10.0.0.2 -d 10.0.0.3 --sport 1 --dport 2 -g 192.0.2.1:77 --label-add web,db
-p udp -s 10.0.0.3 -d 10.0.0.1 --sport 3 --dport 80 -n 192.0.2.1:77 -g 10.0.0.2
-p udp -s 10.0.0.3 -d 10.0.0.1 --sport 3 --dport 2 -r 10.0.0.2 -q 10.0.0.3 \
--reply-port-src 1 --reply-port-dst 3
-p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1 --dport 2 -w 5
-p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1 --dport 2 -w 7
-p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1 --dport 2
-p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1 --dport 90 --orig-zone 5
-p udp -s 10.0.0.1 -d 10.0.0.3 --sport 2 --dport 91 --reply-zone 6 -m 16
-p sctp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 --state ESTABLISHED --orig-vtag 1 \
--reply-vtag 2 -u ASSURED
-p udplite -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2
-p dccp -s 10.0.0.1 -d 10.0.0.2 --sport 1 --dport 2 --state OPEN --role client
-p gre -s 10.0.0.1 -d 10.0.0.2 --srckey 1 --dstkey 2
-p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 7
-p icmp -s 10.0.0.2 -d 10.0.0.3 --icmp-type 8 --icmp-code 0 --icmp-id 8
-p icmpv6 -s fd00::1 -d fd00::2 --icmpv6-type 128 --icmpv6-code 0 --icmpv6-id 7
-p udp -s fd00::1 -d fd00::2 --sport 1 --dport 2 -n 2001:db8::1 -m 1
-p tcp -s fd00::2 -d fd00::1 --sport 1 --dport 2 --state CLOSE -u SEEN_REPLY -m 4294967295
-p tcp -s fd00::2 -d 2001:db8::1 --sport 1 --dport 3 --state SYN_SENT -w 5
-p 50 -s 10.0.0.1 -d 10.0.0.2
-p igmp -s 10.0.0.1 -d 10.0.0.3 -u FIXED_TIMEOUT
"""
"""The options of the entries; their timeouts are long. The program creates them."""


class Table:
    """A namespace whose table can be filled."""

    def __init__(self, descriptor: int) -> None:
        lab = Lab(descriptor)
        lab.sysctl("nf_conntrack_events", 1)
        lab.program("nft", "-f", "-", input=RULES)
        self.netns = lab.netns
        self.worker = Worker(lab)
        self._changed = True

    def fill(self) -> None:
        """Make the table have the entries, and no others."""
        self.worker.program("-F")
        lines = [f"-I -t 100000 {options}" for options in ENTRIES.splitlines()]
        # The program crashes at the second line with a label.
        labelled = [line for line in lines if "--label-add" in line]
        others = "\n".join(line for line in lines if line not in labelled)
        assert self.worker.program("-R", "-", input=others).status == 0
        for line in labelled:
            assert self.worker.program(*line.split()).status == 0

    def entries(self) -> str:
        """Return the lines of all entries."""
        return self.worker.program("-L", "-o", "extended,labels").output


@pytest.fixture
def new_table(new_namespace: Callable[[], int]) -> Iterator[Callable[[], Table]]:
    """Return a function that creates a namespace with the entries."""
    tables: list[Table] = []

    def new() -> Table:
        tables.append(Table(new_namespace()))
        tables[-1].fill()
        return tables[-1]

    yield new
    for table in tables:
        table.worker.close()


async def add_expectations(netns: NetNS) -> None:
    """Create two masters and an expectation of each."""
    async with connect(netns=netns) as conn:
        for master, (source, target) in (
            (ftp(), ("10.0.0.2", "10.0.0.1")),
            (ftp6(), ("fd00::2", "fd00::1")),
        ):
            await conn.create(master)
            expected = Tuple.tcp(source, 5, target, 2000)
            await conn.expectations.create(Expectation.of(master.orig, expected))


def test_commands_that_read(new_table: Callable[[], Table]) -> None:
    table = new_table()
    anyio.run(add_expectations, table.netns)
    generate = Generator(SEED).reading
    for _ in range(COUNT):
        arguments = generate()
        theirs = table.worker.program(*arguments)
        ours = table.worker.ours(*arguments)
        assert difference(theirs, ours, same_entries=True) is None, f"{arguments}"


def test_commands_that_change_the_table(new_table: Callable[[], Table]) -> None:
    theirs, ours = new_table(), new_table()
    generate = Generator(SEED).changing
    for count in range(COUNT):
        if count % REFILL == 0:
            theirs.fill()
            ours.fill()
        arguments = generate()
        expected = theirs.worker.program(*arguments)
        result = ours.worker.ours(*arguments)
        assert difference(expected, result, same_entries=False) is None, f"{arguments}"
        tables = [lines_of(each.entries(), same_entries=False) for each in (theirs, ours)]
        found = lines_difference(*tables)
        if found is not None:
            # Only what cannot be compared may have changed the tables differently.
            failed = "No such file" in result.errors + expected.errors or expected.status < 0
            assert failed, f"{arguments}: {found}"
            theirs.fill()
            ours.fill()


def test_commands_with_mistakes(new_table: Callable[[], Table]) -> None:
    theirs, ours = new_table(), new_table()
    generate = Generator(SEED).invalid
    for _ in range(2 * COUNT):
        arguments = generate()
        expected = theirs.worker.program(*arguments)
        result = ours.worker.ours(*arguments)
        assert difference(expected, result, same_entries=False) is None, f"{arguments}"
        if expected.status == 0:  # it was no mistake, or a new entry
            theirs.fill()
            ours.fill()


FILES = [
    "# comment\n\n  # another\n-I -t 1000 -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 1 --dport 2\n",
    "-D -p udp -s 10.0.0.1\n-D -p udp -s 10.0.0.1\n-D -p tcp\n-D -s fd00::1 -d fd00::2\n",
    '-D -p "udp" --sport "3"\n"-D" -p icmp\n',
    "-A -t 1000 -p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1 --dport 2\n-D -p sctp\n",
    "-D -p gre\n-I -t 1000 -p udp -s 10.0.0.1 -d 10.0.0.3 --sport 1 --dport 2\n-D -p sctp\n",
    "-D -p udp -o xml -s 10.0.0.2\n-D -p tcp -o xml -s 10.0.0.3\n",
    "-D -p tcp\n-L\n",
    "-D -p tcp\n-I -s\n",
    "-D -p tcp\nword\n",
    "-D -p tcp\n-F expect\n",
    '-D -p tcp\n-D -p ud"p\n',
    '-D -p tcp\n-D -p "a b"\n',
    '-D -p tcp\n-D -p "a\\"b"\n',
    '-D -p tcp\n-D -p ""\n',
    "-D -p tcp\n-D -p " + "x" * 1024 + "\n",
    "-D -p tcp\n-D -p " + "x" * 1023 + "\n",
    "-D -p tcp\n-D " + "-m 1 " * 126 + "\n",
    "-D -p tcp\n-D " + "-m 1 " * 127 + "\n",
    "-D -p tcp\n-D " + "-m 1 " * 128 + "\n",
    "-D -p tcp\n-D -p \udcff\udcfe\n",
    "-D -p tcp\n-D -p sctp\0 -X\n-D -p gre",
    "-D -p tcp -m 1\r\r",
    '"#"\n-D -p tcp\nword\n-D -X\n',
    "-D -p tcp\n-F expect\n-D 1/1\n",
    "-F\n-F conntrack\n",
    "",
]


def test_files_of_commands(new_table: Callable[[], Table], tmp_path: Path) -> None:
    theirs, ours = new_table(), new_table()
    path = tmp_path / "commands"
    for index, text in enumerate(FILES):
        path.write_bytes(text.encode(errors="surrogateescape"))
        arguments = ("-R", "-") if index % 2 else ("--load-file", str(path))
        theirs.fill()
        ours.fill()
        expected = theirs.worker.program(*arguments, input=text)
        result = ours.worker.ours(*arguments, input=text)
        assert difference(expected, result, same_entries=False) is None, repr(text)
        tables = [lines_of(each.entries(), same_entries=False) for each in (theirs, ours)]
        assert lines_difference(*tables) is None, repr(text)


def test_random_files_of_commands(new_table: Callable[[], Table], tmp_path: Path) -> None:
    theirs, ours = new_table(), new_table()
    generator = Generator(SEED)
    path = tmp_path / "commands"
    for index in range(COUNT // 4):
        text = generator.file()
        path.write_bytes(text.encode(errors="surrogateescape"))
        arguments = ("-R", "-") if index % 2 else ("--load-file", str(path))
        expected = theirs.worker.program(*arguments, input=text)
        result = ours.worker.ours(*arguments, input=text)
        updates = "-U" in text or "--up" in text
        found = difference(expected, result, same_entries=False, updates=updates)
        assert found is None, f"{text!r}: {found}"
        tables = [lines_of(each.entries(), same_entries=False) for each in (theirs, ours)]
        found = lines_difference(*tables)
        if found is not None:
            failed = "No such file" in result.errors + expected.errors or expected.status < 0
            assert failed, f"{text!r}: {found}"
        if found is not None or index % REFILL == 0:
            theirs.fill()
            ours.fill()


def test_files_that_cannot_be_read(new_table: Callable[[], Table]) -> None:
    worker = new_table().worker
    for path in ("/nonexistent", "/tmp", "", "\udcff"):
        theirs, ours = worker.program("-R", path), worker.ours("-R", path)
        assert difference(theirs, ours, same_entries=True) is None, repr(path)
