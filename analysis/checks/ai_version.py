"""AI version: whether the model and prompt on the calls are those that were registered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from klartext.analysis.result import Check
from klartext.experiments.experiment import AiModel


@dataclass(frozen=True, slots=True)
class AiCalls:
    """AI calls of one kind; ``prompt`` is None where the call does not say it."""

    variant: str
    model: str
    prompt: str | None
    calls: int


def check(registered: Mapping[str, AiModel | None], seen: Iterable[AiCalls]) -> Check:
    """Check the calls of every variant against its ``ai`` in the spec.

    Parameters
    ----------
    registered
        Per variant of the spec; None for one without AI.
    seen
        Calls that name a variant; those of unknown variants are the business of cost
        completeness.

    Returns
    -------
    Check
        Code ``ai_version``, value the share of calls that differ: ``warning`` for any call with
        another model, another prompt than one that is registered, or in a variant without AI;
        ``info`` when the spec names no model or there are no calls.

    Notes
    -----
    Names are compared as they are: an alias such as ``gpt-4o`` may serve another version
    tomorrow. A call without a prompt says nothing about it. What differs is another
    treatment: register it as a new phase.
    """
    known = [one for one in seen if one.variant in registered]
    total = sum(one.calls for one in known)
    if not total or not any(registered.values()):
        why = "no AI calls name a variant" if not total else "the spec names no model"
        return Check("ai_version", "info", None, why)
    wrong = [one for one in known if not _fits(registered[one.variant], one)]
    share = sum(one.calls for one in wrong) / total
    if not wrong:
        silent = sum(one.calls for one in known if one.prompt is None)
        said = f"; {silent:,} do not say their prompt" if silent else ""
        return Check("ai_version", "ok", 0.0, f"{total:,} calls as registered{said}")
    most = max(wrong, key=lambda one: (one.calls, one.variant, one.model))
    prompt = f" with prompt {most.prompt}" if most.prompt else ""
    detail = f"{share:.1%} of {total:,} calls are not as registered, most of them {most.model}"
    return Check("ai_version", "warning", share, f"{detail}{prompt} in {most.variant}")


def _fits(ai: AiModel | None, call: AiCalls) -> bool:
    if ai is None or ai.model != call.model:
        return False
    return ai.prompt is None or call.prompt is None or ai.prompt == call.prompt
