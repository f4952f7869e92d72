"""What tests of models need: the extra, or a clear reason why they are skipped."""

import importlib.util

import pytest


@pytest.fixture(scope="session")
def models_extra() -> None:
    """Skip the test where the models extra is not installed."""
    for name in ("pymc", "arviz"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f'{name} is not installed: pip install "klartext[models]" to run this test')
