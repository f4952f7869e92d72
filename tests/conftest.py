"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

# On a busy machine a deadline only makes property tests flaky.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real data that may not be committed; skips the test when it is missing."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real data not found: ../shared/data beside the clone is needed for this test")
    return SHARED_DATA
