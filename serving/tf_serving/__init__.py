"""What TensorFlow Serving is run with: configuration, docker-compose, kustomize. `docs/serving.md` says how."""
