"""plan and aa: from facts to text, JSON and page; nothing is recorded; bad input is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from klartext.experiments.state import reading
from klartext.experiments.tables import metadata
from tests.app.conftest import Ran, Run
from tests.app.mails import DAY, START, Shop

UNTIL = START + 40 * DAY


@pytest.fixture
def history(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """Return a workspace with a finished test of 1,200 mails over 15 days."""
    shop.begin()
    shop.deliver(1200, lift=0.0, until=UNTIL)
    monkeypatch.chdir(shop.root)
    monkeypatch.setenv("COLUMNS", "200")
    return shop


def rows(shop: Shop) -> dict[str, list[tuple[object, ...]]]:
    with reading(shop.session.engine) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(table.select())]
            for table in metadata.sorted_tables
        }


def ok(ran: Ran) -> Ran:
    assert ran.status == 0, ran.err
    return ran


def test_a_plan_from_an_earlier_test(history: Shop, run: Run) -> None:
    before = rows(history)
    ran = ok(run("plan", "mail", "--like", "mail", "--lift", "revenue=10%", "--json"))
    found = ran.json
    assert found["schema"] == "klartext/plan/v1"
    assert found["history"]["kind"] == "like"
    assert found["history"]["units"] == 600
    assert found["units_per_day"] == pytest.approx(1200 / 15, rel=1e-2)
    conversion = next(one for one in found["questions"] if one["key"] == "conversion")
    assert conversion["baseline"] == pytest.approx(0.2, abs=0.06)
    assert found["lead"] == "net_benefit"
    assert found["stakes"]["cost_per_unit"] == pytest.approx(0.1)
    assert found["size_from"] == "spec"
    assert "total_units" in found["spec"]
    assert rows(history) == before


def test_the_lines_it_prints_are_a_valid_spec(history: Shop, run: Run) -> None:
    ran = ok(run("plan", "mail", "--like", "mail", "--lift", "revenue=20%"))
    lines = ran.out[ran.out.index("plan:\n") :]
    spec = history.spec()
    before, after = spec.split("plan: {total_units: 4000, latest_end: 2026-03-31}\n")
    path = history.root / "new.yaml"
    path.write_text(before.replace("key: mail", "key: next") + lines + after)
    assert ok(run("validate", str(path))).out


def test_a_plan_from_seen_units(history: Shop, run: Run) -> None:
    # deliveries of unit tables count their outcomes at the exposure: those seen by then
    ran = ok(run("plan", "mail", "--history", "28d", "--at", "2026-03-10", "--json"))
    found = ran.json
    assert found["history"]["kind"] == "seen"
    assert found["history"]["units"] > 50
    assert found["stakes"]["cost_per_unit"] == pytest.approx(0.1)
    seen = ok(run("plan", "mail", "--seen", "revenue", "--at", "2026-03-10", "--json")).json
    assert seen["history"]["event"] == "revenue"
    assert seen["history"]["units"] <= found["history"]["units"]


def test_a_plan_of_a_file_from_numbers_alone(workspace: Path, run: Run) -> None:
    arguments = (
        "plan", "experiments/mail.yaml", "--baseline", "conversion=6%", "--lift", "conversion=10%",
        "--units-per-day", "1500", "--json",
    )  # fmt: skip
    found = ok(run(*arguments)).json
    assert found["history"] is None
    # 20 EUR a conversion make a margin of 1.20 EUR, with the sd of the rate times 20
    assert found["stakes"]["margin_per_unit"] == pytest.approx(1.2)
    assert found["stakes"]["net_sd_per_unit"] == pytest.approx(20 * (0.06 * 0.94) ** 0.5)
    assert found["questions"][1]["given"]


def test_text_and_page_in_both_languages(history: Shop, run: Run) -> None:
    for language, word in (("en", "units are enough to show"), ("de", "Einheiten genügen")):
        page = history.root / f"plan-{language}.html"
        arguments = ("--like", "mail", "--lift", "revenue=10%", "--language", language)
        ran = ok(run("plan", "mail", *arguments, "--html", str(page)))
        assert word in ran.out
        assert "█" in ran.out
        html = page.read_text(encoding="utf-8")
        assert f'<html lang="{language}">' in html
        assert "default-src &#39;none&#39;" in html
        assert "<script" not in html
        assert html.count('<svg class="plot wide"') == 2
        assert word in html


def test_one_week_is_no_weeks(history: Shop, run: Run) -> None:
    arguments = ("--like", "mail", "--lift", "revenue=20%", "--units-per-day", "1000000")
    for language, said in (("en", "takes 1 week of enrolment"), ("de", "die Aufnahme 1 Woche;")):
        ran = ok(run("plan", "mail", *arguments, "--language", language))
        assert said in " ".join(ran.out.split())


def test_every_mode(history: Shop, run: Run) -> None:
    for mode in ("fixed", "anytime", "group_sequential"):
        looks = () if mode == "fixed" else ("--looks", "5")
        found = ok(run("plan", "mail", "--like", "mail", "--mode", mode, *looks, "--json")).json
        assert (found["mode"], found["looks"]) == (mode, 5 if looks else 1)


def test_numbers_win_over_history(history: Shop, run: Run) -> None:
    arguments = (
        "plan", "mail", "--like", "mail", "--baseline", "revenue=7,sd=21,removed=30%",
        "--baseline", "margin=3,sd=9", "--cost-per-unit", "0.5", "--weeks", "2", "--json",
    )  # fmt: skip
    found = ok(run(*arguments)).json
    revenue = next(one for one in found["questions"] if one["key"] == "revenue")
    assert (revenue["baseline"], revenue["sd"]) == (7, 21)
    assert revenue["variance_removed"] == pytest.approx(0.3)
    assert found["stakes"]["margin_per_unit"] == 3
    assert found["stakes"]["cost_per_unit"] == 0.5
    assert found["size_from"] == "weeks"


BASKET = "  - {key: basket, kind: quantile, event: revenue, quantile: 50%}\n"
CALLS = """\
schema: klartext/mapping/v1
kind: usage
source: gateway
id: [call]
experiment: mail
variant: {constant: ai}
unit: customer
time: at
model: model
input_tokens: tokens
output_tokens: tokens
duration_ms: ms
"""


def question(document: Any, kind: str, key: str) -> Any:
    return next(one for one in document["questions"] if (one["kind"], one["key"]) == (kind, key))


def test_quantiles_and_ai_metrics(shop: Shop, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.root)
    shop.begin()
    shop.deliver(5000, lift=0.0, until=UNTIL)
    spec = (
        shop.spec()
        .replace("key: mail\n", "key: next\n")
        .replace(
            "value: ", "  - {key: basket, kind: quantile, event: revenue, quantile: 50%}\nvalue: "
        )
    )
    spec += "guardrails: [{metric: ai.latency_p50, at_most: 1500}]\n"
    path = shop.root / "next.yaml"
    path.write_text(spec)
    asked = ("plan", "next.yaml", "--like", "mail", "--lift", "basket=10%", "--json")
    found = ok(run(*asked)).json
    basket = question(found, "metric", "basket")
    # one purchase in five units, exponential with mean 50: 50^2 per purchase, 5 times per unit;
    # 500 purchases know it with 20 % (see docs/planning.md), so within three of those
    assert basket["baseline"] == pytest.approx(50 * math.log(2), abs=3 * 50 / 500**0.5)
    assert basket["sd"] ** 2 == pytest.approx(5 * 2500, rel=0.65)
    assert basket["needed"]["total_units"] > 10_000
    silent = question(found, "guardrail", "ai.latency_p50")
    assert silent["baseline"] is None
    assert "no-call-history" in str(silent)
    assert "no AI calls of this variant" in ok(run(*asked[:-1])).out

    given = ("--baseline", "ai.latency_p50=1000,sd=10000", "--mode", "fixed")
    typed = question(ok(run(*asked, *given)).json, "guardrail", "ai.latency_p50")
    # (1.96 + 0.84)^2 10,000^2 / 500^2 treated units, and as many in the control
    assert typed["needed"]["total_units"] == pytest.approx(2 * 7.8489 * 400, abs=3)

    rng = np.random.default_rng(3)
    at = (START + 15 * DAY).isoformat()
    rows = ["call,customer,at,model,tokens,ms"] + [
        f"{unit}-{k},c1-{unit},{at},house,10,{rng.exponential(1000):.3f}"
        for unit in range(1, 5000, 2)
        for k in range(2)
    ]
    (shop.root / "calls.csv").write_text("\n".join(rows) + "\n")
    (shop.root / "calls.yaml").write_text(CALLS)
    (shop.root / "prices.yaml").write_text(
        "schema: klartext/prices/v1\n"
        "prices:\n  - {model: house, per_million: {input: 2 EUR, output: 8 EUR}}\n"
    )
    ok(run("costs", "import", "calls.csv", "-m", "calls.yaml"))
    document = ok(run(*asked, "--mode", "fixed", "--lift", "ai.error_rate=-10%")).json
    called = question(document, "guardrail", "ai.latency_p50")
    # two independent calls in each treated unit, exponential: 1000^2 / 2 per unit; known with 12 %
    assert called["baseline"] == pytest.approx(1000 * math.log(2), rel=0.1)
    assert called["sd"] ** 2 == pytest.approx(1000**2 / 2, rel=0.36)
    assert called["needed"]["total_units"] > 0
    # the control made none to compare with
    assert "no-call-history" in str(question(document, "metric", "ai.error_rate"))


BAD_PLANS: tuple[tuple[tuple[str, ...], str, int], ...] = (
    (("--lift", "revenu=3%"), "Did you mean 'revenue'?", 2),
    (("--lift", "revenue=3"), "no percent sign", 2),
    (("--lift", "revenue"), "not of the form", 2),
    (("--lift", "revenue=3%", "--lift", "revenue=4%"), "given twice", 2),
    (("--baseline", "revenue=3"), "standard deviation", 2),
    (("--baseline", "revenue=3,sd=0"), "without variation", 2),
    (("--baseline", "revenue=3,sb=2"), "'sb' is unknown", 2),
    (("--baseline", "conversion=-1%"), "between 0% and 100%", 2),
    (("--baseline", "clicks=3,sd=2"), "no metric 'clicks'", 2),
    (("--history", "28"), "must be a duration", 2),
    (("--history", "0d"), "must be longer than 0", 2),
    (("--at", "yesterday"), "must be a date", 2),
    (("--at", "2026-04-09"), "are not mature", 3),
    (("--at", "2020-01-01"), "no unit had an event", 3),
    (("--seen", "login"), "no unit had an event 'login'", 3),
    (("--like", "mail", "--history", "28d"), "do not go with it", 2),
    (("--like", "mails"), "mail", 2),
    (("--units", "10", "--weeks", "2"), "give one of them", 2),
    (("--units", "1"), "must lie between 2", 2),
    (("--units-per-day", "0"), "must be above 0", 2),
    (("--cost-per-unit", "nan"), "cost per unit is nan: must lie between", 2),
    (("--cost-per-unit", "1e300"), "cost per unit is 1e+300: must lie between", 2),
    (("--power", "100%"), "must lie between", 2),
    (("--power", "0.8"), "no percent sign", 2),
    (("--alpha", "60%"), "must lie between 0% and 50%", 2),
    (("--looks", "0"), "looks are 0", 2),
    (("--looks", "401"), "between 1 and 400 (anytime)", 2),
    (("--mode", "group_sequential", "--looks", "21"), "between 1 and 20 (group_sequential)", 2),
    (("--mode", "fixed", "--looks", "3"), "one look", 2),
    (("--treatment", "robot"), "it has ai", 2),
    (("--html", "nowhere/plan.html"), "not a folder", 2),
)


def test_bad_requests(history: Shop, run: Run) -> None:
    for arguments, says, status in BAD_PLANS:
        ran = run("plan", "mail", *arguments)
        assert (ran.status, ran.out) == (status, ""), arguments
        assert says in ran.err, arguments
        assert "Traceback" not in ran.err, arguments


def test_no_facts_at_all(workspace: Path, run: Run) -> None:
    ran = run("plan", "mail-subject")
    assert ran.status == 3
    assert "--baseline" in ran.err
    ran = run("aa", "mail-subject")
    assert ran.status == 3
    assert "no facts" in ran.err


def test_aa_of_the_real_units(history: Shop, run: Run) -> None:
    before = rows(history)
    ran = run("aa", "mail", "--repeats", "60", "--looks", "3", "--seed", "5", "--json")
    assert ran.status == 0, ran.out
    found = ran.json
    assert found["schema"] == "klartext/aa/v1"
    assert (found["units"], found["repeats"], found["looks"]) == (1200, 60, 3)
    methods = {(one["metric"], one["method"]) for one in found["rates"]}
    assert {("revenue", "anytime"), ("revenue", "welch"), ("conversion", "newcombe")} <= methods
    assert (
        run("aa", "mail", "--repeats", "60", "--looks", "3", "--seed", "5", "--json").json == found
    )
    assert rows(history) == before


def test_aa_as_text_and_on_history(history: Shop, run: Run) -> None:
    ran = run("aa", "mail", "--repeats", "20", "--history", "28d", "--at", "2026-03-10")
    assert ran.status == 0, ran.err
    assert "1 look each" in ran.out
    assert "AT THE END" in ran.out


def test_bad_aa_requests(history: Shop, run: Run) -> None:
    for arguments, says in (
        (("--repeats", "0"), "repeats is 0"),
        (("--looks", "0"), "looks is 0"),
        (("--seed", "-1"), "seed is -1"),
        (("--like", "nobody"), "nobody"),
    ):
        ran = run("aa", "mail", *arguments)
        assert ran.status == 2
        assert says in ran.err


def test_an_experiment_without_mature_units(history: Shop, run: Run) -> None:
    text = history.spec().replace("key: mail", "key: other")
    path = history.root / "experiments" / "other.yaml"
    path.write_text(text)
    assert run("aa", "other").status == 3
