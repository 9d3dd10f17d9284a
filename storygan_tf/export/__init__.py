"""The exported model: how it is written, loaded and identified.

`signatures` writes a SavedModel from raw sentences to pictures, with `serving_warmup` requests in it. `loaded_model`
loads one and draws stories. `weight_io` copies a generator's weights by name. `lineage` reads and writes the record of
how a model was trained and evaluated. `pretrained` holds the models that ship with the package. Training lives in
`storygan_tf.training`, servers in `serving`. Start with the table of signatures in `signatures`.
"""
