"""Verdicts beside each other: as recorded, as they are now, and under revised assumptions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from klartext.experiments.changes import Change
from klartext.experiments.experiment import Json
from klartext.experiments.revisions import Revision


@dataclass(frozen=True, slots=True)
class TreatmentVerdict:
    """What one treatment was decided to be, and on which net benefit of the decision view.

    ``net_benefit`` and ``interval`` are the measured ones; None where they could not be estimated.
    """

    variant: str
    verdict: str
    rule: str
    net_benefit: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict of one analysis, with what it was made of: spec, facts, assumptions.

    ``revision`` is the number of the signed revision of its assumptions; None: as registered.
    """

    verdict: str
    rule: str
    variant: str | None
    registered: bool
    version: int
    spec_sha256: str
    batch: int
    cutoff: datetime
    revision: int | None
    treatments: tuple[TreatmentVerdict, ...]

    def of(self, variant: str) -> TreatmentVerdict | None:
        """Return the verdict on one treatment; None when it was none then."""
        return next((one for one in self.treatments if one.variant == variant), None)


@dataclass(frozen=True, slots=True)
class Past:
    """A recorded look: it stands as it was recorded, whatever has changed since.

    Parameters
    ----------
    look, taken_at, actor
        Which one, and who took it when.
    verdict
        What it said.
    result_sha256
        SHA-256 of the stored document.
    changes
        How the spec in force differs from the one it was taken under; empty when it does not.
    """

    look: int
    taken_at: datetime
    actor: str
    verdict: Verdict
    result_sha256: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Revised:
    """A signed revision of assumptions: both verdicts, on the same facts.

    Parameters
    ----------
    revision
        Who revised what, when and why.
    at_look
        On the facts of the recorded look it names: as recorded there, and revised; None when no
        look was recorded before it.
    reproduced
        Whether the registered assumptions gave the recorded figures again when it was made: else
        facts of the look have changed since, by an erasure or a correction of units, or another
        version of Klartext reads them.
    at_revision
        On the facts there were when it was made: as registered, and revised.
    now
        On the facts so far; None where nobody computed it.
    """

    revision: Revision
    at_look: tuple[Verdict, Verdict] | None
    reproduced: bool | None
    at_revision: tuple[Verdict, Verdict]
    now: tuple[Verdict, Verdict] | None = None


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside an analysis: the last recorded look, and the revision in force."""

    past: Past | None
    revised: Revised | None


def verdict_of(document: Mapping[str, Any]) -> Verdict:
    """Return the verdict of an analysis from its document, ``klartext/analysis/v1``."""
    decision, watermark = document["decision"], document["watermark"]
    return Verdict(
        verdict=decision["verdict"],
        rule=decision["rule"],
        variant=decision["variant"],
        registered=document["registered"],
        version=document["version"],
        spec_sha256=document["spec_sha256"],
        batch=watermark["batch"],
        cutoff=datetime.fromisoformat(watermark["cutoff"]),
        revision=document.get("revision"),
        treatments=tuple(_treatment(one) for one in document["by_variant"]),
    )


def _treatment(document: Mapping[str, Any]) -> TreatmentVerdict:
    outlook, decision = document["outlook"], document["decision"]
    interval = outlook["net_benefit_interval"]
    return TreatmentVerdict(
        variant=document["variant"],
        verdict=decision["verdict"],
        rule=decision["rule"],
        net_benefit=outlook["net_benefit"],
        interval=None if interval is None else (interval[0], interval[1]),
    )


def same_figures(one: Verdict, other: Verdict) -> bool:
    """Whether two verdicts on the same facts agree: in every verdict, and in NB to a millionth."""
    if (one.verdict, one.rule, one.variant) != (other.verdict, other.rule, other.variant):
        return False
    pairs = zip(one.treatments, other.treatments, strict=False)
    return len(one.treatments) == len(other.treatments) and all(
        (a.variant, a.verdict, a.rule) == (b.variant, b.verdict, b.rule)
        and _alike(a.net_benefit, b.net_benefit)
        for a, b in pairs
    )


def _alike(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= 1e-6 * max(abs(one), abs(other), 1.0)


def difference(one: TreatmentVerdict | None, other: TreatmentVerdict | None) -> float | None:
    """Return how much more net benefit the other has; None where one of them has none."""
    if one is None or other is None or one.net_benefit is None or other.net_benefit is None:
        return None
    return other.net_benefit - one.net_benefit


def beside_to_json(beside: Beside) -> dict[str, Json]:
    """Return what stands beside an analysis, to be put into its document."""
    found: dict[str, Json] = {}
    if beside.past is not None:
        found["last_look"] = past_to_json(beside.past)
    if beside.revised is not None:
        found["revision"] = revised_to_json(beside.revised)
    return found


def past_to_json(past: Past) -> dict[str, Json]:
    """Return a recorded look with what has changed in the spec since."""
    return {
        "look": past.look,
        "taken_at": past.taken_at.isoformat(),
        "actor": past.actor,
        "result_sha256": past.result_sha256,
        **_verdict(past.verdict),
        "changes": [
            {
                "path": change.path,
                "before": change.before,
                "after": change.after,
                "effect": change.effect,
                "reason": change.reason,
            }
            for change in past.changes
        ],
    }


def revised_to_json(revised: Revised) -> dict[str, Json]:
    """Return a revision with both verdicts on each state of the facts, and their difference."""
    revision = revised.revision
    document: dict[str, Json] = {
        "revision": revision.number,
        "revised_at": revision.revised_at.isoformat(),
        "actor": revision.actor,
        "comment": revision.comment,
        "version": revision.version,
        "spec_sha256": revision.spec_sha256,
        "sha256": revision.sha256,
        "changes": [
            {
                "input": change.path,
                "unit": change.unit,
                "registered": f"{change.registered:f}",
                "before": f"{change.before:f}",
                "after": f"{change.after:f}",
            }
            for change in revision.changes
        ],
        "values": {path: f"{value:f}" for path, value in revision.values.items()},
        "at_revision": _both(revised.at_revision),
    }
    if revised.at_look is not None:
        look = {"look": revision.look, "reproduced": revised.reproduced}
        document["at_look"] = {**look, **_both(revised.at_look)}
    if revised.now is not None:
        document["now"] = _both(revised.now)
    return document


def _both(pair: tuple[Verdict, Verdict]) -> dict[str, Json]:
    registered, revised = pair
    return {
        "registered": _verdict(registered),
        "revised": _verdict(revised),
        "difference": [
            {"variant": one.variant, "net_benefit": difference(registered.of(one.variant), one)}
            for one in revised.treatments
        ],
    }


def _verdict(found: Verdict) -> dict[str, Json]:
    return {
        "verdict": found.verdict,
        "rule": found.rule,
        "variant": found.variant,
        "registered_before": found.registered,
        "version": found.version,
        "spec_sha256": found.spec_sha256,
        "watermark": {"batch": found.batch, "cutoff": found.cutoff.isoformat()},
        "by_variant": [
            {
                "variant": one.variant,
                "verdict": one.verdict,
                "rule": one.rule,
                "net_benefit": one.net_benefit,
                "net_benefit_interval": None if one.interval is None else list(one.interval),
            }
            for one in found.treatments
        ],
    }
