"""A plan in words, tables and curves; the terminal and the page show the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from klartext.analysis import ai_metrics
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.history import Seen
from klartext.analysis.plan_answers import Answer
from klartext.analysis.plan_curves import Point
from klartext.analysis.planning import Duration, Plan
from klartext.analysis.proposal import Proposal
from klartext.analysis.proposal_document import looks_of, mode_name, spec_lines
from klartext.analysis.question import Question
from klartext.analysis.result import Number
from klartext.experiments.experiment import MILLION, ContributionMargin
from klartext.reports import wording
from klartext.reports.figures import Curve
from klartext.reports.language import MISSING, Locale
from klartext.reports.plan_curves import by_lift, by_size
from klartext.reports.tables import Cell, Column, Table


@dataclass(frozen=True, slots=True)
class PlanView:
    """What is shown of a plan, in one language.

    Parameters
    ----------
    headline, sentences
        The answer, and what goes with it.
    facts
        Name and value of what the plan rests on.
    answers, sizes, ladder, modes, stakes
        Tables; the empty ones are left out where they are shown.
    curves
        The smallest effect by size, the power by effect.
    notes
        What limits the plan.
    spec
        Lines for the experiment.
    """

    title: str
    headline: str
    sentences: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    answers: Table
    sizes: Table
    ladder: Table
    modes: Table
    stakes: Table
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]
    spec: str | None


def view(proposal: Proposal, locale: Locale) -> PlanView:
    """Say a plan."""
    return PlanView(
        title=proposal.experiment.title,
        headline=_headline(proposal, locale),
        sentences=tuple(_sentences(proposal, locale)),
        facts=tuple(_facts(proposal, locale)),
        answers=_answers(proposal, locale),
        sizes=_sizes(proposal, locale),
        ladder=_ladder(proposal, locale),
        modes=_modes(proposal, locale),
        stakes=_stakes(proposal, locale),
        curves=tuple(
            curve
            for curve in (by_size(proposal, locale), by_lift(proposal, locale))
            if curve.has_anything
        ),
        notes=tuple(
            locale.text(
                f"plan.note.{note.code}",
                value=locale.integer(int(note.value)) if note.value.isdigit() else note.value,
            )
            for note in proposal.notes
        ),
        spec=spec_lines(proposal),
    )


def lift(locale: Locale, value: float) -> str:
    """Say an effect as a change in percent."""
    return locale.percent(value, signed=True)


def stated(locale: Locale, fraction: float) -> str:
    """Say a share that somebody chose, with the decimals it needs."""
    return locale.share(Decimal(f"{fraction:.6f}"))


def _headline(proposal: Proposal, locale: Locale) -> str:
    power = stated(locale, proposal.asked.power)
    if not isinstance(proposal.needed, NotEstimable):
        about = _expected(proposal)
        return locale.text(
            "plan.needed",
            units=locale.integer(round(proposal.needed)),
            subject=_subject(locale, about, about.lift),
            power=power,
        )
    found = proposal.lead.detectable_lift
    if not isinstance(found, NotEstimable) and not isinstance(proposal.size, NotEstimable):
        return locale.text(
            "plan.detectable",
            units=locale.integer(round(proposal.size)),
            subject=_subject(locale, proposal.lead.question, found),
            power=power,
        )
    return locale.text("plan.none", reason=wording.reason(locale, proposal.needed))


def _expected(proposal: Proposal) -> Question:
    """Return the question that the units needed are about: the lead, else the dearest metric."""
    priced = [
        answer for answer in (proposal.lead, *proposal.metrics) if isinstance(answer.needed, Plan)
    ]
    if priced[0] is proposal.lead or priced[0] == proposal.lead:
        return proposal.lead.question
    return max(priced, key=_units).question


def _units(answer: Answer) -> int:
    return 0 if isinstance(answer.needed, NotEstimable) else answer.needed.total_units


def _subject(locale: Locale, question: Question, value: Number) -> str:
    said = MISSING if isinstance(value, NotEstimable) else lift(locale, value)
    if question.kind == "net_benefit":
        return locale.text("plan.subject_money", lift=said)
    return locale.text("plan.subject_metric", metric=question.key, lift=said)


def _sentences(proposal: Proposal, locale: Locale) -> Iterator[str]:
    if proposal.binding in {one.question.key for one in proposal.guardrails}:
        yield locale.text("plan.binding", metric=proposal.binding or "")
    size, needed = proposal.size, proposal.needed
    if not isinstance(needed, NotEstimable):
        yield _takes(proposal, locale, proposal.needed_duration)
        if size != needed:
            yield from _at_size(proposal, locale)
    elif not isinstance(size, NotEstimable):
        yield _takes(proposal, locale, proposal.duration)
    if proposal.experiment.value:
        yield _pays(proposal, locale)


def _at_size(proposal: Proposal, locale: Locale) -> Iterator[str]:
    size, found, duration = proposal.size, proposal.lead.at_size, proposal.duration
    if isinstance(size, NotEstimable) or isinstance(found, NotEstimable):
        return
    yield locale.text(
        "plan.at_size",
        units=locale.integer(round(size)),
        origin=locale.text(f"plan.origin.{proposal.size_from}"),
        power=locale.probability(found.power),
    )
    if not isinstance(proposal.lead.detectable_lift, NotEstimable):
        yield locale.text(
            "plan.smallest",
            target=stated(locale, proposal.asked.power),
            lift=lift(locale, proposal.lead.detectable_lift),
        )
    if not isinstance(duration, NotEstimable):
        yield locale.text(
            "plan.size_takes",
            enrolment=locale.plural("weeks", duration.enrolment_days // 7),
            readout=locale.plural("days", duration.readout_days),
        )


def _takes(proposal: Proposal, locale: Locale, duration: Duration | NotEstimable) -> str:
    pace = proposal.units_per_day
    if isinstance(duration, NotEstimable) or isinstance(pace, NotEstimable):
        refused = pace if isinstance(pace, NotEstimable) else duration
        said = wording.reason(locale, refused) if isinstance(refused, NotEstimable) else ""
        return locale.text("plan.takes_unknown", reason=said)
    return locale.text(
        "plan.takes",
        enrolment=locale.plural("weeks", duration.enrolment_days // 7),
        pace=_pace(locale, pace),
        readout=locale.plural("days", duration.readout_days),
    )


def _pace(locale: Locale, pace: float) -> str:
    return locale.number(pace, decimals=0 if pace >= 10 else 1)


def _pays(proposal: Proposal, locale: Locale) -> str:
    stakes = proposal.stakes
    found = stakes.break_even
    if isinstance(found, NotEstimable) or isinstance(found.relative_lift, NotEstimable):
        refused = found if isinstance(found, NotEstimable) else found.relative_lift
        said = wording.reason(locale, refused) if isinstance(refused, NotEstimable) else ""
        return locale.text("plan.pays_unknown", reason=said)
    unknown = locale.text("plan.unknown")
    return locale.text(
        "plan.pays",
        lift=lift(locale, found.relative_lift),
        margin=locale.money(found.margin_per_unit),
        cost=_money(locale, stakes.money.cost, unknown),
        fixed=_money(locale, stakes.fixed_cost, unknown),
        units=unknown
        if isinstance(stakes.units, NotEstimable)
        else locale.integer(round(stakes.units)),
    )


def _money(locale: Locale, value: Number, unknown: str) -> str:
    return unknown if isinstance(value, NotEstimable) else locale.money(value)


def _facts(proposal: Proposal, locale: Locale) -> Iterator[tuple[str, str]]:
    experiment, reading = proposal.experiment, proposal.asked.reading
    shares = [
        f"{key} {locale.percent(experiment.variant(key).weight / MILLION)}"
        for key in (reading.treatment, experiment.control)
    ]
    yield (
        locale.text("plan.head.variant"),
        locale.text("plan.treatment", treatment=shares[0], control=shares[1]),
    )
    yield (
        locale.text("plan.head.method"),
        locale.text(
            f"plan.mode.{mode_name(reading.mode)}",
            alpha=stated(locale, reading.alpha / len(experiment.treatments)),
            looks=locale.integer(looks_of(reading.mode)),
        ),
    )
    yield locale.text("plan.head.power"), stated(locale, proposal.asked.power)
    yield locale.text("plan.head.history"), _history(proposal, locale)
    pace = proposal.units_per_day
    yield (
        locale.text("plan.head.traffic"),
        wording.reason(locale, pace) if isinstance(pace, NotEstimable) else _pace(locale, pace),
    )
    days = proposal.maturity_days
    yield (
        locale.text("plan.head.maturity"),
        locale.plural("days", round(days)) if days == round(days) else f"{days:.1f}",
    )


def _history(proposal: Proposal, locale: Locale) -> str:
    history = proposal.history
    if history is None:
        return locale.text("plan.history.given")
    said = {
        "units": locale.integer(history.units),
        "start": locale.date(history.start),
        "end": locale.date(history.end),
    }
    match history.population:
        case Seen(event=None):
            return locale.text("plan.history.seen", **said)
        case Seen(event=event):
            return locale.text("plan.history.seen_event", event=event or "", **said)
        case other:
            return locale.text("plan.history.like", experiment=other.experiment.key, **said)


def _answers(proposal: Proposal, locale: Locale) -> Table:
    names = ("question", "baseline", "sd", "removed", "expected", "needed", "weeks", "power")
    labels = [locale.text(f"plan.column.{name}") for name in (*names, "smallest")]
    return Table(
        locale.text("plan.section.answers"),
        (Column(labels[0]), *(Column(label, numeric=True) for label in labels[1:])),
        tuple(_answer(proposal, locale, answer) for answer in proposal.answers),
    )


def _answer(proposal: Proposal, locale: Locale, answer: Answer) -> tuple[Cell, ...]:
    question = answer.question
    outcome, removed = question.baseline.outcome, question.baseline.removed
    guarded = question.kind == "guardrail"
    weeks: Number = (
        answer.duration
        if isinstance(answer.duration, NotEstimable)
        else answer.duration.enrolment_days // 7
    )
    needed: Number = (
        answer.needed if isinstance(answer.needed, NotEstimable) else answer.needed.total_units
    )
    power: Number = (
        answer.at_size if isinstance(answer.at_size, NotEstimable) else answer.at_size.power
    )
    sd: Number = outcome if isinstance(outcome, NotEstimable) else outcome.variance**0.5
    mean: Number = outcome if isinstance(outcome, NotEstimable) else outcome.mean

    def shown(value: float) -> str:
        return level(proposal, locale, question, value)

    return (
        Cell(*_question(proposal, locale, question)),
        _cell(locale, mean, shown),
        _cell(locale, sd, shown),
        Cell("") if removed is None else _cell(locale, removed, locale.percent),
        Cell("") if guarded else _cell(locale, question.lift, lambda x: lift(locale, x)),
        *(
            (Cell(""), Cell(""), Cell(""))
            if isinstance(question.lift, NotEstimable) and question.lift == needed
            else (
                _cell(locale, needed, lambda x: locale.integer(round(x))),
                Cell(MISSING)
                if weeks == needed
                else _cell(locale, weeks, lambda x: locale.integer(round(x))),
                Cell(MISSING) if power == needed else _cell(locale, power, locale.probability),
            )
        ),
        Cell("") if guarded else _cell(locale, answer.detectable_lift, lambda x: lift(locale, x)),
    )


def _cell(locale: Locale, value: Number, show: wording.Show) -> Cell:
    said = wording.number(locale, value, show)
    return Cell(said.text, said.reason)


def _question(proposal: Proposal, locale: Locale, question: Question) -> tuple[str, str]:
    if question.kind == "net_benefit":
        return (
            locale.text("plan.question.net_benefit"),
            locale.text("plan.question.net_benefit_note"),
        )
    if question.kind == "guardrail":
        name = locale.text("plan.question.guardrail", metric=question.key)
        return name, locale.text("plan.question.guardrail_note")
    goal = locale.text(f"plan.question.goal_{proposal.experiment.metric(question.key).direction}")
    return question.key, goal


def level(proposal: Proposal, locale: Locale, question: Question, value: float) -> str:
    """Say a mean or standard deviation in the unit of a question."""
    experiment = proposal.experiment
    if question.kind == "net_benefit":
        return locale.money(value)
    metric = experiment.metric(question.key)
    if metric.is_rate or metric.key in ai_metrics.SHARES:
        return locale.percent(value)
    money = {entry.metric for entry in experiment.value if isinstance(entry, ContributionMargin)}
    money |= ai_metrics.MONEY
    if {metric.numerator, metric.key} & money and metric.denominator not in money:
        return locale.money(value)
    return locale.number(value, decimals=3 if abs(value) < 10 else 1)


def _sizes(proposal: Proposal, locale: Locale) -> Table:
    return _points(proposal, locale, proposal.by_size, title="sizes", lift_first=False)


def _ladder(proposal: Proposal, locale: Locale) -> Table:
    return _points(proposal, locale, proposal.ladder, title="ladder", lift_first=True)


def _points(
    proposal: Proposal, locale: Locale, points: Sequence[Point], *, title: str, lift_first: bool
) -> Table:
    """Give effect, units and, where the pace is known, weeks."""
    weekly = not isinstance(proposal.units_per_day, NotEstimable)

    def whole(value: float) -> str:
        return locale.integer(round(value))

    def cells(point: Point) -> tuple[Cell, ...]:
        effect = _cell(locale, point.lift, lambda x: lift(locale, x))
        units = Cell(whole(point.total_units))
        weeks = (_cell(locale, point.weeks, whole),) if weekly else ()
        return (effect, units, *weeks) if lift_first else (*weeks, units, effect)

    pace = ("weeks",) if weekly else ()
    names = ("lift", "needed", *pace) if lift_first else (*pace, "size", "smallest")
    columns = tuple(
        Column(locale.text(f"plan.column.{name}"), numeric=place > 0)
        for place, name in enumerate(names)
    )
    return Table(locale.text(f"plan.section.{title}"), columns, tuple(map(cells, points)))


def _modes(proposal: Proposal, locale: Locale) -> Table:
    rows = tuple(
        (
            Cell(
                locale.text(
                    f"plan.mode_name.{mode_name(mode)}", looks=locale.integer(looks_of(mode))
                )
            ),
            Cell(locale.integer(plan.total_units)),
        )
        for mode, plan in proposal.by_mode
    )
    columns = (
        Column(locale.text("plan.column.mode")),
        Column(locale.text("plan.column.needed"), numeric=True),
    )
    return Table(locale.text("plan.section.modes"), columns, rows)


def _stakes(proposal: Proposal, locale: Locale) -> Table:
    rows = tuple(
        (Cell(locale.text(f"plan.stakes.{name}"), note), cell)
        for name, cell, note in _stake_rows(proposal, locale)
    )
    columns = (
        Column(locale.text("plan.column.what")),
        Column(locale.text("plan.column.money"), numeric=True),
    )
    title = locale.text("plan.section.stakes")
    return Table(title, columns, rows if proposal.experiment.value else ())


def _stake_rows(proposal: Proposal, locale: Locale) -> Iterator[tuple[str, Cell, str | None]]:
    stakes = proposal.stakes
    yield "margin", _cell(locale, stakes.money.margin, locale.money), None
    yield "cost", _cell(locale, stakes.money.cost, locale.money), None
    yield "units", _cell(locale, stakes.units, lambda x: locale.integer(round(x))), None
    yield "fixed", _cell(locale, stakes.fixed_cost, locale.money), None
    yield "invested", _cell(locale, stakes.invested, locale.money), None
    for name, found in (
        ("break_even", stakes.break_even),
        ("full_break_even", stakes.full_break_even),
    ):
        value = found if isinstance(found, NotEstimable) else found.relative_lift
        yield name, _cell(locale, value, lambda x: lift(locale, x)), None
    cost = stakes.test_cost
    if isinstance(cost, NotEstimable):
        yield "test_total", _cell(locale, cost, locale.money), None
    else:
        yield "test_ai", _cell(locale, cost.ai_cost, locale.money), None
        yield "test_running", _cell(locale, cost.running_cost, locale.money), None
        yield (
            "test_forgone",
            _cell(locale, cost.forgone, locale.money),
            locale.text("plan.stakes.test_forgone_note"),
        )
        yield "test_total", _cell(locale, cost.total, locale.money), None
    roll = stakes.test_and_roll
    if isinstance(roll, NotEstimable):
        yield "roll_size", _cell(locale, roll, locale.money), None
        return
    yield (
        "roll_size",
        Cell(locale.integer(roll.units_per_variant)),
        locale.text("plan.stakes.roll_size_note", error=locale.probability(roll.error_rate)),
    )
    yield (
        "roll_gain",
        _cell(locale, roll.gain, locale.money),
        locale.text("plan.stakes.roll_gain_note", perfect=locale.money(roll.perfect_gain)),
    )
