"""Paths of files as hypothesis draws them."""

from __future__ import annotations

from hypothesis import strategies as st

names = st.text(
    alphabet=st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=40
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
