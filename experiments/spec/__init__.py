"""The experiment as written: strict YAML, resolved to an `Experiment` and its canonical form."""
