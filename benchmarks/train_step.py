"""Times training steps: stories a second, share of the machine's peak rate, CPU time, memory.

    .venv/bin/python benchmarks/train_step.py [--preset joint quick] [--batch 12 24] [--xla] [--rounds 5]
    .venv/bin/python benchmarks/train_step.py --preset joint --compare-cmd 'python other_step.py' [--rounds 7]

The phases of a preset are measured one after the other, each in a fresh process (`step_program.py`). `joint` is not a
preset but the schedule of `released` alone: one update of both discriminators, two of the generator. Each
round first times TensorFlow's float32 matrix product and then as many steps as fill a second, at least one. Rates are
those of the fastest round, compared with the fastest matrix product. `flop.py` counts operations: `GFLOP a story` is
the number that a step executes, divided by its stories; `needed` is the minimum. Only stories of story updates count;
the single frames of `joint` and `algorithm1` (`24 + 24`) are not included.

With `--compare-cmd` a second program takes turns with ours, round by round, so that other work on the machine affects
both. Neither works while the other does. `step_program.py` describes what the program has to print and read. It is
started without a shell, so write `env NAME=VALUE program ...` to set environment variables.

User and system time are those of the stepping process, memory is its peak (VmHWM): needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from flop import needed, step_executed
from matrix_product import matrix_peak
from step_program import ENDLESS, random_stories

from storygan_tf.common.errors import StoryGANError
from storygan_tf.config import presets
from storygan_tf.config.schema import PhaseConfig, Settings
from storygan_tf.data.training_input import training_dataset
from storygan_tf.training.distribution import grow_memory
from storygan_tf.training.storygan import StoryGAN

JOINT = ("training.phases.adversarial.mismatched=false", "training.phases.adversarial.decay=constant")
"""Changes of `released` that leave the schedule of the released code alone."""

GIGA = 1e9
ROUND = 1.0
"""Minimum duration of the steps of a round, in seconds."""

RATIO = "stories a second, ours / theirs"

PATIENCE = 30
"""Seconds after which a program that does not end is killed."""

PAUSE = 0.2
"""Seconds before each measurement, in which the threads of the program that worked before become idle."""


@dataclasses.dataclass(frozen=True)
class Step:
    """Durations of a step, in seconds.

    Attributes:
        seconds: time from the request to the answer.
        user: processor time of the program.
        system: processor time of the kernel for the program.
    """

    seconds: float
    user: float
    system: float

    @classmethod
    def mean(cls, steps: Sequence[Step]) -> Step:
        """Returns a step whose durations are the means of those of `steps`."""
        return cls(*(statistics.fmean(values) for values in zip(*map(dataclasses.astuple, steps), strict=True)))


class Program:
    """A running program that follows the protocol of `step_program.py`; as a context manager it ends at the exit.

    Args:
        command: program and arguments.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer("READY")

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def round(self) -> Step:
        """Runs steps until they fill `ROUND` seconds, at least one, and returns their mean."""
        steps = [self.step()]
        while sum(step.seconds for step in steps) < ROUND:
            steps.append(self.step())
        return Step.mean(steps)

    def step(self) -> Step:
        """Runs a step and returns its durations."""
        user, system = self._times()
        began = time.perf_counter()
        with contextlib.suppress(BrokenPipeError):  # it has ended; _answer raises an error with the exit code
            print("step", file=self.process.stdin, flush=True)
        self._answer("step")
        seconds = time.perf_counter() - began
        new_user, new_system = self._times()
        return Step(seconds, new_user - user, new_system - system)

    def peak_memory(self) -> float:
        """Returns the peak memory of the program, in MB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024

    def _times(self) -> tuple[float, float]:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return int(fields[11]) / ticks, int(fields[12]) / ticks

    def _answer(self, word: str) -> list[str]:
        for line in self.process.stdout or ():
            words = line.split()
            if words[:1] == [word]:
                return words
        self.process.communicate()
        name, code = shlex.join(self.command)[:200], self.process.returncode
        raise SystemExit(f"{name}: ended (exit code {code}) before a line {word!r}.")


@dataclasses.dataclass(frozen=True)
class Subject:
    """A phase of a training that is measured, one row of the table.

    Attributes:
        name: name of the preset.
        settings: settings of the training.
        number: index of the phase.
    """

    name: str
    settings: Settings
    number: int

    @property
    def phase(self) -> PhaseConfig:
        """Configuration of the phase."""
        return self.settings.training.phases[self.number]

    @property
    def stories(self) -> int:
        """Number of stories in a step; if a step has no story updates, number of single frames."""
        phase = self.phase
        if phase.schedule == "joint":
            return phase.story_batch
        return phase.story_steps * phase.story_batch or phase.image_steps * phase.image_batch

    def start(self) -> Program:
        """Starts `step_program.py` with this phase."""
        program = Path(__file__).with_name("step_program.py")
        return Program([sys.executable, "-W", "ignore", str(program), self.settings.to_json(), str(self.number)])

    def row(self) -> dict[str, Any]:
        """Returns the columns of the table that need no measurement."""
        phase, model = self.phase, self.settings.model
        gan = StoryGAN(model)
        gan.compile(phase, steps=ENDLESS)
        data = training_dataset(random_stories(model), phase, (1, self.number), 0, 1)
        return {
            "preset": self.name,
            "phase": phase.name,
            "schedule": phase.schedule,
            "widths": f"{model.generator_width}, {model.discriminator_width}",
            "stories + frames": f"{phase.story_batch} + {0 if phase.schedule == 'pixel' else phase.image_batch}",
            "XLA": "yes" if self.settings.training.xla else "no",
            "GFLOP a story": step_executed(gan, data, phase) / GIGA / self.stories,
            "needed": needed(model, phase) / GIGA / self.stories,
        }


def subjects(names: Sequence[str], batches: Sequence[int], changes: Sequence[str], xla: bool) -> Iterator[Subject]:
    """Yields every phase of every preset at every batch size, with `xla` both without and with XLA.

    Args:
        names: names of presets, or `joint`.
        batches: sizes of the story and image mini-batches; empty for those of the preset.
        changes: changes of settings, `key=value`, as for `storygan run --set`.
        xla: whether to yield each phase also with XLA.
    """
    for name in names:
        plain = presets.load("released").override(JOINT) if name == "joint" else presets.load(name)
        settings = plain.override(changes)
        for number, phase in enumerate(settings.training.phases):
            for batch in batches or (0,):
                sizes = [f"training.phases.{phase.name}.{kind}_batch={batch}" for kind in ("image", "story")]
                sized = settings.override(sizes if batch else ())
                for compiled in (False, True) if xla else (sized.training.xla,):
                    yield Subject(name, sized.override([f"training.xla={json.dumps(compiled)}"]), number)


def input_seconds(subject: Subject, steps: int = 20) -> float:
    """Returns the seconds that the input pipeline alone takes for the mini-batches of a step."""
    data = training_dataset(random_stories(subject.settings.model), subject.phase, (1, 0), 0, 2 * steps)
    ends = []
    for _ in data:
        ends.append(time.perf_counter())
    return (ends[-1] - ends[steps - 1]) / steps


def measure(subject: Subject, rounds: int) -> dict[str, Any]:
    """Measures a phase and returns its row of the table."""
    row = subject.row()
    alone = input_seconds(subject)
    with subject.start() as program:
        peaks, steps = [], []
        for _ in range(rounds):
            time.sleep(PAUSE)
            peaks.append(matrix_peak())
            time.sleep(PAUSE)
            steps.append(program.round())
        memory = program.peak_memory()
    seconds = [step.seconds for step in steps]
    stories, fastest, peak = subject.stories, min(seconds), max(peaks) / GIGA
    return row | {
        "median s": statistics.median(seconds),
        "fastest s": fastest,
        "stories a s": stories / fastest,
        "GFLOP/s": row["GFLOP a story"] * stories / fastest,
        "matrix product GFLOP/s": peak,
        "needed / peak": row["needed"] * stories / fastest / peak,
        "user s": statistics.median(step.user for step in steps),
        "system s": statistics.median(step.system for step in steps),
        "peak MB": memory,
        "input alone %": 100 * alone / fastest,
    }


def compare(subject: Subject, command: Sequence[str], rounds: int, stories: float) -> Iterator[dict[str, Any]]:
    """Yields a row for each round: our step, the step of the other program, and the ratio of stories a second.

    Args:
        subject: phase that our program trains.
        command: command of the other program.
        rounds: number of rounds.
        stories: stories in our step, divided by those in the step of the other program.
    """
    with subject.start() as ours, Program(command) as theirs:
        for number in range(1, rounds + 1):
            time.sleep(PAUSE)
            peak = matrix_peak()
            row: dict[str, Any] = {"round": number, "matrix product GFLOP/s": peak / GIGA}
            taken = []
            for name, program in (("ours", ours), ("theirs", theirs)):
                time.sleep(PAUSE)
                step = program.round()
                taken.append(step.seconds)
                row |= {f"{name} s": step.seconds, f"{name} user s": step.user, f"{name} system s": step.system}
                row[f"{name} peak MB"] = program.peak_memory()
            yield row | {RATIO: taken[1] / taken[0] * stories}


def show(value: Any) -> str:
    """Returns a cell of the table; numbers have three significant digits, or all digits before the point."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def print_rows(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Prints rows as a Markdown table, each as soon as it is measured, and returns them."""
    printed: list[dict[str, Any]] = []
    for row in rows:
        if not printed:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        print(f"| {' | '.join(map(show, row.values()))} |", flush=True)
        printed.append(row)
    return printed


