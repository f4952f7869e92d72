"""The shop of mails, for tests that ask for it."""

from tests.app.mails import shop

__all__ = ["shop"]
