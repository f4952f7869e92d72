"""What every self-contained page shares: templates, style, and a policy that allows no network."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

import jinja2
from markupsafe import Markup


def template(name: str) -> jinja2.Template:
    """Return a template of the package."""
    return _environment().get_template(name)


def style() -> Markup:
    """Return the style sheet."""
    return Markup(_read("style.css"))  # noqa: S704 - our own file


def policy(scripts: tuple[str, ...] = ()) -> str:
    """Return the Content-Security-Policy: nothing from anywhere, only what this file holds."""
    if not scripts:
        own = _hash(_read("style.css"))
        return f"default-src 'none'; style-src {own}; base-uri 'none'; form-action 'none'"
    hashes = " ".join(_hash(script) for script in scripts)
    return (  # Plotly writes style attributes and draws its exports as data: images
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _read(name: str) -> str:
    return resources.files("klartext.reports").joinpath(f"templates/{name}").read_text("utf-8")


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
