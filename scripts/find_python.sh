#!/bin/sh
# Prints the path of a Python of the given version that really runs; downloads nothing.
#
#   scripts/find_python.sh 3.10
#
# Looked at in turn: $PYTHON (then nothing else), pythonX.Y on PATH (a pyenv shim may be there and fail), the versions
# of pyenv, those that uv knows, and python3. Exit code 1 without a word where there is none; 2, with the reason on
# standard error, where $PYTHON is not one.
set -u

version=$1

# Prints the real path of interpreter $1 where it runs and is a 64-bit CPython of the wanted version.
real_path() {
    "$1" -c '
import sys
wanted = tuple(int(part) for part in sys.argv[1].split("."))
good = sys.version_info[:2] == wanted and sys.implementation.name == "cpython" and sys.maxsize > 2**32
print(getattr(sys, "_base_executable", sys.executable) if good else "")  # not that of an active environment
' "$version" 2>/dev/null
}

try() {
    found=$(real_path "$1") || return 1
    [ -n "$found" ] || return 1
    printf '%s\n' "$found"
    exit 0
}

if [ -n "${PYTHON:-}" ]; then
    try "$PYTHON"
    echo "PYTHON=$PYTHON is not a 64-bit CPython $version that runs (it says: $("$PYTHON" --version 2>&1 | head -n 1))." >&2
    exit 2
fi

if command -v "python$version" >/dev/null 2>&1; then
    try "python$version"
fi

for root in "${PYENV_ROOT:-}" "${HOME:-}/.pyenv"; do
    for candidate in "$root/versions/$version".*/bin/python; do
        if [ -x "$candidate" ]; then
            try "$candidate"
        fi
    done
done

if command -v uv >/dev/null 2>&1; then
    candidate=$(uv python find --no-project --no-python-downloads "$version" 2>/dev/null)
    if [ -n "$candidate" ]; then
        try "$candidate"
    fi
fi

if command -v python3 >/dev/null 2>&1; then
    try python3
fi
exit 1
