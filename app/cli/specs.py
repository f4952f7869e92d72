"""Commands: init, new, validate, schema, show, diff."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from klartext.app.cli.actor import actor_name
from klartext.app.cli.context import log, open_session, print_json
from klartext.experiments.errors import ConfigurationError

if TYPE_CHECKING:
    from klartext.app.usecases.specs import Checked
    from klartext.experiments.errors import Problem

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class TemplateChoice(StrEnum):
    """Uses of AI that a new experiment can start from."""

    mail = "mail"
    recommendation = "recommendation"
    chatbot = "chatbot"
    leads = "leads"


class DocumentKind(StrEnum):
    """Kinds of documents that have a schema."""

    experiment = "experiment"
    metrics = "metrics"
    workspace = "workspace"


Template: TypeAlias = Annotated[
    TemplateChoice, typer.Option("--template", "-t", help="Which use of AI to start from.")
]
Owner: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Who answers for the experiment; default: the user of this computer."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the root."""
    app.command("init")(init)
    app.command("new")(new)
    app.command("validate")(validate)
    app.command("schema")(schema)
    app.command("show")(show)
    app.command("diff")(diff)


def init(
    directory: Annotated[Path, typer.Argument(help="Where; made if it does not exist.")] = Path(),
    template: Template = TemplateChoice.mail,
    owner: Owner = None,
    json: Json = False,
) -> None:
    """Make a workspace with a first experiment.

    Settings, shared metrics and the experiment are commented and valid as they are. Nothing is
    overwritten.

    For example:

      klartext init shop --template recommendation
    """
    from datetime import UTC, datetime  # noqa: PLC0415 - the clock is read here and nowhere deeper

    from klartext.app.usecases import specs  # noqa: PLC0415 - heavy

    paths = specs.init(directory, template.value, owner=actor_name(owner), now=datetime.now(UTC))
    if json:
        print_json({"schema": "klartext/init/v1", "files": [str(path) for path in paths]})
        return
    for path in paths:
        typer.echo(path)
    change = "" if directory == Path() else f"cd {directory} && "
    log(f"\nRead the experiment and put in your numbers. Next: {change}klartext validate")


def new(
    context: typer.Context,
    key: Annotated[str, typer.Argument(help="Key of the new experiment.", show_default=False)],
    template: Template = TemplateChoice.mail,
    owner: Owner = None,
    json: Json = False,
) -> None:
    """Write a new experiment into experiments/KEY.yaml.

    For example:

      klartext new landing-pages --template leads --owner lena.vogt
    """
    from klartext.app.usecases import specs  # noqa: PLC0415 - heavy

    path = specs.new(open_session(context), key, template.value, owner=actor_name(owner))
    if json:
        print_json({"schema": "klartext/new/v1", "key": key, "file": str(path)})
        return
    typer.echo(path)
    log("\nPut in your numbers. Next: klartext validate")


