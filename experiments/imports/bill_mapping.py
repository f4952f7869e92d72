"""What the columns of invoices and timesheets mean (``klartext/mapping/v1``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PlainValidator

from klartext.experiments.cells import NumberFormat
from klartext.experiments.documents import forms
from klartext.experiments.documents.validation import Model, problem_at, rule
from klartext.experiments.documents.wording import seen_as
from klartext.experiments.documents.yaml_document import Node, plain, read_file
from klartext.experiments.errors import ConfigurationError, Problem
from klartext.experiments.experiment import COST_CATEGORIES
from klartext.experiments.imports.loaded import Loaded, Location, load
from klartext.experiments.ledger.lines import Behaviour
from klartext.experiments.mapping import (
    Column,
    Constant,
    CurrencyOrColumn,
    Identity,
    KeyOrColumn,
    Name,
    NumberMarks,
    PlainColumn,
    VariantColumn,
    as_column,
    time_layout,
)
from klartext.experiments.money import Money, MoneyError

Stated: TypeAlias = Literal["estimated", "accrued", "invoiced", "settled"]


def _category(value: Any) -> Any:
    if isinstance(value, str) and value not in COST_CATEGORIES:
        fix = f"Write one of {', '.join(COST_CATEGORIES)}, or {{column: …, values: …}}."
        raise rule("category", f"is {seen_as(value)}: must be a cost category", fix)
    return value


def _money(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return Money.parse(value)
    except MoneyError:
        raise rule("money", f"is {value!r}", "Write it as 95 EUR.") from None


_Variant = Annotated[VariantColumn | Constant, BeforeValidator(as_column)]
_Category = Annotated[VariantColumn | str, BeforeValidator(_category)]
_Rate = Annotated[Column | Money, BeforeValidator(_money)]


class _BillMapping(Model):
    schema_: Literal["klartext/mapping/v1"] = Field(alias="schema")
    """Version of this syntax."""
    source: forms.Name
    """Name of the system the file comes from."""
    format: Literal["csv", "xlsx"] | None = None
    """How the file is written; default: by its suffix."""
    encoding: Literal["utf-8", "utf-16", "cp1252", "iso-8859-1"] = "utf-8"
    """Encoding of a CSV file."""
    delimiter: Literal[",", ";", "|", "tab"] = ","
    """What separates the fields of a CSV file."""
    sheet: forms.Text | None = None
    """Sheet of a workbook; default: the first."""
    numbers: NumberMarks
    """Decimal mark and mark between thousands; never guessed: 1.200 is 1200 or 1.2."""
    dates: Annotated[str, PlainValidator(time_layout)] = "iso"
    """How days are written."""
    timezone: forms.Timezone | None = None
    """Time zone of the days; default: that of the workspace."""
    id: Identity
    """Identity: columns, ``row_content`` or ``row_number``."""
    first_day: PlainColumn
    """Column with the first day of service."""
    last_day: PlainColumn | None = None
    """Column with the last day, itself included; default: the first."""
    category: _Category
    """Cost category, or ``{column: …, values: {Beratung: engineering}}``."""
    behaviour: Behaviour = "time_based"
    """How the cost arises."""
    experiment: KeyOrColumn | None = None
    """Key of the experiment, or ``{column: …}``."""
    variant: _Variant | None = None
    """Column with the variant (``values`` translates), or ``{constant: ai}``."""
    cost_centre: Name | None = None
    """Column with the cost centre, or ``{constant: …}``."""
    account: Name | None = None
    """Column with the account."""
    label: Name | None = None
    """Column with what it is for; kept only if it looks like a name."""
    supersedes: PlainColumn | None = None
    """Column with the number of the ledger line that a row replaces."""
    provider: Name | None = None
    """Column with the provider whose AI calls are billed, or ``{constant: openai}``."""
    replaces: Name | None = None
    """Column with the cost line of the spec in whose place a row comes, or ``{constant: …}``."""

    @property
    def number_format(self) -> NumberFormat:
        """How numbers are read."""
        return NumberFormat(self.numbers.decimal, self.numbers.thousands)


class InvoiceMapping(_BillMapping):
    """Rows are positions of invoices."""

    kind: Literal["invoice"]
    """What a row is."""
    amount: PlainColumn
    """Column with the net amount; negative is a credit."""
    currency: CurrencyOrColumn
    """Currency of amounts: a code, or ``{column: …}``."""
    vat: PlainColumn | None = None
    """Column with the recoverable VAT, beside the net amount."""
    status: Stated = "invoiced"
    """How sure the lines are."""


class TimesheetMapping(_BillMapping):
    """Rows are hours worked. Who worked them is not kept."""

    kind: Literal["timesheet"]
    """What a row is."""
    hours: PlainColumn
    """Column with the hours."""
    rate: _Rate
    """Cost of an hour: ``95 EUR``, or a column with the amount."""
    currency: CurrencyOrColumn | None = None
    """Currency of a column of rates."""
    status: Stated = "accrued"
    """How sure the lines are."""


BillMapping: TypeAlias = InvoiceMapping | TimesheetMapping
_KINDS: dict[str, type[InvoiceMapping | TimesheetMapping]] = {
    "invoice": InvoiceMapping,
    "timesheet": TimesheetMapping,
}


def bill_kind(path: Path) -> str | None:
    """Return ``invoice`` or ``timesheet`` when a mapping is of that kind.

    Raises
    ------
    NotFoundError, ConfigurationError
        There is no such file, or it is no YAML.
    """
    document = plain(read_file(path))
    kind = document.get("kind") if isinstance(document, dict) else None
    return kind if kind in _KINDS else None


def load_bill_mapping(path: Path) -> Loaded[Any]:
    """Read the mapping of invoices or timesheets.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigurationError
        All its mistakes.
    """
    node, file = read_file(path), str(path)
    loaded: Loaded[Any] = load(_KINDS[str(bill_kind(path))], node, file, _columns_in)
    if problems := tuple(_contradictions(loaded, node, file)):
        raise ConfigurationError(problems)
    return loaded


def _contradictions(loaded: Loaded[Any], node: Node, file: str) -> Iterator[Problem]:
    mapping: BillMapping = loaded.mapping
    if mapping.numbers.decimal == mapping.numbers.thousands:
        words = ("number-marks", "are the same mark twice", "Give them different marks.")
        yield problem_at(node, ("numbers",), file, words)
    if mapping.variant is not None and mapping.experiment is None:
        words = ("experiment", "belongs to no experiment", "Add experiment: its key.")
        yield problem_at(node, ("variant",), file, words)
    if mapping.replaces is not None and mapping.experiment is None:
        words = ("experiment", "is of no experiment's spec", "Add experiment: its key.")
        yield problem_at(node, ("replaces",), file, words)
    if isinstance(mapping.category, VariantColumn):
        for name, category in mapping.category.values.items():
            if category not in COST_CATEGORIES:
                fix = f"Write one of {', '.join(COST_CATEGORIES)}."
                words = ("category", f"is {category!r}: must be a cost category", fix)
                yield problem_at(node, ("category", "values", name), file, words)
    if (
        isinstance(mapping, TimesheetMapping)
        and isinstance(mapping.rate, Column)
        and mapping.currency is None
    ):
        words = ("missing-currency", "is money without a currency", "Add currency: EUR.")
        yield problem_at(node, ("rate",), file, words)


_PLAIN_COLUMNS = frozenset(
    {
        "first_day",
        "last_day",
        "amount",
        "vat",
        "hours",
        "supersedes",
        "cost_centre",
        "account",
        "label",
        "variant",
        "provider",
        "replaces",
    }
)


def _columns_in(document: dict[str, Any]) -> Iterator[tuple[Location, str]]:
    for key, value in document.items():
        if isinstance(value, dict) and "column" in value:
            yield (key, "column"), value["column"]
        elif key in _PLAIN_COLUMNS and isinstance(value, str):
            yield (key,), value
        elif key == "id" and isinstance(value, tuple):
            yield from ((("id", index), name) for index, name in enumerate(value))
