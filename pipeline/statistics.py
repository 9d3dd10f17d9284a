"""Options for the statistics that TFDV computes of stories."""

from __future__ import annotations

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2

from storygan_tf.data import example_schema


def statistics_options() -> tfdv.StatsOptions:
    """Returns options by which TFDV treats `images` as pictures and does not count their bytes as words."""
    feature = schema_pb2.Feature(name=example_schema.IMAGES, type=schema_pb2.BYTES)
    feature.image_domain.SetInParent()
    return tfdv.StatsOptions(schema=schema_pb2.Schema(feature=[feature]))
