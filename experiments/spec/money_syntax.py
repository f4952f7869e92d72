"""The syntax of money: inputs with their ranges, value, costs and the roll-out."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

from pydantic import Discriminator, Tag

from klartext.experiments.documents.choices import Category
from klartext.experiments.documents.forms import (
    Amount,
    AmountFromZero,
    Count,
    Key,
    LifeMonths,
    Name,
    NotNegative,
    Percent,
    Share,
    Text,
    Window,
)
from klartext.experiments.documents.validation import Items, Model

T = TypeVar("T")


class Range(Model, Generic[T]):
    """A business input with its range and where it comes from."""

    base: T
    """The value used."""
    low: T | None = None
    """The lowest value that is plausible."""
    high: T | None = None
    """The highest value that is plausible."""
    source: Text | None = None
    """Where it comes from."""
    owner: Text | None = None
    """Who answers for it."""


def _has_range(value: Any) -> str:
    return "<range>" if isinstance(value, (dict, Range)) else "<value>"


class ShareRange(Range[Share]):
    """A share with its range and where it comes from."""


class HoursRange(Range[NotNegative]):
    """Hours with their range and where they come from."""


class AmountRange(Range[Amount]):
    """Money, which may be negative, with its range and where it comes from."""


class CostRange(Range[AmountFromZero]):
    """Money from zero with its range and where it comes from."""


class CountRange(Range[Count]):
    """A number of things with its range and where it comes from."""


class RateRange(Range[Percent]):
    """A rate with its range and where it comes from."""


_FORM = Discriminator(_has_range)
ShareInput = Annotated[
    Annotated[ShareRange, Tag("<range>")] | Annotated[Share, Tag("<value>")], _FORM
]
HoursInput = Annotated[
    Annotated[HoursRange, Tag("<range>")] | Annotated[NotNegative, Tag("<value>")], _FORM
]
AmountInput = Annotated[
    Annotated[AmountRange, Tag("<range>")] | Annotated[Amount, Tag("<value>")], _FORM
]
CostInput = Annotated[
    Annotated[CostRange, Tag("<range>")] | Annotated[AmountFromZero, Tag("<value>")], _FORM
]
CountInput = Annotated[
    Annotated[CountRange, Tag("<range>")] | Annotated[Count, Tag("<value>")], _FORM
]
RateInput = Annotated[
    Annotated[RateRange, Tag("<range>")] | Annotated[Percent, Tag("<value>")], _FORM
]


class MarginSyntax(Model):
    """Value entry: the metric's money times the contribution margin."""

    metric: Name
    """Key of a mean metric in money."""
    contribution_margin: ShareInput
    """Contribution margin as a share of the metric's money."""
    vat: Share = Decimal(0)
    """Rate of the value-added tax that the metric's money, and its refunds, still hold."""


class WorthSyntax(Model):
    """Value entry: money per unit of the metric."""

    metric: Name
    """Key of the metric."""
    worth: AmountInput
    """What one unit of the metric is worth, such as '35 EUR' per lead; may be negative."""


class SavingSyntax(Model):
    """Value entry: working time saved per month, of which only a share is cash."""

    saving: Text
    """What is saved."""
    hours: HoursInput
    """Hours saved per month."""
    rate: CostInput
    """Cost of an hour."""
    per: Literal["month"] = "month"
    """Period of the hours; month."""
    realised: ShareInput
    """Share of it that becomes cash: time saved is not money saved."""
    variant: Key | None = None
    """Treatment that saves it; default: the only treatment."""


def _value_form(value: Any) -> str | None:
    names = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    for key in ("contribution_margin", "worth", "saving"):
        if key in names:
            return f"<{key}>"
    return None


ValueSyntax = Annotated[
    Annotated[MarginSyntax, Tag("<contribution_margin>")]
    | Annotated[WorthSyntax, Tag("<worth>")]
    | Annotated[SavingSyntax, Tag("<saving>")],
    Discriminator(_value_form),
]


class UsageSyntax(Model):
    """Priced AI calls, attributed by the variant on the call."""

    source: Name
    """Source of the calls, as the import of usage names it."""


class CostLineSyntax(Model):
    """A cost that is known beforehand: hours x rate, or an amount."""

    later: ClassVar[dict[str, str]] = {
        "cost_centre": "Remove it.",
        "account": "Remove it.",
        "allocation": "Remove it: a line without a variant is a cost of the test as a whole.",
    }

    category: Category
    """Cost category."""
    label: Text | None = None
    """Name of the line in the breakdown."""
    hours: HoursInput | None = None
    """Hours of work; needs rate."""
    rate: CostInput | None = None
    """Cost of an hour; needs hours."""
    amount: CostInput | None = None
    """Money per occurrence, instead of hours and rate."""
    per: Name | None = None
    """once (default), month, unit (each exposed unit), or the name of an event."""
    life: LifeMonths | None = None
    """Useful life over which a one-off cost is spread, such as 24mo."""
    variant: Key | None = None
    """Variant that causes it; without it, the test as a whole."""


class CostsSyntax(Model):
    """The whole cost of the AI."""

    budget: AmountFromZero | None = None
    """Cap on the variable cost of the test; reaching it stops the test."""
    usage: UsageSyntax | None = None
    """Where priced AI calls come from."""
    window: Window | None = None
    """How long after exposure AI calls and lines per event count; default: as long as value."""
    lines: Items[CostLineSyntax] = ()
    """Costs known beforehand."""


class RolloutSyntax(Model):
    """What a GO means for the twelve months after it."""

    units_per_year: CountInput
    """Units per year that would come into question."""
    share: ShareInput = Decimal(1)
    """Share of them that gets the treatment; default 100%."""
    persistence: ShareInput = Decimal(1)
    """Share of the margin effect that lasts; default 100%."""
    discount_rate: RateInput = Decimal(0)
    """Yearly discount rate of the present value; default 0%."""
