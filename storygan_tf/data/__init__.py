"""Stories, from a data set on disk to the mini-batches of a training.

`datasets` reads the layouts in which data sets are published, and `blocks` renders a data set. `example_schema` defines
the records that the pipeline converts stories into; start reading there. Two modules read these records:
`training_input` for a training and `example_reader` for an evaluation. `prepared_data` finds them on disk.
The conversion itself is done by `components.story_example_gen` and `pipeline.preprocessing`.
"""
