"""The benchmarks are no part of what is installed: they are found in the checkout.

Behind all else on the path, so that an installed conntrack_aio stays the one that is tested.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
