"""FlintstonesSV: stories of five pictures from a cartoon, seven characters.

`storygan data check DIR`
`storygan run --data DIR --out RUN_DIR --preset flintstones`

Exercised on fixtures only: the data set is available only from its owners (`docs/data.md`), so this preset has no
measured time or scores. It needs a GPU.

The schedule is that of the released code (`docs/model.md`): each step does one update of both discriminators on 24
stories and 24 single frames, with true frames with another story's sentence among the fakes and a label classifier on
the image discriminator, then two updates of the generator. Training takes 120 passes over the training stories, and the
learning rates are halved every 20 passes. The networks are those of the preset `paper`.
"""

from __future__ import annotations

import dataclasses

from storygan_tf.config.presets import pororo

SETTINGS = dataclasses.replace(
    pororo.SETTINGS, preset="flintstones", model=dataclasses.replace(pororo.SETTINGS.model, labels=7)
)
