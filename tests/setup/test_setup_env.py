"""scripts/setup_env.sh on machines of all kinds: its messages, its checks and its installations."""

from __future__ import annotations

import shutil

import pytest

FETCHERS = ("curl", "wget", "pip", "uv pip", "uv venv", "python3.10 -m")


def refused(machine, **environment) -> str:
    """Runs the script on a machine where it must fail before it changes anything, and returns its error message."""
    done = machine.run(**environment)
    assert done.returncode == 1
    assert [call for call in machine.calls() if call.startswith(FETCHERS)] == []
    assert not (machine.checkout / ".venv").exists()
    return done.stderr


def names_docker(message: str) -> bool:
    return "docker build --platform linux/amd64 -t storygan ." in message and "docker run --rm" in message


# Checks before any download


@pytest.mark.parametrize(
    ("system", "processor", "message"),
    [
        ("Linux", "aarch64", "this processor is aarch64"),
        ("Linux", "armv7l", "this processor is armv7l"),
        ("Darwin", "arm64", "this is Darwin"),
        ("Darwin", "x86_64", "this is Darwin"),
        ("MINGW64_NT-10.0", "x86_64", "this is MINGW64_NT-10.0"),
    ],
)
def test_platforms_without_packages(machine, system, processor, message):
    machine.command("uname", f'case "$1" in -s) echo {system} ;; -m) echo {processor} ;; esac')
    machine.python()
    error = refused(machine)
    assert message in error
    assert "Linux on x86_64 only" in error
    assert names_docker(error)


@pytest.mark.parametrize(
    ("getconf", "ldd", "message"),
    [
        ("echo glibc 2.27", None, "glibc 2.28 or newer (Debian 10, Ubuntu 20.04, RHEL 8); this system has 2.27"),
        ("echo glibc 2.5", None, "this system has 2.5"),
        ("exit 1", "echo 'ldd (GNU libc) 2.17'", "this system has 2.17"),
        ("exit 1", "echo 'musl libc (x86_64)' >&2; exit 1", "another C library (musl?)"),
        ("exit 1", None, "another C library (musl?)"),
    ],
)
def test_old_and_other_c_libraries(machine, getconf, ldd, message):
    machine.command("getconf", getconf)
    if ldd:
        machine.command("ldd", ldd)
    machine.python()
    error = refused(machine)
    assert message in error
    assert names_docker(error)


@pytest.mark.parametrize(
    ("getconf", "ldd"),
    [
        ("echo glibc 2.28", None),
        ("echo glibc 3.0", None),
        ("exit 1", "echo 'ldd (Debian GLIBC 2.36-9+deb12u14) 2.36'"),
        ("exit 1", "echo 'ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35'"),
    ],
)
def test_c_libraries_that_are_new_enough(machine, getconf, ldd):
    machine.command("getconf", getconf)
    if ldd:
        machine.command("ldd", ldd)
    assert "no Python 3.10" in refused(machine)


def test_no_compiler(machine):
    (machine.bin / "g++").unlink()
    machine.python()
    message = refused(machine)
    assert "no C++ compiler" in message
    assert "apt-get install g++" in message
    assert names_docker(message)


def test_no_python(machine):
    message = refused(machine)
    assert "no Python 3.10 was found" in message
    for way in ("pyenv install 3.10", "uv python install 3.10", "apt-get install python3.10", "PYTHON=/path"):
        assert way in message
    assert names_docker(message)


def test_a_shim_that_fails(machine):
    """pyenv puts a shim on PATH for every installed version; it fails if that version is not selected."""
    machine.command("python3.10", "echo 'pyenv: python3.10: command not found' >&2; exit 127")
    machine.python(machine.bin / "python3", version="3.12")
    assert "no Python 3.10 was found" in refused(machine)


@pytest.mark.parametrize("version", ["3.9", "3.11"])
def test_python_variable_of_another_version(machine, version):
    """PYTHON is used even if the script could find a Python of the right version."""
    machine.python()
    path = machine.python(machine.home / "python", version=version)
    message = refused(machine, PYTHON=str(path))
    assert f"PYTHON={path} is not a 64-bit CPython 3.10 that runs (it says: Python {version}.9)" in message
    assert "PYTHON must name a Python 3.10" in message


