"""Story data: readers of every layout, the rendered default, and what they share.

`open_dataset` reads a folder, `open_configured` as a configuration says; `storygan_tf.data.blocks.render` makes one.
"""

from __future__ import annotations

from storygan_tf.data.datasets.open_dataset import open_configured, open_dataset, source_name
from storygan_tf.data.datasets.story import Reject, Story, StoryDataset, chosen_frame_numbers, load_frames, split_of

__all__ = [
    "Reject",
    "Story",
    "StoryDataset",
    "chosen_frame_numbers",
    "load_frames",
    "open_configured",
    "open_dataset",
    "source_name",
    "split_of",
]
