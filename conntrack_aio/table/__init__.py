"""The live table: a mirror of the kernel's table, updated by events and by reconciliations.

- ``flow_table``: the public class. ``changes``: the iterators over its changes.
- ``mirror``: what an event, a dumped entry or a look-up changes. It has no I/O, and is based on
  ``matching_entries``, ``entry_index``, ``merging``, ``dump_state``, ``discrepancies`` and
  ``expiry``.
- ``synchronizer``: the tasks that update the mirror, which are in ``event_follower``,
  ``reconciler`` and ``unreported_changes``.
- ``kernel_table``: the requests to the kernel.
"""
