"""Allocation: an experiment prepared for serving, and one answer per unit, without a database.

`prepare` runs when something changed, `allocate` per request: two hashes, one look-up, one
pseudonym and one signature.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from klartext.experiments.assignment import (
    MILLION,
    Assigner,
    HoldOut,
    Reason,
    Split,
    in_audience,
)
from klartext.experiments.errors import KlartextError
from klartext.experiments.experiment import Experiment, Json
from klartext.experiments.identity import Pseudonymiser, open_key
from klartext.experiments.policies import PolicyVersion
from klartext.experiments.tokens import Allocation, Signer, Stub

if TYPE_CHECKING:
    from klartext.experiments.registry import Registered
    from klartext.experiments.workspace import Workspace


class AllocationError(KlartextError):
    """A request that cannot be answered; ``reason`` is a stable code."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Request:
    """Who asks.

    Parameters
    ----------
    unit
        Raw id, as it is.
    context
        Attributes for the audience.
    force
        Variant to serve for QA; never analysed.
    allocation_id
        An earlier answer for this unit: it keeps its variant although weights have moved.
    """

    unit: str
    context: Mapping[str, object] = field(default_factory=dict)
    force: str | None = None
    allocation_id: str | None = None


@dataclass(frozen=True, slots=True)
class Served:
    """What all answers with one variant for one reason share."""

    variant: str
    payload: Mapping[str, Json]
    propensity: int | None
    reason: Reason
    stub: Stub


class Answer(NamedTuple):
    """What a unit is served. ``propensity`` is in millionths, None when not randomised."""

    allocation_id: str
    pseudonym: int
    policy_version: int | None
    served: Served


@dataclass(frozen=True, slots=True)
class Serving:
    """One experiment, ready to serve.

    Parameters
    ----------
    experiment, version, policy_version
        Key, spec version, and the version of the weights: of the policy, in an A/B test of the
        spec; None for a bandit without a policy.
    expose_always
        The spec says ``exposure: on_allocation``.
    nobody
        Why nobody is assigned at present; None while units are.
    hold_out
        Units of a programme that this experiment may not have.
    """

    experiment: Experiment
    version: int
    policy_version: int | None
    expose_always: bool
    nobody: Reason | None
    assigner: Assigner
    split: Split
    assigned: tuple[Served, ...]
    forced: Mapping[str, Served]
    refused: Mapping[Reason, Served]
    hold_out: HoldOut | None = None


def prepare(
    registered: Registered,
    *,
    slots: Iterable[tuple[int, int]],
    policy: PolicyVersion | None,
    signer: Signer,
    hold_out: HoldOut | None = None,
) -> Serving:
    """Return the experiment ready to serve.

    Parameters
    ----------
    registered
        As it stands.
    slots
        Ranges it holds in its layer.
    policy
        Policy in force; None for an A/B test, and for a bandit whose policy cannot be had: its
        units get the control, reason ``fallback``.
    signer
        Signs the allocation ids.
    hold_out
        From `klartext.experiments.programme.hold_out`.
    """
    experiment = registered.experiment
    weights = {variant.key: variant.weight for variant in experiment.variants}
    if policy is not None:
        weights = dict(policy.weights)
    policy_version = policy.version if policy else None
    if experiment.bandit is None:
        policy_version = registered.version
    versions = (registered.version, policy_version)

    def served(key: str, propensity: int | None, reason: Reason) -> Served:
        stub = signer.stub(experiment.key, versions, key, propensity, reason)
        return Served(key, experiment.variant(key).payload, propensity, reason, stub)

    off: tuple[Reason, ...] = (
        "outside_audience",
        "outside_traffic",
        "not_running",
        "paused",
        "fallback",
        "held_out",
    )
    nobody = nobody_is_assigned(registered.status)
    if nobody is None and experiment.bandit is not None and policy is None:
        nobody = "fallback"
    return Serving(
        experiment=experiment,
        version=registered.version,
        policy_version=policy_version,
        expose_always=experiment.exposure == "on_allocation",
        nobody=nobody,
        assigner=Assigner.of(layer=experiment.layer, experiment=experiment.key, slots=slots),
        split=Split.of(weights.items()),
        assigned=tuple(served(key, weight, "assigned") for key, weight in weights.items()),
        forced={key: served(key, None, "forced") for key in weights},
        refused={reason: served(experiment.control, None, reason) for reason in off},
        hold_out=hold_out,
    )


