"""The models that ship with the package, a version directory for each name: see `storygan_tf.places.find_model`.

A package of its own, so that another model in it is no change of the code beside it (`storygan_tf.fingerprint`).
`scripts/make_pretrained.py` makes them.
"""
