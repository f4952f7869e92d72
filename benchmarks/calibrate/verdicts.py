"""Verdicts of the whole rule over fifty looks: what goes live, what is stopped, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from typing import Literal, NamedTuple

import numpy as np

from benchmarks.calibrate import shops
from benchmarks.calibrate.coverage import ALPHA
from benchmarks.calibrate.judgement import Row
from benchmarks.calibrate.shops import DAY, START, Sales, Shop
from klartext.analysis import decision
from klartext.analysis.booked import book
from klartext.analysis.conditions import LIMITED_ERROR
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.projection import decision_view
from klartext.analysis.prospect import prospect_of
from klartext.analysis.result import (
    Number,
    Prospect,
    TreatmentResult,
    WindowView,
)
from klartext.analysis.sequential import group
from klartext.analysis.subject import Registration, Subject, subject_of
from klartext.analysis.treatments import evidence_of, planned_place
from klartext.experiments.experiment import DecisionRule, Experiment, InferenceMode

LOOKS = 50
EVENTLESS = 1.9
"""No interval is shorter than 1.96 standard errors to a side: within 1.9 nothing is shown."""

REGISTERED = replace(
    shops.PERMISSIVE,
    hurdle_roi=Decimal("0.3"),
    probability=Decimal("0.8"),
    expected_loss=Decimal(1000),
    min_duration=14 * DAY,
)

_LEFT_OUT = NotEstimable("no-time", "futility is left out: it can only take a GO away")
_UNSEEN = Prospect(_LEFT_OUT, _LEFT_OUT, _LEFT_OUT, _LEFT_OUT, _LEFT_OUT, _LEFT_OUT)

_UNREAD = WindowView(*(_LEFT_OUT,) * 3, 0.0, *(_LEFT_OUT,) * 4, *(_LEFT_OUT,) * 6)
"""What the test itself brought decides nothing."""


class Ending(NamedTuple):
    """How a test ended: the verdict, by which rule, and at which look.

    ``lost`` is whether any treatment was said to lose at any look, ``by_prior`` whether the
    registered end found one likely to gain with the prior alone.
    """

    verdict: str
    rule: str
    look: int
    lost: bool
    by_prior: bool


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """One drawn experiment: its spec and what each variant sold, control first."""

    spec: Experiment
    sales: tuple[Sales, ...]
    futility: bool = False

    def run(self, replication: int, looks: Sequence[int]) -> Ending:
        """Take these looks, numbered from 1, until the test is decided."""
        spec, lost = self.spec, False
        taken: tuple[group.Look, ...] = ()
        for look in looks:
            subject = self._subject(replication, look, taken)
            found = [self._treatment(subject, key) for key in spec.treatments]
            overall = decision.decide_overall(found)
            lost |= any(one.decision.rule == "loss" for one in found)
            if overall.verdict != "CONTINUE":
                likely = any(
                    _at_least(one.outlook.probability_positive, 1 - LIMITED_ERROR) for one in found
                )
                at_end = overall.rule in {"go_limited", "no_evidence"}
                return Ending(overall.verdict, overall.rule, look, lost, at_end and likely)
            place = planned_place(subject, subject.look(spec.treatments[0]), found)
            if place is not None and place.spends and place.number is not None:
                information = float(place.information)
                taken = (*taken, group.Look(place.number, place.fraction, information))
        return Ending("CONTINUE", "continue", looks[-1], lost, by_prior=False)

    def _subject(self, replication: int, look: int, taken: tuple[group.Look, ...]) -> Subject:
        keys = [variant.key for variant in self.spec.variants]
        moments = {
            key: sold.moments(self.spec, replication, look - 1)
            for key, sold in zip(keys, self.sales, strict=True)
        }
        return subject_of(
            Registration(1, "0" * 64, START - DAY, frozenset({"cfo"}), looks=taken),
            book(self.spec, shops.readout(self.spec, moments, day=look), None),
            period=None,
            mature=sum(one.n for one in moments.values()),
        )

    def _treatment(self, subject: Subject, key: str) -> TreatmentResult:
        spec, readout, look = subject.experiment, subject.readout, subject.look(key)
        months = Fraction(0)
        view = decision_view(spec, readout, key, test_months=months, look=look)
        worst = decision_view(spec, readout, key, test_months=months, look=look, bound="high")
        prospect = _UNSEEN
        early = spec.decision.min_duration > readout.watermark.cutoff - START
        if self.futility and not early and not _at_least(view.posterior_mean, 0.0):
            prospect = prospect_of(spec, readout, key, look=look, view=view)
        evidence = evidence_of(subject, key, view=view, worst=worst, prospect=prospect)
        return TreatmentResult(
            variant=key,
            baseline=spec.control,
            window=_UNREAD,
            outlook=view,
            costs=(),
            decision=decision.decide(evidence),
            prospect=prospect,
        )

    def eventful(self) -> list[list[int]]:
        """Return per replication the looks at which something can be shown, and the end.

        A group sequential test decides at its planned looks, a fixed one at the end.
        """
        looks = len(self.sales[0].n)
        if self.spec.inference.mode == "fixed":
            return [[looks] for _ in self.sales[0].buyers]
        if self.spec.inference.mode == "group_sequential":
            planned = [round(looks * float(share)) for share in self.spec.plan.looks]
            return [planned for _ in self.sales[0].buyers]
        control, spread = self.sales[0].outlook()
        fixed = 12 * sum(float(line.amount.base) for line in self.spec.costs.lines)
        fixed /= shops.UNITS_PER_YEAR * max(1, len(self.spec.treatments))
        shown = np.zeros(control.shape, dtype=bool)
        for sold in self.sales[1:]:
            mean, variance = sold.outlook()
            z = (mean - control - fixed) / np.sqrt(variance + spread)
            shown |= ~(np.abs(z) <= EVENTLESS)
        shown[:, -1] = True
        return [(np.flatnonzero(row) + 1).tolist() for row in shown]


def _at_least(number: Number, threshold: float) -> bool:
    return not isinstance(number, NotEstimable) and number >= threshold


@dataclass(frozen=True, slots=True)
class Cell:
    """A truth, and the errors or the power that the rule has under it.

    ``treatments`` stand against ``control`` with ``shares`` of ``units``, the control's first.
    """

    name: str
    truth: Literal["no gain", "small gain", "strong gain"]
    control: Shop
    treatments: tuple[Shop, ...]
    shares: tuple[float, ...]
    units: int
    mode: InferenceMode = "anytime"
    rule: DecisionRule = shops.PERMISSIVE
    monthly: float = 0.0

    def trial(self, rng: np.random.Generator, replications: int) -> Trial:
        """Draw all replications."""
        spec = shops.trial(
            self.shares,
            self.units,
            looks=LOOKS,
            inference=shops.inference_of(self.mode),
            decision=self.rule,
            monthly=self.monthly,
        )
        sales = tuple(
            shops.sell(
                shop, np.full(LOOKS, float(round(self.units * share / LOOKS))), replications, rng
            )
            for shop, share in zip((self.control, *self.treatments), self.shares, strict=True)
        )
        return Trial(spec, sales, futility=self.truth == "strong gain")

    def run(self, rng: np.random.Generator, replications: int) -> Iterator[Row]:
        """Yield one row per verdict that is judged."""
        trial = self.trial(rng, replications)
        looks: list[list[int]] = trial.eventful()
        if self.truth == "strong gain":  # with futility every look after the minimum may decide
            every = range(self.rule.min_duration // DAY, LOOKS + 1)
            looks = [sorted({*eventful, *every}) for eventful in looks]
        ends = [trial.run(replication, looks[replication]) for replication in range(replications)]
        went = Counter(one.verdict for one in ends)
        judged: list[tuple[str, Literal["not above", "not below", "contrast"], float, int]]
        match self.truth:
            case "no gain":
                by_prior = sum(one.by_prior for one in ends)
                judged = [
                    ("GO", "not above", ALPHA / 2, went["GO"]),
                    ("GO_LIMITED", "not above", LIMITED_ERROR, went["GO_LIMITED"]),
                    ("GO_LIMITED by the prior alone", "contrast", LIMITED_ERROR, by_prior),
                    ("STOP (loss)", "not above", ALPHA / 2, sum(one.lost for one in ends)),
                ]
            case "small gain":
                judged = [("STOP (loss)", "not above", ALPHA / 2, sum(one.lost for one in ends))]
            case "strong gain":
                judged = [("GO", "not below", 0.9, went["GO"])]
        for name, how, nominal, hits in judged:
            yield Row(
                section="verdicts",
                cell=self.name,
                method=name,
                judged=how,
                nominal=nominal,
                hits=hits,
                low=went["STOP"],
                high=went["GO"] + went["GO_LIMITED"],
                read=replications,
                replications=replications,
            )


def _cells() -> Iterator[Cell]:
    plain = Shop(0.10)
    priced = Shop(0.10, per_unit=0.06)
    paid = priced.worth(plain.outlook)
    halves, thirds, skewed = (0.5, 0.5), (0.34, 0.33, 0.33), (0.95, 0.05)
    yield Cell("NB = 0, 50/50, the AI pays for itself", "no gain", plain, (paid,), halves, 40_000)
    yield Cell(
        "NB = 0, the same, group sequential (O'Brien-Fleming, 5 of the looks)", "no gain",
        plain, (paid,), halves, 40_000, "group_sequential",
    )  # fmt: skip
    yield Cell("NB = 0, the same, fixed", "no gain", plain, (paid,), halves, 40_000, "fixed")
    yield Cell("NB = 0, two treatments", "no gain", plain, (paid, paid), thirds, 60_000)
    yield Cell("NB = 0, 95/5 (control 95 %)", "no gain", plain, (paid,), skewed, 200_000)
    tail, tail_priced = Shop(0.3, scale=1.5), Shop(0.3, scale=1.5, per_unit=0.3)
    yield Cell(
        "NB = 0, heavy tail: 30 % buy for lognormal (sigma 1.5) amounts", "no gain",
        tail, (tail_priced.worth(tail.outlook),), halves, 60_000,
    )  # fmt: skip
    tied = Shop(0.10, per_unit=0.02, per_order=0.8, share=0.03)
    yield Cell(
        "NB = 0, cost and margin correlated: 0.80 per order and 3 % of the amount", "no gain",
        plain, (tied.worth(plain.outlook),), halves, 40_000,
    )  # fmt: skip
    dear = Shop(0.10, per_unit=0.12)
    yield Cell(
        "NB = 0, the cheaper model: AI in the control, and as much margin lost as cost saved",
        "no gain", dear, (plain.worth(dear.outlook),), halves, 20_000,
    )  # fmt: skip
    monthly = 2000.0
    yield Cell(
        "NB = 0, and the gain per unit pays 2,000 a month", "no gain", plain,
        (plain.worth(plain.outlook + 12 * monthly / shops.UNITS_PER_YEAR),), halves, 40_000,
        monthly=monthly,
    )  # fmt: skip
    yield Cell(
        "a true gain of 0.02 per unit, 50/50", "small gain",
        plain, (priced.worth(plain.outlook + 0.02),), halves, 40_000,
    )  # fmt: skip
    gain = priced.worth(plain.outlook + 0.02)
    yield Cell("the same gain, two treatments", "small gain", plain, (gain, gain), thirds, 60_000)
    yield Cell(
        "a gain of five standard errors, hurdle 30 %, 80 %, expected loss 1,000, futility in force",
        "strong gain", plain, (priced.worth(plain.outlook + 0.25),), halves,
        40_000, rule=REGISTERED,
    )  # fmt: skip


CELLS = tuple(_cells())
