from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import AfterValidator, Discriminator, Field, Tag

from klartext.experiments.documents.forms import Amount
from klartext.experiments.documents.validation import (
    Items,
    Model,
    examine,
    problem_at,
    rule,
    valid,
    validate,
)
from klartext.experiments.documents.yaml_document import parse, read
from klartext.experiments.errors import ConfigurationError


def must_be_even(value: int) -> int:
    if value % 2:
        raise rule("even", f"is {value}, which is odd", "Add one.")
    return value


def must_be_positive(value: int) -> int:
    if value <= 0:
        raise ValueError("negative numbers make no sense")
    return value


class Left(Model):
    left: int


class Right(Model):
    right: str


def side(value: Any) -> str | None:
    keys = value if isinstance(value, dict) else getattr(value, "__dict__", {})
    return next((f"<{key}>" for key in ("left", "right") if key in keys), None)


Side = Annotated[
    Annotated[Left, Tag("<left>")] | Annotated[Right, Tag("<right>")], Discriminator(side)
]


class Document(Model):
    later: ClassVar[dict[str, str]] = {"colour": "Remove it."}

    schema_: Literal["x/v1"] = Field(alias="schema")
    number: int
    even: Annotated[int, AfterValidator(must_be_even)] = 0
    positive: Annotated[int, AfterValidator(must_be_positive)] = 1
    text: Annotated[str, Field(min_length=1, pattern="^[a-z]*$")] = "a"
    flag: bool = False
    exact: Decimal = Decimal(0)
    bounded: Annotated[int, Field(ge=1, lt=5)] = 1
    sides: Items[Side] = ()
    many: tuple[int, ...] = ()
    by_name: dict[str, int] = Field(default_factory=dict)


def said(text: str) -> list[str]:
    _, problems = examine(Document, read(text, "x.yaml"), "x.yaml")
    return [str(problem) for problem in sorted(problems)]


GOOD = "schema: x/v1\nnumber: 1\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("text: 1", "text is 1: must be text. Write text; put quotes around a number"),
        ('text: ""', "text is empty text. Write something"),
        ("text: A", "text is 'A': must match ^[a-z]*$. Use only the characters allowed."),
        ('flag: "yes"', "flag is 'yes': must be true or false. Write true or false."),
        ('exact: "1.5"', "exact is '1.5': must be a number. Write a number without a unit."),
        ("bounded: 0", "bounded is 0: must be at least 1. Write a number at least 1."),
        ("bounded: 5", "bounded is 5: must be less than 5. Write a number less than 5."),
        ("bounded: 2.5", "bounded is 2.5: must be a whole number. Write digits only"),
        ("even: 3", "even is 3, which is odd. Add one."),
        ("positive: -1", "positive is -1: negative numbers make no sense. Correct the value."),
        ("sides: 5", "sides is 5: must be a list. Write items below each other"),
        ("sides: [{up: 1}]", "sides[0] is a mapping, which is none of the known forms."),
        ("sides: [{left: a}]", "sides[0].left is 'a': must be a whole number."),
        ("sides: [{left: 1, rigth: 2}]", "sides[0].rigth is not a known key. Did you mean 'right'"),
        ("many: [1, x]", "many[1] is 'x': must be a whole number."),
        ("by_name: {a: b}", "by_name.a is 'b': must be a whole number."),
        ("by_name: [a]", "by_name is a list: must be a mapping. Write 'key: value' lines"),
        ("colour: red", "colour is not supported in this version. Remove it."),
        ("numbr: 4", "numbr is not a known key. Did you mean 'number'?"),
        ("zzz: 4", "zzz is not a known key. Known keys: bounded, by_name, even,"),
        ("flag:", "flag has no value. Write one, or remove the key; check the indentation."),
    ],
)
def test_every_mistake_is_said_in_our_own_words(line: str, words: str) -> None:
    (problem,) = said(GOOD + line + "\n")
    assert problem.startswith(f"x.yaml:3 {words}")


def test_missing_keys_are_said_where_their_mapping_stands() -> None:
    assert said("schema: x/v1\n") == [
        "x.yaml:1 number is missing: this key is required. Add 'number'."
    ]
    assert said("a: 1\nschema: y\n")[1:] == [
        "x.yaml:1 number is missing: this key is required. Add 'number'.",
        "x.yaml:2 schema is 'y': must be 'x/v1'. Write 'x/v1'.",
    ]


def test_a_misspelt_required_key_is_one_mistake() -> None:
    assert said("schema: x/v1\nnumbre: 1\n") == [
        "x.yaml:2 numbre is not a known key. Did you mean 'number'?"
    ]


@pytest.mark.parametrize("text", ["[1, 2]\n", "text\n", "---\n", "5\n"])
def test_a_document_that_is_no_mapping(text: str) -> None:
    instance, problems = examine(Document, read(text, "x.yaml"), "x.yaml")
    assert instance is None
    assert "must be a mapping" in str(problems[0])


def test_the_parts_that_parsed_are_kept() -> None:
    text = "numbre: 1\nsides: [{left: 1}, 5, {right: 2}]\neven: 3\nflag: true\n"
    document, problems = examine(Document, read(text, "x.yaml"), "x.yaml")
    assert len(problems) == 5
    assert document is not None
    assert document.flag
    assert not valid(document.number)
    assert not valid(document.even)
    assert document.sides[0] == Left(left=1)
    assert not valid(document.sides[1])
    assert document.sides[2] == Right.model_construct(right=document.number)


def test_what_the_reader_has_said_is_not_said_again() -> None:
    node, problems = parse(GOOD + "bounded: .nan\nflag: 1\n", "x.yaml")
    assert node is not None
    _, more = examine(Document, node, "x.yaml")
    assert [problem.path for problem in (*problems, *more)] == ["bounded", "flag"]


def test_all_mistakes_are_raised_together_in_order_of_lines() -> None:
    with pytest.raises(ConfigurationError) as raised:
        validate(Document, read("flag: 1\nnumber: x\nschema: y\n", "x.yaml"), "x.yaml")
    assert [problem.line for problem in raised.value.problems] == [1, 2, 3]


def test_problem_at_the_nearest_part_there_is() -> None:
    node = read("a:\n  - b: 1\n", "x.yaml")
    there = problem_at(node, ("a", 0, "b"), "x.yaml", ("code", "is wrong", "Fix."))
    assert (there.line, there.column, there.path) == (2, 5, "a[0].b")
    missing = problem_at(node, ("a", 0, "c"), "x.yaml", ("code", "is missing", "Add it."))
    assert (missing.line, missing.path) == (2, "a[0].c")


def test_settings_reach_the_validators() -> None:
    class Priced(Model):
        price: Amount

    node = read("price: 5 CHF\n", "x.yaml")
    assert validate(Priced, node, "x.yaml", settings={"currency": "CHF"}).price == 5
    with pytest.raises(ConfigurationError, match="reporting currency USD"):
        validate(Priced, node, "x.yaml", settings={"currency": "USD"})
