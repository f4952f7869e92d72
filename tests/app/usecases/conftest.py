"""The workspace with a running bandit, for tests that ask for its fixtures."""

from tests.app.letters import clock, root, session

__all__ = ["clock", "root", "session"]
