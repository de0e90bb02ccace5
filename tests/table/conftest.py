"""What fills large tables is found in the checkout, as for the tests of the benchmarks."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
