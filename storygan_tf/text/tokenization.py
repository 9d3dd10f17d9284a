"""Splits text into words by a rule that TensorFlow graphs (RE2) and Python share.

A word is a run of letters, marks and digits (Unicode categories L, M and N) in lower case. All other characters
separate
words: `It's a DARK-red cube.` has the words `it`, `s`, `a`, `dark`, `red`, `cube`.
"""

from __future__ import annotations

import itertools
import unicodedata

NOT_WORD_PATTERN = r"[^\p{L}\p{M}\p{N}]+"
"""RE2 pattern of the characters between words. Python's `re` has no such classes, so `words` compares categories."""


def words(text: str) -> list[str]:
    """Returns the words of `text` in lower case and in their order, as the embedded encoder splits them."""
    runs = itertools.groupby(text, key=_in_word)
    return ["".join(run).lower() for is_word, run in runs if is_word]


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"
