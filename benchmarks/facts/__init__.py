"""From raw facts to a readout: our path beside hand-written SQL and other tools.

Run: ``python -m benchmarks.facts --help``.
"""
