"""Allocation without HTTP: a hundred thousand units, their shares, and the same after a restart."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from scipy import stats

from klartext.app.service.catalogue import Catalogue
from klartext.app.session import Session, open_session
from klartext.app.usecases import allocation
from klartext.app.usecases.allocation import AllocationError, Request, Serving, open_signer
from klartext.experiments.assignment import bucket_of
from tests.app.letters import Clock

KEY = "subject-bandit"
UNITS = [f"customer-{number}" for number in range(100_000)]


def serving(session: Session) -> Serving:
    catalogue = Catalogue(session, open_signer(session.workspace))
    catalogue.refresh()
    return catalogue.servings[KEY]


def served(session: Session, units: list[str]) -> list[tuple[str, int | None]]:
    """Return variant and propensity of each unit, as the signed ids say."""
    prepared, signer = serving(session), open_signer(session.workspace)
    answers = [
        allocation.allocate(
            prepared,
            Request(unit),
            pseudonymiser=session.pseudonymiser,
            signer=signer,
            now=session.now(),
        )
        for unit in units
    ]
    assert all(answer.served.reason == "assigned" for answer in answers)
    return [
        (proof.variant, proof.propensity)
        for proof in (signer.verify(answer.allocation_id) for answer in answers)
    ]


def test_a_hundred_thousand_units_get_the_weights_and_keep_their_variant(
    session: Session, root: Path, clock: Clock
) -> None:
    first = served(session, UNITS)
    shares = Counter(variant for variant, _ in first)
    weights = {"control": 0.5, "short": 0.3, "long": 0.2}
    observed = [shares[key] for key in weights]
    expected = [weight * len(UNITS) for weight in weights.values()]
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    for variant, propensity in first:
        assert propensity == weights[variant] * 1_000_000
    restarted = replace(open_session(root), now=clock)
    assert served(restarted, UNITS[:20_000]) == first[:20_000]


def test_proof_recomputes_the_bucket_from_the_unit(session: Session) -> None:
    signer = open_signer(session.workspace)
    answer = allocation.allocate(
        serving(session),
        Request("customer-7"),
        pseudonymiser=session.pseudonymiser,
        signer=signer,
        now=session.now(),
    )
    proof = signer.verify(answer.allocation_id)
    assert proof.bucket == bucket_of(KEY, "customer-7")
    assert serving(session).split.variant(proof.bucket) == proof.variant


def test_unknown_forced_variant_is_refused(session: Session) -> None:
    with pytest.raises(AllocationError, match="control, short, long"):
        allocation.allocate(
            serving(session),
            Request("u", force="nobody"),
            pseudonymiser=session.pseudonymiser,
            signer=open_signer(session.workspace),
            now=session.now(),
        )


def test_signing_key_lies_beside_the_pseudonym_key_for_its_owner_only(session: Session) -> None:
    open_signer(session.workspace)
    beside = session.workspace.key_file.with_name("letters.signing.key")
    assert beside.stat().st_mode & 0o777 == 0o600
    assert session.pseudonymiser.unit("u") != 0
    assert beside.read_bytes() != session.workspace.key_file.read_bytes()
    assert open_signer(session.workspace) == open_signer(session.workspace)