def test_python_variable_that_names_nothing(machine):
    machine.python()
    assert "PYTHON=/no/such/python is not" in refused(machine, PYTHON="/no/such/python")


def test_python_without_headers(machine):
    machine.python(lacks="Python.h")
    message = refused(machine)
    assert "has no Python.h" in message
    assert "apt-get install python3.10-dev" in message


def test_python_without_venv(machine):
    machine.python(lacks="ensurepip")
    (machine.bin / "uv").unlink()
    message = refused(machine)
    assert "cannot make environments" in message
    assert "apt-get install python3.10-venv" in message


def test_something_else_is_called_venv(machine):
    machine.python()
    (machine.checkout / ".venv").mkdir()
    (machine.checkout / ".venv/thesis.txt").touch()
    done = machine.run()
    assert done.returncode == 1
    assert "is not a Python environment" in done.stderr
    assert (machine.checkout / ".venv/thesis.txt").exists()


# Search for Python


def found_by(machine, **environment) -> str:
    done = machine.run("sh", "scripts/find_python.sh", "3.10", **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_found_on_path(machine):
    machine.python()
    assert found_by(machine).endswith("python3.10")


def test_found_as_python3(machine):
    machine.python(machine.bin / "python3")
    assert found_by(machine).endswith("python3")


@pytest.mark.parametrize("variable", [True, False])
def test_found_in_pyenv(machine, variable):
    """Python is found in PYENV_ROOT or in ~/.pyenv, although the shim on PATH fails."""
    machine.command("python3.10", "exit 127")
    root = machine.home / ("elsewhere" if variable else ".pyenv")
    machine.command("python", "exit 127", root / "versions/3.10.1/bin")
    path = machine.python(root / "versions/3.10.13/bin/python")
    assert found_by(machine, **({"PYENV_ROOT": str(root)} if variable else {})) == str(path)


def test_found_by_uv_without_a_download(machine):
    path = machine.python(machine.home / "uv/python")
    machine.command("uv", f'case "$*" in *--no-python-downloads*) echo {path} ;; esac')
    assert found_by(machine) == str(path)


def test_found_by_variable(machine):
    path = machine.python(machine.home / "mine")
    assert found_by(machine, PYTHON=str(path)) == str(path)


# Installation


def installs(machine) -> list[str]:
    """Returns the calls that change the environment, since the last call of this function."""
    return [call for call in machine.calls() if "pip sync" in call or "pip install" in call or "-m venv" in call]


@pytest.fixture
def installed(machine):
    machine.python()
    done = machine.run()
    assert done.returncode == 0, done.stderr
    return machine


def test_a_first_call_prints_the_download_and_the_caches(machine):
    python = machine.python()
    printed = machine.run().stdout
    assert f"creating .venv with {python}" in printed
    assert "this downloads about" in printed
    assert "minutes" in printed
    assert f"cached in {machine.home}/.cache/uv (uv itself in {machine.home}/.cache/pip)" in printed


def test_the_caches_are_those_of_uv_and_pip(machine):
    machine.python()
    assert "cached in /a/uv (uv itself in /a/pip)" in machine.run(XDG_CACHE_HOME="/a").stdout
    (machine.checkout / ".venv/storygan.stamp").unlink()
    printed = machine.run(XDG_CACHE_HOME="/a", UV_CACHE_DIR="/b", PIP_CACHE_DIR="/c").stdout
    assert "cached in /b (uv itself in /c)" in printed
    assert "updating .venv" in printed
    assert "this downloads about" not in printed


def test_a_first_call_installs_the_lock_then_the_project(installed):
    venv, pip, lock, project = installs(installed)
    assert "-m venv" in venv
    assert pip.endswith("uv==0.9.1")
    assert lock.startswith("uv pip sync")
    assert lock.endswith("--build-constraints requirements.lock requirements.lock")
    assert "--no-deps --no-build-isolation --editable ." in project


def test_a_second_call_installs_nothing(installed):
    installed.calls()
    done = installed.run()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (only,) = [call for call in installed.calls() if call.startswith(("uv", "pip", "g++", "python3.10"))]
    assert "sys.exit('%d.%d'" in only  # checks that the environment's Python runs


@pytest.mark.parametrize("changed", ["requirements.lock", "setup.py"])
def test_an_edit_installs_again_into_the_same_environment(installed, changed):
    installed.calls()
    with (installed.checkout / changed).open("a") as file:
        file.write("# edited\n")
    assert installed.run().returncode == 0
    assert [call.split()[0:3] for call in installs(installed)] == [["uv", "pip", "sync"], ["uv", "pip", "install"]]
    assert installed.run().returncode == 0
    assert installs(installed) == []


def test_a_moved_checkout_is_installed_again(installed):
    """The scripts of an environment contain the path of the folder that it was created in."""
    installed.calls()
    moved = installed.checkout.with_name("moved")
    installed.checkout.rename(moved)
    installed.checkout = moved
    assert installed.run().returncode == 0
    assert installs(installed)


def test_the_next_call_finishes_an_interrupted_install(machine):
    python = machine.python()
    uv = machine.checkout / ".venv/bin/uv"
    assert machine.run().returncode == 0
    (machine.checkout / ".venv/storygan.stamp").unlink()
    whole = uv.read_text()
    uv.write_text(whole + 'case "$*" in *sync*) echo "no space left on device" >&2; exit 2 ;; esac\n')
    done = machine.run()
    assert done.returncode == 1
    assert "no space left on device" in done.stderr
    assert "the packages could not be installed" in done.stderr
    assert not any("--editable" in call for call in machine.calls()[-1:])
    uv.write_text(whole)
    assert machine.run().returncode == 0
    assert len(installs(machine)) == 2
    assert python.exists()


def test_a_failing_editable_install_leaves_no_stamp(machine):
    machine.python()
    assert machine.run().returncode == 0
    uv = machine.checkout / ".venv/bin/uv"
    uv.write_text(uv.read_text() + 'case "$*" in *--editable*) exit 2 ;; esac\n')
    (machine.checkout / "setup.py").write_text("# broken\n")
    assert machine.run().returncode == 1
    assert not (machine.checkout / ".venv/storygan.stamp").exists()


def test_an_environment_without_its_python_is_created_again(installed):
    installed.calls()
    python = installed.checkout / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/no/such/python")
    assert installed.run().returncode == 0
    assert "-m venv" in installs(installed)[0]


def test_an_environment_of_another_python_is_created_again(installed):
    installed.calls()
    installed.python(installed.checkout / ".venv/bin/python", version="3.11")
    assert installed.run().returncode == 0
    assert "-m venv" in installs(installed)[0]


def test_without_ensurepip_uv_makes_the_environment(machine):
    machine.python(lacks="ensurepip")
    make_venv = 'mkdir -p .venv/bin; echo home >.venv/pyvenv.cfg; cp "${0%/*}/python3.10" .venv/bin/python'
    machine.command("uv", f'case "$*" in --version) echo uv 0.1 ;; venv*) {make_venv} ;; esac')
    done = machine.run()
    assert done.returncode == 0, done.stderr
    calls = machine.calls()
    assert any(call.startswith("uv venv --quiet --python") for call in calls)
    assert any(call.startswith("uv pip sync") for call in calls)


def test_runs_from_any_folder(installed):
    elsewhere = installed.home.with_name("elsewhere")
    elsewhere.mkdir()
    shutil.rmtree(installed.checkout / ".venv")
    installed.calls()
    script = installed.checkout / "scripts/setup_env.sh"
    done = installed.run("sh", "-c", f"cd {elsewhere} && sh {script}")
    assert done.returncode == 0, done.stderr
    assert (installed.checkout / ".venv/storygan.stamp").exists()
    assert list(elsewhere.iterdir()) == []
