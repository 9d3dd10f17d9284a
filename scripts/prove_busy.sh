#!/bin/sh
# Runs the tests on a busy machine: the fast tests three times in random order and the slow tests once while stress-ng
# keeps four processes computing, then the fast tests once on a single core. Called by `make prove-busy`.
#
#   PYTHON=.venv/bin/python scripts/prove_busy.sh [fast|slow|core]
#
# Without an argument all three parts run. Each part prints its duration and the seed of its order.
set -eu

python=${PYTHON:-.venv/bin/python}
part=${1:-all}

command -v stress-ng >/dev/null 2>&1 || {
    echo "prove-busy: stress-ng was not found; install it: apt-get install stress-ng" >&2
    exit 1
}

stress=
stop() {
    if [ -n "$stress" ]; then
        kill "$stress" 2>/dev/null || true
        stress=
    fi
}
trap stop EXIT INT TERM

run() {
    printf '\n=== %s\n' "$1"
    shift
    started=$(date +%s)
    "$@"
    printf '=== took %s s\n' "$(($(date +%s) - started))"
}

"$python" benchmarks/matrix_product.py
if [ "$part" = all ] || [ "$part" = fast ] || [ "$part" = slow ]; then
    stress-ng --quiet --cpu 4 &
    stress=$!
fi
if [ "$part" = all ] || [ "$part" = fast ]; then
    for turn in 1 2 3; do
        run "fast tests in random order with stress-ng, run $turn of 3" \
            "$python" -m pytest -q -p randomly -n 2 --dist loadfile -m "not slow"
    done
fi
if [ "$part" = all ] || [ "$part" = slow ]; then
    run "slow tests with stress-ng" "$python" -m pytest -q -n 2 --dist loadfile -m slow
fi
stop
if [ "$part" = all ] || [ "$part" = core ]; then
    run "fast tests on one core" taskset -c 0 "$python" -m pytest -q -n 2 --dist loadfile -m "not slow"
fi
