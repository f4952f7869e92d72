"""The whole path from files to verdicts, on real databases and Delta tables."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from scipy import stats

import klartext
from klartext.analysis.estimate import Estimate, Interval
from klartext.app.api import OpenWorkspace
from klartext.app.usecases import analysis, facts, registry
from klartext.experiments import audit
from klartext.experiments.batches import Source, finish, open_batch
from klartext.experiments.errors import ConflictError, NotFoundError, NotReadyError
from klartext.experiments.state import reading
from klartext.experiments.tables import looks, outbox
from tests.app.mails import DAY, START, Shop

EXAMPLES = Path(__file__).parents[3] / "examples"
MATURE = START + 40 * DAY


def test_a_gain_is_decided_recorded_and_audited(shop: Shop) -> None:
    shop.begin()
    shop.deliver(3000, lift=0.15, until=MATURE)
    before = analysis.analyze(shop.session, "mail")
    assert (before.decision.verdict, before.decision.variant) == ("GO", "ai")
    assert before.registered
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert (taken.look, taken.registered.status) == (1, "decided")
    with reading(shop.session.engine) as connection:
        row = connection.execute(sa.select(looks)).one()
        entries = audit.entries(connection, "mail")
        told = connection.execute(sa.select(outbox)).one()
        assert audit.verify(connection) is None
    assert (row.verdict, row.actor, row.taken_at) == ("GO", "lena.vogt", MATURE)
    assert row.spec_sha256 == taken.registered.sha256
    result = json.loads(row.result)
    assert result["schema"] == "klartext/analysis/v1"
    assert result["by_variant"][0]["decision"]["verdict"] == "GO"
    moments = json.loads(row.moments)["variants"]["ai"]
    assert moments["n"] == 1500
    assert len(moments["m2"]) == len(moments["columns"]) == len(moments["m3"])
    actions = [entry.action for entry in entries]
    assert actions[-3:] == ["look", "stop", "decide"]
    payload = json.loads(told.payload)
    assert (told.topic, payload["verdict"], payload["status"]) == ("decision", "GO", "decided")


def test_analyze_records_nothing(shop: Shop) -> None:
    shop.begin()
    shop.deliver(400, lift=0.1, until=MATURE)
    with reading(shop.session.engine) as connection:
        before = len(audit.entries(connection))
    analysis.analyze(shop.session, "mail")
    analysis.analyze(shop.session, "mail")
    with reading(shop.session.engine) as connection:
        assert len(audit.entries(connection)) == before
        assert connection.execute(sa.select(sa.func.count()).select_from(looks)).scalar() == 0


def test_an_import_that_was_broken_off_is_said(shop: Shop) -> None:
    """Its rows are seen as soon as a later import has ended; the others may be missing."""
    shop.begin()
    orders = Source("events", "orders.csv", "content", "mapping", "a", "latest")
    with shop.session.engine.begin() as connection:
        broken = open_batch(connection, orders, now=START + DAY)

    def said() -> list[str]:
        checks = analysis.analyze(shop.session, "mail").checks
        return [check.detail for check in checks if check.code == "interrupted_imports"]

    shop.deliver(400, lift=0.1, until=MATURE)
    assert said() == [f"rows may be missing: no end came of batch {broken} (orders.csv)"]
    with shop.session.engine.begin() as connection:
        repeated = open_batch(connection, orders, now=MATURE)
        finish(connection, repeated, complete_until=MATURE, now=MATURE)
    assert said() == []


def test_a_loss_stops_the_test(shop: Shop) -> None:
    shop.begin(cost="30")
    shop.deliver(3000, lift=0.0, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert (taken.analysis.decision.verdict, taken.registered.status) == ("STOP", "decided")
    with pytest.raises(ConflictError, match="mail is decided; there is nothing left to decide"):
        analysis.decide(shop.session, "mail", actor="lena.vogt")


def test_without_evidence_the_test_goes_on_and_every_look_is_kept(shop: Shop) -> None:
    shop.begin()
    shop.deliver(600, lift=0.0, until=START + 25 * DAY)
    for look in (1, 2):
        taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
        assert taken.analysis.decision.verdict == "CONTINUE"
        assert (taken.look, taken.registered.status) == (look, "running")


def test_immature_units_are_counted_and_not_read(shop: Shop) -> None:
    shop.begin()
    shop.deliver(600, lift=0.1, until=START + 22.5 * DAY)
    found = analysis.analyze(shop.session, "mail")
    counts = {count.variant: (count.exposed, count.mature) for count in found.counts}
    # Sent over 15 days; after 22.5 days the first half are 14 d + 1 d old.
    assert counts["ai"] == (300, 150)


def test_a_go_that_waits_for_approval_leaves_the_test_running(shop: Shop) -> None:
    shop.begin(rule=", approvals: {by: [cfo]}")
    shop.deliver(3000, lift=0.15, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert taken.analysis.decision.verdict == "GO_PENDING_APPROVAL"
    assert taken.registered.status == "running"


def test_one_deciding_look_in_fixed_mode(shop: Shop) -> None:
    shop.begin(mode="fixed", end="2026-12-31", rule=", approvals: {by: [cfo]}")
    shop.deliver(3998, lift=0.15, until=MATURE)
    early = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert early.analysis.decision.verdict == "CONTINUE"
    shop.deliver(4, lift=0.15, until=MATURE + DAY, seed=2)
    due = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert (due.look, due.analysis.decision.verdict) == (2, "GO_PENDING_APPROVAL")
    with pytest.raises(ConflictError, match="has taken its one deciding look"):
        analysis.decide(shop.session, "mail", actor="lena.vogt")


def test_a_test_that_ends_too_small_ends_without_evidence(shop: Shop) -> None:
    shop.begin(mode="fixed")
    shop.deliver(3998, lift=0.15, until=MATURE)
    taken = analysis.decide(shop.session, "mail", actor="lena.vogt")
    assert (taken.analysis.decision.verdict, taken.analysis.decision.rule) == (
        "STOP",
        "no_evidence",
    )


def test_nothing_can_be_analysed_before_there_are_facts(shop: Shop) -> None:
    shop.begin()
    with pytest.raises(NotReadyError, match="mail has no facts yet"):
        analysis.analyze(shop.session, "mail")
    with pytest.raises(NotFoundError, match="Did you mean 'mail'"):
        analysis.analyze(shop.session, "mial")


def test_a_draft_is_not_decided(shop: Shop) -> None:
    spec = shop.root / "experiments" / "mail.yaml"
    spec.write_text(shop.spec())
    registry.apply(shop.session, [spec], actor="lena.vogt")
    shop.deliver(40, lift=0.0, until=MATURE)
    with pytest.raises(NotReadyError, match="mail has not started"):
        analysis.decide(shop.session, "mail", actor="lena.vogt")


def test_python_gets_lazy_units_moments_and_frames(shop: Shop) -> None:
    shop.begin()
    shop.deliver(400, lift=0.1, until=MATURE)
    session = OpenWorkspace(shop.session.workspace, shop.session.now)
    assert [one.key for one in session.experiments()] == ["mail"]
    assert list(session.experiments().to_frame()["status"]) == ["running"]
    units = session.units("mail")
    assert units.count().execute() == 400
    moments = session.moments("mail")
    assert list(moments) == ["control", "ai"]
    assert len(moments) == 2
    frame = moments.to_frame().set_index(["variant", "column"])
    expected = units.filter(units.variant == "ai").to_pandas()
    assert frame.loc[("ai", "revenue"), "mean"] == pytest.approx(expected["revenue"].mean())
    assert frame.loc[("ai", "net"), "variance"] == pytest.approx(expected["net"].var())
    estimates = session.analyze("mail").to_frame()
    assert set(estimates["metric"]) == {"net", "conversion", "revenue"}
    welch = estimates.query("metric == 'revenue' and method == 'welch'").iloc[0]
    assert welch["lower"] < welch["value"] < welch["upper"]


@pytest.fixture(scope="module")
def hillstrom(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> OpenWorkspace:
    root = tmp_path_factory.mktemp("hillstrom")
    shutil.copytree(EXAMPLES / "hillstrom", root, dirs_exist_ok=True)
    key = root.parent / "hillstrom.key"
    settings = root / "klartext.yaml"
    settings.write_text(settings.read_text() + f"pseudonym_key: {key}\n")
    session = klartext.open(root)
    registry.apply(session, (), actor="lena.vogt")
    data = shared_data / "hillstrom" / "hillstrom.csv"
    (mapping,) = (root / "mappings").iterdir()
    facts.ingest(session, data, mapping)
    return session


def test_hillstrom(hillstrom: OpenWorkspace) -> None:
    """Reference: shared/data/README.md, computed with scipy and statsmodels."""
    found = hillstrom.analyze("hillstrom-mail")
    near = _near(5e-7)
    assert [count.mature for count in found.counts] == [21_306, 21_307, 21_387]
    assert found.checks[0].value == near(0.9036929576)
    estimates = {
        (m.metric, m.variant, name): estimate
        for m in found.metrics
        for name, estimate in m.estimates
        if isinstance(estimate, Estimate)
    }
    mens = estimates["spend", "mens", "welch"]
    assert mens.value == near(0.769827)
    assert _ends(mens.interval) == near((0.485140, 1.054515))
    assert mens.value / mens.std_error == near(5.300140)
    assert mens.p_value == pytest.approx(1.1638e-7, rel=1e-4)
    assert mens.valid_for_look
    womens = estimates["spend", "womens", "welch"]
    assert womens.value == near(0.424412)
    assert _ends(womens.interval) == near((0.168957, 0.679868))
    conversion = estimates["conversion", "mens", "wald"]
    assert conversion.value == _near(5e-9)(0.00680501)
    assert conversion.relative == _near(1e-5)(1.18842)
    newcombe = estimates["conversion", "mens", "newcombe"]
    assert _ends(newcombe.interval) == near((0.0050143447, 0.0086407234))
    assert found.treatments[0].unadjusted is not None
    window, _ = found.treatments[0].unadjusted
    assert window.cost == near(106.492449)
    assert window.incremental_margin == _near(5e-5)(16_402.7072)
    assert _ends(window.incremental_margin_interval) == _near(5e-5)((10_336.8723, 22_468.5421))
    assert window.roi == _near(5e-5)(153.0270)
    assert _ends(window.roi_interval) == _near(5e-5)((96.0667, 209.9872))
    assert window.incremental_conversions == _near(5e-5)(144.9943)
    assert window.cost_per_incremental_conversion == near(0.734460)
    assert window.break_even_cost_per_unit is not None
    assert found.treatments[1].unadjusted is not None
    second, _ = found.treatments[1].unadjusted
    assert second.cost == near(106.892289)
    assert _ends(second.roi_interval) == _near(5e-5)((32.8049, 135.0279))
    assert second.cost_per_incremental_conversion == near(1.606529)
    assert (found.decision.verdict, found.decision.variant) == ("GO", "mens")
    assert not found.registered
    assert found.rule_alpha == near(0.025)
    assert "human_review" in found.completeness.left_out


def test_hillstrom_money_is_adjusted_for_history(
    hillstrom: OpenWorkspace, shared_data: Path
) -> None:
    """Reference: the adjusted rows of the file, in numpy."""
    found = hillstrom.analyze("hillstrom-mail").treatments[0].window
    rows = pd.read_csv(shared_data / "hillstrom" / "hillstrom.csv")
    one, base = (
        rows[rows.segment == segment][["spend", "history"]].to_numpy(dtype=float)
        for segment in ("Mens E-Mail", "No E-Mail")
    )
    covariances = [np.cov(side.T) / len(side) for side in (one, base)]
    slope = sum(c[0, 1] for c in covariances) / sum(c[1, 1] for c in covariances)
    effect = np.subtract(*((side[:, 0] - slope * side[:, 1]).mean() for side in (one, base)))
    assert found.incremental_margin == pytest.approx(len(one) * effect, rel=1e-9)
    errors = [
        (side[:, 0] - slope * side[:, 1]).var(ddof=1)
        / len(side)
        * (len(side) - 1)
        / (len(side) - 2)
        for side in (one, base)
    ]
    reach = 1.96 * len(one) * math.sqrt(sum(errors))
    low, high = _ends(found.incremental_margin_interval)
    assert (high - low) / 2 == pytest.approx(reach, rel=1e-4)


def test_hillstrom_adjusted_for_history(hillstrom: OpenWorkspace) -> None:
    """Reference: shared/data/README.md for CUPED; statsmodels ``spend ~ t * history`` for Lin.

    A year's spend removes less than 0.1 % of the variance, and every output says so.
    """
    found = hillstrom.analyze("hillstrom-mail")
    results = {one.variant: one for one in found.metrics if one.metric == "spend"}
    references = {"mens": (0.7674802348, 0.767438), "womens": (0.4227135872, 0.422701)}
    for variant, (lin, cuped) in references.items():
        adjustment = results[variant].adjustment
        assert [name for name, _ in results[variant].estimates[:2]] == ["lin", "cuped"]
        estimates = dict(results[variant].estimates)
        for method, value in (("lin", lin), ("cuped", cuped)):
            found_value = estimates[method]
            assert isinstance(found_value, Estimate)
            assert found_value.value == _near(5e-7)(value)
        assert adjustment is not None
        assert adjustment.covariates == ("covariate.history",)
        assert adjustment.variance_removed == _near(1e-4)(0.0003)


def test_hillstrom_spend_per_visit(hillstrom: OpenWorkspace, shared_data: Path) -> None:
    """Reference: the delta method with numpy on the file itself."""
    rows = pd.read_csv(shared_data / "hillstrom" / "hillstrom.csv")
    found = hillstrom.analyze("hillstrom-mail")
    (result,) = [
        one for one in found.metrics if (one.metric, one.variant) == ("spend-per-visit", "mens")
    ]
    levels, variances = [], []
    for segment in ("Mens E-Mail", "No E-Mail"):
        units = rows[rows["segment"] == segment]
        level = units["spend"].sum() / units["visit"].sum()
        parts = (units["spend"] - level * units["visit"]) / units["visit"].mean()
        levels.append(level)
        variances.append(parts.var() / len(units))
    estimate = dict(result.estimates)["ratio"]
    assert isinstance(estimate, Estimate)
    assert result.is_money
    assert estimate.value == pytest.approx(levels[0] - levels[1], rel=1e-9)
    assert estimate.std_error == pytest.approx(sum(variances) ** 0.5, rel=1e-9)


def test_a_cap_takes_one_player_out_of_the_result_of_cookie_cats(
    tmp_path: Path, shared_data: Path
) -> None:
    """Reference: shared/data/README.md for the raw rounds; scipy on capped ones."""
    root = tmp_path / "cats"
    shutil.copytree(EXAMPLES / "cookie_cats", root)
    settings = root / "klartext.yaml"
    settings.write_text(settings.read_text() + f"pseudonym_key: {tmp_path / 'cats.key'}\n")
    session = klartext.open(root)
    registry.apply(session, (), actor="lena.vogt")
    data = shared_data / "cookie_cats" / "cookie_cats.csv"
    (mapping,) = (root / "mappings").iterdir()
    facts.ingest(session, data, mapping)
    (result,) = [
        one for one in session.analyze("cookie-cats-gate").metrics if one.metric == "rounds"
    ]
    estimates = dict(result.estimates)
    raw, capped = estimates["uncapped"], estimates["welch"]
    assert isinstance(raw, Estimate)
    assert isinstance(capped, Estimate)
    assert raw.value == _near(5e-7)(-1.157488)
    assert raw.p_value == _near(5e-7)(0.375924)
    rows = pd.read_csv(data)
    rounds = rows["sum_gamerounds"].clip(upper=3000)
    test = stats.ttest_ind(
        rounds[rows["version"] == "gate_40"],
        rounds[rows["version"] == "gate_30"],
        equal_var=False,
    )
    assert capped.p_value == pytest.approx(test.pvalue, rel=1e-9)
    assert capped.value > raw.value / 2


def test_a_finished_experiment_is_decided_and_starts_nothing(hillstrom: OpenWorkspace) -> None:
    taken = analysis.decide(hillstrom, "hillstrom-mail", actor="lena.vogt")
    assert taken.registered.status == "decided"
    assert taken.registered.started_at is None


def _ends(region: object) -> tuple[float, float]:
    assert isinstance(region, Interval)
    return region.lower, region.upper


def _near(tolerance: float) -> Callable[[object], object]:
    return lambda expected: pytest.approx(expected, abs=tolerance)
