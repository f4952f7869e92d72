"""Quality checks of an experiment, one module each, all returning `Check`."""
