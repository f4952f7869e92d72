import re
from collections.abc import Iterator
from datetime import date
from typing import Any, cast, get_args

import pytest
import yaml

from klartext.experiments.spec.json_schema import Kind, json_schema
from klartext.experiments.spec.scaffold import TEMPLATES, Blanks, TemplateName, workspace_files
from tests.experiments.spec.conftest import EXPERIMENT, changed

jsonschema = pytest.importorskip("jsonschema", reason="a development tool, not a dependency")
KINDS: tuple[Kind, ...] = get_args(Kind)


def errors(kind: Kind, text: str) -> list[str]:
    data = Yaml12(text).get_single_data()
    validator = jsonschema.Draft7Validator(json_schema(kind))
    return [error.message for error in validator.iter_errors(data)]


class Yaml12(yaml.SafeLoader):
    """PyYAML without 1.1's dates, sexagesimals and yes/no."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as PyYAML declares it
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if not tag.endswith(("timestamp", "bool", "int"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9]+$"), list("-+0123456789")
)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_a_schema_of_draft_07(kind: Kind) -> None:
    schema = json_schema(kind)
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert "$defs" not in str(schema)
    assert "Input" not in str(schema)


@pytest.mark.parametrize("template", TEMPLATES)
def test_templates_follow_it(template: TemplateName) -> None:
    files = workspace_files(template, "shop", Blanks("first", "lena", "EUR", date(2027, 1, 1)))
    assert errors("workspace", files["klartext.yaml"]) == []
    assert errors("metrics", files["metrics.yaml"]) == []
    assert errors("experiment", files["experiments/first.yaml"]) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("title:", "titel:"),
        ("weight: 50%", "weight: 0.5"),
        ("5000 EUR", "5000"),
        ("kind: ab ", "kind: abc "),
        ("category: engineering", "category: coding"),
        ("window: 14d", "window: 14"),
        ("total_units: 40000", "total_units: many"),
        ("contribution_margin: {base: 42%", "contribution_margin: {base: 42"),
        ("realised: 50%, ", ""),
        ("2027-03-31", "31.3.2027"),
    ],
)
def test_it_finds_what_one_key_can_show(old: str, new: str) -> None:
    assert errors("experiment", EXPERIMENT) == []
    assert errors("experiment", changed((old, new)))


def keys(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, inner in schema.get("properties", {}).items():
        yield f"{path}.{name}", inner
    for name, inner in schema.get("definitions", {}).items():
        yield from keys(inner, name)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_described_for_editors(kind: Kind) -> None:
    definitions = json_schema(kind).get("definitions", {})
    for path, key in keys(json_schema(kind)):
        reference = cast("str", key.get("$ref", "")).rpartition("/")[2]
        description = key.get("description") or definitions.get(reference, {}).get("description")
        assert description, path
        assert "ge=" not in description
