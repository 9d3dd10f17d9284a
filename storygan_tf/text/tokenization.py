"""What counts as a word: one rule for the graph (RE2) and for Python.

A word is a run of letters, marks and digits (Unicode categories L, M and N) in lower case; everything else separates
words: `It's a DARK-red cube.` has the words `it`, `s`, `a`, `dark`, `red`, `cube`.
"""

from __future__ import annotations

import itertools
import unicodedata

NOT_WORD_PATTERN = r"[^\p{L}\p{M}\p{N}]+"
"""RE2 pattern of what lies between words. Python's `re` has no such classes, so `words` says the same by categories."""


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


def words(text: str) -> list[str]:
    """Returns the words of `text` in lower case and in order, as the embedded encoder and the vocabulary see them."""
    runs = itertools.groupby(text, key=_in_word)
    return ["".join(run).lower() for is_word, run in runs if is_word]
