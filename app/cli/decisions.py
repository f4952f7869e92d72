"""Commands: approve, reject, preflight, incident, note, assume, watch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from klartext.app.cli.actor import ActorOption, actor_name
from klartext.app.cli.context import Kept, log, open_session, print_json
from klartext.experiments.errors import KlartextError

if TYPE_CHECKING:
    from klartext.app.usecases.signatures import Signed

Key: TypeAlias = Annotated[str, typer.Argument(help="Key of the experiment.", show_default=False)]
Role: TypeAlias = Annotated[str, typer.Option(help="Role the spec asks a signature of.")]
Comment: TypeAlias = Annotated[str, typer.Option(help="Why; it is kept and can be read later.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command("approve")(approve)
    app.command("reject")(reject)
    app.command("preflight")(preflight)
    app.command("incident")(incident)
    app.command("note")(note)
    app.command("assume")(assume)
    app.command("watch")(watch)


def approve(
    context: typer.Context,
    key: Key,
    role: Role,
    comment: Comment,
    actor: ActorOption = None,
    json: Json = False,
) -> None:
    """Sign the GO of an experiment that waits for approval.

    The signature belongs to the latest look and its figures. With the last one asked for, the GO
    holds and the test ends. The owner cannot sign, and nobody can sign twice.

    For example:

      klartext approve mail-subject --role cfo --comment "margin checked" --as m.huber
    """
    _answer(context, key, role=role, comment=comment, actor=actor, approved=True, json=json)


def reject(
    context: typer.Context,
    key: Key,
    role: Role,
    comment: Comment,
    actor: ActorOption = None,
    json: Json = False,
) -> None:
    """Refuse to sign the GO of an experiment that waits for approval.

    The test goes on; a new look opens a new round.

    For example:

      klartext reject mail-subject --role cfo --comment "licence cost is missing" --as m.huber
    """
    _answer(context, key, role=role, comment=comment, actor=actor, approved=False, json=json)


def _answer(
    context: typer.Context,
    key: str,
    *,
    role: str,
    comment: str,
    actor: str | None,
    approved: bool,
    json: bool,
) -> None:
    from klartext.app.usecases import signatures  # noqa: PLC0415 - heavy

    signed = signatures.sign(
        open_session(context),
        key,
        role=role,
        person=actor_name(actor),
        approved=approved,
        comment=comment,
    )
    if json:
        print_json(_round(key, signed))
        return
    found = signed.round
    if found.is_rejected:
        said = "rejected; the test goes on"
    elif found.missing:
        said = f"still to sign until {found.closes_at.date()}: {', '.join(found.missing)}"
    else:
        said = f"all have signed; the experiment is {signed.registered.status}"
    typer.echo(f"Look {found.look} of {key}: {said}.")
    if not open_session(context).workspace.roles:
        log("A typed name is no proof of who signed; klartext.yaml names no roles.")


def _round(key: str, signed: Signed) -> dict[str, object]:
    found = signed.round
    return {
        "schema": "klartext/approval/v1",
        "experiment": key,
        "look": found.look,
        "evidence_sha256": found.evidence,
        "closes_at": found.closes_at.isoformat(),
        "status": signed.registered.status,
        "missing": list(found.missing),
        "signatures": [
            {
                "role": one.role,
                "person": one.person,
                "approved": one.approved,
                "comment": one.comment,
                "signed_at": one.signed_at.isoformat(),
            }
            for one in found.signatures
        ],
    }


def preflight(
    context: typer.Context,
    key: Key,
    check: Annotated[str, typer.Option(help="Check named in the spec.")],
    value: Annotated[str, typer.Option(help="Its result, a number.")],
    evidence: Annotated[Path, typer.Option(help="File that proves it; its hash is kept.")],
    actor: ActorOption = None,
) -> None:
    """Record the result of a check outside the data that a GO needs.

    For example:

      klartext preflight mail-subject --check load-test --value 0.997 --evidence load.json
    """
    from decimal import Decimal, InvalidOperation  # noqa: PLC0415 - only here

    from klartext.app.usecases import signatures  # noqa: PLC0415 - heavy

    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise KlartextError(f"--value is {value!r}: it must be a number such as 0.997.") from error
    found = signatures.record_preflight(
        open_session(context),
        key,
        check=check,
        value=number,
        evidence=evidence,
        actor=actor_name(actor),
    )
    typer.echo(f"{key}: {found.check} is {found.value}, evidence {found.evidence_sha256[:12]}.")


def incident(
    context: typer.Context,
    key: Key,
    reason: Annotated[str, typer.Option(help="What happened; opens an incident.")] = "",
    close: Annotated[int | None, typer.Option(help="Number of the incident to close.")] = None,
    comment: Annotated[str, typer.Option(help="With --close: what was done about it.")] = "",
    actor: ActorOption = None,
) -> None:
    """Report harm that no metric shows, or close an incident.

    A running test is paused at once, and while an incident is open the verdict is STOP.

    For example:

      klartext incident mail-subject --reason "the model wrote a price that does not exist"

      klartext incident mail-subject --close 1 --comment "prompt 8, prices come from the catalogue"
    """
    from klartext.app.usecases import signatures  # noqa: PLC0415 - heavy

    session, name = open_session(context), actor_name(actor)
    if (close is None) == (not reason):
        raise KlartextError("Say --reason to open an incident, or --close NUMBER to close one.")
    if close is None:
        found = signatures.report_incident(session, key, actor=name, reason=reason)
        typer.echo(f"Incident {found.number} of {key} is open.")
        log(f"Next: klartext incident {key} --close {found.number} --comment ...")
        return
    signatures.close_incident(session, key, close, actor=name, comment=comment)
    typer.echo(f"Incident {close} of {key} is closed.")
    log(f"A paused test goes on with: klartext start {key}")


def note(
    context: typer.Context,
    key: Key,
    text: Annotated[str, typer.Argument(help="What to remember.", show_default=False)],
    actor: ActorOption = None,
) -> None:
    """Leave a note in the audit log of an experiment.

    For example:

      klartext note mail-subject "newsletter went out twice on 3 March, both variants alike"
    """
    from klartext.app.usecases import signatures  # noqa: PLC0415 - heavy

    at = signatures.note(open_session(context), key, text, actor=actor_name(actor))
    typer.echo(f"Noted at {at.isoformat(timespec='seconds')}.")


def assume(
    context: typer.Context,
    key: Key,
    values: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT=VALUE...",
            help="Inputs by path, as `analyze` names them; several with commas or spaces.",
            show_default=False,
        ),
    ],
    comment: Comment,
    actor: ActorOption = None,
    json: Json = False,
) -> None:
    """Sign other values of business inputs, and show both verdicts.

    What is recorded stands: the last look is decided again on its own facts, and so is the present,
    once as registered and once as revised. Only business inputs can be revised; the registered
    value of an input withdraws its revision.

    For example:

      klartext assume mail-subject value.revenue.contribution_margin=38% --comment "DB 2026"

      klartext assume mail-subject rollout.persistence=60%,rollout.share=50% --comment "smaller"
    """
    from klartext.analysis.verdicts import revised_to_json  # noqa: PLC0415 - only here
    from klartext.app.cli.beside import revised_text  # noqa: PLC0415 - only here
    from klartext.app.usecases import assumptions  # noqa: PLC0415 - heavy

    session = open_session(context)
    found = assumptions.assume(session, key, values, comment=comment, actor=actor_name(actor))
    if json:
        print_json({"schema": "klartext/revision/v1", "experiment": key, **revised_to_json(found)})
        return
    typer.echo(revised_text(found))
    log("A typed name is no proof of who signed.")
    log(f"Next: klartext report {key} -o report.html")


def watch(
    context: typer.Context,
    every: Annotated[
        float | None,
        typer.Option(
            help="Hours between rounds; without it one round. End it with Ctrl-C.", min=0.01
        ),
    ] = None,
    actor: ActorOption = None,
    kept: Kept = False,
    json: Json = False,
) -> None:
    """Take today's look at every running experiment, and act on it.

    At most one look a day each, so that it may be called as often as you like (cron, or --every).
    An experiment whose data cannot be trusted is paused; messages go to the outbox.

    For example:

      klartext watch --as scheduler

      klartext watch --every 1 --as scheduler
    """
    from klartext.app.usecases import watch as watching  # noqa: PLC0415 - heavy

    name = actor_name(actor)
    while True:
        watched = watching.watch(open_session(context), actor=name, kept=kept)
        if json:
            found = [
                {
                    "experiment": one.experiment,
                    "look": one.look,
                    "verdict": one.verdict,
                    "status": one.status,
                    "reason": one.reason,
                }
                for one in watched
            ]
            print_json({"schema": "klartext/watched/v1", "experiments": found})
        elif not watched:
            typer.echo("No experiment is running.")
        for one in () if json else watched:
            if one.look is None:
                typer.echo(f"{one.experiment}: no look, {one.reason}")
            else:
                typer.echo(f"{one.experiment}: look {one.look} {one.verdict}, {one.status}")
        if every is None:
            return
        time.sleep(every * 3600)
