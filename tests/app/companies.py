"""A workspace with experiments of every fate: launched, lost, going on, abandoned, not started."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from klartext.app.usecases import analysis, facts, registry
from tests.app.mails import DAY, MAPPING, START, Shop

LIFTS = {"banner": 0.15, "chat": 0.02, "mail": 0.20, "ranking": -0.01, "search": 0.0, "voice": 0.01}
"""More share of buyers in the treatment; the control has 20 %."""
UNITS = 1500
COST = Decimal("0.10")
INVESTED = 300


def spec(key: str) -> str:
    """Return the YAML of an experiment with one-off cost and a budget."""
    lines = (
        f"lines: [{{category: engineering, amount: {INVESTED} EUR, per: once, variant: ai}}, "
        "{category: model_fees"
    )
    return (
        Shop.spec(cost=str(COST))
        .replace("key: mail", f"key: {key}")
        .replace("title: AI mails", f"title: AI for {key}")
        .replace("costs:\n  lines: [{category: model_fees", f"costs:\n  budget: 500 EUR\n  {lines}")
    )


def register(shop: Shop, key: str, *, text: str | None = None) -> None:
    """Describe and register an experiment."""
    path = shop.root / "experiments" / f"{key}.yaml"
    path.write_text(text or spec(key))
    registry.apply(shop.session, [path], actor="lena.vogt")


def run(shop: Shop, key: str, lift: float, *, seed: int) -> None:
    """Register and start an experiment, and deliver its units of fifteen days."""
    shop.instant = START - DAY
    register(shop, key)
    registry.move(shop.session, key, "running", actor="lena.vogt")
    table, mapping = shop.root / f"units-{seed}.csv", shop.root / f"mapping-{seed}.yaml"
    until = START + 40 * DAY
    rows = shop.rows(UNITS, lift=lift, seed=seed)
    table.write_text("\n".join(rows) + "\n")
    mapping.write_text(MAPPING.replace("UNTIL", until.isoformat()).replace("mail", key, 1))
    shop.instant = until
    facts.ingest(shop.session, table, mapping)


def found(shop: Shop) -> None:
    """Let six experiments run to a look, give one up, and leave one a draft."""
    for seed, (key, lift) in enumerate(LIFTS.items(), start=1):
        run(shop, key, lift, seed=seed)
    for key in LIFTS:
        analysis.decide(shop.session, key, actor="lena.vogt")
    shop.instant = START
    register(shop, "given-up")
    registry.move(shop.session, "given-up", "running", actor="lena.vogt")
    shop.instant = START + 10 * DAY
    registry.move(shop.session, "given-up", "abandoned", actor="lena.vogt", reason="no use")
    register(shop, "planned")
    shop.instant = START + 41 * DAY + timedelta(hours=1)
