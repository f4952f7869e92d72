"""A job that a thread repeats until it is stopped."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger("klartext.service")


class Periodic:
    """Runs ``action`` every ``interval_s`` seconds; an error is logged and the next run goes on."""

    def __init__(self, name: str, action: Callable[[], object], *, interval_s: float) -> None:
        self._name = name
        self._action = action
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"klartext-{name}")

    def start(self) -> None:
        """Start; the first run is one interval from now."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the run that is under way."""
        self._stopped.set()
        self._thread.join()

    def once(self) -> None:
        """Run now, in the caller's thread."""
        try:
            self._action()
        except Exception:  # noqa: BLE001 - edge of the thread: a failed run must not end the job
            _log.exception("%s failed", self._name)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self.once()
