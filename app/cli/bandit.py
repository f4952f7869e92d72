"""Commands: bandit update, bandit show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from klartext.app.cli.actor import ActorOption, actor_name
from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json

if TYPE_CHECKING:
    from klartext.app.usecases.bandits import Update
    from klartext.experiments.policies import PolicyVersion

Key: TypeAlias = Annotated[str, typer.Argument(help="Key of the experiment.", show_default=False)]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    group = typer.Typer(
        name="bandit", no_args_is_help=True, help="Move a bandit's weights and show its policies."
    )
    group.command("update")(update)
    group.command("show")(show)
    app.add_typer(group)


def update(
    context: typer.Context,
    key: Key,
    actor: ActorOption = None,
    json: Json = False,
) -> None:
    """Publish the weights that follow from the mature rewards.

    A new policy version reaches running services within two seconds. Without new mature rewards
    the weights stay, so it may run as often as you like.

    For example:

      klartext bandit update subject-bandit
    """
    from klartext.app.usecases import bandits  # noqa: PLC0415 - heavy

    done = bandits.update(open_session(context), key, actor=actor_name(actor))
    if json:
        print_json(
            {
                "schema": "klartext/bandit-update/v1",
                "experiment": key,
                "outcome": done.outcome,
                "immature_units": done.immature,
                "policy": _document(done.policy),
            }
        )
        return
    log(_sentence(done))
    _print(done.policy)


def show(
    context: typer.Context,
    key: Key,
    json: Json = False,
) -> None:
    """Show the policy in force, its evidence, and the versions before it.

    For example:

      klartext bandit show subject-bandit
    """
    from klartext.app.usecases import bandits  # noqa: PLC0415 - heavy

    shown = bandits.show(open_session(context), key)
    if json:
        print_json(
            {
                "schema": "klartext/bandit/v1",
                "experiment": key,
                "status": shown.registered.status,
                "policies": [_document(policy) for policy in shown.policies],
            }
        )
        return
    if not shown.policies:
        log(f"{key} has no policy yet: its start weights are published when it starts to serve.")
        return
    _print(shown.policies[-1])
    earlier = [
        [str(policy.version), _instant(policy), _weights(policy)]
        for policy in reversed(shown.policies[:-1])
    ]
    if earlier:
        typer.echo("")
        typer.echo(columns(["EARLIER", "PUBLISHED", "WEIGHTS"], earlier))


def _sentence(done: Update) -> str:
    waiting = f" {done.immature} exposed units are not mature yet." if done.immature else ""
    version = done.policy.version
    match done.outcome:
        case "published":
            return f"Published policy version {version}.{waiting}"
        case "no-rewards":
            return f"No mature units yet: the weights of version {version} stay.{waiting}"
        case "no-change":
            return f"No new mature rewards: version {version} stays.{waiting}"


def _print(policy: PolicyVersion) -> None:
    typer.echo(f"{policy.experiment}  policy {policy.version}  {_instant(policy)}")
    arms = {arm.variant: arm for arm in policy.evidence.arms} if policy.evidence else {}
    rows = []
    for (variant, weight), (_, floor) in zip(policy.weights, policy.floors, strict=True):
        arm = arms.get(variant)
        seen = [str(arm.trials), str(arm.successes), _percent(arm.best)] if arm else ["–"] * 3
        rows.append([variant, _percent(weight), _percent(floor), *seen])
    reward = policy.evidence.reward if policy.evidence else "reward"
    header = ["VARIANT", "WEIGHT", "FLOOR", "MATURE UNITS", reward.upper(), "P(BEST)"]
    typer.echo(columns(header, rows))
    if policy.watermark:
        typer.echo(
            f"facts up to batch {policy.watermark.batch}, "
            f"complete until {policy.watermark.cutoff:%Y-%m-%d %H:%M} UTC"
        )
    typer.echo(f"sha256 {policy.sha256}")


def _document(policy: PolicyVersion) -> dict[str, Any]:
    evidence = policy.evidence
    return {
        "version": policy.version,
        "parent": policy.parent,
        "weights": dict(policy.weights),
        "floors": dict(policy.floors),
        "watermark": policy.watermark
        and {"batch": policy.watermark.batch, "cutoff": policy.watermark.cutoff.isoformat()},
        "evidence": evidence
        and {
            "reward": evidence.reward,
            "direction": evidence.direction,
            "arms": [
                {
                    "variant": arm.variant,
                    "mature_units": arm.trials,
                    "rewarded_units": arm.successes,
                    "probability_best": arm.best / 1_000_000,
                }
                for arm in evidence.arms
            ],
        },
        "published_at": policy.published_at.isoformat(),
        "sha256": policy.sha256,
    }


def _instant(policy: PolicyVersion) -> str:
    return f"{policy.published_at:%Y-%m-%d %H:%M:%S} UTC"


def _weights(policy: PolicyVersion) -> str:
    return ", ".join(f"{variant} {_percent(weight)}" for variant, weight in policy.weights)


def _percent(millionths: int) -> str:
    return f"{millionths / 10_000:.2f}%"
