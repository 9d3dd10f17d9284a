"""The pages in a real browser: every image loads, there are no errors, and no requests to the network."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import select
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

from storygan_tf.data.storyboard import StoryRow, storyboard_image
from storygan_tf.reporting.comparison import ComparedModel, StoryToShow, render_comparison
from storygan_tf.reporting.report import BOARDS, ReportContent, render_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium or google-chrome, and there is neither")

FLAGS = (
    "--headless",
    "--window-size=1000,1000",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-pipe",
)

PATIENCE = 120
"""Most seconds to wait for an answer of the browser."""

CONNECT = """
import os, sys
source, sink = os.dup(int(sys.argv[1])), os.dup(int(sys.argv[2]))
os.dup2(source, 3)
os.set_inheritable(3, True)
os.dup2(sink, 4)
os.set_inheritable(4, True)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Becomes the browser, with two file descriptors where it looks for them."""

FACTS = """new Promise(done => setTimeout(() => done({
    images: [...document.images].map(image => image.naturalWidth),
    headings: [...document.querySelectorAll("h2")].map(heading => heading.textContent),
    width: document.documentElement.scrollWidth - document.documentElement.clientWidth,
}), 300))"""
"""Script that returns facts about a page, a moment after it has loaded, so that late requests are noticed."""


class Browser:
    """Chromium, spoken to by the DevTools protocol over its file descriptors 3 and 4."""

    def __init__(self, profile):
        theirs_in, self.ours_out = os.pipe()
        self.ours_in, theirs_out = os.pipe()
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONNECT, str(theirs_in), str(theirs_out), *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.unread, self.number, self.events = b"", 0, []

    def close(self):
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            self.ask("Browser.close")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.process.kill()
        self.process.wait()
        os.close(self.ours_in)
        os.close(self.ours_out)

    def ask(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self.ours_out, json.dumps(message).encode() + b"\0")
        answer = self.wait(lambda found: found.get("id") == self.number)
        assert "error" not in answer, answer
        return answer["result"]

    def wait(self, wanted):
        """Returns the first message that is wanted; the others are kept as events."""
        deadline = time.monotonic() + PATIENCE
        while True:
            while b"\0" not in self.unread:
                if not select.select([self.ours_in], [], [], max(deadline - time.monotonic(), 0))[0]:
                    raise TimeoutError("the browser does not answer")
                read = os.read(self.ours_in, 1 << 16)
                if not read:
                    raise EOFError("the browser has ended")
                self.unread += read
            line, _, self.unread = self.unread.partition(b"\0")
            message = json.loads(line)
            if wanted(message):
                return message
            self.events.append(message)

    def visit(self, path):
        """Opens a page; returns `FACTS` of it, and all errors and requests in the meantime."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable", session)
        self.events.clear()
        self.ask("Page.navigate", session, url=path.as_uri())
        if not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.wait(lambda message: message.get("method") == "Page.loadEventFired")
        result = self.ask("Runtime.evaluate", session, expression=FACTS, awaitPromise=True, returnByValue=True)
        return result["result"]["value"], [text for event in self.events for text in complaints(event, path.as_uri())]


def complaints(event, page):
    """Yields errors, log messages and requests for anything outside the page."""
    method, given = event["method"], event["params"]
    if method == "Network.requestWillBeSent" and not given["request"]["url"].startswith(("data:", page)):
        yield f"request: {given['request']['url']}"
    if method == "Network.loadingFailed":
        yield f"failed: {given['errorText']}"
    if method == "Runtime.exceptionThrown":
        yield f"exception: {given['exceptionDetails']['text']}"
    if method == "Runtime.consoleAPICalled":
        yield f"console: {given['args']}"
    if method == "Log.entryAdded":
        yield f"log: {given['entry']['text']}"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def frames(seed):
    return np.random.default_rng(seed).integers(0, 256, (4, 64, 64, 3), np.uint8)


def board(name):
    buffer = io.BytesIO()
    rows = [StoryRow(name, ("A red cube.",) * 4, {"generated": frames(0), "true": frames(1)})]
    storyboard_image(rows).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_full_report_has_no_errors(browser, rich_evaluation, failed_check, tmp_path):
    untrusted = dataclasses.replace(rich_evaluation.judges[0], trusted=False)
    content = ReportContent(
        dataclasses.replace(rich_evaluation, checks=(*rich_evaluation.checks, failed_check), judges=(untrusted,)),
        boards={name: board(name) for name in BOARDS},
        history=[{"phase": "warm_up", "epoch": n, "step": n, "seconds": 9.0, "losses": {"kl": 1 / n}} for n in (1, 2)],
        counts={"given": 53, "accepted": 50, "rejected": {"image is missing": 3}, "splits": {"train": 40, "test": 10}},
        rejects=[{"story_id": "s" * 300, "file": "f" * 300, "reason": "image is missing"}],
        statistics={"words": {"red": 12, "cube": 30}, "distinct words": 2},
        settings={"preset": "quick", "data": {"encoder": "e" * 300}},
        commands={"the same run": f"storygan run --data {'d' * 300}"},
        lineage={"run_id": "7", "code": {"trainer": "c0de" * 16}},
    )
    path = tmp_path / "report.html"
    path.write_text(render_report(content), encoding="utf-8")
    facts, wrong = browser.visit(path)
    assert wrong == []
    assert len(facts["images"]) == len(BOARDS)
    assert min(facts["images"]) > 600
    assert facts["headings"] == [
        "Metrics",
        "Test stories",
        "Single labels",
        "Confused attributes",
        "Training",
        "Data",
        "Published metrics of other systems",
        "How to repeat this run",
        "Settings",
        "Lineage",
    ]
    assert facts["width"] == 0, "the page is wider than 1000 pixels"


def test_a_comparison_has_no_errors(browser, rich_evaluation, tmp_path):
    compared = [
        ComparedModel(name, rich_evaluation, {f"s{n}": frames(n) for n in range(3)})
        for name in ("runs/a" * 20, "b", "c")
    ]
    stories = [StoryToShow(f"s{n}", ("A red cube.",) * 4, frames(9)) for n in range(3)]
    path = tmp_path / "compare.html"
    path.write_text(render_comparison(compared, stories), encoding="utf-8")
    facts, wrong = browser.visit(path)
    assert wrong == []
    assert len(facts["images"]) == 3
    assert min(facts["images"]) > 600
    assert facts["headings"] == ["Metrics", "Stories"]
    assert facts["width"] == 0, "the page is wider than 1000 pixels"


def test_errors_of_a_page_are_detected(browser, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text(
        "<img src='missing.png'><link rel=stylesheet href='http://metrics.invalid/a.css'>"
        "<script>console.log('hello'); undefined_function()</script>"
    )
    facts, wrong = browser.visit(path)
    assert facts["images"] == [0]
    for expected in ("missing.png", "metrics.invalid", "failed:", "hello", "exception: Uncaught"):
        assert any(expected in text for text in wrong), expected
