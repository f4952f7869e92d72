"""Weights of a running test move, from the YAML to the analysis."""

from datetime import timedelta
from pathlib import Path

import pytest

from klartext.analysis.estimate import Estimate
from klartext.app.service.catalogue import Catalogue
from klartext.app.session import Session
from klartext.app.usecases import allocation, analysis, registry
from klartext.app.usecases.allocation import Answer, Request, open_signer
from klartext.experiments import inbox
from klartext.experiments.flush import flush
from klartext.experiments.ingest import Writer
from klartext.experiments.records import EventRow, ExposureRow
from tests.app.letters import Clock

KEY = "mail-ab"
DAY = timedelta(days=1)


@pytest.fixture
def everybody(root: Path, session: Session) -> Path:
    """Replace the test by one with all units; its draft had not started for anybody."""
    path = root / "experiments" / "mail-ab.yaml"
    text = path.read_text().replace("traffic: 40%\n", "").replace("mail-ab", "all-ab")
    path.write_text(text.replace("audience: {country: [DE, AT]}\n", "").replace("mails", "all"))
    registry.apply(session, (path,), actor="lena")
    registry.move(session, "all-ab", "running", actor="lena")
    return path


def allocated(session: Session, clock: Clock, units: range) -> list[Answer]:
    signer = open_signer(session.workspace)
    catalogue = Catalogue(session, signer)
    catalogue.refresh()
    return [
        allocation.allocate(
            catalogue.servings["all-ab"],
            Request(f"customer-{number}"),
            pseudonymiser=session.pseudonymiser,
            signer=signer,
            now=clock(),
        )
        for number in units
    ]


def expose(session: Session, clock: Clock, answers: list[Answer], *, buys_every: int) -> None:
    """Expose units now; every so-manieth of a variant buys, in both variants alike."""
    rows: list[ExposureRow | EventRow] = []
    seen: dict[str, int] = {}
    for answer in answers:
        name = answer.allocation_id.encode()[-16:]
        unit, variant = answer.pseudonym, answer.served.variant
        version = answer.policy_version
        rows.append(ExposureRow(name, name, "all-ab", unit, variant, clock(), 500_000, version))
        seen[variant] = seen.get(variant, 0) + 1
        if seen[variant] % buys_every == 0:
            rows.append(EventRow(name, name, unit, "purchase", clock() + timedelta(hours=1)))
    with session.engine.begin() as connection:
        inbox.put(connection, rows, now=clock())


def test_from_the_yaml_to_the_analysis(session: Session, clock: Clock, everybody: Path) -> None:
    expose(session, clock, allocated(session, clock, range(3_000)), buys_every=10)
    waiting = allocated(session, clock, range(3_000, 3_200))  # mails that go out later
    clock.forward(DAY)
    text = everybody.read_text().replace("control, weight: 50%", "control, weight: 20%")
    everybody.write_text(text.replace("ai, weight: 50%", "ai, weight: 80%"))
    registry.apply(session, (everybody,), actor="lena")
    clock.forward(DAY)
    expose(session, clock, waiting, buys_every=2)
    expose(session, clock, allocated(session, clock, range(4_000, 7_000)), buys_every=2)
    clock.forward(3 * DAY)
    with session.engine.begin() as connection:
        inbox.mark_live(connection, clock())
    flush(Writer(session.engine, session.facts, session.now), lateness=timedelta(0))
    found = analysis.analyze(session, "all-ab")
    checks = {check.code: check for check in found.checks}
    assert (checks["srm"].severity, checks["two_variants"].severity) == ("ok", "ok")
    assert checks["split_regimes"].value == 2
    units = [count.mature for count in found.counts]
    assert sum(units) == 6_200
    expected = (3_200 * 0.5 + 3_000 * 0.2, 3_200 * 0.5 + 3_000 * 0.8)
    assert units == pytest.approx(expected, rel=0.05)
    conversion = next(result for result in found.metrics if result.metric == "conversion")
    method, estimate = conversion.estimates[0]
    assert method == "anytime"
    assert isinstance(estimate, Estimate)
    assert abs(estimate.value) < 0.01  # pooled, the treatment would look 10 points better
    pooled = (
        analysis.units(session, "all-ab")
        .group_by("variant")
        .aggregate(rate=lambda t: t.conversion.mean())
    )
    rates = dict(pooled.to_pyarrow().to_pydict().items())
    assert max(rates["rate"]) - min(rates["rate"]) > 0.05
    assert found.decision.verdict != "GO"
