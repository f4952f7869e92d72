from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from klartext.experiments.errors import ConfigurationError, NotFoundError
from klartext.experiments.prices.catalog import Call, Price, PriceCatalog, Tokens, Unpriced
from klartext.experiments.prices.contract import read_contract
from klartext.experiments.prices.order import open_catalog

CONTRACT = """\
schema: klartext/prices/v1
prices:
  - model: gpt-4o
    from: 2026-01-01
    per_million: {input: 2.10 EUR, output: 8.40 EUR, cached_input: 1.05 EUR}
    source: Rahmenvertrag 2026-17
  - {model: gpt-4o, from: 2026-07-01, until: 2026-12-31, per_million: {input: 2 EUR, output: 8 EUR}}
  - {model: gpt-4o, provider: azure, per_million: {input: 3 EUR, output: 9 EUR}}
  - {model: gpt-4o, terms: {processing: batch}, per_million: {input: 1 EUR, output: 4 EUR}}
  - {model: house-model, per_million: {input: 0 EUR, output: 0 EUR}, per_call: 0.01 EUR}
"""


@pytest.fixture
def contract(tmp_path: Path) -> PriceCatalog:
    return read_contract(written(tmp_path, CONTRACT), "Europe/Berlin")


def written(folder: Path, text: str) -> Path:
    path = folder / "prices.yaml"
    path.write_text(text, "utf-8")
    return path


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def rate(answer: Price | Unpriced) -> Decimal | None:
    assert isinstance(answer, Price), answer
    return answer.input_per_token


def test_price_of_the_day_with_its_proof(contract: PriceCatalog) -> None:
    price = contract.price(Call("GPT-4o", at("2026-03-01T00:00+00:00"), 1))
    assert isinstance(price, Price)
    assert price.cached_per_token == Decimal("0.00000105")
    assert price.currency == "EUR"
    assert price.evidence == (
        "contract prices.yaml#gpt-4o 2026-01-01 2.1/8.4 EUR per 1M tokens, cached 1.05"
        " (Rahmenvertrag 2026-17)"
    )


def test_first_day_is_a_calendar_day_of_the_workspace(contract: PriceCatalog) -> None:
    # Midnight of 1 July in Berlin is 22:00 UTC of 30 June.
    assert rate(contract.price(Call("gpt-4o", at("2026-06-30T21:59:59+00:00"), 1))) == Decimal(
        "0.0000021"
    )
    assert rate(contract.price(Call("gpt-4o", at("2026-06-30T22:00:00+00:00"), 1))) == Decimal(
        "0.000002"
    )


def test_no_price_before_and_after_the_contract(contract: PriceCatalog) -> None:
    for day in ("2025-12-31T12:00+01:00", "2027-01-01T12:00+01:00"):
        answer = contract.price(Call("gpt-4o", at(day), 1))
        assert isinstance(answer, Unpriced)
        assert answer.reason == "no-contract"


def test_provider_and_terms_choose_the_entry(contract: PriceCatalog) -> None:
    day = at("2026-03-01T12:00+01:00")
    assert rate(contract.price(Call("gpt-4o", day, 1, "Azure"))) == Decimal("0.000003")
    assert rate(contract.price(Call("gpt-4o", day, 1, "openai"))) == Decimal("0.0000021")
    batch = Call("gpt-4o", day, 1, terms=(("processing", "batch"),))
    assert rate(contract.price(batch)) == Decimal("0.000001")
    flex = contract.price(Call("gpt-4o", day, 1, terms=(("service_tier", "flex"),)))
    assert isinstance(flex, Unpriced)


def test_contract_stands_above_the_catalogue(tmp_path: Path) -> None:
    catalog = open_catalog(written(tmp_path, CONTRACT), "Europe/Berlin")
    call = Call("gpt-4o", at("2026-03-01T12:00+01:00"), 1)
    assert rate(catalog.price(call)) == Decimal("0.0000021")
    earlier = catalog.price(Call("gpt-4o", at("2025-03-01T12:00+01:00"), 1))
    assert isinstance(earlier, Price)
    assert earlier.evidence.startswith("genai-prices")
    house = catalog.price(Call("house-model", datetime(2020, 1, 1, tzinfo=UTC), 1))
    assert isinstance(house, Price)
    assert house.amount(Tokens(5, 5)) == Decimal("0.01")
    assert rate(open_catalog(None, "UTC").price(call)) == Decimal("0.0000025")


def test_all_mistakes_are_named_with_their_lines(tmp_path: Path) -> None:
    text = """\
schema: klartext/prices/v1
prices:
  - {model: a, per_million: {input: 2.10}}
  - {model: b, per_million: {input: 1 EUR, output: 1 USD}}
  - {model: c, per_million: {cached_input: 1 EUR}}
  - {model: d, from: 2026-02-30, per_million: {input: 1 EUR}}
  - {model: e, from: 2026-03-01, until: 2026-02-01, per_million: {input: 1 EUR}}
  - {model: f, per_milion: {input: 1 EUR}}
  - {model: g, per_million: {input: -1 EUR}}
"""
    with pytest.raises(ConfigurationError) as raised:
        read_contract(written(tmp_path, text), "UTC")
    assert [(problem.line, problem.code) for problem in raised.value.problems] == [
        (3, "price"),
        (4, "one-currency"),
        (5, "no-rate"),
        (6, "day"),
        (7, "days"),
        (8, "unknown-key"),
        (9, "price"),
    ]


def test_two_prices_from_one_day_are_a_mistake(tmp_path: Path) -> None:
    text = """\
schema: klartext/prices/v1
prices:
  - {model: a, from: 2026-01-01, per_million: {input: 1 EUR}}
  - {model: A, from: 2026-01-01, per_million: {input: 2 EUR}}
"""
    with pytest.raises(ConfigurationError) as raised:
        read_contract(written(tmp_path, text), "UTC")
    (problem,) = raised.value.problems
    assert (problem.line, problem.path, problem.code) == (4, "prices[1]", "repeated-price")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"prices\.yaml"):
        read_contract(tmp_path / "prices.yaml", "UTC")


def test_writing_to_a_cache_has_an_agreed_rate_or_none(tmp_path: Path) -> None:
    text = """\
schema: klartext/prices/v1
prices:
  - {model: c, per_million: {input: 4 EUR, output: 20 EUR, cache_write: 5 EUR}}
  - {model: d, per_million: {input: 4 EUR, output: 20 EUR}}
"""
    contract = read_contract(written(tmp_path, text), "UTC")
    day, used = at("2026-03-01T12:00+01:00"), Tokens(1000, 10, cache_write=200)
    price = contract.price(Call("c", day, 1000))
    assert isinstance(price, Price)
    assert price.amount(used) == Decimal("0.0044")  # 800 x 4 + 200 x 5 + 10 x 20, by hand
    assert "cache write 5" in price.evidence
    other = contract.price(Call("d", day, 1000))
    assert isinstance(other, Price)
    assert isinstance(other.amount(used), Unpriced)


def test_terms_have_the_words_of_calls(tmp_path: Path) -> None:
    text = """\
schema: klartext/prices/v1
prices:
  - {model: c, terms: {service_tier: batch}, per_million: {input: 4 EUR}}
  - {model: c, terms: {tier: flex}, per_million: {input: 4 EUR}}
"""
    with pytest.raises(ConfigurationError) as caught:
        read_contract(written(tmp_path, text), "UTC")
    assert [problem.fix for problem in caught.value.problems] == [
        "Write processing: batch, as price lists do.",
        "Write one of processing, service_tier, speed, route, search_type.",
    ]
