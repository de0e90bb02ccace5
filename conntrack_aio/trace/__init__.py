"""The trace: every message that is sent and received, as text, for who looks for a fault.

docs/debugging.md says how to read it. Only ``switch`` is imported while nobody asks for it.
"""
