"""Models without a closed form, drawn by PyMC: opt-in, gated, reproducible from a seed."""
