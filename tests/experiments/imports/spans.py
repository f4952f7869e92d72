"""OTLP spans for tests."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 374,
    "gen_ai.usage.output_tokens": 44,
}


def value(of: object) -> dict[str, Any]:
    if isinstance(of, bool):
        return {"boolValue": of}
    if isinstance(of, int):
        return {"intValue": str(of)}  # as protobuf's JSON writes 64 bits
    return {"stringValue": of}


def attributes(of: Mapping[str, object]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(item)} for key, item in of.items()]


def span(of: Mapping[str, object], number: int = 1, **more: Any) -> dict[str, Any]:
    start = int(AT.timestamp()) * 10**9
    return {
        "traceId": f"{number:032x}",
        "spanId": f"{number:016x}",
        "name": "chat gpt-4o",
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 812_400_000),
        "attributes": attributes(of),
        **more,
    }


def line(
    *spans: Mapping[str, Any], resource: Mapping[str, object] | None = None, scope: str = "sdk"
) -> str:
    group = {
        "resource": {"attributes": attributes(resource or {})},
        "scopeSpans": [{"scope": {"name": scope}, "spans": list(spans)}],
    }
    return json.dumps({"resourceSpans": [group]})
