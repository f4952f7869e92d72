"""Benchmarks: ratios in one run, medians of interleaved pairs; never asserted as times."""
