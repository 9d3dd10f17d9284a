"""`python -m storygan_cli`: the same as `storygan`."""

from __future__ import annotations

from storygan_cli.main import main

main()
