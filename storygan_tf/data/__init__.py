"""Stories, from a data set on disk to the mini-batches of a training.

`datasets` reads the layouts in which data sets are published, and `blocks` renders a data set. `example_schema` defines
the records that the pipeline converts stories into; start reading there. For a training, `stories` and
`indexed_stories` read these records, into memory or one by one, and `training_input` draws mini-batches from them. For
an evaluation, `example_reader` reads them. `prepared_data` finds them on disk.

The conversion itself is done by `components.story_example_gen` and `pipeline.preprocessing`.
"""
