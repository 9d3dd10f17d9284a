"""FlintstonesSV: stories of five pictures from a cartoon, seven characters.

`storygan data check DIR`
`storygan run --data DIR --out RUN_DIR --preset flintstones`

Exercised on fixtures only: the data set is available only from its owners (`docs/data.md`), so this preset has no
measured time or scores. It needs a GPU.

Networks and schedule are those of the preset `pororo`, except for the number of labels.
"""

from __future__ import annotations

import dataclasses

from storygan_tf.config.presets import pororo

SETTINGS = dataclasses.replace(
    pororo.SETTINGS, preset="flintstones", model=dataclasses.replace(pororo.SETTINGS.model, labels=7)
)
