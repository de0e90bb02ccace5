"""Fill a table and dump it repeatedly, as the workload for a profiler.

Examples::

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
    """Fill the table, dump it repeatedly, and print the time per flow of each dump."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.workload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--mixed", action="store_true", help="use flows of all kinds, not only TCP flows"
    )
    parser.add_argument(
        "--flows",
        type=int,
        default=Options().flows,
        metavar="N",
        help="flows in the table (default: %(default)s)",
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=10,
        metavar="N",
        help="how often to dump the table (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    enter_namespace()
    if options.mixed:
        tables.enable_everything()
    tables.fill(tables.mixed_shapes() if options.mixed else tables.tcp_shapes(), 0, options.flows)
    contender = ours.dump(ours.FLOW_BY_FLOW)
    for _ in range(options.rounds):
        timing = contender.run()
        print(f"{timing.wall / timing.count * 1e6:.2f} µs per flow", flush=True)
    floor.flush()


if __name__ == "__main__":
    main()
