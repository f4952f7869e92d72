"""The portfolio of a real workspace: every experiment is in it, once, with all of its cost."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path

import pytest
import sqlalchemy as sa

from klartext.analysis.estimate import Interval, NotEstimable
from klartext.analysis.portfolio import Portfolio
from klartext.analysis.portfolio_document import to_json
from klartext.analysis.winners_curse import Corrected, CorrectedSum
from klartext.app.usecases import analysis, facts, registry
from klartext.app.usecases.portfolio import portfolio, write
from klartext.experiments import audit
from klartext.experiments.state import reading
from klartext.experiments.tables import experiment_versions, looks
from tests.app import companies
from tests.app.mails import DAY, MAPPING, START, Shop

WINNERS = {"banner", "mail"}


def looks_taken(shop: Shop) -> int:
    with reading(shop.session.engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(looks)).scalar_one()


def numbers(found: Portfolio) -> tuple[Corrected, CorrectedSum]:
    assert isinstance(found.corrected, Corrected)
    assert isinstance(found.corrected.launched, CorrectedSum)
    return found.corrected, found.corrected.launched


def test_every_experiment_counts_once_with_all_of_its_cost(shop: Shop, tmp_path: Path) -> None:
    companies.found(shop)
    taken = looks_taken(shop)
    written = write(shop.session, tmp_path / "portfolio.html", language="en")
    found = written.portfolio

    by_key = {entry.key: entry for entry in found.entries}
    assert list(by_key) == sorted([*companies.LIFTS, "given-up", "planned"])
    assert found.unreadable == ()
    assert {key for key, entry in by_key.items() if entry.launched} == WINNERS
    # 750 treated units at 0.10 EUR and 300 EUR once, lost or not; the abandoned one lost its
    # 300 EUR before the first unit, the draft has spent nothing
    for key in companies.LIFTS:
        assert by_key[key].outlay.total == Decimal(375)
        assert by_key[key].outlay.variable == Decimal(75)
    assert by_key["given-up"].status == "abandoned"
    assert by_key["given-up"].outlay.total == Decimal(300)
    assert by_key["planned"].outlay.total == Decimal(0)
    assert found.cost == Decimal(6 * 375 + 300)
    assert (found.budgeted, found.budget) == (Decimal(450), Decimal(4000))

    # naive sums are those of the recorded looks
    recorded = {}
    for key in companies.LIFTS:
        with reading(shop.session.engine) as connection:
            text = connection.execute(
                sa.select(looks.c.result).where(looks.c.experiment == key)
            ).scalar_one()
        (recorded[key],) = json.loads(text)["by_variant"]
    outlook = {key: one["outlook"]["net_benefit"] for key, one in recorded.items()}
    assert found.naive == pytest.approx(sum(outlook[key] for key in WINNERS))
    assert found.tests.net_benefit == pytest.approx(
        math.fsum(one["net_benefit"] for one in recorded.values())
    )
    corrected, launched = numbers(found)
    assert corrected.experiments == len(companies.LIFTS)
    assert set(corrected.launches) == WINNERS
    for key in WINNERS:
        assert corrected.launches[key].naive == pytest.approx(outlook[key])
    assert launched.interval.lower < launched.value < launched.naive

    # the ROI is one ratio of sums: all that was spent, and what 100,000 units a year will cost
    # at 0.10 EUR for each of the two launches
    assert not isinstance(found.result, NotEstimable)
    assert found.result.cost == pytest.approx(2550 + 2 * 10_000)
    assert found.result.charged == pytest.approx(2550)
    assert found.result.value == pytest.approx(corrected.whole.value - 2550)
    assert found.result.roi == pytest.approx(found.result.value / found.result.cost)
    margins = math.fsum(one["incremental_margin"] for one in recorded.values())
    assert found.result.naive == pytest.approx(launched.naive + margins - 2550)

    # nobody looked, and the page and the document say the same
    assert looks_taken(shop) == taken
    page = written.path.read_text(encoding="utf-8")
    for key in by_key:
        assert key in page
    document = to_json(found)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["schema"] == "klartext/portfolio/v1"


def test_a_workspace_without_experiments(shop: Shop) -> None:
    found = portfolio(shop.session)
    assert found.entries == ()
    assert found.cost == 0
    assert isinstance(found.naive, NotEstimable)
    assert isinstance(found.corrected, NotEstimable)
    assert isinstance(found.result, NotEstimable)
    assert to_json(found)["experiments"] == []


def test_one_winner_is_too_few_to_know_its_luck(shop: Shop) -> None:
    companies.run(shop, "mail", 0.20, seed=3)
    analysis.decide(shop.session, "mail", actor="lena.vogt")
    found = portfolio(shop.session)
    assert isinstance(found.naive, float)
    assert isinstance(found.corrected, NotEstimable)
    assert found.corrected.reason == "too-few-experiments"
    assert isinstance(found.result, NotEstimable)
    assert found.cost == Decimal(375)


def test_a_broken_experiment_is_named_and_the_others_are_summed(shop: Shop) -> None:
    companies.run(shop, "mail", 0.20, seed=3)
    analysis.decide(shop.session, "mail", actor="lena.vogt")
    companies.run(shop, "other", 0.0, seed=4)
    analysis.decide(shop.session, "other", actor="lena.vogt")
    shop.instant = START
    companies.register(shop, "altered")
    with shop.session.engine.begin() as connection:
        connection.execute(sa.update(looks).where(looks.c.experiment == "other").values(result="{"))
        connection.execute(
            sa.update(experiment_versions)
            .where(experiment_versions.c.key == "altered")
            .values(canonical="{}")
        )
    found = portfolio(shop.session)
    assert [entry.key for entry in found.entries] == ["mail"]
    why = {one.key: one.detail for one in found.unreadable}
    assert "altered by hand" in why["altered"]
    assert "look 1 cannot be read back" in why["other"]
    assert found.cost == Decimal(375)


def test_other_currencies_are_converted_or_refused(shop: Shop) -> None:
    shop.instant = START
    companies.register(shop, "euros")
    registry.move(shop.session, "euros", "running", actor="lena.vogt")
    registry.move(shop.session, "euros", "abandoned", actor="lena.vogt", reason="moved")
    settings = shop.root / "klartext.yaml"
    settings.write_text(settings.read_text() + "currency: USD\n")
    moved = Shop(shop.root, START + DAY)
    (refused,) = portfolio(moved.session).unreadable
    assert refused.key == "euros"
    assert "is in EUR and cannot be added to USD" in refused.detail
    day = (START + DAY).date().isoformat()
    (shop.root / "rates.csv").write_text(f"date,currency,rate\n{day},USD,1.10\n")
    found = portfolio(Shop(shop.root, START + DAY).session)
    (entry,) = found.entries
    assert entry.outlay.total == Decimal(330)  # 300 EUR at 1.10 USD each
    assert found.currency == "USD"
    assert "1.10 USD per EUR" in entry.exchange


def test_a_hold_out_from_files_answers_what_all_ai_brings(shop: Shop, tmp_path: Path) -> None:
    shop.instant = START - DAY
    programme = Shop.spec(cost="0.00").replace("rollout: {units_per_year: 100000}\n", "")
    lines = "costs:\n  lines: [{category: model_fees, amount: 0.00 EUR, per: unit, variant: ai}]\n"
    text = programme.replace(lines, "scope: programme\n").replace("key: mail", "key: all-ai")
    companies.register(shop, "all-ai", text=text)
    registry.move(shop.session, "all-ai", "running", actor="lena.vogt")
    shop.instant = START
    companies.register(shop, "mail")
    registry.move(shop.session, "mail", "running", actor="lena.vogt")
    table, mapping = tmp_path / "units.csv", tmp_path / "mapping.yaml"
    table.write_text("\n".join(shop.rows(3000, lift=0.1, seed=1)) + "\n")
    until = START + 40 * DAY
    mapping.write_text(
        MAPPING.replace("UNTIL", until.isoformat()).replace(
            "experiment: mail", "experiment: all-ai"
        )
    )
    shop.instant = until
    facts.ingest(shop.session, table, mapping)
    taken = analysis.decide(shop.session, "all-ai", actor="lena.vogt")
    (treatment,) = taken.analysis.treatments

    found = portfolio(shop.session)
    (said,) = found.programmes
    assert [entry.key for entry in found.entries] == ["mail"]
    net = treatment.window.net_benefit
    assert not isinstance(net, NotEstimable)
    assert said.net_benefit == pytest.approx(net)
    assert said.stated == pytest.approx(300.0)  # what mail says it cost once; all units are mature
    assert not isinstance(said.value, NotEstimable)
    assert said.value == pytest.approx(net - 300)
    interval = treatment.window.net_benefit_interval
    assert isinstance(interval, Interval)
    assert isinstance(said.value_interval, Interval)
    assert said.value_interval.lower == pytest.approx(interval.lower - 300)
    document = to_json(found)
    assert document["programmes"][0]["net_of_all_cost"] == pytest.approx(said.value)  # type: ignore[index,call-overload]


def test_the_portfolio_is_no_audited_action(shop: Shop) -> None:
    shop.instant = START
    companies.register(shop, "planned")
    with reading(shop.session.engine) as connection:
        before = len(list(audit.entries(connection)))
    portfolio(shop.session)
    with reading(shop.session.engine) as connection:
        assert len(list(audit.entries(connection))) == before
