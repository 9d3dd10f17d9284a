#!/bin/sh
# Installs the locked packages and the project into .venv. The Makefile calls it before every target that needs them.
#
#   PYTHON=/path/to/python3.10 scripts/setup_env.sh
#
# It checks the machine before it downloads anything. It prints what it does, how long that takes and where downloads are
# cached, and prints nothing if the environment is up to date. A stamp in the environment holds a checksum of the files
# that it was built from. The stamp is written last, so that the next call finishes an interrupted one.
set -eu

PYTHON_VERSION=3.10
# The oldest glibc that every wheel of requirements.lock runs on (manylinux_2_28).
GLIBC=2.28

cd "$(dirname "$0")/.."
root=$(pwd -P)
venv=$root/.venv
stamp=$venv/storygan.stamp

fail() {
    printf '\nstorygan: %s\n\n' "$1" >&2
    shift
    for line in "$@"; do
        printf '    %s\n' "$line" >&2
    done
    exit 1
}

# Like fail, and also prints the commands that work on any machine with Docker.
fail_or_docker() {
    # shellcheck disable=SC2016  # for the user's shell to expand
    fail "$@" "" \
        "The same in Docker, the pictures in runs/quick:" \
        "" \
        "docker build --platform linux/amd64 -t storygan ." \
        'mkdir -p runs && docker run --rm --platform linux/amd64 --user "$(id -u):$(id -g)" -v "$PWD/runs:/data/runs" --entrypoint first-run storygan'
}

check_system() {
    system=$(uname -s)
    if [ "$system" != Linux ]; then
        fail_or_docker "TFX 1.15 has packages for Linux on x86_64 only; this is $system."
    fi
    machine=$(uname -m)
    if [ "$machine" != x86_64 ]; then
        fail_or_docker "TFX 1.15 has packages for Linux on x86_64 only; this processor is $machine."
    fi
}

# Prints the version of glibc, or nothing if the C library is another one.
glibc_version() {
    text=$(getconf GNU_LIBC_VERSION 2>/dev/null) || text=$(ldd --version 2>&1 | head -n 1) || text=
    case $text in
        *musl*) ;;
        *glibc* | *GLIBC* | *"GNU libc"*) printf '%s\n' "$text" | sed 's/.*[^0-9.]\([0-9][0-9]*\.[0-9][0-9]*\).*/\1/' ;;
    esac
}

check_libc() {
    libc=$(glibc_version)
    if [ -z "$libc" ]; then
        fail_or_docker "the packages need glibc $GLIBC or newer; this system has another C library (musl?)."
    fi
    if [ "${libc%%.*}" -lt "${GLIBC%%.*}" ] ||
        { [ "${libc%%.*}" -eq "${GLIBC%%.*}" ] && [ "${libc#*.}" -lt "${GLIBC#*.}" ]; }; then
        fail_or_docker "the packages need glibc $GLIBC or newer (Debian 10, Ubuntu 20.04, RHEL 8); this system has $libc."
    fi
}

# TensorFlow Data Validation imports pyfarmhash, which is published only as C++ source.
check_compiler() {
    for compiler in c++ g++ clang++; do
        if command -v "$compiler" >/dev/null 2>&1; then
            return
        fi
    done
    fail_or_docker "one of the packages (pyfarmhash) is compiled here, and there is no C++ compiler. Install one:" \
        "apt-get install g++     (Debian, Ubuntu)" \
        "dnf install gcc-c++     (Fedora, RHEL)"
}

find_python() {
    status=0
    python=$(sh scripts/find_python.sh "$PYTHON_VERSION") || status=$?
    if [ "$status" -eq 2 ]; then
        fail_or_docker "PYTHON must name a Python $PYTHON_VERSION, the newest that TFX 1.15 has packages for."
    elif [ "$status" -ne 0 ]; then
        fail_or_docker "no Python $PYTHON_VERSION was found (the newest that TFX 1.15 has packages for). Install one, whichever suits:" \
            "pyenv install 3.10                                      (pyenv)" \
            "uv python install 3.10                                  (uv)" \
            "apt-get install python3.10 python3.10-venv python3.10-dev   (Ubuntu 22.04)" \
            "dnf install python3.10-devel                            (Fedora)" \
            "or set PYTHON: make run PYTHON=/path/to/python3.10"
    fi
}

