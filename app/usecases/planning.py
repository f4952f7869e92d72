"""Plan a test from history, and prove a method on re-randomised facts; both only read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import klartext
from klartext.analysis import baseline, percentile_caps, stakes
from klartext.analysis.baseline import MARGIN, Baseline, Given
from klartext.analysis.comparison import Anytime, Fixed, GroupSequential, Mode, evenly
from klartext.analysis.engine import open_engine
from klartext.analysis.estimate import NotEstimable
from klartext.analysis.history import (
    NO_CALLS,
    History,
    Like,
    Population,
    Seen,
    as_exposed,
    read_history,
)
from klartext.analysis.plan_answers import Asked
from klartext.analysis.proposal import Proposal, propose
from klartext.analysis.question import Reading, worth_of
from klartext.analysis.rerandomisation import AaResult, rerandomise, unit_rows
from klartext.analysis.result import Number
from klartext.analysis.stakes import Money
from klartext.app.session import Session
from klartext.app.usecases import specs
from klartext.app.usecases.pages import check_folder, replace_file
from klartext.experiments import caps
from klartext.experiments.documents.forms import MAX_LOOKS
from klartext.experiments.errors import KlartextError, NotFoundError, NotReadyError
from klartext.experiments.experiment import (
    AI_KEYS,
    AI_METRICS,
    MILLION,
    Experiment,
    Metric,
    Saving,
)
from klartext.experiments.watermark import Watermark
from klartext.reports import plan_page
from klartext.reports.language import Language

if TYPE_CHECKING:
    from ibis.backends import BaseBackend

    from klartext.experiments.facts import FactTables

DEFAULT_LOOKBACK = timedelta(days=28)
DEFAULT_LOOKS = {"anytime": 28, "group_sequential": 4, "fixed": 1}
MOST_LOOKS = 400
MOST_UNITS = 10**12
MOST_MONEY = 10**12


@dataclass(frozen=True, slots=True)
class Past:
    """Whose past is read: nobody's unless something is said.

    Parameters
    ----------
    lookback, event, at
        Who was seen, see `Seen`; the look back is 28 days when only another of them is said.
    like
        Key or file of an earlier experiment whose units are history.
    """

    lookback: timedelta | None = None
    event: str | None = None
    at: datetime | None = None
    like: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody asks a plan for; everything left out comes from the spec or from history.

    Parameters
    ----------
    treatment
        Which treatment; None: the one with the smallest share, since it needs most.
    mode, alpha
        None: the spec's.
    looks, spending
        How often the data are read, evenly, and how a group sequential design shares alpha over
        it; None: as the spec plans.
    power
        Probability to show what is expected.
    lifts
        Expected relative lift per metric, beside the spec's; ``margin`` for the margin itself.
    total_units, weeks
        Size to judge; at most one of them.
    units_per_day
        First exposures, all variants.
    population
        Units of Test & Roll.
    cost_per_unit
        AI cost of a treated unit beyond the control's, instead of what spec and history make.
    past
        Whose past the baselines are from.
    baselines
        Numbers per metric, instead of history; ``margin`` for the margin.
    """

    treatment: str | None = None
    mode: Literal["fixed", "anytime", "group_sequential"] | None = None
    alpha: float | None = None
    looks: int | None = None
    spending: Literal["obrien_fleming", "pocock"] | None = None
    power: float = 0.8
    lifts: Mapping[str, float] = field(default_factory=dict)
    total_units: int | None = None
    weeks: int | None = None
    units_per_day: float | None = None
    population: int | None = None
    cost_per_unit: float | None = None
    past: Past = Past()
    baselines: Mapping[str, Given] = field(default_factory=dict)


