"""Which version of this program is installed."""

from __future__ import annotations


def installed_version() -> str:
    """Return the version that Cargo.toml gave the wheel, empty in a tree that is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nnunet-rs")
    except PackageNotFoundError:
        return ""
