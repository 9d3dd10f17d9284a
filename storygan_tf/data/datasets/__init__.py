"""Readers of data sets of stories, one module for each layout, and what is done with a data set as a whole.

Start with `open_dataset`, which opens a folder and returns a `StoryDataset`; `story.py` defines `Story`, `Reject` and
the loading of frames. `reader.py`, `list_reader.py` and `clip_reader.py` are the readers' base classes;
`restricted_unpickler.py` loads the pickles of published data sets without running code. `convert.py`,
`dataset_report.py` and `data_fingerprint.py` convert, examine and fingerprint a data set.

Rendering of new stories is in `storygan_tf.data.blocks`; TFRecords and input pipelines are in `storygan_tf.data`.
"""

from __future__ import annotations

from storygan_tf.data.datasets.open_dataset import open_configured, open_dataset, source_name
from storygan_tf.data.datasets.story import (
    Reject,
    Story,
    StoryDataset,
    chosen_frame_numbers,
    load_frames,
    set_aside,
    split_of,
)

__all__ = [
    "Reject",
    "Story",
    "StoryDataset",
    "chosen_frame_numbers",
    "load_frames",
    "open_configured",
    "open_dataset",
    "set_aside",
    "source_name",
    "split_of",
]