def summary(rows: Sequence[dict[str, Any]], stories: float) -> str:
    """Returns a line with the ratios of a comparison: of all rounds, and of the fastest rounds."""
    ratios = [row[RATIO] for row in rows]
    fastest = min(row["theirs s"] for row in rows) / min(row["ours s"] for row in rows) * stories
    return (
        f"{RATIO}: smallest {min(ratios):.2f}, median {statistics.median(ratios):.2f}, largest {max(ratios):.2f}; "
        f"fastest against fastest {fastest:.2f}"
    )


def machine() -> dict[str, str]:
    """Returns the properties of the machine that affect a measurement."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "unknown")
    gpus = [tf.config.experimental.get_device_details(gpu).get("device_name", "GPU") for gpu in _gpus()]
    settings = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("MALLOC_")]
    return {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "GPUs": ", ".join(gpus) or "none",
        "TensorFlow": tf.__version__,
        "allocator": " ".join(settings) or "glibc's defaults",
        "load average": f"{os.getloadavg()[0]:.1f}",
        "when": time.strftime("%Y-%m-%d"),
    }


def _gpus() -> list[Any]:
    devices: list[Any] = tf.config.list_physical_devices("GPU")
    return devices


def main() -> None:
    """Measures, prints a table, and writes it as JSON with `--json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=["joint"], help="presets, or joint (default: joint)")
    parser.add_argument("--batch", type=int, nargs="+", default=[], help="stories a mini-batch (default: the preset's)")
    parser.add_argument("--set", nargs="+", default=[], metavar="K=V", help="changes of the preset's settings")
    parser.add_argument("--xla", action="store_true", help="also measure with jit_compile=True")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--compare-cmd", default="", metavar="CMD", help="command of a program to compare with")
    parser.add_argument(
        "--compare-stories", type=int, default=0, help="stories in its step (default: as many as in ours)"
    )
    parser.add_argument("--json", type=Path, help="file for the same numbers, unrounded")
    arguments = parser.parse_args()
    tf.get_logger().setLevel("ERROR")
    grow_memory()
    about = machine()
    print(f"`{shlex.join(['benchmarks/train_step.py', *sys.argv[1:]])}`")
    print("; ".join(f"{name}: {value}" for name, value in about.items()), end="\n\n")
    try:
        chosen = list(subjects(arguments.preset, arguments.batch, arguments.set, arguments.xla))
    except StoryGANError as error:
        parser.error(str(error))
    if arguments.compare_cmd:
        ours = chosen[0].stories
        stories = ours / (arguments.compare_stories or ours)
        rows = print_rows(compare(chosen[0], shlex.split(arguments.compare_cmd), arguments.rounds, stories))
        print(f"\n{summary(rows, stories)}")
    else:
        rows = print_rows(measure(subject, arguments.rounds) for subject in chosen)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": about, "command": sys.argv[1:], "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
