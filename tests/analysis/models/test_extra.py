"""Without the extra, the error says what to install; with it, nothing is imported unasked."""

import subprocess
import sys

import pytest

from klartext.analysis.models import extra


def test_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymc", None)
    with pytest.raises(extra.MissingExtraError, match=r'pip install "klartext\[models\]"') as found:
        extra.library("pymc")
    assert "pymc is not installed" in str(found.value)
    assert found.value.exit_code == 2


def test_nutpie_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nutpie", None)
    assert extra.nutpie() is None


def test_models_import_nothing_of_the_extra() -> None:
    code = (
        "import sys, klartext.analysis.models.hurdle, klartext.analysis.models.segments, "
        "klartext.analysis.models.own\n"
        "print(*{'pymc', 'arviz', 'nutpie', 'pytensor'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert not found.strip()
