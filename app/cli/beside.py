"""What stands beside the present figures, as text: the last look, and revised assumptions."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from klartext.app.cli.columns import columns

if TYPE_CHECKING:
    from klartext.analysis.result import Assumed
    from klartext.analysis.verdicts import Beside, Past, Revised, TreatmentVerdict, Verdict
    from klartext.experiments.revisions import Revision


def beside_text(beside: Beside) -> str:
    """Return the last recorded look and the revision in force; empty without either."""
    sections = []
    if beside.past is not None:
        sections.append(past_text(beside.past))
    if beside.revised is not None:
        sections.append(revised_text(beside.revised))
    return "\n\n".join(sections)


def past_text(past: Past) -> str:
    """Return a recorded look, and how the spec has changed since."""
    found = past.verdict
    lines = [
        (
            f"RECORDED  look {past.look} by {past.actor}, {past.taken_at:%Y-%m-%d %H:%M} UTC: "
            f"{_said(found)}"
        ),
        f"  {_made_of(found)}",
        f"  document {past.result_sha256[:12]}",
        *(f"  net benefit {one.variant}: {_money(one)}" for one in found.treatments),
    ]
    if past.changes:
        lines.append("  the spec has changed since; the recorded verdict stands as it is:")
        lines.extend(f"    {change}" for change in past.changes)
    return "\n".join(lines)


def revised_text(revised: Revised) -> str:
    """Return a revision with both verdicts on each state of the facts."""
    revision = revised.revision
    lines = [
        (
            f"REVISED ASSUMPTIONS  revision {revision.number} by {revision.actor}, "
            f"{revision.revised_at:%Y-%m-%d %H:%M} UTC, {revision.sha256[:12]}"
        ),
        f"  {revision.comment}",
        *(f"  {line}" for line in _values(revision)),
        "  No verdict follows from them: the registered one stands.",
    ]
    if revised.at_look is not None:
        lines += ["", _pair(f"ON THE FACTS OF LOOK {revision.look}", revised.at_look)]
        if not revised.reproduced:
            lines.append(
                "The registered assumptions do not give the recorded figures again: facts were "
                "erased or corrected since, or another Klartext reads them. The recorded ones "
                "stand; the revised ones are on what is there now."
            )
    if revised.now is None:
        lines += ["", _pair("ON THE FACTS THERE WERE", revised.at_revision)]
    else:
        lines += ["", _pair("ON THE FACTS SO FAR", revised.now)]
    return "\n".join(lines)


def _values(revision: Revision) -> Iterator[str]:
    for change in revision.changes:
        shown = [value_text(one, change.unit) for one in (change.before, change.after)]
        text = f"{change.path}: {shown[0]} -> {shown[1]}"
        if change.before != change.registered:
            text += f" (registered {value_text(change.registered, change.unit)})"
        yield text
    changed = {change.path for change in revision.changes}
    kept = [path for path in revision.values if path not in changed]
    if kept:
        yield f"still revised: {', '.join(kept)}"


def _pair(title: str, pair: tuple[Verdict, Verdict]) -> str:
    from klartext.analysis.verdicts import difference  # noqa: PLC0415 - heavy

    registered, revised = pair
    rows = [
        ["verdict", _said(registered), _said(revised), ""],
        ["spec", *(f"version {one.version}, {one.spec_sha256[:12]}" for one in pair), ""],
        ["facts up to", *(f"{one.cutoff:%Y-%m-%d %H:%M} UTC" for one in pair), ""],
    ]
    for one in revised.treatments:
        before = registered.of(one.variant)
        more = difference(before, one)
        rows.append(
            [
                f"net benefit {one.variant}",
                "–" if before is None else _money(before),
                _money(one),
                "–" if more is None else f"{more:+,.2f}",
            ]
        )
        if len(revised.treatments) > 1:
            texts = ["–" if side is None else side.verdict for side in (before, one)]
            rows.append([f"verdict {one.variant}", *texts, ""])
    return columns([title, "REGISTERED", "REVISED", "DIFFERENCE"], rows)


def what_if_mark(assumed: tuple[Assumed, ...]) -> str:
    """Return the lines that stand above and below a what-if."""
    inputs = "; ".join(
        f"{one.path} {value_text(one.assumed, one.unit)} "
        f"instead of {value_text(one.registered, one.unit)}"
        for one in assumed
    )
    return f"*** WHAT IF, NOT THE VERDICT: {inputs} ***"


def value_text(value: Decimal, unit: str) -> str:
    """Return a value of an input: percent where it is a fraction."""
    shown = value * 100 if unit == "fraction" else value
    text = f"{shown:,f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text}%" if unit == "fraction" else text


def _said(found: Verdict) -> str:
    about = f" {found.variant}" if found.variant else ""
    return f"{found.verdict}{about} by rule {found.rule}"


def _made_of(found: Verdict) -> str:
    return (
        f"spec version {found.version}, SHA-256 {found.spec_sha256}; "
        f"facts up to {found.cutoff:%Y-%m-%d %H:%M} UTC"
    )


def _money(one: TreatmentVerdict) -> str:
    if one.net_benefit is None:
        return "–"
    if one.interval is None:
        return f"{one.net_benefit:,.2f}"
    return f"{one.net_benefit:,.2f} [{one.interval[0]:,.2f}, {one.interval[1]:,.2f}]"
