"""The pipeline on a cluster: compilers for each target, and the entry point that runs a step in a container.

Each target of `storygan compile` is a module with a function `compile(request, out)`: `kubeflow`, `vertex` and
`k8s_job`. The first two share `submission` and `pipeline_spec`; their containers run `step`. `cluster_settings` holds
the options, `cluster_paths` the folders. The pipeline itself is in `pipeline.pipeline`. Start with `kubeflow`.
"""
