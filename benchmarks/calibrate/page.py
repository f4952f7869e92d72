"""docs/calibration.md from the rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.calibrate.judgement import FAMILY, Row, band, failures, passes

_HEAD = """\
# Calibration

Written by `python -m benchmarks.calibrate` with seed {seed}; the same seed writes the same page.
Every number is produced by the functions the product calls, on drawn experiments whose truth is
known. {judged} rows are judged together: methods that are all right fail anywhere with
probability {family:.0%} (Bonferroni over the rows, exact binomial bands).

{verdict}
"""

_SECTIONS = {
    "coverage": (
        "Coverage of 95 % sets at one look",
        (
            "Exact methods have to lie inside the band, conservative ones (score, Fieller, "
            "anytime, repeated) not below it. With few skewed outcomes in the smaller variant "
            "the misses fall on one side, as they must for any interval symmetric around the "
            "difference; the columns show how far. *Refused* is the share without an answer, "
            "almost always the burn-in."
        ),
        ("truth below", "truth above"),
    ),
    "ratios": (
        "Ratios with correlated parts",
        (
            "Fieller's set holds however weak the denominator; the delta method does not and is "
            "shown for contrast where it fails."
        ),
        ("truth below", "truth above"),
    ),
    "returns": (
        "ROI and cost per incremental conversion, alpha 5 %",
        (
            "What the window view of a test reports, on drawn shops: margin, cost and conversions "
            "of a unit belong together. Fieller's set at one look has to cover 95 %, the anytime "
            "set at all looks together. *Refused* is the share without an answer: no cost, or no "
            "gain, to divide by. The delta method stands beside them for contrast: it fails where "
            "the denominator is weak."
        ),
        ("truth below", "truth above"),
    ),
    "verdicts": (
        "Verdicts of the whole rule over fifty looks",
        (
            "Every experiment is decided by the registered rule at up to fifty looks, until it "
            "says GO, GO_LIMITED or STOP. Where nothing is gained a GO may come in 2.5 % of them "
            "at most, a GO_LIMITED at the end in 10 %, with several treatments for all of them "
            "together; STOP (loss) in 2.5 % where nothing is lost. The rule asks for nothing but "
            "the bounds (hurdle 0, any expected loss, one approval that is given), so that no "
            "other condition hides an error; futility is left out, for it can only take a GO "
            "away. For contrast: how often the prior alone would have found a likely gain at the "
            "end (ADR 26)."
        ),
        ("stopped", "went live"),
    ),
    "peeking": (
        "False alarms over fifty looks, alpha 5 %, no effect",
        (
            "Every look is read until the first alarm. Sequential methods may alarm in at most 5 % "
            "of the experiments; the fixed interval read at every look is shown failing."
        ),
        ("downwards", "upwards"),
    ),
    "power": (
        "Power of experiments of the planned size",
        (
            "Planning promised the nominal power; the experiments are then drawn with exactly that "
            "many units."
        ),
        ("wrong side", "–"),
    ),
}

_COLUMN = {
    "coverage": "coverage",
    "ratios": "coverage",
    "returns": "coverage",
    "verdicts": "share",
    "peeking": "alarms",
    "power": "power",
}


def page(rows: Sequence[Row], *, seed: int) -> str:
    """Return the whole page as Markdown."""
    judged = sum(row.judged != "contrast" for row in rows)
    failed = failures(rows)
    verdict = (
        "**All judged rows pass.**"
        if not failed
        else f"**{len(failed)} of {judged} judged rows fail:** "
        + "; ".join(f"{row.method} in {row.cell}" for row in failed)
    )
    parts = [_HEAD.format(seed=seed, judged=judged, family=FAMILY, verdict=verdict)]
    for section, (title, text, sides) in _SECTIONS.items():
        chosen = [row for row in rows if row.section == section]
        if chosen:
            parts += [f"## {title}\n", f"{text}\n", *_tables(chosen, sides, judged)]
    return "\n".join(parts)


def _tables(rows: Sequence[Row], sides: tuple[str, str], judged: int) -> Iterator[str]:
    column = _COLUMN[rows[0].section]
    cells = dict.fromkeys(row.cell for row in rows)
    for cell in cells:
        inside = [row for row in rows if row.cell == cell]
        yield f"### {cell[:1].upper()}{cell[1:]}\n"
        yield f"{inside[0].replications:,} replications\n"
        yield f"| method | {column} | band | {sides[0]} | {sides[1]} | refused | verdict |"
        yield "|---|---:|---|---:|---:|---:|---|"
        for row in inside:
            yield _line(row, judged)
        yield ""


def _line(row: Row, judged: int) -> str:
    refused = 1 - row.read / row.replications
    if row.read == 0:
        return f"| {row.method} | – | – | – | – | {refused:.1%} | no answer |"
    low, high = band(row, judged)
    allowed = {
        "inside": f"{low:.1%} to {high:.1%}",
        "not below": f"at least {low:.1%}",
        "not above": f"at most {high:.1%}",
        "contrast": "not judged",
    }[row.judged]
    verdict = "contrast" if row.judged == "contrast" else ("ok" if passes(row, judged) else "FAIL")
    last = "–" if row.section == "power" else f"{row.high / row.read:.2%}"
    numbers = f"{row.rate:.2%} | {allowed} | {row.low / row.read:.2%} | {last}"
    return f"| {row.method} | {numbers} | {refused:.1%} | {verdict} |"
