"""A fitted model as a short block of text."""

from __future__ import annotations

from klartext.analysis.estimate import NotEstimable
from klartext.analysis.models.diagnostics import FEWEST_ESS, LARGEST_R_HAT, NotShown, Shown
from klartext.analysis.models.document import Fit, ModelRun
from klartext.app.cli.columns import columns

NOTE = "A model moves no verdict; the registered decision reads other intervals."


def model_text(run: ModelRun) -> str:
    """Return effects with credible intervals and diagnostics, or why there is no number."""
    of = f" of {run.metric}" if run.metric else ""
    title = (
        f"{run.experiment}: model {run.model}{of}, seed {run.seed}, "
        f"{100 * run.level:.4g} % credible intervals"
    )
    return "\n".join([title, *(_fit(run, one) for one in run.fits), NOTE])


def _fit(run: ModelRun, fit: Fit) -> str:
    lines = [f"by {fit.segment}"] if fit.segment else []
    if fit.left_out:
        lines.append(f"left out, too sparse: {', '.join(fit.left_out)}")
    match fit.found:
        case Shown() as shown:
            lines += [_table(run, shown), _passed(shown)]
        case NotShown(reason, detail) | NotEstimable(reason, detail):
            lines.append(f"not shown ({reason}): {detail}")
    return "\n".join(lines)


def _table(run: ModelRun, shown: Shown) -> str:
    own = run.direction is None
    rows = []
    for one in shown.effects:
        chance = one.probability_positive if own else run.probability_better(one)
        rows.append(
            [
                one.name,
                f"{one.mean:,.4g}",
                f"{one.interval.lower:,.4g} to {one.interval.upper:,.4g}",
                "–" if chance is None else _percent(chance),
            ]
        )
    return columns(["QUANTITY", "MEAN", "INTERVAL", "P(>0)" if own else "P(BETTER)"], rows)


def _percent(chance: float) -> str:
    """Return a share of draws; all or none of them is not certainty."""
    if chance < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if chance > 0.999 else f"{chance:.1%}".replace("%", " %")


def _passed(shown: Shown) -> str:
    worst = min(p for _, p in shown.checks)
    return (
        f"diagnostics passed: {shown.min_ess:,.0f} effective draws (at least {FEWEST_ESS:.0f}), "
        f"R-hat {shown.max_r_hat:.4f} (at most {LARGEST_R_HAT}), {len(shown.checks)} predictive "
        f"checks (smallest p {worst:.3g}); {shown.sampler}"
    )
