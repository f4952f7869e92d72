"""The experiment as written: strict YAML, resolved to an `Experiment` and its canonical form.

`loading` reads YAML and needs pydantic; `canonical` and `resolved` are light, so that reading
back what is registered stays quick.
"""
