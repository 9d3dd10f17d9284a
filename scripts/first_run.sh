#!/bin/sh
# The first run: draws a story with the pretrained model, then renders stories and runs the pipeline on them. If it is
# interrupted, the same command continues it.
#
#   scripts/first_run.sh
#
# Environment variables: STORYGAN (the command), STORIES, TEST_STORIES and VAL_STORIES (numbers of rendered stories), SEED.
set -eu

storygan=${STORYGAN:-storygan}

echo "A story that the pretrained model draws:"
"$storygan" generate --model blocks --out runs/pretrained.png
echo "Now a model that is trained here, in runs/quick:"
"$storygan" data render --stories "${STORIES:-400}" --test-stories "${TEST_STORIES:-48}" --val-stories "${VAL_STORIES:-24}" --out runs/data/quick --seed "${SEED:-1}"
"$storygan" run --data runs/data/quick --out runs/quick --preset quick
