"""What draws a batch: a model in this process, a server; how many batches at the same time."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from PIL import Image

from serving.batch_generators import DrawnStory, SavedSource, ServedSource, close_generators, draw_all, open_generator
from serving.batch_input import DrawTask
from serving.call_errors import ServingError
from storygan_tf.common.errors import ModelError
from storygan_tf.common.model_paths import find_model

BLOCKS = SavedSource(str(find_model("blocks")))


@pytest.fixture(scope="module")
def tasks(saved_blocks):
    """Returns six stories, of which story 2 is too short and story 3 has a blank sentence."""
    stories = [list(story) for story in saved_blocks.info["examples"]] * 2
    stories[2] = stories[2][:3]
    stories[3] = [stories[3][0], " ", *stories[3][2:]]
    return [DrawTask(f"s{number}", tuple(story), 10 + number, number, "") for number, story in enumerate(stories)]


def pixels(drawn: DrawnStory) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(frame))) for frame in drawn.frames])


def check(results, tasks, saved_blocks):
    """Compares pictures with those that the model draws of each story alone, to a grey level."""
    assert [task for task, _ in results] == tasks
    errors = [drawn.error for _, drawn in results]
    assert errors[2:4] == ["3 sentences, expected 4", "sentence 2 is blank; write at least one word."]
    assert not any(errors[:2] + errors[4:])
    for task, drawn in results:
        if not drawn.error:
            expected = saved_blocks.generate([task.sentences], [task.seed])[0]
            np.testing.assert_allclose(pixels(drawn).astype(int), expected.astype(int), atol=1)


def halves(tasks):
    return [tasks[:3], tasks[3:]]


def test_a_model_in_this_process_draws_what_it_can(tasks, saved_blocks):
    generator = open_generator(BLOCKS)
    check(list(draw_all(generator, halves(tasks))), tasks, saved_blocks)


def test_a_server_draws_the_same(tasks, saved_blocks, blocks_server):
    source = ServedSource(blocks_server.target, concurrency=2).pinned()
    assert source.identity() == {"version": "1", "served_name": "storygan"}
    check(list(draw_all(source.open(), halves(tasks))), tasks, saved_blocks)


def test_a_batch_that_a_server_refuses_as_a_whole_has_a_reason_for_each_story(blocks_server):
    blank = DrawTask("s", (" ",) * 4, 1, 0, "")
    drawn = list(draw_all(ServedSource(blocks_server.target).open(), [[blank, blank]]))
    assert [outcome.error for _, outcome in drawn] == ["sentence 1 is blank; write at least one word."] * 2


def test_a_version_that_the_server_has_not_is_an_error(blocks_server):
    source = ServedSource(blocks_server.target, number=7)
    with pytest.raises(ServingError, match="NOT_FOUND"):
        source.open()


def test_no_server_is_an_error(port_finder):
    with pytest.raises(ServingError, match="UNAVAILABLE"):
        ServedSource(f"localhost:{port_finder()}").pinned()


def test_a_model_is_loaded_once_by_many_threads(monkeypatch):
    loads, callers = [], threading.Barrier(4)

    class Counted:
        frames = 4

        def __init__(self, model):
            loads.append(model)

    def open_together():
        callers.wait(120)
        open_generator(BLOCKS)

    monkeypatch.setattr("serving.batch_generators.SavedStoryGAN", Counted)
    close_generators()
    threads = [threading.Thread(target=open_together) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [BLOCKS.path]
    close_generators()


class Counting:
    """Draws nothing. Each batch waits until `concurrency` batches are drawn at the same time, and they are counted."""

    frames = 1
    concurrency = 3

    def __init__(self):
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.together = threading.Barrier(self.concurrency)

    def draw(self, stories, seeds):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.together.wait(120)
        with self.lock:
            self.now -= 1
        return [DrawnStory([bytes([seed])]) for seed in seeds]


def test_some_batches_are_drawn_at_the_same_time_and_come_in_order():
    generator, read = Counting(), []

    def batches():
        for number in range(12):
            read.append(number)
            yield [DrawTask(f"s{number}", ("a",), number, number, "")]

    drawn = draw_all(generator, batches())
    assert next(drawn)[1].frames == [b"\0"]
    assert len(read) == generator.concurrency + 1
    assert [outcome.frames[0][0] for _, outcome in drawn] == list(range(1, 12))
    assert generator.most == generator.concurrency


def test_what_fails_in_a_thread_is_raised():
    class Failing(Counting):
        def draw(self, stories, seeds):
            raise ModelError("out of paint")

    with pytest.raises(ModelError, match="out of paint"):
        list(draw_all(Failing(), [[DrawTask("s", ("a",), 1, 0, "")]] * 9))
