import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from klartext.experiments.documents.yaml_document import (
    BROKEN,
    MAX_BYTES,
    Entry,
    parse,
    plain,
    read,
    read_file,
)
from klartext.experiments.errors import ConfigurationError, NotFoundError


def codes(text: str | bytes) -> list[str]:
    _, problems = parse(text, "x.yaml")
    return [problem.code for problem in problems]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        # YAML 1.2 core schema, https://yaml.org/spec/1.2.2/ section 10.3.2
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("1:30", "1:30"),
        ("2027-01-12", "2027-01-12"),
        ("1_000", "1_000"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-012", -12),
        ("0o14", 12),
        ("0xC", 12),
        ("0.1", Decimal("0.1")),
        ("1e3", Decimal(1000)),
        (".5", Decimal("0.5")),
        ("5.", Decimal(5)),
        ('"12"', "12"),
        ("'true'", "true"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("50%", "50%"),
        ("|-\n  12", "12"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, meant: Any) -> None:
    value = plain(read(f"key: {written}\n", "x.yaml"))["key"]
    assert value == meant
    assert type(value) is type(meant)


def test_keys_are_text() -> None:
    assert plain(read("no: 1\n1: 2\ntrue: 3\n", "x.yaml")) == {"no": 1, "1": 2, "true": 3}


def test_every_key_and_value_knows_its_place() -> None:
    root = read("a: 1\nlist:\n  - x\n  - {b: 2}\n", "x.yaml")
    assert isinstance(root.value, dict)
    entry = root.value["list"]
    assert isinstance(entry, Entry)
    assert (entry.line, entry.column) == (2, 1)
    assert isinstance(entry.node.value, tuple)
    second = entry.node.value[1]
    assert (second.line, second.column) == (4, 5)
    assert isinstance(second.value, dict)
    assert (second.value["b"].node.line, second.value["b"].node.column) == (4, 9)


def test_all_duplicate_keys_are_found_and_the_first_is_kept() -> None:
    node, problems = parse("a: 1\nb: {c: 1, c: 2}\na: 3\na: 4\n", "x.yaml")
    assert [str(problem) for problem in problems] == [
        "x.yaml:2 b.c is given twice, first on line 2. Keep one of the two.",
        "x.yaml:3 a is given twice, first on line 1. Keep one of the two.",
        "x.yaml:4 a is given twice, first on line 1. Keep one of the two.",
    ]
    assert node is not None
    assert plain(node) == {"a": 1, "b": {"c": 1}}


PRINTABLE = st.characters(categories=("L", "N", "P", "S", "Zs"))
BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("a: 1\n---\nb: 2\n", "several-documents"),
        ("a:\n\tb: 1\n", "yaml-tab"),
        ("a: [1, 2\n", "yaml-syntax"),
        ("a: b: c\n", "yaml-syntax"),
        ("a: '\n", "yaml-syntax"),
        ('a: "\\U00110000"\n', "yaml-syntax"),  # chr() fails inside PyYAML
        ("%YAML 9.9\n---\na: 1\n", "yaml-syntax"),
        (b"a: 1\nb: \xff\n", "not-utf8"),
        ("a: 1\x00\n", "control"),
        ("a: \x1b[31m\n", "control"),
        ("[a, b]: 1\n", "key-not-text"),
        ("a: &x 1\n*x : 2\n", "key-not-text"),
        (": 1\n", "yaml-syntax"),
        ("'': 1\n", "key-not-text"),
        ("a: &x 1\nb: *x\n", "alias"),
        ("a: !!int '5'\n", "tag"),
        ("a: !!python/object:os.system {b: 1}\n", "tag"),
        ("a: .inf\n", "number-range"),
        ("a: .NaN\n", "number-range"),
        ("a: 1e999999999\n", "number-range"),
        ("a: 1e-99\n", "number-range"),
        ("a: 1" + "0" * 40 + "\n", "number-range"),
        ('a: "\\uD800"\n', "surrogate"),
        ("a: " + "x" * MAX_BYTES + "\n", "too-large"),
        ("a: " + "[" * 40 + "]" * 40 + "\n", "too-deep"),
    ],
)
def test_what_is_refused(text: str | bytes, code: str) -> None:
    assert codes(text) == [code]


def test_merge_keys_are_plain_keys() -> None:
    assert plain(read("<<: {a: 1}\n", "x.yaml")) == {"<<": {"a": 1}}


def test_hostile_documents_fail_fast() -> None:
    began = time.perf_counter()
    assert set(codes(BOMB)) == {"alias"}
    assert codes("a: " + "[" * 100_000) == ["too-deep"]
    assert codes("a:\n" + "".join(" " * i + "- \n" for i in range(1, 400)))[0] in {
        "too-deep",
        "yaml-syntax",
    }
    assert time.perf_counter() - began < 2  # 3,000 levels took PyYAML 3.3 s


def test_where_reading_stops() -> None:
    _, problems = parse(b"a: 1\nb: 2\nc: \xff\n", "x.yaml")
    assert [problem.line for problem in problems] == [3]
    _, problems = parse("a: 1\nb: \x00\n", "x.yaml")
    assert [problem.line for problem in problems] == [2]
    _, problems = parse("a: 1\nb:\n\tc: 1\n", "x.yaml")
    assert [(problem.line, problem.fix) for problem in problems] == [(3, "Indent with spaces.")]


def test_a_byte_order_mark_is_no_text() -> None:
    assert plain(read(b"\xef\xbb\xbfa: 1\n", "x.yaml")) == {"a": 1}


def test_what_was_refused_stands_as_broken() -> None:
    node, problems = parse("a: .inf\nb: 1\n", "x.yaml")
    assert node is not None
    assert plain(node) == {"a": BROKEN, "b": 1}
    assert len(problems) == 1


def test_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"cannot read .*nothing\.yaml: No such file"):
        read_file(tmp_path / "nothing.yaml")
    with pytest.raises(NotFoundError, match="Is a directory"):
        read_file(tmp_path)
    (tmp_path / "big.yaml").write_bytes(b"a: " + b"x" * MAX_BYTES)
    with pytest.raises(ConfigurationError, match="big is larger than 256 KiB"):
        read_file(tmp_path / "big.yaml", "big")


@settings(deadline=None)
@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`, \n\t\\0.~\x00é", max_size=60))
def test_any_text_is_read_or_explained(text: str) -> None:
    node, problems = parse(text, "x.yaml")
    assert node is not None or problems
    assert all(problem.message and problem.fix and problem.code for problem in problems)


@settings(deadline=None)
@given(
    st.recursive(
        st.text(PRINTABLE, max_size=8) | st.integers(-(10**20), 10**20) | st.booleans() | st.none(),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1), inner)
        ),
        max_leaves=8,
    )
)
def test_json_is_read_as_json_means_it(value: Any) -> None:
    node, problems = parse(json.dumps({"v": value}, ensure_ascii=False), "x.yaml")
    assert node is not None, problems
    assert json.dumps(plain(node)) == json.dumps({"v": value})
