"""Files with which TensorFlow Serving is run: its configuration, docker-compose and kustomize (docs/serving.md).

`tls.py` writes its TLS configuration. There is no server here; the local one is `serving.local_server`.
"""
