"""Reports about an evaluation: HTML pages, the model card and the files of an evaluation's folder.

`report` renders the page of a run and `comparison` the page and table of several models, both from the tables and
drawings that `charts` computes; `model_card` renders Markdown. `evaluation_files` writes all of them. The texts are in
`templates`. Metrics are computed in `storygan_tf.evaluation`; nothing here decides whether a model is good. Start with
`report`.
"""
