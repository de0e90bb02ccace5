"""What the library costs, beside a loop that looks at nothing, and beside other libraries.

See README.md in this folder. ``timing`` and ``report`` know nothing of conntrack; ``tables`` fills
the kernel's; ``contenders`` are what is timed, ``figures`` what is asked of them, and each figure
runs in a process and a network namespace of its own (``isolation``).
"""
