"""Assumptions as they are typed."""

from __future__ import annotations

from decimal import Decimal

import pytest

from klartext.experiments.errors import ConflictError, KlartextError, NotFoundError
from klartext.experiments.spec.input_values import read_values
from tests.experiments.test_inputs import SPEC

D = Decimal
MARGIN = "value.revenue.contribution_margin"


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([f"{MARGIN}=38%"], {MARGIN: D("0.38")}),
        (["costs.qa.amount=12.50 EUR"], {"costs.qa.amount": D("12.5")}),
        (["value.conversion.worth=-7 EUR"], {"value.conversion.worth": D(-7)}),
        (["value.texte-bilder.hours=7.5"], {"value.texte-bilder.hours": D("7.5")}),
        (["rollout.units_per_year=400000"], {"rollout.units_per_year": D(400_000)}),
        (
            [f" rollout.persistence = 50% ,{MARGIN}=40% ", "rollout.discount_rate=12.5%"],
            {
                "rollout.persistence": D("0.5"),
                MARGIN: D("0.4"),
                "rollout.discount_rate": D("0.125"),
            },
        ),
    ],
)
def test_values_are_written_as_in_the_spec(texts: list[str], expected: dict[str, D]) -> None:
    found = read_values(SPEC, texts)
    assert found == expected
    assert list(found) == list(expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no assumption"),
        (MARGIN, "is no assumption"),
        (f"{MARGIN}=", "is no assumption"),
        ("=38%", "is no assumption"),
        (f"{MARGIN}=38%,", "is no assumption"),
        (f"{MARGIN}=0.38", "must be a percentage"),
        (f"{MARGIN}=38", "must be a percentage"),
        (f"{MARGIN}==38%", "must be a percentage"),
        ("costs.qa.amount=12", "must be an amount of money"),
        ("costs.qa.amount=12 USD", "must be in the reporting currency EUR"),
        ("value.texte-bilder.hours=many", "must be a number"),
        ("value.texte-bilder.hours=NaN", "must be a number"),
        ("value.texte-bilder.hours=sNaN", "must be a number"),
        ("value.texte-bilder.hours=1e400", "must be a number"),
        ("value.texte-bilder.hours=1e999999", "must be a number"),
        ("value.texte-bilder.hours=1e-999999", "must be a number"),
        ("rollout.units_per_year=1e999999", "must be a whole number of at most"),
        ("rollout.units_per_year=1000000000001", "must be a whole number of at most"),
        ("rollout.units_per_year=1.5", "must be a whole number"),
        ("rollout.units_per_year=NaN", "must be a whole number"),
        (f"{MARGIN}=38%,{MARGIN}=39%", "is given twice"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(KlartextError, match=message):
        read_values(SPEC, [text])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{MARGIN}=142%", "lies between 0% and 100%"),
        ("rollout.units_per_year=0", "at least 1"),
        (f"{MARGIN}=42%", "is 42% already"),
        (f"{MARGIN}=42.00%", "already"),
        ("inference.alpha=10%", "error rate"),
    ],
)
def test_what_the_input_cannot_have_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConflictError, match=message):
        read_values(SPEC, [text])


def test_one_bad_of_several_refuses_all() -> None:
    with pytest.raises(NotFoundError, match=r"Did you mean rollout\.share"):
        read_values(SPEC, ["rollout.persistence=50%", "rollout.sahre=10%"])
