"""x"""

from .asked import Asked
from .faults import Delayed
from .kernel import FakeKernel
from .sockets import FakeSocket

__all__ = ["Asked", "Delayed", "FakeKernel", "FakeSocket"]
