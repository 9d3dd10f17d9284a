"""Runs TensorFlow Serving's own Python tests against the local server.

`python scripts/tf_serving_tests.py CHECKOUT [TEST ...]`

CHECKOUT is a clone of TensorFlow Serving at 2.15.1, with its test data. The tests run unchanged, each in a process of
its own because some configure TensorFlow globally. By default these are the tests of the features that the local server
implements. They need the package `portpicker`.
"""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SUITE = "tensorflow_serving/model_servers/tensorflow_model_server_test.py"

TESTS = (
    "testGetModelStatus",
    "testGetModelMetadata",
    "testPredictSavedModel",
    "testGoodModelConfig",
    "testBadModelConfig",
    "testModelConfigReload",
    "testModelConfigReloadWithZeroPollPeriod",
    "testGoodGrpcChannelArgs",
    "testPredictREST",
    "testPredictColumnarREST",
    "testGetStatusREST",
    "testGetModelMetadataREST",
    "testPrometheusEndpoint",
    "testPredictUDS",
    "test_tf_saved_model_save",
    "test_tf_saved_model_save_multiple_signatures",
    "test_sequential_keras_saved_model_save",
    "test_distrat_sequential_keras_saved_model_save",
)

EXECUTABLE = f"""#!/bin/sh
export TF_CPP_MIN_LOG_LEVEL=3 PYTHONPATH={ROOT}
exec {sys.executable} -W ignore -m serving.local_server "$@"
"""


def prepare(checkout: Path, folder: Path) -> None:
    """Puts the test data and an executable into `folder`, laid out as the tests expect them."""
    source = folder / "tf_serving" / "tensorflow_serving"
    (source / "model_servers").mkdir(parents=True)
    (source / "servables").symlink_to(checkout / "tensorflow_serving" / "servables")
    executable = source / "model_servers" / "tensorflow_model_server"
    executable.write_text(EXECUTABLE)
    executable.chmod(0o755)


def run_test(checkout: Path) -> None:
    """Runs the test that the command line names in this process, with the packages of the checkout."""
    import tensorflow_serving

    tensorflow_serving.__path__.append(str(checkout / "tensorflow_serving"))
    runpy.run_path(str(checkout / SUITE), run_name="__main__")


def main() -> None:
    """Runs the tests one after the other. Exits with code 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path)
    parser.add_argument("tests", nargs="*", default=TESTS)
    arguments = parser.parse_args()
    checkout = arguments.checkout.resolve()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(checkout, Path(folder))
        environment = os.environ | {
            "TEST_SRCDIR": folder,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_SERVING_CHECKOUT": str(checkout),
        }
        for test in arguments.tests:
            command = [sys.executable, "-W", "ignore", __file__, f"TensorflowModelServerTest.{test}"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            print(f"{'passed' if done.returncode == 0 else 'FAILED'}  {test}", flush=True)
            if done.returncode:
                failed.append(test)
                print(done.stderr[-3000:], file=sys.stderr)
    print(f"{len(arguments.tests) - len(failed)} passed, {len(failed)} failed")
    sys.exit(bool(failed))


if __name__ == "__main__":
    if inner := os.environ.get("TF_SERVING_CHECKOUT"):
        run_test(Path(inner))
    else:
        main()
