"""Writes the file of TensorFlow Serving's `--ssl_config_file` from PEM files.

`python -m serving.tf_serving.tls --key server.key --cert server.pem [--client-ca ca.pem] --out tls.config`

With `--client-ca` the server accepts only clients with a certificate that one of these signed. The file contains the
private key, so only its owner may read it.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from google.protobuf import text_format

from serving.config_protos import SSLConfig
from storygan_tf.common.errors import ConfigError

KINDS = {"key": "PRIVATE KEY", "cert": "CERTIFICATE", "client-ca": "CERTIFICATE"}


def tls_config(key: str | Path, cert: str | Path, client_ca: str | Path | None = None) -> str:
    """Returns an SSLConfig in text format.

    Args:
        key: PEM file of the server's private key.
        cert: PEM file of its certificate and those between it and the root.
        client_ca: PEM file of the certificates that sign the clients'; None to accept every client.

    Raises:
        ConfigError: if a file cannot be read or has no such PEM section.
    """
    config = SSLConfig(server_key=_pem(key, "key"), server_cert=_pem(cert, "cert"))
    if client_ca:
        config.custom_ca = _pem(client_ca, "client-ca")
        config.client_verify = True
    return text_format.MessageToString(config)


def _pem(path: str | Path, option: str) -> str:
    try:
        text = Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--{option} {path}: cannot be read ({error}); expected a PEM file.") from error
    if f"{KINDS[option]}-----" not in text:
        raise ConfigError(f"--{option} {path}: found no {KINDS[option]}, expected a PEM file with one.")
    return text


def main() -> None:
    """Parses the command line and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("--key", "--cert", "--out"):
        parser.add_argument(option, required=True)
    parser.add_argument("--client-ca")
    arguments = parser.parse_args()
    text = tls_config(arguments.key, arguments.cert, arguments.client_ca)
    descriptor = os.open(arguments.out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main()
