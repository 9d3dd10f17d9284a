#!/bin/sh
# The first run: draws a story with the pretrained model, then renders stories and runs the pipeline on them, both
# resumable.
#
#   scripts/first_run.sh
#
# From the environment: STORYGAN (the command), STORIES, TEST_STORIES, SEED.
set -eu

storygan=${STORYGAN:-storygan}

echo "A story that the pretrained model draws:"
"$storygan" generate --model blocks --out runs/pretrained.png
echo "Now a model of your own, in runs/quick:"
"$storygan" data render --stories "${STORIES:-400}" --test-stories "${TEST_STORIES:-48}" --out runs/data/quick --seed "${SEED:-1}"
"$storygan" run --data runs/data/quick --out runs/quick --preset quick
