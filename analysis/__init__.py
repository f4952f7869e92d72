"""Facts to verdict: moments, estimates, money and the decision."""
