"""TFX components of our own, and what they and other Beam jobs share.

One folder for each component: `component.py` declares its interface, `executor.py` does its work. Modules next to the
folders serve several components: names and arguments (`spec_names`, `spec_parameters`, `executor_arguments`), Beam
(`beam_options`, `worker_pool`, `record_files`), object storage (`buckets`, `staging`), and private parts of libraries
(`compat`). Not here: how components form a pipeline, which is `pipeline`, and the algorithms, which are `storygan_tf`.

Start with `story_example_gen`, whose output all other components read.
"""
