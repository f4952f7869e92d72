"""One function per verb; command line, HTTP service and Python call the same ones."""