check_python() {
    missing=$("$python" -c '
import importlib.util, os, sysconfig
header = os.path.join(sysconfig.get_path("include"), "Python.h")
print("" if importlib.util.find_spec("ensurepip") else "ensurepip", "" if os.path.exists(header) else "Python.h")
')
    case $missing in
        *Python.h*)
            fail_or_docker "$python has no Python.h, which compiling pyfarmhash needs. Install it:" \
                "apt-get install python3.10-dev     (Debian, Ubuntu)" \
                "dnf install python3.10-devel       (Fedora, RHEL)"
            ;;
        *ensurepip*)
            if ! command -v uv >/dev/null 2>&1; then
                fail_or_docker "$python cannot make environments (it has no ensurepip). Install that:" \
                    "apt-get install python3.10-venv     (Debian, Ubuntu)"
            fi
            ;;
    esac
}

# Prints the checksum of the files that the environment is built from and of its path, which its scripts contain.
wanted_stamp() {
    { cat requirements.lock setup.py && printf '%s %s\n' "$PYTHON_VERSION" "$venv"; } | sha256sum | cut -d ' ' -f 1
}

# Succeeds if the environment has a Python of the right version that runs.
runs() {
    [ -x "$venv/bin/python" ] &&
        "$venv/bin/python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$PYTHON_VERSION')" >/dev/null 2>&1
}

# Succeeds if packages can be installed into the environment, which an interrupted make_venv may not allow.
usable() {
    runs && { "$venv/bin/python" -c 'import pip' 2>/dev/null || command -v uv >/dev/null 2>&1; }
}

# Succeeds if the environment is complete and up to date.
finished() {
    [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted_stamp)" ] && runs
}

make_venv() {
    if [ -e "$venv" ] || [ -L "$venv" ]; then
        if [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv" 2>/dev/null)" ]; then
            fail "$venv is in the way and is not a Python environment. Move it away and try again."
        fi
        rm -rf "$venv"
    fi
    if "$python" -c 'import ensurepip' 2>/dev/null; then
        "$python" -m venv "$venv"
    else
        uv venv --quiet --python "$python" "$venv"
    fi
}

# Sets `uv` to the locked uv in the environment, or to the one on PATH if the environment has no pip to install it with.
get_uv() {
    uv=$venv/bin/uv
    version=$(sed -n 's/^uv==\([^ ]*\).*/\1/p' requirements.lock)
    if [ "$("$uv" --version 2>/dev/null | cut -d ' ' -f 2)" = "$version" ]; then
        return
    fi
    if "$venv/bin/python" -c 'import pip' 2>/dev/null; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$version"
    else
        uv=uv
    fi
}

install() {
    # The lock also pins the tools that build the packages that are published only as source. Where Python must not write
    # bytecode, the packages are compiled here, once: otherwise each process would spend 10 seconds on compiling TFX.
    "$uv" pip sync --quiet ${PYTHONDONTWRITEBYTECODE:+--compile-bytecode} --python "$venv/bin/python" \
        --build-constraints requirements.lock requirements.lock &&
        "$uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
}

# Prints what is about to happen, how long it takes and how much it downloads.
announce() {
    caches=${XDG_CACHE_HOME:-${HOME:-}/.cache}
    if usable; then
        echo "storygan: updating .venv to the packages of requirements.lock; only what has changed is downloaded."
    else
        echo "storygan: creating .venv with $python and installing the packages of requirements.lock."
        echo "storygan: this downloads about 1 GB and needs 3.3 GB of disk. It takes a few minutes with a fast network,"
        echo "storygan: and about a minute if the packages are cached."
    fi
    echo "storygan: downloads are cached in ${UV_CACHE_DIR:-$caches/uv} (uv itself in ${PIP_CACHE_DIR:-$caches/pip})."
}

check_system
check_libc
if finished; then
    exit 0
fi
check_compiler
find_python
check_python
announce
rm -f "$stamp"
if ! usable; then
    make_venv
fi
if ! { get_uv && install; }; then
    fail "the packages could not be installed; the reason is above." \
        "If the network or the disk was the cause, run the same command again: it continues from here." \
        "To start from the beginning: make clean-env"
fi
wanted_stamp >"$stamp.new"
mv "$stamp.new" "$stamp"
