"""The `storygan` command."""
