"""Export what connection tracking knows to other systems: events, flow records and sums.

The package uses the public interface of :mod:`conntrack_aio` and nothing else of it.

- A **source** is an async iterator of batches of records (:mod:`.records`, :mod:`.sources`).
- A **sink** writes records to one destination (:mod:`.sinks`).
- An **exporter** reads a source and hands its records to several sinks (:mod:`.exporter`).
"""