def plan(session: Session, subject: str, request: Request) -> Proposal:
    """Plan a test of the experiment that ``subject`` names: a file, ``KEY`` or ``KEY@VERSION``.

    Raises
    ------
    NotFoundError
        There is no such experiment, variant or metric.
    NotReadyError
        There is no history of this kind.
    KlartextError
        The request contradicts itself or the spec.
    """
    experiment = specs.show(session, subject).experiment
    treatment = _treatment(experiment, request.treatment)
    asked = _asked(experiment, treatment, request)
    given = _given(experiment, request.baselines)
    history = _history(session, experiment, treatment, request, given)
    found = dict(given)
    if history is not None:
        for metric in (*experiment.metrics, *AI_METRICS):
            if metric.key not in found:
                found[metric.key] = _read(experiment, treatment, metric, history)
    money = _money(experiment, treatment, request, found, history)
    return propose(
        experiment,
        asked,
        found,
        money,
        units_per_day=_units_per_day(experiment, request, history),
        history=history,
    )


def aa(  # noqa: PLR0913 - an experiment, its units, and how often they are split
    session: Session,
    subject: str,
    *,
    population: Population | None,
    repeats: int,
    looks: int,
    seed: int,
    progress: Callable[[int], None],
) -> AaResult:
    """Split the units of an experiment, or of history, again and again; see `rerandomise`.

    ``population`` None takes the experiment's own exposures.

    Raises
    ------
    NotFoundError
        There is no such experiment.
    NotReadyError
        There are no facts, or no mature units.
    KlartextError
        A number is out of its range.
    """
    experiment = specs.show(session, subject).experiment
    for name, number, least, most in (
        ("repeats", repeats, 1, 1_000_000),
        ("looks", looks, 1, MOST_LOOKS),
        ("seed", seed, 0, 2**63),
    ):
        if not least <= number <= most:
            raise KlartextError(f"{name} is {number}: must lie between {least} and {most:,}")
    _treatment(experiment, None)
    with open_engine(session.workspace.engine) as engine:
        tables, watermark = session.see(engine, usage=False)
        if watermark is None:
            raise NotReadyError("there are no facts yet. Deliver some with `klartext ingest`.")
        exposed = as_exposed(experiment, tables, watermark, population or Like(experiment))
        experiment = _capped(experiment, exposed, watermark, engine)
        rows = unit_rows(experiment, exposed, watermark, engine=engine)
    if len(rows.values) == 0:
        raise NotReadyError(
            f"{experiment.key} has no mature units here. Choose others with --history or --like."
        )
    return rerandomise(experiment, rows, repeats=repeats, looks=looks, seed=seed, progress=progress)


def write_page(
    proposal: Proposal, output: Path, language: Language, *, generated_at: datetime
) -> None:
    """Write a plan as one HTML file.

    Raises
    ------
    NotFoundError
        There is no folder to write to.
    """
    check_folder(output)
    content = plan_page.render(
        proposal, language, generated_at=generated_at, version=klartext.__version__
    )
    replace_file(output, content.encode())


def _read(experiment: Experiment, treatment: str, metric: Metric, history: History) -> Baseline:
    """Return the control's baseline; of AI metrics the treatment's too, for limits on a level."""
    control, treated = (
        baseline.from_history(
            experiment,
            metric,
            history.measured(metric, variant),
            units=history.moments[variant].n,
        )
        for variant in (experiment.control, treatment)
    )
    if metric.key not in AI_KEYS or treated.outcome == NO_CALLS:
        return control
    return replace(control, treatment=treated.outcome)


def _treatment(experiment: Experiment, wanted: str | None) -> str:
    weights = {variant.key: variant.weight for variant in experiment.variants}
    if wanted is not None and wanted not in experiment.treatments:
        raise NotFoundError(
            f"{experiment.key} has no treatment {wanted!r}; "
            f"it has {', '.join(experiment.treatments)}."
        )
    possible = [key for key in experiment.treatments if weights[key] > 0]
    chosen = wanted or min(possible, key=lambda key: weights[key], default=None)
    if chosen is None or weights[chosen] == 0 or weights[experiment.control] == 0:
        raise KlartextError(
            f"{experiment.key} gives no units to the control or to the treatment: "
            "nothing can be compared. Give both a weight above 0%."
        )
    return chosen


