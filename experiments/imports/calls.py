"""One AI call as any format reads it, checked, pseudonymised and priced as a usage fact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from klartext.experiments.cells import (
    PLAIN_NUMBERS,
    Cell,
    NumberFormat,
    RowError,
    decimal,
    integer,
    is_missing,
    shape,
)
from klartext.experiments.door import Door
from klartext.experiments.money import Money
from klartext.experiments.prices.catalog import Call, Tokens, terms_of
from klartext.experiments.prices.pricing import Charge, Pricing
from klartext.experiments.records import UsageRow, microseconds

CALL_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "service_tier",
    "model",
    "provider",
    "experiment",
    "variant",
    "unit",
    "task",
    "duration_ms",
    "error",
    "prompt",
)
"""What a call is read from, beside its time; no other field of a row is looked at."""

MAX_TOKENS = 100_000_000
"""More than any context window many times over: such a count is a shifted column."""

MAX_DURATION_MS = 86_400_000

# Free text could hold ids or messages, so names are kept only if they look like names. A model or
# prompt may have a version behind "@", which is what tells it from an e-mail address.
_PROVIDER = re.compile(r"[^\W_][\w .-]{0,99}")
_MODEL = re.compile(r"@?[^\W_][\w .:/+-]{0,199}(?:@(?:v?\d[\w.-]{0,49}|default|latest))?")
_PROMPT = re.compile(r"[^\W_][\w .:/+-]{0,99}(?:@v?\d[\w.-]{0,49})?")
_ERROR_CODE = re.compile(r"\w[\w.:-]{0,99}")
_TIER = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_NO_ERROR = frozenset({"false", "no", "none", "null", "ok", "success"})


@dataclass(frozen=True, slots=True)
class Billing:
    """What the system that recorded a call says about its price.

    Parameters
    ----------
    reported
        Its own estimate, believed only where neither contract nor catalogue has a price.
    free
        Why the provider was not asked at all, such as an answer from the gateway's own cache;
        None when it was.
    """

    reported: Money | None = None
    free: str | None = None


BY_TOKENS = Billing()


@dataclass(frozen=True, slots=True)
class CallReader:
    """How calls of one delivery become facts.

    Parameters
    ----------
    door
        Makes pseudonyms and knows the registered experiments.
    pricing
        Puts a price on each call.
    source
        Name of the system the calls come from.
    category
        Cost category they are booked under.
    terms
        Terms they were made under, see `klartext.experiments.prices.catalog.Call`.
    numbers
        How numbers are written.
    """

    door: Door
    pricing: Pricing
    source: str
    category: str = "model_fees"
    terms: tuple[tuple[str, str], ...] = ()
    numbers: NumberFormat = PLAIN_NUMBERS

    def read(
        self,
        cells: Mapping[str, Cell],
        *,
        id: bytes,  # noqa: A002 - the fact's id
        occurred_at: datetime,
        billing: Billing = BY_TOKENS,
    ) -> UsageRow:
        """Return the call as a fact.

        Parameters
        ----------
        cells
            The fields of `CALL_FIELDS` that the row has. Input tokens include those read from and
            written to a cache, output tokens include those of reasoning.
        id
            Identity of the fact.
        occurred_at
            When the call was made, aware.
        billing
            What the system that recorded the call knows about its price.

        Raises
        ------
        RowError
            The row is no call: counts that are missing, negative or absurd, no model, an
            experiment or variant nobody registered, text where a name belongs.

        Notes
        -----
        A failed call or a retry that returned usage was billed, so it is a call like any other.
        The payload leaves out the price: a file sent again after a price list has changed is still
        the same calls, and they keep the price they were booked at.
        """
        model = self._name(cells, "model", _MODEL)
        if model is None:
            raise RowError("model-missing", "the call has no model; name it in the mapping")
        provider = self._name(cells, "provider", _PROVIDER)
        tokens_in, tokens_out = (
            self._tokens(cells, "input_tokens"),
            self._tokens(cells, "output_tokens"),
        )
        cached = self._optional_tokens(cells, "cached_tokens")
        written = self._optional_tokens(cells, "cache_write_tokens")
        reasoning = self._optional_tokens(cells, "reasoning_tokens")
        if (cached or 0) + (written or 0) > tokens_in:
            raise RowError(
                "bad-tokens",
                "more input tokens were cached than there were; the producer may count them apart",
            )
        if (reasoning or 0) > tokens_out:
            raise RowError("bad-tokens", "more output tokens were reasoning than there were")
        tier = self._name(cells, "service_tier", _TIER)
        experiment, variant = self._where(cells)
        unit = None if is_missing(cells.get("unit")) else self.door.unit(cells["unit"])
        task = cells.get("task")
        charge = self._charge(
            Call(model, occurred_at, tokens_in, provider, (*self.terms, *terms_of(tier))),
            Tokens(tokens_in, tokens_out, cached or 0, written or 0),
            billing,
        )
        row = UsageRow(
            id=id,
            payload=b"",
            source=self.source,
            occurred_at=occurred_at,
            category=self.category,
            model=model,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            amount=charge.amount,
            currency=self.pricing.currency,
            evidence=charge.evidence,
            experiment=experiment,
            variant=variant,
            unit=unit,
            provider=provider,
            cached_tokens=cached,
            cache_write_tokens=written,
            reasoning_tokens=reasoning,
            service_tier=tier,
            task=None if is_missing(task) else self.door.pseudonymiser.token(str(task)),
            duration_ms=self._duration(cells),
            error=_error(cells.get("error")),
            prompt=self._name(cells, "prompt", _PROMPT),
        )
        return replace(row, payload=self._payload(row))

    def _charge(self, call: Call, tokens: Tokens, billing: Billing) -> Charge:
        if billing.free is not None:
            return Charge(Decimal(0), billing.free)
        charge = self.pricing.charge(call, tokens)
        if charge.amount is None and billing.reported is not None:
            return self.pricing.reported(billing.reported, call, charge)
        return charge

    def _payload(self, row: UsageRow) -> bytes:
        content = (
            microseconds(row.occurred_at),
            row.category,
            row.provider,
            row.model,
            row.input_tokens,
            row.output_tokens,
            row.cached_tokens,
            row.cache_write_tokens,
            row.reasoning_tokens,
            row.service_tier,
            row.experiment,
            row.variant,
            row.unit,
            row.task,
            row.duration_ms,
            row.error,
            row.prompt,
        )
        # The sign tells nothing from the empty text.
        return self.door.pseudonymiser.digest(
            *("" if part is None else f"={part}" for part in content)
        )

    def _tokens(self, cells: Mapping[str, Cell], field: str) -> int:
        if is_missing(cells.get(field)):
            raise RowError("tokens-missing", f"{field} is empty")
        tokens = integer(cells[field], field, self.numbers)
        if not 0 <= tokens <= MAX_TOKENS:
            raise RowError("bad-tokens", f"{field} is not between 0 and {MAX_TOKENS}")
        return tokens

    def _optional_tokens(self, cells: Mapping[str, Cell], field: str) -> int | None:
        return None if is_missing(cells.get(field)) else self._tokens(cells, field)

    def _where(self, cells: Mapping[str, Cell]) -> tuple[str | None, str | None]:
        named, variant = cells.get("experiment"), cells.get("variant")
        if is_missing(named):
            if not is_missing(variant):
                raise RowError("experiment-missing", "the call has a variant but no experiment")
            return None, None
        experiment = str(named)
        if experiment not in self.door.variants:
            raise RowError("unknown-experiment", "the experiment is not registered")
        # Without a variant a call can still be charged to its unit.
        return experiment, None if is_missing(variant) else self.door.variant(experiment, variant)

    def _duration(self, cells: Mapping[str, Cell]) -> int | None:
        if is_missing(cells.get("duration_ms")):
            return None
        duration = round(decimal(cells["duration_ms"], "duration_ms", self.numbers))
        if not 0 <= duration <= MAX_DURATION_MS:
            raise RowError("bad-duration", "duration_ms is negative or longer than a day")
        return duration

    @staticmethod
    def _name(cells: Mapping[str, Cell], field: str, pattern: re.Pattern[str]) -> str | None:
        cell = cells.get(field)
        if is_missing(cell):
            return None
        name = str(cell).strip()
        if not pattern.fullmatch(name):
            raise RowError("bad-name", f"{shape(cell)} is not the name of a {field}")
        return name


def _error(cell: Cell) -> str | None:
    """Return an error's code; a text that is no code is kept as ``other``, without its words."""
    if is_missing(cell) or cell is False or str(cell).strip().lower() in _NO_ERROR:
        return None
    code = str(cell).strip()
    return code if _ERROR_CODE.fullmatch(code) else "other"
