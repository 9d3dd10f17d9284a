"""`blocks`, the rendered data set: stories in the style of CLEVR-SV, made without any download.

Start with `render.py`, whose `render_blocks` writes a data folder. `placement.py` places a story's four objects,
`sentences.py` describes them, `scene.py` draws them with Mitsuba 3, which the extra `render` installs, and `clevr.py`
defines the objects, vectors, labels and camera of CLEVR-SV. Nothing is imported here, because most uses need only one
module and no renderer.

The folder is read by `storygan_tf.data.datasets`, as a story folder or in CLEVR-SV's layout.
"""
