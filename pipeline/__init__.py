"""The TFX pipeline: its definition, the code behind TFX's own steps, and the runners.

`pipeline.pipeline.create_pipeline` is the place to start: it lists the steps. `pipeline.local_runner` runs them on this
machine; `pipeline.cluster` compiles them for Kubeflow and Vertex. `pipeline.preparation` and `pipeline.run_evaluation`
run parts of the pipeline without TFX's orchestration. Steps of the project's own are in `components`; the model, its
training and its metrics are in `storygan_tf`, which does not depend on TFX.
"""
