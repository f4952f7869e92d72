"""Commands: apply, list, status, start, pause, stop, abandon, export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from klartext.app.cli import integrity
from klartext.app.cli.actor import ActorOption, actor_name
from klartext.app.cli.columns import columns
from klartext.app.cli.context import log, open_session, print_json
from klartext.experiments.errors import KlartextError

if TYPE_CHECKING:
    from datetime import datetime

    from klartext.app.usecases.standing import Deliveries, Standing
    from klartext.experiments.registry import Registered, Status

Key: TypeAlias = Annotated[str, typer.Argument(help="Key of the experiment.", show_default=False)]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_REASON = "Why, in a sentence; kept in the audit log."
Reason: TypeAlias = Annotated[str, typer.Option("--reason", "-r", help=_REASON)]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command("apply")(apply)
    app.command("list")(list_experiments)
    app.command("status")(status)
    app.command("start")(start)
    app.command("pause")(pause)
    app.command("stop")(stop)
    app.command("abandon")(abandon)
    app.command("export")(export)
    integrity.register(app)


def apply(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="YAML files; default: all in experiments/.", show_default=False),
    ] = None,
    actor: ActorOption = None,
    json: Json = False,
) -> None:
    """Register experiments as immutable versions.

    All named files or none. Applying the same text again changes nothing. A started experiment
    takes safe changes only (texts, more traffic, exploratory metrics).

    For example:

      klartext apply

      klartext apply experiments/mail-subject.yaml --as lena.vogt
    """
    from klartext.app.usecases import registry  # noqa: PLC0415 - heavy

    applied = registry.apply(open_session(context), files or (), actor=actor_name(actor))
    if json:
        documents = [
            {**_document(one.experiment), "file": one.file, "outcome": one.outcome}
            for one in applied
        ]
        print_json({"schema": "klartext/apply/v1", "experiments": documents})
        return
    rows = [
        [
            one.experiment.key,
            one.outcome,
            str(one.experiment.version),
            one.experiment.status,
            one.experiment.sha256[:12],
            one.file,
        ]
        for one in applied
    ]
    typer.echo(columns(["KEY", "OUTCOME", "VERSION", "STATUS", "SHA-256", "FILE"], rows))
    drafts = [one.experiment.key for one in applied if one.experiment.status == "draft"]
    if drafts:
        log(f"Next: klartext start {drafts[0]}")


def list_experiments(context: typer.Context, json: Json = False) -> None:
    """List the registered experiments with their status.

    For example:

      klartext list

      klartext list --json
    """
    from klartext.app.usecases import registry  # noqa: PLC0415 - heavy

    session = open_session(context)
    found = registry.overview(session)
    if json:
        documents = [
            {**_document(experiment), "since": since.isoformat()} for experiment, since in found
        ]
        print_json({"schema": "klartext/list/v1", "experiments": documents})
        return
    rows = [
        [
            one.key,
            one.status,
            _date(since, one),
            one.experiment.kind,
            str(one.version),
            one.experiment.title,
        ]
        for one, since in found
    ]
    if rows:
        typer.echo(columns(["KEY", "STATUS", "SINCE", "KIND", "VERSION", "TITLE"], rows))
    else:
        waiting = len(session.workspace.experiment_files)
        advice = "`klartext apply`" if waiting else "`klartext new KEY`, then `klartext apply`"
        log(f"No experiment is registered; experiments/ holds {waiting} file(s). Next: {advice}")


def status(context: typer.Context, key: Key, json: Json = False) -> None:
    """Show how an experiment stands and what comes next.

    For example:

      klartext status mail-subject
    """
    from klartext.app.usecases import standing  # noqa: PLC0415 - heavy

    found = standing.status(open_session(context), key)
    if json:
        print_json(_standing_document(found))
        return
    typer.echo(_standing_text(found))


def start(context: typer.Context, key: Key, reason: Reason = "", actor: ActorOption = None,
          json: Json = False) -> None:  # fmt: skip
    """Start an experiment, or resume a paused one.

    Starting reserves its traffic in the layer; registration must precede it.

    For example:

      klartext start mail-subject --as lena.vogt
    """
    _move(context, key, "running", (reason, actor), json=json)


def pause(context: typer.Context, key: Key, reason: Reason = "", actor: ActorOption = None,
          json: Json = False) -> None:  # fmt: skip
    """Pause a running experiment.

    No unit is allocated any more; its traffic stays reserved.

    For example:

      klartext pause mail-subject --reason "mail server down"
    """
    _move(context, key, "paused", (reason, actor), json=json)


def stop(context: typer.Context, key: Key, reason: Reason = "", actor: ActorOption = None,
         json: Json = False) -> None:  # fmt: skip
    """Stop an experiment for good.

    Its traffic is free for others; its data can still be loaded and analysed.

    For example:

      klartext stop mail-subject --reason "planned end"
    """
    _move(context, key, "stopped", (reason, actor), json=json)


def abandon(context: typer.Context, key: Key, reason: Reason = "", actor: ActorOption = None,
            json: Json = False) -> None:  # fmt: skip
    """Give an experiment up without a decision.

    It stays on record: started tests are never deleted.

    For example:

      klartext abandon mail-subject --reason "campaign cancelled"
    """
    _move(context, key, "abandoned", (reason, actor), json=json)


def export(
    context: typer.Context,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", show_default=False)
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every registered experiment.")] = False,
) -> None:
    """Write all that is registered as JSON.

    Versions, lifecycle, audit entries, looks, policies and import counts.

    For example:

      klartext export mail-subject > mail-subject.json

      klartext export --all > registry.json
    """
    from klartext.app.usecases.export import export as exported  # noqa: PLC0415 - heavy

    if bool(keys) == all_:
        raise KlartextError("Name the experiments to export, or give --all for every one.")
    print_json(exported(open_session(context), keys or ()))


def _move(
    context: typer.Context, key: str, to: Status, record: tuple[str, str | None], *, json: bool
) -> None:
    from klartext.app.usecases import registry  # noqa: PLC0415 - heavy

    reason, actor = record
    session = open_session(context)
    moved = registry.move(session, key, to, actor=actor_name(actor), reason=reason)
    if json:
        print_json({"schema": "klartext/transition/v1", **_document(moved)})
        return
    typer.echo(f"{key} is {moved.status} (version {moved.version}, {moved.sha256[:12]}).")
    planned = moved.experiment.plan.start
    if to == "running" and planned is not None and session.now() < planned:
        log(f"Started before the planned {_moment(planned, moved)}.")
    log(f"Next: klartext status {key}")


def _document(experiment: Registered) -> dict[str, Any]:
    started, stopped = experiment.started_at, experiment.stopped_at
    return {
        "key": experiment.key,
        "title": experiment.experiment.title,
        "kind": experiment.experiment.kind,
        "registration": experiment.experiment.registration,
        "status": experiment.status,
        "version": experiment.version,
        "sha256": experiment.sha256,
        "recorded_at": experiment.recorded_at.isoformat(),
        "started_at": started.isoformat() if started else None,
        "stopped_at": stopped.isoformat() if stopped else None,
    }


def _standing_document(found: Standing) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415 - only here

    from klartext.analysis.verdicts import beside_to_json  # noqa: PLC0415 - only here
    from klartext.app.usecases.export import json_ready  # noqa: PLC0415 - heavy

    return {
        "schema": "klartext/status/v1",
        **_document(found.experiment),
        "since": found.since.isoformat(),
        "slots": [list(held) for held in found.slots],
        "exposed_units": found.exposed,
        "batches": {kind: json_ready(asdict(one)) for kind, one in found.deliveries.items()},
        "last_look": None,
        "revision": None,
        **beside_to_json(found.beside),
        "policy_version": found.policy_version,
        "next": found.next_command,
    }


def _standing_text(found: Standing) -> str:
    from klartext.app.cli.beside import beside_text  # noqa: PLC0415 - only here

    one = found.experiment
    rows = [
        ("experiment", f"{one.key} – {one.experiment.title}"),
        ("status", f"{one.status} since {_moment(found.since, one)}"),
        ("version", f"{one.version}, SHA-256 {one.sha256}"),
        ("registered", _moment(one.recorded_at, one) + _registered_note(one)),
    ]
    if found.slots:
        held = sum(end - begin for begin, end in found.slots)
        rows.append(("traffic", f"{held / 10_000:g}% of layer {one.experiment.layer}"))
    exposed = "–, no facts were delivered" if found.exposed is None else f"{found.exposed:,}"
    rows.append(("exposed units", exposed))
    rows.extend((f"{kind} imports", _counts(counts)) for kind, counts in found.deliveries.items())
    if found.beside.past is not None:
        past = found.beside.past
        taken = _moment(past.taken_at, one)
        rows.append(("last look", f"{past.verdict.verdict} (look {past.look}, {taken})"))
    if found.policy_version is not None:
        rows.append(("policy", f"version {found.policy_version}"))
    rows.append(("next", found.next_command))
    below = beside_text(found.beside)
    text = "\n".join(f"{name:<18} {said}" for name, said in rows)
    return f"{text}\n\n{below}" if below else text


def _counts(one: Deliveries) -> str:
    return (
        f"{one.imports}: {one.accepted:,} accepted, {one.duplicate:,} duplicate, "
        f"{one.conflict:,} conflict, {one.rejected:,} rejected (all experiments)"
    )


def _registered_note(one: Registered) -> str:
    retrospective = one.experiment.registration == "retrospective"
    return " (retrospective: not before the data existed)" if retrospective else ""


def _moment(instant: datetime, one: Registered) -> str:
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - only here

    return instant.astimezone(ZoneInfo(one.experiment.timezone)).strftime("%Y-%m-%d %H:%M %Z")


def _date(instant: datetime, one: Registered) -> str:
    return _moment(instant, one)[:10]