def validate(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="YAML files; default: all of the workspace.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Check experiments.

    Every mistake is named at once, with line, rule and fix. Warnings name what is legal but
    unwise. Exit status 1 if there is a mistake.

    For example:

      klartext validate

      klartext validate experiments/mail-subject-ai.yaml --json
    """
    from klartext.app.usecases import specs  # noqa: PLC0415 - heavy

    try:
        checked = specs.validate(open_session(context), files or ())
    except ConfigurationError as error:
        checked = (specs.refused(error),)
    if json:
        print_json({"schema": "klartext/validation/v1", "files": [_checked(x) for x in checked]})
    else:
        _print_checked(checked)
    if any(one.problems for one in checked):
        raise typer.Exit(1)


def schema(
    kind: Annotated[
        DocumentKind, typer.Option("--kind", "-k", help="Which document.")
    ] = DocumentKind.experiment,
    _json: Annotated[bool, typer.Option("--json", help="The output is JSON anyway.")] = False,
) -> None:
    """Print the JSON Schema of a document.

    It is draft-07; editors complete and check with it. ``validate`` checks more.

    For example:

      klartext schema --kind experiment > experiment.schema.json
    """
    from klartext.experiments.spec.json_schema import json_schema  # noqa: PLC0415 - heavy

    print_json(json_schema(kind.value))


def show(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(help="A file, KEY, or KEY@VERSION.", show_default=False)
    ],
    resolved: Annotated[
        bool, typer.Option("--resolved", help="With all defaults and metrics written out.")
    ] = False,
    json: Json = False,
) -> None:
    """Show an experiment, written or resolved.

    The resolved form has all defaults and is the one that is hashed. A KEY is the registered
    version in force, or the file of the workspace if there is none.

    For example:

      klartext show mail-subject-ai --resolved
    """
    from klartext.app.usecases import specs  # noqa: PLC0415 - heavy

    shown = specs.show(open_session(context), subject)
    if json:
        document = {"name": shown.name, "key": shown.experiment.key, "sha256": shown.sha256}
        forms = {"resolved": specs.resolved_form(shown), "source": shown.source}
        print_json({"schema": "klartext/show/v1", **document, **forms})
    elif resolved:
        import yaml  # noqa: PLC0415 - heavy

        log(f"{shown.name}  sha256 {shown.sha256}")
        form = specs.resolved_form(shown)
        typer.echo(yaml.safe_dump(form, sort_keys=False, allow_unicode=True, width=100), nl=False)
    else:
        log(f"{shown.name}  sha256 {shown.sha256}")
        typer.echo(shown.source, nl=not shown.source.endswith("\n"))


def diff(
    context: typer.Context,
    before: Annotated[str, typer.Argument(help="A file, KEY, or KEY@VERSION.", show_default=False)],
    after: Annotated[
        str | None,
        typer.Argument(help="Likewise; default: the file, against what is registered."),
    ] = None,
    json: Json = False,
) -> None:
    """Show what changes and what that means.

    By key, with what each change means for a running test.
    safe: may be applied at any time. new phase: results before and after are not one test.
    refused: it would be another question. Exit status 1 if anything differs.

    For example:

      klartext diff mail-subject-ai

      klartext diff mail-subject-ai@1 experiments/mail-subject-ai.yaml
    """
    from klartext.app.usecases import specs  # noqa: PLC0415 - heavy

    compared = specs.diff(open_session(context), before, after)
    if json:
        changes = [
            {
                "path": change.path,
                "before": change.before,
                "after": change.after,
                "effect": change.effect,
                "reason": change.reason,
            }
            for change in compared.changes
        ]
        names = {"before": compared.before, "after": compared.after, "started": compared.started}
        print_json({"schema": "klartext/diff/v1", **names, "changes": changes})
    else:
        log(f"{compared.before} -> {compared.after}")
        for change in compared.changes:
            typer.echo(str(change))
        log(_meaning([change.effect for change in compared.changes], started=compared.started))
    if compared.changes:
        raise typer.Exit(1)


def _meaning(effects: list[str], *, started: bool) -> str:
    if not effects:
        return "No difference: the resolved forms are equal."
    if not started:
        return "The test has not started: every change may be applied."
    if all(effect == "safe" for effect in effects):
        return "The test has started; these changes may be applied: klartext apply"
    return "The test has started; this would not be applied as a change to it."


def _print_checked(checked: tuple[Checked, ...]) -> None:
    for one in checked:
        for problem in one.problems:
            typer.echo(f"error: {problem} [{problem.code}]")
        for warning in one.warnings:
            typer.echo(f"warning: {warning} [{warning.code}]")
        if one.valid:
            known = f"  {one.key}  sha256 {one.sha256[:12]}" if one.sha256 else ""
            typer.echo(f"ok: {one.file}{known}")
    errors = sum(len(one.problems) for one in checked)
    warnings = sum(len(one.warnings) for one in checked)
    log(f"{_count(len(checked), 'file')}, {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    if not errors and any(one.key for one in checked):
        log("Next: klartext apply")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _checked(one: Checked) -> dict[str, Any]:
    found = [
        *(_problem(problem, "error") for problem in one.problems),
        *(_problem(warning, "warning") for warning in one.warnings),
    ]
    known = {"file": one.file, "valid": one.valid, "key": one.key, "sha256": one.sha256}
    return {**known, "problems": found}


def _problem(problem: Problem, severity: str) -> dict[str, Any]:
    return {
        "severity": severity,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "message": problem.message,
        "fix": problem.fix,
        "code": problem.code,
    }
