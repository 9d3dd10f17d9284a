"""The models that ship with the package, one version directory each.

`storygan_tf.common.model_paths.find_model` finds them by name and `scripts/make_pretrained.py` creates them. They are a
separate package, so that adding a model does not change the fingerprint of the code in `storygan_tf.export`
(`pipeline.code_fingerprint`).
"""
