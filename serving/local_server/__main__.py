"""`python -m serving.local_server`: the local server, started with tensorflow_model_server's own flags."""

from __future__ import annotations

import logging
import os
import sys


def main() -> None:
    """Serves until it is told to end; exit code 1 where it could not start."""
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