def _asked(experiment: Experiment, treatment: str, request: Request) -> Asked:
    alpha = float(experiment.inference.alpha) if request.alpha is None else request.alpha
    if not 0 < alpha < 0.5:
        raise KlartextError(f"alpha is {alpha:g}: must lie between 0% and 50%")
    lowest = alpha / len(experiment.treatments) / 2
    if not lowest < request.power < 1:
        raise KlartextError(
            f"power is {request.power:g}: must lie between {lowest:g} (what chance alone gives) "
            "and 100%"
        )
    if request.total_units is not None and request.weeks is not None:
        raise KlartextError("--units and --weeks both say the size: give one of them")
    for name, number in (("units", request.total_units), ("population", request.population)):
        if number is not None and not 2 <= number <= MOST_UNITS:
            raise KlartextError(f"{name} is {number}: must lie between 2 and 10^12")
    if request.weeks is not None and not 1 <= request.weeks <= 520:
        raise KlartextError(f"weeks is {request.weeks}: must lie between 1 and 520")
    if request.units_per_day is not None and not 0 < request.units_per_day <= MOST_UNITS:
        raise KlartextError(f"units per day are {request.units_per_day:g}: must be above 0")
    if request.cost_per_unit is not None and not abs(request.cost_per_unit) <= MOST_MONEY:
        raise KlartextError(
            f"cost per unit is {request.cost_per_unit:g}: must lie between -10^12 and 10^12"
        )
    stated = {key: float(lift) for key, lift in experiment.plan.expected_lift.items()}
    _check_keys(experiment, request.lifts, "--lift")
    return Asked(
        reading=Reading(treatment, _mode(experiment, request), alpha),
        power=request.power,
        lifts={**stated, **request.lifts},
        total_units=request.total_units,
        weeks=request.weeks,
        population=request.population,
    )


def _mode(experiment: Experiment, request: Request) -> Mode:
    name = request.mode or experiment.inference.mode
    looks = DEFAULT_LOOKS[name] if request.looks is None else request.looks
    most = MAX_LOOKS if name == "group_sequential" else MOST_LOOKS  # no spec could register more
    if not 1 <= looks <= most:
        raise KlartextError(f"looks are {looks}: must lie between 1 and {most} ({name})")
    if name == "fixed":
        if looks != 1:
            raise KlartextError("a fixed test has one look; leave out --looks, or choose a --mode")
        return Fixed()
    if name == "anytime":
        return Anytime(evenly(looks))
    spending = request.spending or experiment.inference.spending or "obrien_fleming"
    planned = tuple(map(float, experiment.plan.looks))
    return GroupSequential(spending, planned if planned and not request.looks else evenly(looks))


def _check_keys(experiment: Experiment, named: Mapping[str, object], option: str) -> None:
    known = [metric.key for metric in experiment.metrics]
    if experiment.value:
        known.append(MARGIN)
    known += [metric.key for metric in AI_METRICS]
    for key in named:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise NotFoundError(
                f"{option}: {experiment.key} has no metric {key!r}; it has "
                f"{', '.join(known)}.{hint}"
            )


def _given(experiment: Experiment, stated: Mapping[str, Given]) -> dict[str, Baseline]:
    _check_keys(experiment, stated, "--baseline")
    metrics = {metric.key: metric for metric in (*experiment.metrics, *AI_METRICS)}
    return {
        key: baseline.from_given(key, one, metric=metrics.get(key)) for key, one in stated.items()
    }


