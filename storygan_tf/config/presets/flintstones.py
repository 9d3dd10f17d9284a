"""FlintstonesSV: stories of five pictures from a cartoon, seven characters.

`storygan data check DIR`
`storygan run --data DIR --out RUN_DIR --preset flintstones`

Exercised on fixtures only: the set is given out by its owners alone (`docs/data.md`), and nobody has trained this
preset on it here. It takes a GPU.

The schedule is the released code's (`docs/model.md`): one update of both discriminators on 24 stories and 24 single
frames, true frames with another story's sentence among the fakes, a label classifier on the image discriminator, two
updates of the generator, 120 passes over the training stories, learning rates halved every 20 of them. The networks are
the paper's, as in the preset `paper`.
"""

from __future__ import annotations

import dataclasses

from storygan_tf.config.presets import pororo

SETTINGS = dataclasses.replace(
    pororo.SETTINGS, preset="flintstones", model=dataclasses.replace(pororo.SETTINGS.model, labels=7)
)
