#!/bin/sh
# Prints the path of a Python of the given version that runs; downloads nothing.
#
#   scripts/find_python.sh 3.10
#
# Tries $PYTHON, and nothing else if it is set. Otherwise tries pythonX.Y on PATH (which may be a pyenv shim that fails),
# the versions that pyenv installed, those that uv finds, and python3, in this order. Exits with code 1 and no message
# if there is none, and with code 2 and the reason on standard error if $PYTHON is no such Python.
set -u

version=$1

# Prints the real path of interpreter $1, or nothing if it is not a 64-bit CPython of the wanted version that runs.
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
