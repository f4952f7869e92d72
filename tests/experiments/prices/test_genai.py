"""Expected prices were read from the providers' entries of genai-prices 0.2.3 by hand."""

from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version

import pytest
from genai_prices import Usage, calc_price

from klartext.experiments.prices.catalog import Call, Price, Tokens, Unpriced
from klartext.experiments.prices.genai import GenaiPrices

AT = datetime(2026, 11, 1, tzinfo=UTC)
SOURCE = f"genai-prices {version('genai-prices')}"


@pytest.fixture(scope="module")
def catalog() -> GenaiPrices:
    return GenaiPrices()


def priced(answer: Price | Unpriced) -> Price:
    assert isinstance(answer, Price), answer
    return answer


def reason(answer: Price | Unpriced) -> str:
    assert isinstance(answer, Unpriced), answer
    return answer.reason


def test_list_price_of_gpt_4o_is_exact_and_carries_its_proof(catalog: GenaiPrices) -> None:
    price = priced(catalog.price(Call("gpt-4o", AT, 1000)))
    assert price.input_per_token == Decimal("0.0000025")
    assert price.output_per_token == Decimal("0.00001")
    assert price.cached_per_token == Decimal("0.00000125")
    assert price.currency == "USD"
    assert price.evidence == f"{SOURCE} openai/gpt-4o 2.5/10 USD per 1M tokens, cached 1.25"


@pytest.mark.parametrize(
    ("provider", "model", "owner"),
    [
        (None, "GPT-4o-2024-11-20", "openai/gpt-4o "),
        (None, "gpt-4o-2024-05-13", "openai/gpt-4o-2024-05-13 "),
        ("azure", "gpt-4o", "openai/gpt-4o via azure"),
        ("azure.ai.openai", "gpt-4o", "openai/gpt-4o via azure"),
        (None, "gpt-5.2-20251211", "openai/gpt-5.2 "),
        (None, "claude-sonnet-4-5-20250929", "anthropic/claude-sonnet-4-5 "),
        (None, "claude-sonnet-4-20250514", "anthropic/claude-sonnet-4-0 "),
        ("gcp.vertex_ai", "claude-sonnet-4-5@20250929", "google/claude-sonnet-4-5 "),
        ("aws.bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", "aws/regional.anthropic"),
    ],
)
def test_an_exact_or_dated_name_is_priced(
    catalog: GenaiPrices, provider: str | None, model: str, owner: str
) -> None:
    assert owner in priced(catalog.price(Call(model, AT, 1, provider))).evidence


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        # The library prices each of the first four at another model's rate.
        (None, "claude-sonnet-4-5-turbo", "model-not-exact"),
        (None, "gemini-2.5-pro-exp", "model-not-exact"),
        (None, "ft:gpt-4o-2024-08-06:acme::abc", "unknown-model"),
        ("my-openai-proxy", "gpt-4o", "unknown-provider"),
        (None, "gpt-4o-2027-01-01", "unknown-model"),
        (None, "house-model", "unknown-model"),
        # Empty entries of the catalogue are not free of charge.
        ("github-copilot", "gpt-4o", "no-rate"),
        # Reasoning tokens have their own rate and are not in a trace.
        ("perplexity", "sonar-deep-research", "unknown-tokens"),
    ],
)
def test_another_models_price_is_never_taken(
    catalog: GenaiPrices, provider: str | None, model: str, expected: str
) -> None:
    assert reason(catalog.price(Call(model, AT, 1, provider))) == expected


def test_a_past_call_has_the_price_of_its_day(catalog: GenaiPrices) -> None:
    # o3 cost 10/40 until 2025-06-10, when OpenAI cut it to 2/8.
    before = priced(catalog.price(Call("o3", datetime(2025, 6, 1, tzinfo=UTC), 1)))
    after = priced(catalog.price(Call("o3", datetime(2025, 7, 1, tzinfo=UTC), 1)))
    assert (before.input_per_token, before.output_per_token) == (
        Decimal("0.00001"),
        Decimal("0.00004"),
    )
    assert (after.input_per_token, after.output_per_token) == (
        Decimal("0.000002"),
        Decimal("0.000008"),
    )


def test_all_tokens_of_a_long_prompt_have_the_tiers_price(catalog: GenaiPrices) -> None:
    at_start = priced(catalog.price(Call("gemini-2.5-pro", AT, 200_000)))
    above = priced(catalog.price(Call("gemini-2.5-pro", AT, 200_001)))
    assert at_start.input_per_token == Decimal("0.00000125")
    assert above.input_per_token == Decimal("0.0000025")
    assert above.evidence.endswith("above 200000 input tokens")


def test_price_by_the_hour_of_day(catalog: GenaiPrices) -> None:
    # deepseek-chat was half price from 16:30 to 00:30 UTC.
    day = priced(catalog.price(Call("deepseek-chat", datetime(2025, 5, 5, 12, tzinfo=UTC), 1)))
    night = priced(catalog.price(Call("deepseek-chat", datetime(2025, 5, 5, 20, tzinfo=UTC), 1)))
    assert (day.input_per_token, night.input_per_token) == (
        Decimal("0.00000027"),
        Decimal("0.000000135"),
    )


def test_terms_are_priced_or_named_but_never_ignored(catalog: GenaiPrices) -> None:
    batch = (("processing", "batch"),)
    assert priced(catalog.price(Call("gpt-4o", AT, 1, terms=batch))).output_per_token == Decimal(
        "0.000005"
    )
    assert priced(
        catalog.price(Call("gpt-4o", AT, 1, terms=(("service_tier", "default"),)))
    ).output_per_token == Decimal("0.00001")
    # The library takes service_tier=batch for the list price.
    wrong_key = Call("gpt-4o", AT, 1, terms=(("service_tier", "batch"),))
    before_known = Call("gpt-4o", datetime(2025, 1, 1, tzinfo=UTC), 1, terms=batch)
    resold = Call("gpt-4o", AT, 1, "azure", batch)
    for call in (wrong_key, before_known, resold):
        assert reason(catalog.price(call)) == "unknown-terms"


def test_catalogue_agrees_with_the_library_where_both_price() -> None:
    catalog = GenaiPrices()
    for model in ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "gemini-2.5-pro", "deepseek-chat"):
        for tokens in (1, 150_000, 250_000):
            price = priced(catalog.price(Call(model, AT, tokens)))
            usage = Usage(input_tokens=tokens, output_tokens=77, cache_read_tokens=1)
            theirs = calc_price(usage, model, genai_request_timestamp=AT).total_price
            assert theirs == price.amount(Tokens(tokens, 77, cached=1))


def test_several_terms_are_sold_only_together(catalog: GenaiPrices) -> None:
    both = (("processing", "batch"), ("service_tier", "flex"))
    assert reason(catalog.price(Call("gpt-4o", AT, 1, terms=both))) == "unknown-terms"


def test_writing_to_a_cache_has_the_rate_of_the_list(catalog: GenaiPrices) -> None:
    price = priced(catalog.price(Call("claude-sonnet-4-5", AT, 1000, "anthropic")))
    # 3 USD input, 3.75 to write to the cache, 15 output: 800 x 3 + 200 x 3.75 + 10 x 15, by hand
    assert price.amount(Tokens(1000, 10, cache_write=200)) == Decimal("0.0033")
    usage = Usage(input_tokens=1000, output_tokens=10, cache_write_tokens=200)
    theirs = calc_price(usage, "claude-sonnet-4-5", genai_request_timestamp=AT).total_price
    assert theirs == Decimal("0.0033")
