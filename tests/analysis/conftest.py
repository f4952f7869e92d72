"""Property tests here do arithmetic; on a busy machine a deadline only makes them flaky."""

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
