"""Command: portfolio."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json
from klartext.app.cli.words import counted, with_legend

if TYPE_CHECKING:
    from klartext.analysis.estimate import ConfidenceSet
    from klartext.analysis.portfolio import Entry, Portfolio, Programme
    from klartext.analysis.recorded import Figures
    from klartext.analysis.result import Number


def register(app: typer.Typer) -> None:
    """Add the command to the root."""
    app.command("portfolio")(portfolio)


def portfolio(
    context: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option("--output", "--out", "-o", metavar="FILE", help="Write an HTML page."),
    ] = None,
    language: Annotated[
        Literal["de", "en"] | None,
        typer.Option("--language", "-l", help="Of the page. Default: that of the workspace."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show all experiments with verdict, benefit and cost, and what they bring together.

    Every experiment counts, also lost, abandoned and running ones. The sum over those that were
    launched stands beside one that is corrected for the winner's curse. Takes no look: verdicts and
    benefits are those of the look that was recorded last.

    For example:

      klartext portfolio

      klartext portfolio -o portfolio.html --language de
    """
    from klartext.analysis.portfolio_document import to_json  # noqa: PLC0415 - heavy
    from klartext.app.usecases import portfolio as usecase  # noqa: PLC0415 - heavy

    session = open_session(context)
    if output is None:
        found = usecase.portfolio(session)
    else:
        written = usecase.write(session, output, language=language)
        found = written.portfolio
        log(f"{written.path}: {written.size} bytes, {written.language}")
    if json:
        print_json(to_json(found))
    else:
        typer.echo(_text(found))


def _text(found: Portfolio) -> str:
    header = ["EXPERIMENT", "STATUS", "VERDICT", "LOOK", "VARIANT", "OUTLOOK", "WITHOUT LUCK",
              "IN THE TEST", "SPENT", "OF BUDGET"]  # fmt: skip
    rows = [row for entry in found.entries for row in _rows(found, entry)]
    lines = [columns(header, rows)] if rows else ["No experiment is registered."]
    lines += [f"{one.key}: in no sum: {one.detail}" for one in found.unreadable]
    programmes = [line for one in found.programmes for line in _programme(one, found.currency)]
    return with_legend("\n".join([*lines, "", *_sums(found), *programmes]))


def _programme(one: Programme, currency: str) -> Iterator[str]:
    look = one.entry.look
    seen = "no look" if look is None else f"look {look.number}, {look.verdict}"
    yield ""
    yield (
        f"all AI, against the {one.held_out:.2%} of units that {one.entry.key} holds out "
        f"({one.entry.status}, {seen}):"
    )
    yield f"  net of AI calls: {_amount(one.net_benefit, one.interval, currency=currency)}"
    yield (
        f"  net of {one.stated:,.2f} {currency} that cost lines say as well: "
        f"{_amount(one.value, one.value_interval, currency=currency)}"
    )


def _rows(found: Portfolio, entry: Entry) -> Iterator[list[str]]:
    look, outlay = entry.look, entry.outlay
    budget = "–" if outlay.budget is None else f"{outlay.variable:,.2f} of {outlay.budget:,.2f}"
    head = [
        entry.key,
        entry.status,
        "–" if look is None else look.verdict,
        "–" if look is None else f"{look.number} ({look.taken_at.date().isoformat()})",
    ]
    if look is None:
        yield [*head, "–", "–", "–", "–", f"{outlay.total:,.2f}", budget]
        return
    for place, one in enumerate(look.figures):
        yield [
            *(head if place == 0 else [""] * len(head)),
            one.variant,
            _amount(one.outlook, one.outlook_interval),
            _corrected(found, entry, one),
            _amount(one.net_benefit, one.interval),
            *([f"{outlay.total:,.2f}", budget] if place == 0 else ["", ""]),
        ]


def _corrected(found: Portfolio, entry: Entry, one: Figures) -> str:
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    if entry.launched != one.variant:
        return ""
    if isinstance(found.corrected, NotEstimable) or entry.key not in found.corrected.launches:
        return "–"
    launch = found.corrected.launches[entry.key]
    return _amount(launch.value, launch.interval)


def _sums(found: Portfolio) -> Iterator[str]:
    from klartext.analysis.estimate import NotEstimable  # noqa: PLC0415 - heavy

    currency, tests, result = found.currency, found.tests, found.result
    unpriced = found.unpriced_calls
    without = f", {counted(unpriced, 'AI call')} without a price not included" if unpriced else ""
    yield f"spent on all experiments: {found.cost:,.2f} {currency}{without}"
    if found.budget:
        yield f"budgets: {found.budgeted:,.2f} of {found.budget:,.2f} {currency}"
    yield (
        f"tests: net benefit {tests.net_benefit:,.2f} {currency}, "
        f"margin {tests.margin:,.2f}, cost {tests.cost:,.2f}"
    )
    naive = found.naive
    shown = f"–, {naive.detail}" if isinstance(naive, NotEstimable) else f"{naive:,.2f} {currency}"
    yield f"launched, added up as estimated: {shown}"
    sums = found.corrected
    launched = sums if isinstance(sums, NotEstimable) else sums.launched
    if isinstance(launched, NotEstimable):
        yield f"launched, without the winner's curse: –, {launched.detail}"
    else:
        shown = _amount(launched.value, launched.interval, currency=currency)
        yield f"launched, without the winner's curse: {shown}"
    if isinstance(result, NotEstimable):
        yield f"all together, net of all cost: –, {result.detail}"
    else:
        shown = _amount(result.value, result.interval, currency=currency)
        yield f"all together, net of all cost: {shown}"
        roi = result.roi
        yield (
            f"ROI of sums: –, {roi.detail}"
            if isinstance(roi, NotEstimable)
            else f"ROI of sums: {roi:.1%} of {result.cost:,.2f} {currency}, "
            f"{_percent(result.roi_interval)}"
        )
    for key, why in found.left_out:
        yield f"{key} teaches nothing about the others: {why.detail}"


def _amount(value: Number, region: ConfidenceSet | None = None, *, currency: str = "") -> str:
    from klartext.analysis.estimate import Interval, NotEstimable  # noqa: PLC0415 - heavy

    if isinstance(value, NotEstimable):
        return f"– ({value.reason})"
    match region:
        case None:
            said = f"{value:,.2f}"
        case Interval(lower, upper, _):
            said = f"{value:,.2f} [{lower:,.2f}, {upper:,.2f}]"
        case NotEstimable():
            said = f"{value:,.2f} [– {region.reason}]"
        case _:
            said = f"{value:,.2f} [cannot be determined reliably]"
    return f"{said} {currency}".rstrip()


def _percent(region: ConfidenceSet) -> str:
    from klartext.analysis.estimate import Interval  # noqa: PLC0415 - heavy

    if isinstance(region, Interval):
        return f"[{region.lower:.1%}, {region.upper:.1%}]"
    return "[–]"
