from klartext.analysis.checks import interrupted_imports


def test_only_what_is_seen_in_part_is_named() -> None:
    broken = {4: "orders.csv", 2: "mails.csv", 9: "running.csv"}
    (check,) = interrupted_imports.checks(broken, seen=8)
    assert (check.code, check.severity, check.value) == ("interrupted_imports", "warning", 2)
    assert check.detail == "rows may be missing: no end came of batch 2 (mails.csv), 4 (orders.csv)"
    assert list(interrupted_imports.checks(broken, seen=2)) == []
    assert list(interrupted_imports.checks({}, seen=8)) == []
