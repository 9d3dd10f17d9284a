"""The pipeline on a cluster: what is compiled for which target, and the entry point that runs a step in a container."""
