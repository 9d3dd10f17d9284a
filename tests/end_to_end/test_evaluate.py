"""`storygan evaluate`, `compare` and `lineage` on a finished run: metrics, comparison, gate and lineage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tfx.components.pusher import executor as pusher
from tfx.components.util import model_utils
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.utils import proto_utils

from components.beam_options import beam_options
from components.story_evaluator.executor import Executor
from pipeline.local_runner import RunOutputs
from storygan_tf.data.datasets.data_fingerprint import data_fingerprint
from storygan_tf.evaluation.external_frames import write_images
from storygan_tf.evaluation.frame_sources import story_seed
from storygan_tf.export.lineage import Lineage, lock_fingerprint, model_fingerprint
from storygan_tf.export.loaded_model import SavedStoryGAN

pytestmark = pytest.mark.slow


def version_of(run_dir: Path) -> Path:
    return max((run_dir / "serving_model" / "storygan").iterdir(), key=lambda path: int(path.name))


def stories(data: Path, split: str) -> list[dict]:
    lines = map(json.loads, (data / "stories.jsonl").read_text().splitlines())
    return [story for story in lines if story["split"] == split]


def metrics_file(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def metrics(folder: Path, row: str = "model") -> dict[str, float]:
    (found,) = (entry for entry in metrics_file(folder)["rows"] if entry["name"] == row)
    return {name: metric["value"] for name, metric in found["figures"].items()}


@pytest.fixture(scope="module")
def evaluated(finished_run, cli, tmp_path_factory):
    """Returns the folder of an evaluation of the finished run's model, with the run's own settings."""
    data, run_dir, _ = finished_run
    out = tmp_path_factory.mktemp("evaluated") / "out"
    done = cli("evaluate", "--model", run_dir, "--data", data, "--out", out, *cli.tiny_settings())
    assert done.returncode == 0, done.stderr
    assert "SSIM" in done.stdout
    assert f"report     {out / 'report.html'}" in done.stdout
    return out


def test_evaluate_writes_the_same_metrics_as_the_pipeline(finished_run, evaluated):
    _, run_dir, _ = finished_run
    assert (evaluated / "metrics.json").read_bytes() == (run_dir / "metrics.json").read_bytes()
    report = (evaluated / "report.html").read_text()
    assert "storygan evaluate" in report
    assert "warm_up" in report


def test_a_second_call_reuses_records_and_judge(finished_run, evaluated, cli):
    data, run_dir, _ = finished_run
    before = {name: (evaluated / name).stat().st_mtime_ns for name in ("examples", "judge")}
    arguments = ["evaluate", "--model", run_dir, "--data", data, "--out", evaluated, *cli.tiny_settings()]
    done = cli(*arguments, "--served", version_of(run_dir), "--gate")
    assert done.returncode == 0, done.stderr
    assert "of the served model" in done.stdout
    assert {name: (evaluated / name).stat().st_mtime_ns for name in before} == before
    assert cli(*arguments).returncode == 0


def test_a_folder_with_other_files_is_refused(finished_run, cli, tmp_path):
    data, run_dir, _ = finished_run
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "mine.txt").write_text("mine")
    for out, words in ((run_dir, "is a run directory"), (tmp_path, "holds examples/, which no evaluation made")):
        done = cli("evaluate", "--model", run_dir, "--data", data, "--out", out)
        assert done.returncode == 1
        assert words in done.stderr
    assert (tmp_path / "examples" / "mine.txt").is_file()


def test_the_exit_code_is_the_verdict_of_the_gate(finished_run, cli, tmp_path):
    data, run_dir, _ = finished_run
    arguments = ["evaluate", "--model", run_dir, "--data", data, "--out", tmp_path, *cli.tiny_settings()]
    done = cli(*arguments, "--set", "evaluation.min_ssim_over_random=0.9", "--gate")
    assert done.returncode == 1
    assert "not more than the required +0.900" in done.stderr
    assert "failed" in done.stdout


@pytest.fixture(scope="module")
def pictures(finished_run, tmp_path_factory):
    """Returns the frames that the model draws for each test story, by id, with the seeds of an evaluation."""
    data, run_dir, _ = finished_run
    saved = SavedStoryGAN(run_dir)
    test = stories(data, "test")
    drawn = saved.generate([story["sentences"] for story in test], [story_seed(1, story["story_id"]) for story in test])
    return {story["story_id"]: frames for story, frames in zip(test, drawn, strict=True)}


@pytest.mark.parametrize("layout", ["storyviz", "arldm", "cpcsv"])
def test_pictures_of_another_system_get_the_metrics_of_the_model_that_drew_them(
    finished_run, evaluated, pictures, cli, tmp_path, layout
):
    data, _, _ = finished_run
    write_images(tmp_path / "images", layout, list(pictures), pictures.__getitem__)
    out = tmp_path / "out"
    shutil.copytree(evaluated, out)
    done = cli(
        "evaluate", "--images", tmp_path / "images", "--images-given", "text and gold labels", "--data", data,
        "--out", out, *cli.tiny_settings(), "--preset", "quick",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name, value in metrics(out).items():
        assert value == pytest.approx(metrics(evaluated)[name], abs=1e-6), name
    assert metrics_file(out)["rows"][0]["given"] == "text and gold labels"
    assert "diversity" in metrics_file(out)["absent"]


def test_shuffled_pictures_lower_the_metrics_and_missing_ones_are_an_error(finished_run, evaluated, cli, tmp_path):
    data, _, _ = finished_run
    true = {
        story["story_id"]: np.stack([tf.io.decode_png((data / image).read_bytes()) for image in story["images"]])
        for story in stories(data, "test")
    }
    names, out = list(true), tmp_path / "out"
    shutil.copytree(evaluated, out)
    arguments = ["evaluate", "--data", data, "--out", out, *cli.tiny_settings(), "--preset", "quick", "--images"]
    write_images(tmp_path / "right", "storyviz", names, true.__getitem__)
    write_images(
        tmp_path / "shuffled", "storyviz", names, lambda name: true[name][::-1] if name == names[0] else true[name]
    )
    found = {}
    for folder in ("right", "shuffled"):
        done = cli(*arguments, tmp_path / folder)
        assert done.returncode == 0, done.stderr
        found[folder] = metrics(out)
    assert found["right"]["ssim"] == pytest.approx(1)
    assert found["shuffled"]["ssim"] < 0.99
    next((tmp_path / "right").iterdir()).unlink()
    missing = cli(*arguments, tmp_path / "right")
    assert missing.returncode == 1
    assert "layout storyviz: found 15 frames" in missing.stderr
    assert "expected 16" in missing.stderr


def test_runs_are_compared_by_one_judge(finished_run, evaluated, cli, tmp_path):
    data, run_dir, _ = finished_run
    other = tmp_path / "other"
    done = cli(
        "evaluate", "--model", run_dir, "--data", data, "--out", other, *cli.tiny_settings(),
        "--set", "evaluation.classifier_epochs=2",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    page = tmp_path / "page.html"
    compared = cli("compare", run_dir, evaluated, other, "--out", page)
    assert compared.returncode == 0, compared.stderr
    lines = compared.stdout.splitlines()
    values = [next(line for line in lines if line.startswith(name)).split()[1:] for name in ("run", "out", "other")]
    assert values[0] == values[1] == values[2]
    assert page.read_text().count("data:image/png;base64,") >= 4


def test_runs_on_other_stories_are_not_compared(finished_run, evaluated, cli, story_folder, tmp_path):
    _, run_dir, _ = finished_run
    data = story_folder(tmp_path / "data", train=10, test=5)
    done = cli("evaluate", "--model", run_dir, "--data", data, "--out", tmp_path / "other", *cli.tiny_settings())
    assert done.returncode == 0, done.stderr
    compared = cli("compare", evaluated, tmp_path / "other", "--out", tmp_path / "page.html")
    assert compared.returncode == 1
    assert "do not compare: stories" in compared.stderr


def test_the_lineage_agrees_with_ml_metadata(finished_run, cli):
    data, run_dir, _ = finished_run
    done = cli("lineage", version_of(run_dir), "--json")
    assert done.returncode == 0, done.stderr
    lineage = Lineage.from_json(done.stdout)
    outputs = RunOutputs(run_dir / "metadata.sqlite")
    (evaluator,), (trainer,) = outputs.executions("StoryEvaluator"), outputs.executions("Trainer")
    given = {key: value.string_value for key, value in evaluator.custom_properties.items()}
    assert lineage.run_id in outputs.runs("StoryEvaluator")
    assert lineage.data_fingerprint == given["data_fingerprint"] == data_fingerprint(data)
    assert lineage.code["StoryEvaluator"] == given["code_fingerprint"]
    assert lineage.code["Trainer"] == json.loads(trainer.custom_properties["custom_config"].string_value)["code"]
    assert lineage.settings == json.loads((run_dir / "settings.json").read_text())["settings"]
    assert lineage.lock == lock_fingerprint()
    assert lineage.model_sha256 == model_fingerprint(version_of(run_dir))
    rounded = {name: round(value, 6) for name, value in lineage.metrics.items()}
    assert rounded == metrics(run_dir)  # metrics.json has six decimals
    assert (version_of(run_dir) / "assets.extra" / "model_card.md").is_file()


def test_a_change_of_the_destination_runs_the_evaluator_again(run_to_change, cli):
    data, run_dir = run_to_change
    newest = version_of(run_dir)
    shutil.copytree(newest, newest.with_name(str(int(newest.name) + 1)))
    done = cli(*cli.tiny_run(data, run_dir))
    assert done.returncode == 0, done.stderr
    assert "] Trainer: unchanged" in done.stdout
    assert "] StoryEvaluator: done in" in done.stdout
    assert metrics_file(run_dir)["rows"][1]["what"] == f"the served model, version {int(newest.name) + 1}"


def add_noise(version: Path, target: Path) -> None:
    """Writes a copy of a model with noise in its weights."""
    model = tf.saved_model.load(str(version))
    random = np.random.default_rng(1)
    for variable in model.generator_variables:
        # A variable without negative values may be a variance, and a negative variance would give NaN: another failure.
        if variable.dtype.is_floating and variable.numpy().min() < 0:
            variable.assign_add(random.normal(0, 0.5, variable.shape))
    tf.saved_model.save(model, str(target), signatures=dict(model.signatures))


def test_a_model_with_noise_in_its_weights_is_not_blessed_and_the_served_version_stays(run_to_change, tmp_path):
    _, run_dir = run_to_change
    serving, served = run_dir / "serving_model" / "storygan", version_of(run_dir)
    add_noise(served, tmp_path / "model" / "Format-Serving")
    inputs = json.loads((run_dir / "inputs.json").read_text())
    artifacts = {
        "examples": (standard_artifacts.Examples(), inputs["examples"]),
        "judge": (standard_artifacts.Model(), inputs["judge"]),
        "model": (standard_artifacts.Model(), str(tmp_path / "model")),
        "evaluation": (standard_artifacts.ModelEvaluation(), str(tmp_path / "evaluation")),
        "blessing": (standard_artifacts.ModelBlessing(), str(tmp_path / "blessing")),
        "pushed_model": (standard_artifacts.PushedModel(), str(tmp_path / "pushed")),
    }
    for artifact, uri in artifacts.values():
        artifact.uri = uri
        Path(uri).mkdir(exist_ok=True)
    given = {name: [artifact] for name, (artifact, _) in artifacts.items()}
    settings = {"evaluation": {"replicates": 100, "min_object_gain": None, "min_ssim_over_random": -1}}
    Executor(Executor.Context(beam_pipeline_args=beam_options([]))).Do(
        {name: given[name] for name in ("examples", "model", "judge")},
        {name: given[name] for name in ("evaluation", "blessing")},
        {"settings": json.dumps(settings), "serving_dir": str(serving)},
    )
    assert not model_utils.is_model_blessed(given["blessing"][0])
    assert "of the served model" in given["blessing"][0].get_string_custom_property("reason")
    destination = pusher_pb2.PushDestination(
        filesystem=pusher_pb2.PushDestination.Filesystem(base_directory=str(serving))
    )
    pusher.Executor().Do(
        {"model": given["model"], "model_blessing": given["blessing"]},
        {"pushed_model": given["pushed_model"]},
        {"push_destination": proto_utils.proto_to_json(destination)},
    )
    assert version_of(run_dir) == served
