"""Strict YAML documents: read with positions, checked against models, mistakes in plain words."""
