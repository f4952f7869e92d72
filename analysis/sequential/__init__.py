"""Inference that stays valid at every look."""