def _history(
    session: Session,
    experiment: Experiment,
    treatment: str,
    request: Request,
    given: Mapping[str, Baseline],
) -> History | None:
    population = population_of(session, request.past)
    missing = [metric.key for metric in experiment.metrics if metric.key not in given]
    if population is None:
        if not missing:
            return None
        population = Seen(DEFAULT_LOOKBACK)
    with open_engine(session.workspace.engine) as engine:
        tables, watermark = session.see(engine, usage=False)
        if watermark is None:
            raise NotReadyError(
                "there are no facts yet to plan from. Deliver past events with `klartext ingest "
                "FILE --mapping MAPPING`, or give numbers: --baseline METRIC=… for each of "
                f"{', '.join(missing) or MARGIN}."
            )
        exposed = as_exposed(experiment, tables, watermark, population)
        return read_history(
            _capped(experiment, exposed, watermark, engine),
            treatment,
            tables,
            watermark,
            population=population,
            engine=engine,
        )


def _capped(
    experiment: Experiment, exposed: FactTables, watermark: Watermark, engine: BaseBackend
) -> Experiment:
    """Return the experiment with the percentile caps that these units give."""
    found = percentile_caps.at_look(experiment, exposed, watermark, engine=engine)
    return caps.in_force(experiment, {cap.metric: cap for cap in found})


def population_of(session: Session, past: Past) -> Population | None:
    """Return who is asked for; None when nobody is.

    Raises
    ------
    KlartextError
        An earlier experiment and seen units are both asked for.
    """
    named = any(one is not None for one in (past.lookback, past.event, past.at))
    if past.like is None:
        return Seen(past.lookback or DEFAULT_LOOKBACK, past.event, past.at) if named else None
    if named:
        raise KlartextError(
            "--like reads the units of an experiment: --history, --seen and --at do not go with it"
        )
    return Like(specs.show(session, past.like).experiment)


def _money(
    experiment: Experiment,
    treatment: str,
    request: Request,
    baselines: Mapping[str, Baseline],
    history: History | None,
) -> Money:
    if history is not None:
        money = stakes.money_in(experiment, treatment, history, cost_per_unit=request.cost_per_unit)
    else:
        nothing = NotEstimable("no-baseline", "say --baseline margin=MEAN,sd=SD")
        cost: Number = (
            stakes.unit_lines(experiment, treatment)
            if request.cost_per_unit is None
            else request.cost_per_unit
        )
        money = Money(nothing, nothing, None, None, cost)
    margin = baselines.get(MARGIN)
    if margin is None and history is None:
        margin = _derived(experiment, baselines)
    if margin is None or isinstance(margin.outcome, NotEstimable):
        return money
    persistence = float(experiment.rollout.persistence.base) if experiment.rollout else 1.0
    return replace(
        money,
        margin=margin.outcome.mean,
        net_sd=persistence * margin.outcome.variance**0.5,
        treated_net_sd=None,
        nonzero=margin.outcome.nonzero_rate,
        removed=margin.removed,
    )


def _derived(experiment: Experiment, baselines: Mapping[str, Baseline]) -> Baseline | None:
    """Return the margin when one metric makes all of it: its mean and variance times its worth."""
    entries = [entry for entry in experiment.value if not isinstance(entry, Saving)]
    if len(entries) != 1:
        return None
    found = baselines[entries[0].metric]
    if isinstance(found.outcome, NotEstimable):
        return found
    worth = worth_of(entries[0])
    outcome = replace(
        found.outcome,
        kind="mean",
        mean=worth * found.outcome.mean,
        variance=worth**2 * found.outcome.variance,
    )
    return replace(found, outcome=outcome)


def _units_per_day(experiment: Experiment, request: Request, history: History | None) -> Number:
    if request.units_per_day is not None:
        return request.units_per_day
    if history is None:
        return NotEstimable("no-traffic", "say how many units come with --units-per-day")
    if isinstance(history.units_per_day, NotEstimable) or isinstance(history.population, Like):
        return history.units_per_day
    return history.units_per_day * experiment.traffic / MILLION
