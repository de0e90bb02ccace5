"""Make the benchmarks importable from the checkout: they are not installed.

The checkout is appended to the path, so that an installed conntrack_aio is still the one tested.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
