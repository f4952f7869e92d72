"""Adaptive allocation: policies and their updates from mature facts."""
