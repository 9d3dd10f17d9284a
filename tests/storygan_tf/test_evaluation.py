"""What is blessed and what is not, the figures, and what is said about bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import structural_similarity

from storygan_tf import records
from storygan_tf.config import EvaluationConfig
from storygan_tf.errors import ConfigError, DataError, ModelError
from storygan_tf.evaluation import evaluate, story_seed
from storygan_tf.metrics.baselines import median_background
from storygan_tf.story_records import open_split

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 210)}
LABELS = [*COLOURS, "large"]
FRAMES = 3
SETTINGS = EvaluationConfig(classifier_epochs=12)


def make_story(name, seed, size=64, frames=FRAMES):
    """Returns a story of squares on a table, one more in each frame: id, sentences, frames, labels."""
    random = np.random.default_rng(seed)
    images = np.full((frames, size, size, 3), 110, np.uint8) + np.arange(size, dtype=np.uint8)[:, None, None] // 4
    labels = np.zeros((frames, len(LABELS)), np.int64)
    sentences = []
    for first in range(frames):
        colour, large = random.integers(len(COLOURS)), random.integers(2)
        side = 20 if large else 10
        y, x = random.integers(0, size - side, 2)
        images[first:, y : y + side, x : x + side] = list(COLOURS.values())[colour]
        labels[first:, colour] = 1
        labels[first:, -1] |= large
        sentences.append(f"A {'large' if large else 'small'} {LABELS[colour]} square at {x} {y}.")
    return name, sentences, images, labels


def write_examples(root, splits, labelled=True):
    """Writes stories as StoryExampleGen does, each split in two files and in no order."""
    for split, stories in splits.items():
        folder = root / f"Split-{split}"
        folder.mkdir(parents=True)
        for part in range(2):
            with tf.io.TFRecordWriter(str(folder / f"data-{part}.gz"), "GZIP") as writer:
                for name, sentences, images, labels in stories[part::2][::-1]:
                    pngs = [tf.io.encode_png(image).numpy() for image in images]
                    example = records.story_example(name, sentences, pngs, labels.tolist() if labelled else None)
                    writer.write(example.SerializeToString())
    if labelled:
        (root / records.LABELS_FILE).write_text(json.dumps(LABELS))
    return root


TRAIN = [make_story(f"train{number:03}", number) for number in range(40)]
TEST = [make_story(f"test{number:03}", 1000 + number) for number in range(18)]
TRUTH = {tuple(sentences): images for _, sentences, images, _ in TEST}
BACKGROUND = median_background(images for _, _, images, _ in TRAIN)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("labelled"), {"train": TRAIN, "test": TEST})


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    return write_examples(tmp_path_factory.mktemp("unlabelled"), {"train": TRAIN, "test": TEST}, labelled=False)


def judge(root, generate, settings=SETTINGS):
    return evaluate(generate, open_split(root, "train"), open_split(root, "test"), settings)


def the_truth(sentences, seeds):
    return np.stack([TRUTH[tuple(story)] for story in sentences])


def a_blurred_truth(sentences, seeds):
    images = the_truth(sentences, seeds).astype(np.float32)
    return ((images + np.roll(images, 1, axis=2) + np.roll(images, 1, axis=3)) / 3).round().astype(np.uint8)


def the_background(sentences, seeds):
    return np.broadcast_to(BACKGROUND, (len(sentences), FRAMES, 64, 64, 3)).copy()


def noise(sentences, seeds):
    drawn = [np.random.default_rng(seed).integers(0, 256, (FRAMES, 64, 64, 3), dtype=np.uint8) for seed in seeds]
    return np.stack(drawn)


@pytest.fixture(scope="module")
def of_a_blurred_truth(labelled):
    return judge(labelled, a_blurred_truth)


def test_a_model_that_draws_what_is_told_is_blessed(of_a_blurred_truth):
    model, real = of_a_blurred_truth.row("model"), of_a_blurred_truth.row("real_frames")
    assert of_a_blurred_truth.blessed
    assert [check.passed for check in of_a_blurred_truth.checks] == [True, True]
    assert 0.7 < model.ssim < real.ssim == 1
    assert real.label_f1 > 0.9
    assert model.label_f1 > 0.8


def test_every_row_stands_beside_the_model(of_a_blurred_truth):
    names = [row.name for row in of_a_blurred_truth.rows]
    assert names == ["model", "real_frames", "random_story", "median_background"]
    floor, other = of_a_blurred_truth.row("median_background"), of_a_blurred_truth.row("random_story")
    assert floor.label_f1 == 0
    assert floor.ssim > other.ssim
    assert (of_a_blurred_truth.stories, of_a_blurred_truth.frames) == (18, FRAMES)


def test_ssim_is_the_mean_over_all_frames_of_all_batches(of_a_blurred_truth):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    drawn = a_blurred_truth([sentences for _, sentences, _, _ in TEST], None).reshape(-1, 64, 64, 3)
    true = np.stack([images for _, _, images, _ in TEST]).reshape(-1, 64, 64, 3)
    values = [structural_similarity(*pair, channel_axis=2, **options) for pair in zip(true, drawn, strict=True)]
    assert of_a_blurred_truth.row("model").ssim == pytest.approx(np.mean(values), abs=1e-4)


def test_the_judge_is_named_with_its_own_figures(of_a_blurred_truth):
    found = of_a_blurred_truth.judge
    assert len(found.fingerprint) == 64
    assert found.training_frames == 35 * FRAMES
    assert found.held_out_f1 > 0.8
    assert found.trusted == (of_a_blurred_truth.row("real_frames").label_f1 >= 0.95)


def test_the_median_background_is_not_blessed(labelled):
    evaluation = judge(labelled, the_background)
    assert not evaluation.blessed
    ssim, f1 = evaluation.checks
    assert ssim.passed
    assert (f1.name, f1.value, f1.passed) == ("min_f1_over_floor", 0, False)
    assert (
        evaluation.reason
        == "Label F1 0.000 against 0.000 of the median background: +0.000, not more than the +0.000 asked."
    )


def test_noise_is_not_blessed(labelled):
    evaluation = judge(labelled, noise)
    assert not evaluation.blessed
    assert not evaluation.checks[0].passed
    assert evaluation.reason.startswith("SSIM 0.0")


def test_thresholds_are_those_of_the_settings(labelled):
    strict = EvaluationConfig(classifier_epochs=1, min_ssim_over_random=0.9, min_f1_over_floor=-1)
    evaluation = judge(labelled, the_truth, strict)
    assert [(check.threshold, check.passed) for check in evaluation.checks] == [(0.9, False), (-1, True)]
    assert not evaluation.blessed


def test_the_same_question_gives_the_same_bytes_whatever_the_order_of_records(labelled, tmp_path, of_a_blurred_truth):
    shuffled = write_examples(tmp_path, {"train": TRAIN[::-1], "test": TEST[5:] + TEST[:5]})
    again = judge(shuffled, a_blurred_truth)
    assert again.to_json() == of_a_blurred_truth.to_json()
    assert json.loads(again.to_json())["blessed"] is True


def test_a_storys_seed_is_its_own(unlabelled):
    asked = {}

    def remember(sentences, seeds):
        asked.update(zip((tuple(story) for story in sentences), seeds, strict=True))
        return the_truth(sentences, seeds)

    judge(unlabelled, remember, EvaluationConfig(seed=3))
    assert asked == {tuple(sentences): story_seed(3, name) for name, sentences, *_ in TEST}
    assert len(set(asked.values())) == len(TEST)
    assert all(0 <= seed < 2**62 for seed in asked.values())
    assert story_seed(3, "test000") != story_seed(4, "test000")


def test_without_labels_their_figures_are_absent_and_their_threshold_does_not_apply(unlabelled):
    evaluation = judge(unlabelled, a_blurred_truth, EvaluationConfig(min_f1_over_floor=0.5))
    assert evaluation.judge is None
    assert evaluation.no_labels == "the data has no labels"
    assert {row.label_f1 for row in evaluation.rows} == {None}
    assert evaluation.checks[1].passed is None
    assert "does not apply: the data has no labels" in evaluation.checks[1].why
    assert evaluation.blessed


def test_too_few_stories_for_a_judge_are_said(tmp_path):
    root = write_examples(tmp_path, {"train": TRAIN[:5], "test": TEST})
    assert judge(root, the_truth).no_labels == "5 training stories are too few to train a judge (at least 8)"


def test_one_test_story_has_no_other_and_is_not_blessed(tmp_path):
    root = write_examples(tmp_path, {"train": TRAIN, "test": TEST[:1]}, labelled=False)
    evaluation = judge(root, the_truth)
    assert evaluation.row("random_story") is None
    assert not evaluation.blessed
    assert "give two or more" in evaluation.reason


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: images[:, :2], r"found frames of shape \(16, 2, 64, 64, 3\), expected \(16, 3, 64, 64, 3\)"),
        (lambda images: images.astype(np.float32), "found frames of float32, expected uint8"),
        (lambda images: images * np.float32("nan"), "found values that are not numbers"),
    ],
)
def test_what_is_no_frames_is_a_models_error(unlabelled, spoil, message):
    with pytest.raises(ModelError, match=f"stories test000 to test015: {message}"):
        judge(unlabelled, lambda sentences, seeds: spoil(the_truth(sentences, seeds)))


def test_a_model_that_refuses_is_a_models_error_with_its_words(unlabelled):
    def refuse(sentences, seeds):
        raise ModelError("story 3: sentence 1 is blank.")

    with pytest.raises(ModelError, match="stories test000 to test015: story 3: sentence 1 is blank"):
        judge(unlabelled, refuse)


def test_a_split_without_records_is_said(tmp_path):
    with pytest.raises(DataError, match="found no records of split 'test'"):
        open_split(tmp_path, "test")


def test_an_empty_split_is_said(tmp_path):
    root = write_examples(tmp_path, {"test": []})
    with pytest.raises(DataError, match="found no story, expected at least one"):
        open_split(root, "test")


def test_damaged_records_are_said(tmp_path):
    root = write_examples(tmp_path, {"test": TEST[:2]})
    path = root / "Split-test" / "data-0.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="damaged"):
        open_split(root, "test")


def test_a_story_that_is_there_twice_is_said(tmp_path):
    root = write_examples(tmp_path, {"test": [TEST[0], TEST[1], TEST[0]]})
    with pytest.raises(DataError, match="story 'test000' is there twice"):
        open_split(root, "test")


def test_stories_of_different_lengths_are_said(tmp_path):
    root = write_examples(tmp_path, {"test": [TEST[0], make_story("test900", 1, frames=2)]})
    with pytest.raises(DataError, match="story test900: found 2 frames, expected 3 as in test000"):
        open_split(root, "test")


def test_splits_of_different_lengths_are_said(tmp_path):
    longer = [make_story(f"train{number}", number, frames=4) for number in range(2)]
    root = write_examples(tmp_path, {"train": longer, "test": TEST})
    with pytest.raises(DataError, match="test stories: found 3 frames"):
        judge(root, the_truth)


def test_frames_of_another_size_are_said(tmp_path):
    root = write_examples(tmp_path, {"test": [make_story("test000", 1, size=32)]})
    with pytest.raises(DataError, match="story test000: found a frame of 32x32 pixels, expected 64x64"):
        open_split(root, "test").read([0])


def test_a_story_without_the_labels_of_the_others_is_said(tmp_path):
    root = write_examples(tmp_path, {"test": TEST[:2]}, labelled=False)
    (root / records.LABELS_FILE).write_text(json.dumps(LABELS))
    with pytest.raises(DataError, match="found records unlike the others"):
        open_split(root, "test").read([0, 1])


@pytest.mark.parametrize("field", ["classifier_epochs", "classifier_stories"])
def test_settings_out_of_range_are_refused(field):
    with pytest.raises(ConfigError, match=f"evaluation.{field}: found 0"):
        EvaluationConfig(**{field: 0})
