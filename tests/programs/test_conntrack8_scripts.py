"""Scripts that call ``conntrack`` have the same results with this package under that name.

The scripts do what kube-proxy, container engines, fail-over scripts, monitoring and the kernel's
own tests do. Each runs twice: in a namespace with the program, and in one with a link to this
package. Its output is what the script itself concludes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from support.lab import Lab
from support.processes import TIMEOUT

import conntrack_aio

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.program("conntrack", "conntrack"),
    pytest.mark.program("nft", "nftables"),
]

OURS = re.escape(f"conntrack v{conntrack_aio.__version__} (conntrack_aio)")
ANY_VERSION = re.compile(rf"{OURS}|conntrack v[0-9.]+ \(conntrack-tools\)")

SETUP = """
conntrack -I -t 90000 -p udp -s 10.0.0.1 -d 10.96.0.10 --sport 1 --dport 53 -g 10.244.0.2
conntrack -I -t 90000 -p udp -s 10.0.0.1 -d 10.96.0.10 --sport 2 --dport 53 -g 10.244.0.3
conntrack -I -t 90000 -p udp -s 10.0.0.1 -d 10.0.0.9 --sport 3 --dport 30053 -g 10.244.0.2
conntrack -I -t 90000 -p udp -s fd00::1 -d fd00::a --sport 1 --dport 53 -g fd00:1::2
conntrack -I -t 90000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 4 --dport 12345 --state ESTABLISHED \
    -u SEEN_REPLY,ASSURED
conntrack -I -t 90000 -p tcp -s 10.0.0.1 -d 10.0.0.2 --sport 5 --dport 80 --state TIME_WAIT \
    -u SEEN_REPLY,ASSURED -m 7
