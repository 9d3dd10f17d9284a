"""The image, tested without Docker: the tests read the Dockerfile and carry out its instructions in a folder.

They leave out instructions that need Docker or an administrator: the base image, `apt-get`, `useradd`. Both stages use
the same folder, because an environment cannot be moved.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
ROOMS = ("storygan_tf", "storygan_cli", "components", "pipeline", "serving")

NEEDS_ADMINISTRATOR = ("apt-get ", "useradd ")
ANYBODY = "12345"
"""Number of a user that has no account, as clusters choose for containers."""


@dataclasses.dataclass(frozen=True)
class Line:
    """An instruction of a Dockerfile."""

    word: str
    rest: str

    @property
    def copied(self) -> tuple[dict[str, str], list[str], str]:
        """The options, sources and target of a COPY."""
        parts = self.rest.split()
        options = dict(part.removeprefix("--").split("=") for part in parts if part.startswith("--"))
        *sources, target = [part for part in parts if not part.startswith("--")]
        return options, sources, target

    @property
    def variables(self) -> dict[str, str]:
        """The variables of an ENV."""
        return dict(part.split("=", 1) for part in shlex.split(self.rest))


def instructions() -> list[Line]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [Line(*line.split(None, 1)) for line in text.splitlines() if line.strip()]


def instructions_named(word: str) -> list[Line]:
    return [line for line in instructions() if line.word == word]


# The context


def ignored(path: str) -> bool:
    """Returns whether .dockerignore leaves a path out, which the last matching pattern decides."""
    left_out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = re.escape(line.removeprefix("!")).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
            if re.fullmatch(f"{pattern}(?:/.*)?", path):
                left_out = not line.startswith("!")
    return left_out


def context_files() -> list[str]:
    """Returns the paths of the files in Docker's build context, relative to the repository."""
    tops = [path for path in ROOT.iterdir() if not ignored(path.name) or path.name == "scripts"]
    files = [file for top in tops for file in ([top] if top.is_file() else top.rglob("*")) if file.is_file()]
    names = [str(file.relative_to(ROOT)) for file in files]
    return sorted(name for name in names if not ignored(name))


def copy_context(folder: Path) -> Path:
    for name in context_files():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        "runs/quick/report.html",
        "secrets.txt",
        "tests/conftest.py",
        "scripts/setup_env.sh",
        "storygan_tf/__pycache__/__init__.cpython-310.pyc",
        "components/story_validator/__pycache__/content_stats.cpython-310.pyc",
    ],
)
def test_left_out_of_the_build_context(path):
    assert ignored(path)


def test_the_build_context_has_the_files_that_are_copied_and_no_others():
    sent, copied = set(context_files()), set()
    for line in instructions_named("COPY"):
        options, sources, _ = line.copied
        if "from" not in options:
            for source in sources:
                found = {name for name in sent if name == source or name.startswith(f"{source}/")}
                assert found, f"COPY {source}: .dockerignore leaves it out, or it is not there"
                copied |= found
    assert sent == copied


def test_the_build_context_has_every_file_of_a_room():
    wanted = {
        str(file.relative_to(ROOT))
        for room in ROOMS
        for file in (ROOT / room).rglob("*")
        if file.is_file() and file.parent.name != "__pycache__"
    }
    assert wanted <= set(context_files())


