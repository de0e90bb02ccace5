"""One table read again and again, and nothing else, for a profiler to look at.

::

    py-spy record --native --threads -f raw -o profile -- python -m benchmarks.workload
    perf record -g -- python -m benchmarks.workload --mixed
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import tables
from .contenders import floor, ours
from .isolation import enter_namespace
from .options import Options


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the table and read it; a line for each time."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workload", description=__doc__)
    parser.add_argument("--mixed", action="store_true", help="flows of all kinds, not only TCP's")
    parser.add_argument("--flows", type=int, default=Options().flows, metavar="N")
    parser.add_argument("--rounds", type=int, default=10, metavar="N")
    options = parser.parse_args(arguments)
    enter_namespace()
    if options.mixed:
        tables.use_everything()
    tables.fill(tables.mixed_shapes() if options.mixed else tables.tcp_shapes(), 0, options.flows)
    reader = ours.dump(ours.FLOW_BY_FLOW)
    for _ in range(options.rounds):
        timing = reader.run()
        print(f"{timing.wall / timing.count * 1e6:.2f} µs a flow", flush=True)
    floor.flush()


if __name__ == "__main__":
    main()
