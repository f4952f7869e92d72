"""PyMC's own sampler stands in where nutpie is missing."""

import sys

import pytest

from klartext.analysis.models.diagnostics import Shown
from klartext.analysis.models.sampling import Sampling
from klartext.analysis.models.segments import fit
from tests.analysis.models.test_segments import blocks


@pytest.mark.slow
def test_without_nutpie_pymc_draws_and_repeats_itself(
    models_extra: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nutpie", None)
    one, other = (
        fit(
            blocks(4, 1, unit=1.0),
            mean_prior_sd=1.0,
            scale_prior_sd=0.5,
            sampling=Sampling(9, draws=1500, chains=2),
            level=0.9,
        )
        for _ in range(2)
    )
    assert isinstance(one, Shown)
    assert one.sampler.startswith("pymc ")
    assert one == other
