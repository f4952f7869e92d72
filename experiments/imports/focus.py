"""FOCUS 1.0 and later: bills of cloud and AI providers, as CSV or Parquet.

What a charge costs is its EffectiveCost, which spreads prepaid discounts over the usage they cover.
BilledCost is kept beside it for reconciliation and never added to it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from klartext.experiments.batches import Source
from klartext.experiments.cells import Cell, RowError, decimal, instant, is_missing, shape
from klartext.experiments.door import Door
from klartext.experiments.errors import ConfigurationError, KlartextError, Problem
from klartext.experiments.imports.bookings import Booked, checked, in_reporting
from klartext.experiments.imports.observed import SOURCE, SOURCE_RULE
from klartext.experiments.ledger.book import Draft
from klartext.experiments.ledger.lines import Behaviour, Kind, Line
from klartext.experiments.money import Money
from klartext.experiments.readers import (
    SUFFIXES,
    Broken,
    ColumnsError,
    FileFormat,
    Row,
    read,
    require_file,
)
from klartext.experiments.records import Reject, reject

REQUIRED = (
    "BilledCost",
    "EffectiveCost",
    "BillingCurrency",
    "BillingPeriodStart",
    "ChargePeriodStart",
    "ChargePeriodEnd",
    "ChargeCategory",
    "ServiceCategory",
)
OPTIONAL = ("ChargeClass", "ChargeFrequency", "ServiceName", "SubAccountId", "ProviderName", "Tags")

CATEGORIES: Mapping[str, str] = {
    "AI and Machine Learning": "model_fees",
    "Compute": "inference_compute",
    "Databases": "vector_storage",
    "Storage": "vector_storage",
    "Networking": "data_transfer",
    "Management and Governance": "monitoring",
    "Security": "compliance",
    "Developer Tools": "engineering",
    "Media": "media",
}
"""Cost category of each ServiceCategory; every other one is ``other``."""

_KINDS: Mapping[str, Kind] = {
    "Usage": "charge",
    "Purchase": "charge",
    "Tax": "tax",
    "Credit": "credit",
    "Adjustment": "correction",
}
_BEHAVIOURS: Mapping[str, Behaviour] = {
    "One-Time": "one_off",
    "Recurring": "time_based",
    "Usage-Based": "per_event",
}
_NULLS = frozenset({"null", "none", "\\n"})
_TAG = re.compile(r"[\w][\w .:/-]{0,99}")
_TAGS = {
    "experiment": ("experiment", "klartext_experiment"),
    "variant": ("variant", "klartext_variant"),
    "cost_centre": ("cost_centre", "cost_center", "costcenter", "cost-center"),
}


@dataclass(frozen=True, slots=True)
class BillOptions:
    """What a bill cannot say: its source, and whose cost the charges without tags are.

    ``provider`` is what AI calls call the provider, when it is not the bill's ProviderName.
    """

    source: str
    experiment: str | None = None
    variant: str | None = None
    provider: str | None = None


def open_focus(
    path: Path, options: BillOptions, door: Door
) -> tuple[Source, Iterator[Booked | Reject]]:
    """Return a FOCUS file as a source, and its charges as ledger lines.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        It lacks columns that FOCUS 1.0 requires.
    FileError
        It cannot be read as a whole.

    Notes
    -----
    FOCUS 1.0 has no id of a charge, and a bill may have equal rows that are charged each. So a
    charge is all that its row says, with a number among its equals: the same rows in another file
    are the same charges.
    """
    require_file(path)
    if not SOURCE.fullmatch(options.source):
        raise KlartextError(f"--source is {options.source!r}: {SOURCE_RULE}")
    with path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    mapping = hashlib.sha256(json.dumps(["focus/1", asdict(options)]).encode()).hexdigest()
    name = SUFFIXES.get(path.suffix.lower()) or "csv"
    form = FileFormat(name)
    present = _columns(path, form)
    columns = [*REQUIRED, *(column for column in OPTIONAL if column in present)]
    rows = read(path, form, columns)
    charge = partial(_charge, columns=columns, options=options, door=door, equals=Counter())
    source = Source("ledger", options.source, content, mapping, "", "latest")
    return source, map(charge, rows)


def _columns(path: Path, form: FileFormat) -> tuple[str, ...]:
    try:
        read(path, form, ("\0",))
    except ColumnsError as error:
        present = error.present
    else:
        present = ()
    fix = "FOCUS 1.0 requires it; another bill comes in with a mapping (kind: invoice)."
    problems = [
        Problem(path.name, 0, 0, name, "is missing", fix, "missing-column")
        for name in REQUIRED
        if name not in present
    ]
    if problems:
        raise ConfigurationError(problems)
    return present


def _charge(
    row: Row | Broken, *, columns: list[str], options: BillOptions, door: Door, equals: Counter[str]
) -> Booked | Reject:
    if isinstance(row, Broken):
        return reject(RowError(row.reason, row.detail), door, row.position, row.content)
    payload = door.pseudonymiser.digest(json.dumps(row.content, default=str)).hex()
    equals[payload] += 1
    cells = {
        name: None if str(cell).strip().lower() in _NULLS else cell
        for name, cell in zip(columns, row.cells, strict=True)
    }
    try:
        line = checked(_line(cells, options, door))
    except RowError as error:
        return reject(error, door, row.position, row.content)
    digest = door.pseudonymiser.digest("ledger", options.source, payload, str(equals[payload]))
    return Booked(row.position, Draft(digest.hex(), payload, line), row.content)


def _line(cells: Mapping[str, Cell], options: BillOptions, door: Door) -> Line:
    start, end, billing = (
        instant(cells[name], name, zone="UTC")  # times of FOCUS are UTC
        for name in ("ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart")
    )
    currency = str(cells["BillingCurrency"] or "")
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise RowError("unknown-currency", f"BillingCurrency is {shape(currency)}")
    amount = Money(decimal(cells["EffectiveCost"], "EffectiveCost"), currency)
    reporting, rate = in_reporting(amount, door, at=start)
    charge_category = str(cells["ChargeCategory"])
    if charge_category not in _KINDS:
        raise RowError("bad-kind", f"ChargeCategory is none of {', '.join(_KINDS)}")
    kind = _KINDS[charge_category]
    if cells.get("ChargeClass") == "Correction" and kind != "tax":
        kind = "correction"
    elif kind == "credit" and amount.amount > 0:
        kind = "correction"  # a credit taken back
    tags = _tags(cells.get("Tags"))
    experiment = tags.get("experiment")
    if experiment is not None and experiment not in door.variants:
        experiment = None  # a tag that happens to have this name
    variant = (
        door.variant(experiment, tags["variant"]) if experiment and "variant" in tags else None
    )
    if experiment is None:
        experiment, variant = options.experiment, options.variant
    evidence = f"FOCUS EffectiveCost {_name(cells.get('ProviderName'), 'of the provider')}"
    return Line(
        source=options.source,
        status="invoiced",
        kind=kind,
        category=CATEGORIES.get(str(cells["ServiceCategory"]), "other"),
        behaviour=_BEHAVIOURS.get(str(cells.get("ChargeFrequency")), "time_based"),
        start=start,
        end=end,
        amount=amount,
        reporting=reporting.amount,
        evidence=f"{evidence}; {rate}" if rate else evidence,
        billed=decimal(cells["BilledCost"], "BilledCost"),
        experiment=experiment,
        variant=variant,
        cost_centre=tags.get("cost_centre"),
        account=_name(cells.get("SubAccountId"), "") or None,
        label=_name(cells.get("ServiceName"), "") or None,
        billing_start=billing,
        provider=options.provider or _name(cells.get("ProviderName"), "") or None,
    )


def _tags(cell: Cell) -> dict[str, str]:
    """Return the tags that are looked at; all others are dropped."""
    if is_missing(cell):
        return {}
    try:
        document = json.loads(str(cell))
    except ValueError:
        raise RowError("bad-tags", "Tags are not a JSON object") from None
    if not isinstance(document, dict):
        raise RowError("bad-tags", "Tags are not a JSON object")
    lowered = {str(key).lower(): value for key, value in document.items()}
    found: dict[str, str] = {}
    for field, names in _TAGS.items():
        for name in names:
            value = lowered.get(name)
            if isinstance(value, str) and _TAG.fullmatch(value):
                found.setdefault(field, value)
    return found


def _name(cell: Cell, default: str) -> str:
    """Return a name if it looks like one: free text could hold an address."""
    text = "" if is_missing(cell) else str(cell).strip()
    return text if _TAG.fullmatch(text) else default
