"""Runs the `storygan` command as `python -m storygan_cli`."""

from __future__ import annotations

from storygan_cli.main import main

main()