conntrack -I -t 90000 -p tcp -s 10.0.0.5 -d 10.0.0.2 --sport 5 --dport 80 --state SYN_SENT -w 9
conntrack -I -t 90000 -p icmp -s 10.0.0.1 -d 10.0.0.2 --icmp-type 8 --icmp-code 0 --icmp-id 7
"""

SCRIPTS = {
    # A proxy of services removes flows to an end point that is gone, and those of a node port.
    "service proxy": """
        clean() {
            output=$(conntrack "$@" 2>&1) && { echo "$output" | sort; return; }
            case "$output" in
                *"0 flow entries have been deleted"*) echo "nothing to delete: $*" ;;
                *) echo "failed: $output" ;;
            esac
        }
        clean -D --orig-dst 10.96.0.10 --dst-nat 10.244.0.2 -p udp
        clean -D --orig-dst 10.96.0.10 --dst-nat 10.244.0.2 -p udp
        clean -D --orig-dst 10.96.0.10 -p udp
        clean -D -f ipv6 --orig-dst fd00::a -p udp
        clean -D -p udp --dport 30053
        clean -D -p udp --dport 30053 --dst-nat 10.244.0.2
        clean -D -p sctp --dport 30053
        clean -D -f ipv6 -p udp --dport 30053
    """,
    # A container engine removes the flows of a container's address, whatever the exit status is.
    "container engine": """
        for address in 10.0.0.5 10.0.0.6 10.244.0.2; do
            for option in -s -d -r -q; do
                conntrack -D $option $address >/dev/null 2>&1; echo "$option $address $?"
            done
        done
        conntrack -C
        conntrack -L 2>/dev/null | wc -l
    """,
    # A network driver reads flows of a zone, sets marks and flushes the zone by its flows.
    "network driver": """
        conntrack -L -w 9 -o extended 2>/dev/null | grep -o 'src=[^ ]*' | head -1
        conntrack -U -p tcp -s 10.0.0.1 -d 10.0.0.2 --dport 80 --mark 0x10/0xf0 2>/dev/null |
            grep -o 'mark=[0-9]*'
        conntrack -L --mark 16/0xf0 2>/dev/null | wc -l
        conntrack -D -w 9 >/dev/null 2>&1; echo $?
        conntrack -D -w 9 >/dev/null 2>&1; echo $?
        conntrack -D -p tcp --orig-port-dst 80 -m 23 2>&1 | grep deleted
    """,
    # A fail-over script flushes the table when the host changes its role.
    "fail-over": """
        conntrack -F; echo $?
        conntrack -F expect; echo $?
        conntrack -C
        conntrack -F conntrack 2>/dev/null && conntrack -L
    """,
    # Monitoring counts states and reads the statistics.
    "monitoring": """
        conntrack -L -o extended -p tcp 2>/dev/null | awk '{ print $6 }' | sort | uniq -c
        conntrack -L -p tcp --state ESTABLISHED 2>/dev/null | wc -l
        conntrack -L -p tcp --state CLOSE_WAIT 2>/dev/null | wc -l
        conntrack --dump --protonum udp --output extended 2>&1 | grep -c '^ipv4 *2 udp *17 '
        conntrack -S | sed 's/=[0-9]*/=N/g' | sort -u
        conntrack -S | awk '{ for (i = 2; i <= NF; i++) { split($i, f, "="); s[f[1]] += f[2] } }
            END { print s["drop"], s["early_drop"], s["insert_failed"] }'
        conntrack --count
        conntrack -L -u ASSURED 2>/dev/null | grep -c ASSURED
        conntrack -L --src-nat 2>&1; conntrack -L --dst-nat 2>/dev/null | wc -l
    """,
    # The kernel's tests look for one flow, and parse XML.
    "kernel test": """
        conntrack -L -p tcp --dport 12345 2>/dev/null | grep -q ASSURED && echo found
        conntrack -L -p tcp --dport 12346 2>&1 | grep -q ASSURED || echo missing
        [ "$(conntrack -L -p tcp --dport 12345 2>/dev/null | wc -l)" -eq 1 ] && echo one
        conntrack -L -p tcp --dport 12345 -o xml 2>/dev/null | sed 's/<timeout>[0-9]*/<timeout>/
            s/<id>[0-9]*/<id>/g; s/<use>[0-9]*/<use>/'
        conntrack -S | grep -c '^cpu='
        conntrack -I -t 60 -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 1 --dport 2 2>&1
        conntrack -I -t 60 -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 1 --dport 2 2>&1; echo $?
        conntrack -G -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 1 --dport 2 2>&1 | grep -c UNREPLIED
        conntrack -D -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 1 --dport 2 >/dev/null 2>&1; echo $?
        conntrack -G -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 1 --dport 2 2>&1; echo $?
        conntrack -D -s 10.9.9.9 2>&1; echo $?
    """,
    # A logger reads events until it is stopped; the time and the id are columns.
    "event logger": """
        conntrack -E -e NEW,DESTROY -o timestamp,id -p udp > "$DIRECTORY/log" 2> "$DIRECTORY/err" &
        logger=$!
        until grep -q '^[0-9a-f]* *12 [^ ]* *0*[1-9a-f][0-9a-f]* ' /proc/net/netlink; do
            sleep 0.01
        done
        conntrack -I -t 60 -p udp -s 10.1.0.1 -d 10.1.0.2 --sport 1 --dport 2 2>/dev/null
        conntrack -U -p udp -s 10.1.0.1 -d 10.1.0.2 -m 5 >/dev/null 2>&1
        conntrack -D -p udp -s 10.1.0.1 >/dev/null 2>&1
        until [ "$(wc -l < "$DIRECTORY/log")" -eq 2 ]; do sleep 0.01; done
        kill $logger; wait $logger; echo $?
        sed 's/^\\[[0-9]*\\.[0-9 ]*\\]/[TIME]/; s/id=[0-9]*/id=N/g
            s/progname=[^ ]*//; s/ *$//; s/ 59 / 60 /' "$DIRECTORY/log"
        cat "$DIRECTORY/err"
    """,
    # A script saves the table as commands, and loads them after a restart.
    "save and load": """
        conntrack -L -o save -p tcp -w 0 2>/dev/null > "$DIRECTORY/saved"
        sed 's/^-A/-D/; s/-t [0-9]* -u [^ ]*//; s/ -m [0-9]*//; s/--state [^ ]*//' \
            "$DIRECTORY/saved" > "$DIRECTORY/removal"
        conntrack -R "$DIRECTORY/removal" | wc -l
        conntrack -C
        conntrack -R - < "$DIRECTORY/saved"; echo $?
        conntrack -C
        conntrack -R "$DIRECTORY/missing"; echo $?
    """,
}


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """Return a directory with a link ``conntrack`` to the script of this package."""
    script = tmp_path / "conntrack-aio"
    root = Path(__file__).parents[2]
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(root)!r})\n"
        "from conntrack_aio.cli import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "conntrack").symlink_to(script)
    return directory


def run(lab: Lab, script: str, directory: Path, programs: Path | None) -> str:
    """Run a script after the setup, and return what it prints."""
    directory.mkdir()
    path = os.environ["PATH"] if programs is None else f"{programs}:{os.environ['PATH']}"
    start = partial(
        subprocess.run,
        ["/bin/bash", "-c", script],
        env=os.environ | {"PATH": path, "DIRECTORY": str(directory), "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=3 * TIMEOUT,
        check=False,
    )
    lab.program("/bin/bash", "-ec", SETUP)
    output: str = lab.run(start).stdout
    return _masked(output.replace(str(directory), "DIRECTORY"))


def _masked(output: str) -> str:
    text = ANY_VERSION.sub("VERSION", output)
    text = re.sub(r"\b(use|portid)=\d+", r"\1=N", text)
    return re.sub(r"^(\w+ +\d+ )(89\d{3}|90000)\b", r"\1TIMEOUT", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts(new_namespace: Callable[[], int], tmp_path: Path, ours: Path, name: str) -> None:
    script = SCRIPTS[name]
    theirs = run(Lab(new_namespace()), script, tmp_path / "program", None)
    mine = run(Lab(new_namespace()), script, tmp_path / "ours", ours)
    assert theirs.count("\n") > 2
    assert mine.splitlines() == theirs.splitlines()
