"""One million OTLP spans through ``klartext costs import``: wall time and peak memory.

``python -m benchmarks.otlp [--spans 1000000] [--folder DIR]`` writes the spans, imports the file
in a process of its own, imports it again, and prints what both took.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

SPANS_A_LINE = 100
MODELS = ("gpt-4o-2024-11-20", "gpt-4o-mini-2024-07-18")
WORKSPACE = "schema: klartext/workspace/v1\nname: spans\ncurrency: USD\npseudonym_key: ../key\n"
_START = int(datetime(2026, 9, 1, tzinfo=UTC).timestamp()) * 10**9
_MONTH = 30 * 86_400 * 10**9


def main() -> None:
    """Write, import twice, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        root = Path(folder)
        (root / "shop").mkdir()
        (root / "shop" / "klartext.yaml").write_text(WORKSPACE)
        spans = root / "spans.jsonl"
        write_spans(spans, arguments.spans)
        size = spans.stat().st_size / 2**20
        sys.stdout.write(f"{arguments.spans:,} spans, {size:,.0f} MiB, {os.cpu_count()} cores\n")
        for name in ("first", "again"):
            seconds, cpu, peak, counts = imported(root / "shop", spans)
            load = os.getloadavg()[0]
            sys.stdout.write(
                f"{name}: {seconds:.1f} s wall, {cpu:.1f} s CPU (load {load:.1f}), "
                f"peak {peak:,.0f} MiB, {counts}\n"
            )
            sys.stdout.flush()


def write_spans(path: Path, count: int) -> None:
    """Write ``count`` spans, a hundred a line; two in ten are steps of agents and tools."""
    rng = random.Random(7)  # noqa: S311 - a benchmark's data
    with path.open("w") as stream:
        for first in range(0, count, SPANS_A_LINE):
            numbers = range(first, min(first + SPANS_A_LINE, count))
            spans = [_span(rng, number) for number in numbers]
            scoped = {"scope": {"name": "sdk"}, "spans": spans}
            resource = {"attributes": [_attribute("service.name", "shop")]}
            request = {"resourceSpans": [{"resource": resource, "scopeSpans": [scoped]}]}
            stream.write(json.dumps(request) + "\n")


def imported(workspace: Path, spans: Path) -> tuple[float, float, float, str]:
    """Import in a process of its own; return MiB, and the counts."""
    command = [sys.executable, "-m", "klartext", "-w", str(workspace), "costs", "import"]
    command += [str(spans), "--format", "otlp", "--source", "gateway", "--json"]
    start = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(command, stdout=out)  # noqa: S603 - our own interpreter
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        out.seek(0)
        if process.returncode:
            raise SystemExit(f"the import ended with status {process.returncode}")
        document = json.load(out)
    names = ("accepted", "duplicate", "conflict", "rejected", "sent")
    counts = ", ".join(f"{name} {document[name]:,}" for name in names)
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, counts


def _span(rng: random.Random, number: int) -> dict[str, Any]:
    start = _START + rng.randrange(_MONTH)
    kind = number % 10
    operation = "invoke_agent" if kind == 0 else "execute_tool" if kind == 1 else "chat"
    attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": MODELS[number % 2],
        "gen_ai.usage.input_tokens": rng.randrange(100, 4000),
        "gen_ai.usage.output_tokens": rng.randrange(1, 800),
        "gen_ai.usage.cache_read.input_tokens": rng.randrange(100),
        "gen_ai.conversation.id": f"case-{number // 4}",
        "gen_ai.input.messages": "a message that nobody may keep " * 8,
        "user.id": f"customer-{rng.randrange(200_000)}",
        "experiment.note": "not read",
    }
    return {
        "traceId": f"{number // 10 + 1:032x}",
        "spanId": f"{number + 1:016x}",
        "name": operation,
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + rng.randrange(5 * 10**9)),
        "attributes": [_attribute(key, value) for key, value in attributes.items()],
    }


def _attribute(key: str, value: str | int) -> dict[str, Any]:
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"stringValue": value}}


if __name__ == "__main__":
    main()