def test_the_project_is_built_from_what_is_copied(tmp_path):
    context = copy_context(tmp_path)
    (context / "scripts/first_run.sh").unlink()  # not in the stage that builds
    command = [sys.executable, "-W", "ignore", "setup.py", "--quiet", "bdist_wheel"]
    done = subprocess.run(command, cwd=context, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names = set(zipfile.ZipFile(next((context / "dist").glob("*.whl"))).namelist())
    assert {name for name in context_files() if name.split("/")[0] in ROOMS} <= names


# What a container starts


def test_a_container_runs_without_root_in_a_folder_that_every_user_may_write():
    environment = {name: value for line in instructions_named("ENV") for name, value in line.variables.items()}
    assert environment["HOME"] == instructions_named("WORKDIR")[-1].rest == "/data"
    assert environment["USER"] == environment["LOGNAME"]
    assert instructions_named("USER")[-1].rest not in ("root", "0")
    assert "install --directory --mode 1777 /data /data/runs" in [line.rest for line in instructions_named("RUN")]


def test_the_default_is_without_cuda():
    assert "ARG EXTRA=" in [f"{line.word} {line.rest}" for line in instructions_named("ARG")]
    assert any(
        "requirements.lock ${EXTRA:+requirements.$EXTRA.lock}" in line.rest for line in instructions_named("RUN")
    )


@pytest.mark.parametrize(
    ("extra", "locks"), [("", "requirements.lock"), ("gpu", "requirements.lock requirements.gpu.lock")]
)
def test_the_extra_chooses_the_locks(extra, locks):
    words = "requirements.lock ${EXTRA:+requirements.$EXTRA.lock}"
    printed = subprocess.run(["sh", "-c", f"echo {words}"], env={"EXTRA": extra}, capture_output=True, text=True)
    assert printed.stdout.strip() == locks


# The image as a folder


class Layout:
    """The file system that `docker build` makes, in a folder.

    Args:
        folder: parent of the folder that takes the place of `/`.
        extra: value of `--build-arg EXTRA=`.
    """

    def __init__(self, folder: Path, extra: str = "") -> None:
        self.folder = folder / "root"
        self.folder.mkdir()
        self.context = copy_context(folder / "context")
        self.here = "/"
        self.extra = extra

    def real(self, path: str) -> Path:
        return self.folder / os.path.join(self.here, path).lstrip("/")  # noqa: PTH118 - "/x" replaces all before it

    def mapped(self, text: str) -> str:
        """Returns a text in which the paths of the image's own folders are replaced by their real paths."""
        return re.sub(r"(?<![\w./])/(opt|src|data|usr/local/bin/first-run)(?=[/\s:]|$)", rf"{self.folder}/\1", text)

    def build(self) -> None:
        for line in instructions():
            getattr(self, line.word.lower(), lambda line: None)(line)

    def workdir(self, line: Line) -> None:
        self.here = line.rest
        self.real(".").mkdir(parents=True, exist_ok=True)

    def copy(self, line: Line) -> None:
        options, sources, target = line.copied
        for source in sources:
            if "from" in options:
                assert source == target and self.real(source).exists(), line
                continue
            place = self.real(target) / source if target == "./" else self.real(target)
            place.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (self.context / source).is_dir() else shutil.copy
            copy(self.context / source, place)
            if "chmod" in options:
                place.chmod(int(options["chmod"], 8))

    def run(self, line: Line) -> None:
        if not line.rest.startswith(NEEDS_ADMINISTRATOR):
            # Uses the package caches of this machine, which Docker does not have.
            kept = ("HOME", "PIP_", "UV_", "SSL_", "http", "HTTP", "no_proxy", "NO_PROXY")
            environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
            environment |= {"PATH": f"{sys.base_prefix}/bin:/usr/bin:/bin", "EXTRA": self.extra}
            command = ["sh", "-c", self.mapped(line.rest)]
            done = subprocess.run(command, cwd=self.real("."), env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr

    def start(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command as a container does, as a user without an account if this test may change the user."""
        final = instructions()
        last = max(number for number, line in enumerate(final) if line.word == "FROM")
        environment = {"PATH": "/usr/bin:/bin"}
        for line in final[last:]:
            if line.word == "ENV":
                environment |= {name: self.mapped(value) for name, value in line.variables.items()}
        environment["PATH"] = environment["PATH"].replace("$PATH", "/usr/bin:/bin")
        return subprocess.run(
            [*as_anybody(), *command], cwd=self.real("/data"), env=environment, capture_output=True, text=True
        )


def as_anybody() -> list[str]:
    """Returns the command prefix for a user who may read everything (also a Python below /root) and owns nothing."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        return []
    capabilities = [
        "--bounding-set=-all,+dac_read_search",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    ]
    return ["setpriv", f"--reuid={ANYBODY}", f"--regid={ANYBODY}", "--clear-groups", *capabilities]


@pytest.fixture(scope="module")
def layout():
    # Not in the folder of pytest, which no other user may read.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        image = Layout(Path(folder))
        image.build()
        yield image


def entry_point() -> list[str]:
    return [*json.loads(instructions_named("ENTRYPOINT")[-1].rest), *json.loads(instructions_named("CMD")[-1].rest)]


@pytest.mark.slow
def test_the_entry_point_prints_help(layout):
    done = layout.start(*entry_point())
    assert done.returncode == 0, done.stderr
    assert "generate" in done.stdout


@pytest.mark.slow
def test_steps_of_a_pipeline_start_in_the_image(layout):
    done = layout.start("python", "-W", "ignore", "-m", "pipeline.cluster.step", "--help")
    assert done.returncode == 0, done.stderr
    assert "--executor" in done.stdout


@pytest.mark.slow
def test_a_user_without_an_account_draws_a_story(layout):
    done = layout.start("storygan", "generate", "--model", "blocks", "--out", "runs/board.png")
    assert done.returncode == 0, done.stderr
    board = layout.real("/data") / "runs/board.png"
    with Image.open(board) as picture:
        assert picture.width > 300
    if as_anybody():
        assert board.stat().st_uid == int(ANYBODY)
        refused = layout.start("python", "-c", "import storygan_tf; open(storygan_tf.__file__, 'a')")
        assert "Permission denied" in refused.stderr


@pytest.mark.slow
def test_the_first_run_is_there(layout):
    script = layout.real("/usr/local/bin/first-run")
    assert os.access(script, os.X_OK)
    assert script.read_text() == (ROOT / "scripts/first_run.sh").read_text()


@pytest.mark.slow
def test_the_variant_with_cuda_resolves(layout):
    """The additional packages, 2 GB, are resolved but not downloaded; no installed package is removed."""
    uv = layout.real("/opt/storygan/bin/uv")
    locks = [str(layout.real(f"/src/requirements.{name}")) for name in ("lock", "gpu.lock")]
    command = [str(uv), "pip", "sync", "--dry-run", "--python", str(uv.with_name("python")), *locks]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    added = set(re.findall(r"^ \+ (\S+)", done.stderr, re.MULTILINE))
    assert added == {line for line in (ROOT / "requirements.gpu.lock").read_text().splitlines() if line[0] != "#"}
    assert set(re.findall(r"^ - (\S+)==", done.stderr, re.MULTILINE)) <= {"storygan"}
