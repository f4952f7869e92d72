"""Calibration: coverage, false alarms and power of the product's estimators, by simulation.

``python -m benchmarks.calibrate`` writes docs/calibration.md. A new method is one line in the
table ``METHODS`` of the module it belongs to; a new situation is one line in ``CELLS``.
"""
