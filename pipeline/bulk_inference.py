"""TFX's BulkInferrer on a StoryGAN: the stories of a split, and what a model that passed the gate draws of them.

Its Examples artifact has the stories as they were given, and two features more: `drawn`, T PNGs, and `error`. For
stories that are not part of a run there is `storygan batch`.
"""

from __future__ import annotations

from tfx import v1 as tfx
from tfx.types import BaseChannel

DRAWN, ERROR = "drawn", "error"
"""Features of the output."""

_SIGNATURE = "generate_from_examples"


def bulk_inferrer(
    examples: BaseChannel, model: BaseChannel, blessing: BaseChannel, split: str
) -> tfx.components.BulkInferrer:
    """Returns the step.

    Args:
        examples: of StoryExampleGen.
        model: of the Trainer.
        blessing: of the StoryEvaluator; where it is withheld, nothing is drawn.
        split: whose stories are drawn.
    """
    columns = {"image_bytes": DRAWN, "error": ERROR}
    predicted = tfx.proto.PredictOutput(
        output_columns=[
            tfx.proto.PredictOutputCol(output_key=key, output_column=column) for key, column in columns.items()
        ]
    )
    return tfx.components.BulkInferrer(
        examples=examples,
        model=model,
        model_blessing=blessing,
        data_spec=tfx.proto.DataSpec(example_splits=[split]),
        model_spec=tfx.proto.ModelSpec(model_signature_name=[_SIGNATURE]),
        output_example_spec=tfx.proto.OutputExampleSpec(
            output_columns_spec=[tfx.proto.OutputColumnsSpec(predict_output=predicted)]
        ),
    )
