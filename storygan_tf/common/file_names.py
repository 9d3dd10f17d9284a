"""Names of files that more than one package reads or writes."""

from __future__ import annotations

MODEL_CARD = "model_card.md"
"""The model card, in the output folder of an evaluation and in the `assets.extra` folder of an export."""
