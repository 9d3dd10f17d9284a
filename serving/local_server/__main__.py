"""`python -m serving.local_server`: starts the local server with the flags of tensorflow_model_server."""

from __future__ import annotations

import logging
import os
import sys


def main() -> None:
    """Serves until SIGTERM or SIGINT. Exits with code 1 if the server cannot start."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    from serving.local_server.server import run
    from serving.local_server.server_options import ServerOptions, parse_flags
    from storygan_tf.common.errors import StoryGANError

    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    try:
        run(ServerOptions(**parse_flags(sys.argv[1:])))
    except StoryGANError as error:
        print(f"storygan: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
