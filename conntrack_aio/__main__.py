"""``python -m conntrack_aio``."""

import sys

from .cli import main

sys.exit(main())
