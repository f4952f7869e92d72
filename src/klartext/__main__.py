"""``python -m klartext``: the same command line as ``klartext``."""

from klartext.app.cli import main

if __name__ == "__main__":
    main()
