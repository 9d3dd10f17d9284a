"""The domain judge: a small network that detects labels, features and placed objects in frames of one data set.

`judge` loads, saves and runs a judge, `judge_choice` selects the one for a data set, and `judge_training` trains one
from `network` (its two networks), `fitting` (their training) and `placed_objects` (their targets). The folder `blocks`
holds the frozen judge of the data set `blocks`, created by `scripts/train_blocks_judge.py`. A judge is never part of a
training
loss: a model could learn to deceive it. Start with `judge`.
"""
