"""Log every message that is sent and received, as text, to find faults.

- ``docs/debugging.md`` explains the text.
- While the trace is off, only the module ``switch`` is imported.
"""
