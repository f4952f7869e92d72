"""Templates: new workspaces and experiments that are valid as they are, with realistic numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.resources import files
from string import Template
from typing import Literal, TypeAlias, get_args

TemplateName: TypeAlias = Literal["mail", "recommendation", "chatbot", "leads"]
TEMPLATES: tuple[TemplateName, ...] = get_args(TemplateName)
FIRST_KEYS: Mapping[TemplateName, str] = {
    "mail": "mail-subject-ai",
    "recommendation": "shop-recommendations",
    "chatbot": "service-chatbot",
    "leads": "landing-pages",
}
WEEKS = 12

_PLAIN_TEXT = re.compile(r"[A-Za-z][\w.@ -]*")
_METRIC_LINE = re.compile(r"^  - \{key: ([a-z0-9_-]+), .*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Blanks:
    """What a template leaves open. ``today`` is in the workspace's time zone."""

    key: str
    owner: str
    currency: str
    today: date


def workspace_files(template: TemplateName, name: str, blanks: Blanks) -> dict[str, str]:
    """Return the files of a new workspace, by path."""
    workspace = Template(_text("klartext.yaml")).substitute(name=name, currency=blanks.currency)
    return {
        "klartext.yaml": workspace,
        "metrics.yaml": _text(f"{template}/metrics.yaml"),
        f"experiments/{blanks.key}.yaml": _filled(template, blanks),
        ".gitignore": ".klartext/\n",
    }


def experiment_text(template: TemplateName, blanks: Blanks, shared: Mapping[str, object]) -> str:
    """Return a new experiment; metrics that are not ``shared`` in its workspace are written out."""
    text = _filled(template, blanks)
    for line in _METRIC_LINE.finditer(_text(f"{template}/metrics.yaml")):
        if line[1] not in shared:
            text = re.sub(rf"^  - {line[1]}$", line[0], text, flags=re.MULTILINE)
    return text


def _filled(template: TemplateName, blanks: Blanks) -> str:
    start = blanks.today + timedelta(days=14 - blanks.today.weekday())  # the Monday after next
    plain = _PLAIN_TEXT.fullmatch(blanks.owner)
    return Template(_text(f"{template}/experiment.yaml")).substitute(
        key=blanks.key,
        owner=blanks.owner if plain else json.dumps(blanks.owner),
        currency=blanks.currency,
        start=start.isoformat(),
        end=(start + timedelta(weeks=WEEKS, days=-1)).isoformat(),
    )


def _text(name: str) -> str:
    place = files("klartext.experiments.spec") / "templates" / name
    return place.read_text(encoding="utf-8")
