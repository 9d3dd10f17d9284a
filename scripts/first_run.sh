#!/bin/sh
# The first run: renders stories and runs the pipeline on them, both resumable.
#
#   scripts/first_run.sh
#
# From the environment: STORYGAN (the command), STORIES, TEST_STORIES, SEED.
set -eu

storygan=${STORYGAN:-storygan}

"$storygan" data render --stories "${STORIES:-400}" --test-stories "${TEST_STORIES:-48}" --out runs/data/quick --seed "${SEED:-1}"
"$storygan" run --data runs/data/quick --out runs/quick --preset quick
