"""The state of a training: as JSON, by older versions too, and what follows from it."""

from __future__ import annotations

import json

import pytest

from storygan_tf.common.errors import TrainingError
from storygan_tf.config.schema import PhaseConfig
from storygan_tf.training.training_state import Clock, Rollback, TrainingState, stories_per_step

STATE = TrainingState(
    1,
    2,
    3,
    Clock(1.5, 2, 1.25),
    [{"losses": {"l1": 0.5}}],
    [Rollback("short", 2, 3, "losses are not finite", 7, (0.1, 0.2))],
)

FILE = """
{"phase": 1, "epoch": 2, "step": 3,
 "clock": {"seconds": 1.5, "timed_steps": 2, "timed_seconds": 1.25},
 "history": [{"losses": {"l1": 0.5}}],
 "rollbacks": [{"phase": "short", "epoch": 2, "step": 3, "description": "losses are not finite",
                "skipped_steps": 7, "rates": [0.1, 0.2]}],
 "format": 3}
"""
"""A state file. If this has to change, `_FORMAT` has to change with it."""


def test_a_state_survives_json():
    assert TrainingState.from_json(STATE.to_json()) == STATE
    assert TrainingState.from_json(json.loads(json.dumps(STATE.to_json()))) == STATE


def test_the_keys_on_disk():
    assert TrainingState.from_json(json.loads(FILE)) == STATE
    assert json.loads(json.dumps(STATE.to_json())) == json.loads(FILE)


def test_a_state_of_another_version_is_refused():
    older = {key: value for key, value in json.loads(FILE).items() if key != "format"}
    with pytest.raises(TrainingError, match=r"another version of storygan: found format 1, expected 3.*--init-from"):
        TrainingState.from_json(older)


def test_a_clock_gives_stories_per_second():
    clock = Clock()
    clock.add(100.0, timed=False)
    assert clock.speed(8) == {}
    clock.add(2.0, timed=True)
    clock.add(2.0, timed=True)
    assert clock.seconds == 104.0
    assert clock.speed(8) == {"stories_per_second": 4.0}


def test_stories_per_step():
    assert stories_per_step(PhaseConfig(schedule="joint", story_batch=5, image_batch=7, generator_steps=2)) == 5
    assert stories_per_step(PhaseConfig(story_batch=5, story_steps=3)) == 15
    assert stories_per_step(PhaseConfig(image_batch=7, image_steps=2, story_steps=0)) == 14


def test_skipped_data_and_halved_rates_belong_to_the_phase_that_diverged():
    short, joint = (
        PhaseConfig(name="short", schedule="pixel", l1_weight=1.0),
        PhaseConfig(name="joint", schedule="joint"),
    )
    state = TrainingState(epoch=2, step=1, rollbacks=[Rollback("short", 1, 1, "", 5, (2e-4, 2e-4))])
    assert state.data_position(short, 10) == 26
    assert state.data_position(joint, 10) == 21
    assert state.with_reduced_rates(short).generator_learning_rate == 1e-4
    assert state.with_reduced_rates(joint) == joint
