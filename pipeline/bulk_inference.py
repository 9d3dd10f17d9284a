"""TFX's BulkInferrer for a StoryGAN: a blessed model draws the stories of a split.

The step writes an Examples artifact: the stories of the split with two more features, `drawn` (T PNGs) and `error`. Use
`storygan batch` for stories that are not part of a pipeline run.
"""

from __future__ import annotations

from tfx.components import BulkInferrer
from tfx.proto import bulk_inferrer_pb2
from tfx.types import BaseChannel

DRAWN, ERROR = "drawn", "error"
"""Names of the features that the step adds to a story."""

_SIGNATURE = "generate_from_examples"


def bulk_inferrer(examples: BaseChannel, model: BaseChannel, blessing: BaseChannel, split: str) -> BulkInferrer:
    """Returns the BulkInferrer component.

    Args:
        examples: stories, from StoryExampleGen.
        model: model that draws, from the Trainer.
        blessing: blessing of that model, from StoryEvaluator; nothing is drawn with a model that is not blessed.
        split: name of the split to draw.
    """
    columns = {"image_bytes": DRAWN, "error": ERROR}
    predicted = bulk_inferrer_pb2.PredictOutput(
        output_columns=[
            bulk_inferrer_pb2.PredictOutputCol(output_key=key, output_column=column) for key, column in columns.items()
        ]
    )
    return BulkInferrer(
        examples=examples,
        model=model,
        model_blessing=blessing,
        data_spec=bulk_inferrer_pb2.DataSpec(example_splits=[split]),
        model_spec=bulk_inferrer_pb2.ModelSpec(model_signature_name=[_SIGNATURE]),
        output_example_spec=bulk_inferrer_pb2.OutputExampleSpec(
            output_columns_spec=[bulk_inferrer_pb2.OutputColumnsSpec(predict_output=predicted)]
        ),
    )
