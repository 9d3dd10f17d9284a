"""The models that ship with the package, a version directory each: see `storygan_tf.common.model_paths.find_model`.

A package of its own, so that another model in it is no change of the code beside it (`pipeline.code_fingerprint`).
`scripts/make_pretrained.py` makes them.
"""
