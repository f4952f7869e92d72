"""Values of business inputs as somebody types them: ``rollout.persistence=50%``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from pydantic import TypeAdapter, ValidationError

from klartext.experiments.documents.forms import (
    MOST_COUNTED,
    Amount,
    Percent,
    plain_number,
)
from klartext.experiments.documents.validation import Context
from klartext.experiments.errors import ConflictError, KlartextError
from klartext.experiments.experiment import Experiment
from klartext.experiments.inputs import Input, InputUnit, find, revised

_FORMS: Mapping[InputUnit, TypeAdapter[Any]] = {
    "fraction": TypeAdapter(Percent),
    "money": TypeAdapter(Amount),
}


def read_values(experiment: Experiment, texts: Iterable[str]) -> dict[str, Decimal]:
    """Return the value of each input that the texts name, in the order of the texts.

    Parameters
    ----------
    experiment
        Resolved spec.
    texts
        Each ``PATH=VALUE``, or several of them with commas between; a value is written as in the
        spec: ``38%``, ``60 EUR``, ``12``.

    Raises
    ------
    KlartextError
        A text is no such thing, names an input twice, or none is given.
    ConflictError
        A path is of something that cannot be revised, a value is one that its input cannot have,
        or the one that it has.
    NotFoundError
        There is no such input.
    """
    values: dict[str, Decimal] = {}
    for text in ",".join(texts).split(","):
        path, sign, written = (part.strip() for part in text.partition("="))
        if not (path and sign and written):
            raise KlartextError(
                f"{text.strip()!r} is no assumption: write INPUT=VALUE, such as "
                "rollout.persistence=50%; several with commas between."
            )
        one = find(experiment, path)
        if path in values:
            raise KlartextError(f"{path} is given twice.")
        values[path] = _value(experiment, one, written)
        if values[path] == one.assumption.base:
            raise ConflictError(f"{path} is {written} already.")
    revised(experiment, values)  # refuses what an input cannot have
    return values


def _value(experiment: Experiment, one: Input, written: str) -> Decimal:
    form = _FORMS.get(one.unit)
    if form is None:
        number = plain_number(written)
        if one.unit == "count" and (number is None or number % 1 or number > MOST_COUNTED):
            raise KlartextError(
                f"{one.path}={written}: must be a whole number of at most {MOST_COUNTED}. "
                "Write digits only, such as 40000."
            )
        if number is None:
            raise KlartextError(f"{one.path}={written}: must be a number, such as 12 or 7.5.")
        return number
    settings = Context(settings={"currency": experiment.currency})
    try:
        found: Decimal = form.validate_python(written, context=settings)
    except ValidationError as error:
        said = error.errors()[0]["ctx"]
        raise KlartextError(f"{one.path} {said['message']}. {said['fix']}") from None
    return found
