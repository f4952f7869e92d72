"""Where facts may lie besides a folder: object stores, with access from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from klartext.experiments.errors import KlartextError


@dataclass(frozen=True, slots=True)
class _Store:
    """One kind of object store; one of ``access`` has to be set."""

    prefix: str
    access: tuple[str, ...]


_AMAZON = _Store(
    "AWS_",
    (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_METADATA_ENDPOINT",
    ),
)
_GOOGLE = _Store(
    "GOOGLE_",
    ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
)
_AZURE = _Store(
    "AZURE_",
    (
        "AZURE_STORAGE_ACCOUNT_KEY",
        "AZURE_STORAGE_SAS_TOKEN",
        "AZURE_STORAGE_CLIENT_SECRET",
        "AZURE_FEDERATED_TOKEN_FILE",
        "AZURE_MSI_ENDPOINT",
    ),
)
_STORES: Mapping[str, _Store] = {"s3": _AMAZON, "gs": _GOOGLE, "az": _AZURE, "abfss": _AZURE}


def is_remote(location: str) -> bool:
    """Whether a location is a URL, not a folder."""
    return "://" in location


def storage_options(
    location: str, environment: Mapping[str, str] = os.environ
) -> dict[str, str] | None:
    """Return what gives access to an object store, None for a folder.

    Raises
    ------
    KlartextError
        The kind of store is not known, or the environment names no access to it. Without this
        check the table library would ask the network for some and wait.
    """
    if not is_remote(location):
        return None
    scheme = location.partition("://")[0]
    store = _STORES.get(scheme)
    if store is None:
        raise KlartextError(
            f"facts cannot lie in {location}: {scheme}:// is not supported. Use a folder, or "
            f"{', '.join(f'{name}://' for name in _STORES)}."
        )
    if not any(environment.get(name) for name in store.access):
        raise KlartextError(
            f"no access to {location}: set one of {', '.join(store.access)} in the environment, "
            f"and whatever else of {store.prefix}* the store needs."
        )
    return {name: value for name, value in environment.items() if name.startswith(store.prefix)}
