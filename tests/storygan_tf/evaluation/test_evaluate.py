"""The metrics of an evaluation, its rows, and errors of unusable input."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from storygan_tf.common.errors import DataError, ModelError
from storygan_tf.config.schema import EvaluationConfig
from storygan_tf.evaluation.evaluate import evaluate
from storygan_tf.evaluation.judge.judge import load_judge
from storygan_tf.evaluation.result import Evaluation
from storygan_tf.metrics.frechet import Moments, frechet_distance


@pytest.fixture(scope="module")
def blurred(plan, painters):
    return evaluate(plan(painters.blurred))


@pytest.fixture(scope="module")
def untouched(plan, painters):
    return evaluate(plan(painters.truth))


def test_an_evaluation_has_rows_for_the_model_and_all_baselines(blurred):
    assert [row.name for row in blurred.rows] == ["model", "real_frames", "random_story", "median_background"]
    assert [row.drawn_from for row in blurred.rows] == ["text", "-", "-", "-"]
    assert (blurred.stories, blurred.frames, blurred.split) == (18, 3, "test")
    assert set(blurred.absent) == {"fid", "fsd", "character_f1", "character_accuracy"}
    assert blurred.absent["fid"] == "no network is configured (evaluation.fid_network)"


def test_a_model_that_draws_the_truth_has_the_ceilings_metrics(untouched):
    model, real = untouched.row("model"), untouched.row("real_frames")
    assert model.metrics["ssim"].value == pytest.approx(1)
    assert model.metrics["object_error"].value == 0
    assert model.metrics["sharpness"].value == pytest.approx(1)
    assert model.metrics["fid_domain"].value == pytest.approx(0, abs=1e-6)
    for name in ("label_f1", "frame_accuracy", "consistency", "placed_accuracy"):
        assert model.metrics[name] == real.metrics[name]
    assert real.metrics["label_f1"].value > 0.9
    assert real.metrics["placed_accuracy"].value > 0.6


def test_the_baselines_expose_weaknesses_of_single_metrics(blurred):
    model, other, floor = (blurred.row(name).metrics for name in ("model", "random_story", "median_background"))
    assert floor["ssim"].value > other["ssim"].value
    assert floor["label_f1"].value == 0
    assert floor["diversity" if "diversity" in floor else "consistency"].value == 0
    assert other["placed_accuracy"].value < 0.3 < model["placed_accuracy"].value
    assert other["fid_domain"].value < floor["fid_domain"].value
    assert floor["object_error"].value > 2 * model["object_error"].value


def test_ssim_is_the_mean_over_all_frames_of_all_batches(blurred, world, painters):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    true = np.concatenate([story.images for story in world.test])
    drawn = painters.blurred.draw(SimpleNamespace(images=true[None]), 0)[0]
    values = [structural_similarity(*pair, channel_axis=2, **options) for pair in zip(true, drawn, strict=True)]
    assert blurred.row("model").value("ssim") == pytest.approx(np.mean(values), abs=1e-4)


def test_fid_is_of_all_frames_of_all_groups(blurred, world, judge, painters):
    true = np.concatenate([story.images for story in world.test])
    drawn = painters.blurred.draw(SimpleNamespace(images=true[None]), 0)[0]
    features = [load_judge(judge).judge_frames(frames)[1] for frames in (true, drawn)]
    expected = frechet_distance(*(Moments.from_features(one) for one in features))
    assert blurred.row("model").value("fid_domain") == pytest.approx(expected, rel=1e-5)


def test_intervals_contain_their_value(blurred):
    for row in blurred.rows[:3]:
        for name, metric in row.metrics.items():
            assert metric.low <= metric.value + 1e-9, (row.name, name)
            assert metric.high >= metric.value - 1e-9, (row.name, name)
    ssim = blurred.row("model").metrics["ssim"]
    assert 0 < ssim.high - ssim.low < 0.2


def test_diversity_compares_two_samples(plan, painters):
    brighter = painters.of(lambda batch, sample: batch.images // 2 + 7 * sample)
    evaluation = evaluate(plan(brighter))
    assert evaluation.row("model").value("diversity") == pytest.approx(7)
    assert evaluation.row("real_frames").value("diversity") is None


def test_one_sample_alone_has_no_diversity(plan, painters):
    evaluation = evaluate(plan(painters.of(painters.blurred.draw, samples=1)))
    assert evaluation.absent["diversity"].startswith("the frames do not come from a model")


def test_the_judge_has_its_own_metrics(blurred, judge):
    found = blurred.judge("labels")
    assert found.sha256 == load_judge(judge).sha256
    assert found.held_out["label_f1"] > 0.8
    assert found.trusted == (blurred.row("real_frames").value("label_f1") >= 0.95)


def test_single_labels_and_confusions_add_up(blurred, world):
    assert list(blurred.label_f1) == world.labels
    assert all(set(rows) == {"model", "real_frames", "random_story"} for rows in blurred.label_f1.values())
    objects = sum(len(frame) for story in world.test for frame in story.objects)
    colour = blurred.confusions["colour"]
    assert colour.names == ("blue", "green", "red")
    assert {np.sum(matrix) for matrix in colour.counts.values()} == {objects}
    assert np.trace(colour.counts["real_frames"]) > 0.9 * objects


def test_boards_hold_the_best_the_worst_and_others(plan, painters, world):
    spoilt = {"test003", "test011"}

    def draw(batch, sample):
        images = batch.images.copy()
        for index, name in enumerate(batch.ids):
            if name in spoilt:
                images[index] = world.background
        return images

    evaluation = evaluate(plan(painters.of(draw)))
    boards = evaluation.boards
    assert (boards.ranked_by, len(boards.best), len(boards.random)) == ("label_f1", 3, 3)
    assert set(boards.worst[:2]) == spoilt
    assert not set(boards.random) & {*boards.best, *boards.worst}
    assert evaluation.story_values["test003"] == 0


def test_shuffled_frames_lower_the_metrics(plan, painters, untouched):
    def draw(batch, sample):
        return batch.images[:, [2, 0, 1]] if "test000" in batch.ids else batch.images

    shuffled = evaluate(plan(painters.of(draw))).row("model")
    for name in ("ssim", "label_f1", "placed_accuracy"):
        assert shuffled.value(name) < untouched.row("model").value(name) - 0.01, name


@pytest.mark.usefixtures("computed_again")
def test_the_same_stories_give_the_same_bytes_in_any_files(plan, painters, world, tmp_path, blurred):
    splits = {"train": world.train[::-1], "test": world.test[5:] + world.test[:5]}
    for files in (1, 5):
        root = world.write_examples(tmp_path / str(files), splits, files=files)
        again = evaluate(plan(painters.blurred, root))
        assert again.to_json() == blurred.to_json()


def test_another_story_changes_the_datas_hash(plan, painters, world, tmp_path, blurred):
    root = world.write_examples(tmp_path, {"train": world.train, "test": world.test[:-1]})
    assert evaluate(plan(painters.blurred, root)).data != blurred.data


def test_other_labels_change_the_datas_hash(plan, painters, world, tmp_path, blurred):
    relabelled = [SimpleNamespace(**vars(story) | {"labels": 1 - story.labels}) for story in world.test]
    root = world.write_examples(tmp_path, {"train": world.train, "test": relabelled})
    assert evaluate(plan(painters.blurred, root)).data != blurred.data


def test_json_is_read_back(blurred):
    text = blurred.to_json()
    assert Evaluation.from_json(text).to_json() == text
    assert json.loads(text)["blessed"] == blurred.blessed
    with pytest.raises(DataError, match=r"metrics\.json: is not an evaluation of this version"):
        Evaluation.from_json('{"rows": 1}')


def test_json_keeps_its_keys_where_fields_have_other_names(blurred):
    values = json.loads(blurred.to_json())
    assert values["rows"][0].keys() == {"name", "what", "given", "figures"}
    assert (values["rows"][0]["what"], values["rows"][0]["given"]) == ("the model", "text")
    assert values["rows"][0]["figures"]["ssim"].keys() == {"value", "low", "high"}
    assert values["judges"][0].keys() == {"role", "what", "sha256", "held_out", "trusted"}
    assert values["boards"].keys() == {"by", "best", "worst", "random"}
    read = Evaluation.from_json(blurred.to_json())
    assert (read.rows[0].description, read.rows[0].drawn_from) == ("the model", "text")
    assert read.judges[0].description == blurred.judges[0].description
    assert read.boards == blurred.boards
    values["rows"][0]["description"] = values["rows"][0].pop("what")
    with pytest.raises(DataError, match="is not an evaluation"):
        Evaluation.from_json(json.dumps(values))


def test_a_skipped_first_frame_is_judged_nowhere(plan, painters):
    def draw(batch, sample):
        images = batch.images.copy()
        images[:, 0] = 0
        return images

    evaluation = evaluate(plan(painters.of(draw), skip_first_frame=True))
    assert evaluation.skipped_frames == 1
    model, real = evaluation.row("model"), evaluation.row("real_frames")
    assert model.value("ssim") == pytest.approx(1)
    for name in ("label_f1", "frame_accuracy", "consistency", "placed_accuracy"):
        assert model.value(name) == real.value(name)


def test_without_a_judge_its_metrics_are_absent_with_the_reason(plan, painters, world, no_judge, tmp_path):
    root = world.write_examples(tmp_path, {"train": world.train, "test": world.test}, labelled=False, placed=False)
    evaluation = evaluate(plan(painters.blurred, root, no_judge))
    assert evaluation.judges == ()
    for name in ("label_f1", "placed_accuracy", "fid_domain"):
        assert evaluation.absent[name] == "there is no domain judge: the data has no labels"
    assert set(evaluation.row("model").metrics) == {"ssim", "object_error", "sharpness", "diversity"}
    assert evaluation.boards.ranked_by == "ssim"


def test_one_story_is_enough(plan, painters, world, tmp_path):
    root = world.write_examples(tmp_path, {"train": world.train, "test": world.test[:1]})
    evaluation = evaluate(plan(painters.blurred, root))
    assert evaluation.stories == 1
    assert evaluation.row("model").metrics["ssim"].low is None
    assert evaluation.absent["fsd_domain"] == "one sample has no covariance; evaluate more stories"
    assert evaluation.boards.worst == ()


def test_splits_of_different_lengths_are_an_error(plan, painters, world, tmp_path):
    longer = [world.make_story(f"train{number}", number, frames=4) for number in range(2)]
    root = world.write_examples(tmp_path, {"train": longer, "test": world.test})
    with pytest.raises(DataError, match="test stories: found 3 frames, expected 4"):
        plan(painters.truth, root)


def test_an_empty_split_is_an_error(plan, painters, world, tmp_path):
    root = world.write_examples(tmp_path, {"train": world.train, "test": []})
    with pytest.raises(DataError, match="found no story, expected at least one"):
        plan(painters.truth, root)


def test_a_judge_of_other_labels_is_an_error(plan, painters, world, tmp_path):
    root = world.write_examples(tmp_path, {"train": world.train, "test": world.test})
    (root / "labels.json").write_text(json.dumps(["a", "b", "c", "d"]))
    with pytest.raises(ModelError, match=r"detects the labels \['red'.*expected those of the data: \['a'"):
        evaluate(plan(painters.truth, root))


def test_a_source_that_fails_is_an_error_before_the_work_begins(plan, painters):
    def refuse(batch, sample):
        raise ModelError("story 3: sentence 1 is blank.")

    with pytest.raises(ModelError, match="sentence 1 is blank"):
        plan(painters.of(refuse))


def test_the_error_of_a_served_model_that_fails_says_what_to_do(plan, painters):
    def refuse(batch, sample):
        raise ModelError("found 3 sentences, expected 4.")

    with pytest.raises(ModelError, match="remove that version from the push destination, or push elsewhere"):
        plan(painters.truth, served=painters.of(refuse))


def test_placed_objects_are_trusted_by_their_own_ceiling(blurred):
    placed = blurred.judge("placed")
    assert placed.sha256 == blurred.judge("labels").sha256
    assert placed.trusted == (blurred.row("real_frames").value("placed_accuracy") >= 0.8)


def test_two_samples_of_every_batch_are_drawn(plan, painters, world):
    painter = painters.of(painters.blurred.draw)
    evaluate(plan(painter, settings=EvaluationConfig(seed=3, replicates=40)))
    first, *calls = painter.calls
    assert first == (tuple(story.name for story in world.test[:16]), 3, 0)
    assert {(seed, sample) for _, seed, sample in calls} == {(3, 0), (3, 1)}
