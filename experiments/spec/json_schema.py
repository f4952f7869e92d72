"""JSON Schema (draft-07) of the documents, for completion and checks in editors.

It is a little wider than the reader: rules across keys and currencies are checked by ``validate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from klartext.experiments.documents.validation import Model
from klartext.experiments.spec.syntax import ExperimentDocument, MetricsDocument
from klartext.experiments.workspace_document import WorkspaceDocument

Kind: TypeAlias = Literal["experiment", "metrics", "workspace"]
DOCUMENTS: Mapping[Kind, type[Model]] = {
    "experiment": ExperimentDocument,
    "metrics": MetricsDocument,
    "workspace": WorkspaceDocument,
}


def json_schema(kind: Kind) -> dict[str, Any]:
    """Return the JSON Schema of one kind of document."""
    schema = DOCUMENTS[kind].model_json_schema(by_alias=True, ref_template="#/definitions/{model}")
    definitions = schema.pop("$defs", {})
    title = f"klartext/{kind}/v1"
    whole = {"$schema": "http://json-schema.org/draft-07/schema#", **schema, "title": title}
    if definitions:
        whole["definitions"] = definitions
    draft_07: dict[str, Any] = _draft_07(whole)
    return draft_07


def _draft_07(value: Any) -> Any:
    """Return the schema in draft-07: there, ``$ref`` silences whatever stands beside it."""
    if isinstance(value, list):
        return [_draft_07(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _draft_07(item) for key, item in value.items()}
    if kept.get("anyOf", [])[1:] == [{"type": "null"}]:
        kept = {**kept.pop("anyOf")[0], **kept}  # leaving out is not writing null
    if "$schema" not in kept:
        for key in ("title", "default"):  # titles repeat the key, defaults are in another form
            if not isinstance(kept.get(key), dict):
                kept.pop(key, None)
    if "$ref" in kept and len(kept) > 1:
        kept["allOf"] = [{"$ref": kept.pop("$ref")}]
    return kept