def allocate(
    serving: Serving,
    request: Request,
    *,
    pseudonymiser: Pseudonymiser,
    signer: Signer,
    now: datetime,
) -> Answer:
    """Return what the unit is served: the control for every reason but ``assigned``, ``forced``.

    First match: forced, not running, held out, kept by its own allocation id, outside the
    audience, outside the traffic, assigned by hash.

    Raises
    ------
    AllocationError
        The forced variant does not exist, or the allocation id belongs to another experiment or
        unit.
    klartext.experiments.tokens.TokenError
        The allocation id was not issued here, or was altered.
    """
    unit = request.unit.encode()
    pseudonym = pseudonymiser.unit(request.unit)
    bucket = serving.assigner.bucket(unit)
    if request.force is not None:
        served = _forced(serving, request.force)
    elif serving.nobody is not None:
        served = serving.refused[serving.nobody]
    elif serving.hold_out is not None and serving.hold_out.holds(unit):
        served = serving.refused["held_out"]
    else:
        if request.allocation_id is not None:
            kept = _kept(serving, signer.verify(request.allocation_id), pseudonym)
            if kept is not None:
                return Answer(request.allocation_id, pseudonym, kept[0], kept[1])
        audience = serving.experiment.audience
        if audience and not in_audience(audience, request.context):
            served = serving.refused["outside_audience"]
        elif not serving.assigner.in_traffic(unit):
            served = serving.refused["outside_traffic"]
        else:
            served = serving.assigned[serving.split.index(bucket)]
    allocation_id = signer.seal(served.stub, bucket, now, pseudonym)
    return Answer(allocation_id, pseudonym, serving.policy_version, served)


def nobody_is_assigned(status: str) -> Reason | None:
    """Return why an experiment with this status assigns no unit; None when it does."""
    match status:
        case "running":
            return None
        case "paused":
            return "paused"
        case _:
            return "not_running"


def _forced(serving: Serving, variant: str) -> Served:
    if variant not in serving.forced:
        known = ", ".join(serving.forced)
        raise AllocationError(
            "unknown-variant",
            f"{serving.experiment.key} has no variant of that name; it has {known}",
        )
    return serving.forced[variant]


def _kept(
    serving: Serving, earlier: Allocation, pseudonym: int
) -> tuple[int | None, Served] | None:
    """Return policy version and answer of an earlier allocation, or None when it ended."""
    if (earlier.experiment, earlier.pseudonym) != (serving.experiment.key, pseudonym):
        raise AllocationError(
            "foreign-allocation-id", "the allocation id belongs to another experiment or unit"
        )
    if earlier.reason != "assigned" or earlier.variant not in serving.split.variants:
        return None
    current = serving.assigned[serving.split.variants.index(earlier.variant)]
    if not current.propensity:
        return None  # a variant at weight zero was taken out of service
    kept = Served(current.variant, current.payload, earlier.propensity, "assigned", current.stub)
    return earlier.policy_version, kept


def share(propensity: int | None) -> float | None:
    """Return a propensity in millionths as a fraction.

    Examples
    --------
    >>> share(333_334)
    0.333334
    """
    return None if propensity is None else propensity / MILLION


def open_signer(workspace: Workspace) -> Signer:
    """Return the signer of a workspace; its key lies beside the pseudonym key.

    A lost key is replaced by a new one: allocation ids issued before are then refused, and no
    fact is lost. Processes that serve one workspace share the file.

    Raises
    ------
    KlartextError
        The key file can be read by others, or holds no key.
    """
    beside = workspace.key_file.with_suffix(f".signing{workspace.key_file.suffix}")
    return Signer.of(open_key(beside))
