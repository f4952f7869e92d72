"""The demo: a simulated shop whose data take the whole path, from YAML to the CFO's page."""
