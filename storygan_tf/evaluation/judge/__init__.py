"""The domain judge: tells labels, features and placed objects of frames; it never enters a training loss.

`judge` loads, saves and asks one, `training` makes one, `judge_choice` finds the one for a data set. The folder
`blocks` holds the frozen judge of `blocks`, made by `scripts/train_blocks_judge.py`.
"""
