"""Workspaces for tests that ask for them: one with a running bandit, and the shop of mails."""

from tests.app.letters import clock, root, session
from tests.app.mails import shop

__all__ = ["clock", "root", "session", "shop"]
