"""The verbs of Klartext and the ways to call them: command line, HTTP, Python."""
