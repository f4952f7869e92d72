"""The curves of a plan: what each size shows, and how surely each effect is shown."""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Literal

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.proposal import Proposal
from klartext.reports.figures import Axis, Curve, Level, Tick, axis, nice_ticks
from klartext.reports.language import Locale

_MOST = 5.0
"""A lift above this many times the smallest one shown is left out: it would flatten the rest."""


def by_size(proposal: Proposal, locale: Locale) -> Curve:
    """Return the smallest effect shown, over weeks of enrolment or over units."""
    weekly = not isinstance(proposal.units_per_day, NotEstimable)
    found = [
        (float(point.total_units if isinstance(point.weeks, NotEstimable) else point.weeks), lift)
        for point in proposal.by_size
        if (lift := _number(point.lift)) is not None
    ]
    lowest = min((abs(lift) for _, lift in found), default=0.0)
    points = tuple((x, lift) for x, lift in found if abs(lift) <= _MOST * lowest)
    power = locale.share(Decimal(f"{proposal.asked.power:.6f}"))
    title = locale.text("plan.curve.sizes" if weekly else "plan.curve.sizes_units", power=power)
    levels = tuple(_levels_of_lift(proposal, locale, "y"))
    spread = [lift for _, lift in points] + [one.value for one in levels]
    told = tuple(
        locale.text(
            "plan.curve.told",
            x=locale.text("plan.curve.week", week=locale.integer(round(x)))
            if weekly
            else locale.text("plan.curve.size", units=locale.integer(round(x))),
            y=locale.percent(lift, signed=True),
        )
        for x, lift in points
    )
    return Curve(
        key="sizes",
        title=title,
        alt=title,
        x=_axis([x for x, _ in points], locale),
        y=axis(spread, locale.percent_tick),
        x_label=locale.text("plan.curve.weeks" if weekly else "plan.curve.units"),
        points=points,
        told=told,
        levels=levels,
    )


def by_lift(proposal: Proposal, locale: Locale) -> Curve:
    """Return the power of the size in question, over effects."""
    points = tuple(
        (lift, point.power)
        for point in proposal.by_lift
        if (lift := _number(point.lift)) is not None
    )
    size = proposal.size
    units = "–" if isinstance(size, NotEstimable) else locale.integer(round(size))
    title = locale.text("plan.curve.lifts", units=units)
    lead = proposal.lead.question
    power = proposal.asked.power
    return Curve(
        key="lifts",
        title=title,
        alt=title,
        x=axis([x for x, _ in points], locale.percent_tick),
        y=Axis(0, 1, tuple(Tick(k / 5, locale.share(Decimal(k) / 5)) for k in range(6))),
        x_label=locale.text("plan.curve.lift_money")
        if lead.kind == "net_benefit"
        else locale.text("plan.curve.lift_metric", metric=lead.key),
        points=points,
        told=tuple(
            locale.text(
                "plan.curve.told",
                x=locale.percent(lift, signed=True),
                y=locale.probability(value),
            )
            for lift, value in points
        ),
        levels=(
            Level(
                "y",
                power,
                locale.text("plan.curve.power", power=locale.share(Decimal(f"{power:.6f}"))),
            ),
            *_levels_of_lift(proposal, locale, "x"),
        ),
    )


def _levels_of_lift(proposal: Proposal, locale: Locale, on: Literal["x", "y"]) -> Iterator[Level]:
    """Yield the lift that is expected, and the one from which the AI pays."""
    lead, found = proposal.lead.question, proposal.stakes.break_even
    expected = _number(lead.lift)
    if expected is not None:
        said = locale.percent(expected, signed=True)
        yield Level(on, expected, locale.text("plan.curve.expected", lift=said))
    if lead.kind == "net_benefit" and not isinstance(found, NotEstimable):
        pays = _number(found.relative_lift)
        if pays is not None and (expected is None or not math.isclose(pays, expected)):
            said = locale.percent(pays, signed=True)
            yield Level(on, pays, locale.text("plan.curve.break_even", lift=said))


def _axis(values: list[float], locale: Locale) -> Axis:
    """Return an axis of whole numbers from zero."""
    ticks = nice_ticks(0.0, max(values, default=1.0), about=6)
    whole = [tick for tick in ticks if tick == round(tick)]
    return Axis(0.0, whole[-1], tuple(Tick(tick, locale.integer(round(tick))) for tick in whole))


def _number(value: float | NotEstimable) -> float | None:
    return None if isinstance(value, NotEstimable) else value
