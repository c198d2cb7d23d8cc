"""Texts of servers and models, as UTF-8 can hold them."""

from __future__ import annotations


def well_formed(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON may escape and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
