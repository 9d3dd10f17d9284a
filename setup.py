"""The distribution `storygan`: what it installs, and why each version is pinned.

TFX 1.15.1 is the newest release that works with TensorFlow Addons; the other pins follow from these two. The exact
set, with all that these packages pull in, is `requirements.lock`, made by `make lock`.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

ROOMS = ("storygan_tf", "storygan_cli", "components", "pipeline", "serving")

# The model, its data, metrics and command line: without TFX and Beam, on Python 3.10 and 3.11.
BASE = [
    "tensorflow==2.15.1",  # the last with Keras 2, which TensorFlow Addons needs
    "keras==2.15.0",
    "tensorflow-addons==0.23.0",  # its last release
    "tensorflow-hub==0.15.0",  # 0.16 requires the separate package tf-keras
    "tensorflow-serving-api==2.15.1",  # the same release as TensorFlow; an export's warm-up requests are its messages
    "setuptools<81",  # tensorflow_hub imports pkg_resources, which setuptools 81 dropped
    "numpy<2",  # TensorFlow 2.15 is compiled against NumPy 1
    "pillow>=10",
    "typer>=0.15",
    "rich>=13",
    "jinja2>=3.1",
]

# On Python 3.10 only: TFX 1.15 and ml-metadata 1.15 have no wheels for a later one.
PIPELINE = [
    "tfx==1.15.1",  # 1.16 needs Keras 3
    "apache-beam==2.74.0",  # 2.75 requires protobuf 4, but TFX requires protobuf 3
    "dill>=0.3",  # tft and tfx-bsl import it; Beam no longer brings it
]

RENDER = ["mitsuba>=3.6"]

# The field's networks, where they come as ONNX files.
EVAL = ["onnxruntime>=1.19"]

# Stories in Parquet. Apache Beam, and so `pipeline`, brings both; before 14.0.1 the first needs the second to be safe.
PARQUET = ["pyarrow>=10", "pyarrow-hotfix>=0.6"]

# Clients, and the development server.
SERVING = [
    "grpcio>=1.48",
    "grpcio-health-checking<1.49",  # 1.49 requires protobuf 4
    "grpcio-reflection<1.49",
    "prometheus-client>=0.20",
    "aiohttp>=3.9",
]

# s3:// for Beam; for gs:// TFX brings what it takes.
S3 = ["boto3>=1.28"]  # from 1.28 on it takes the endpoint from AWS_ENDPOINT_URL

# Reference implementations that the tests measure against, and tools.
DEV = [
    "flask>=3",  # with the next and moto: a local S3 server
    "flask-cors>=4",
    "hypothesis>=6",
    "kubernetes-validate>=1.31",
    "moto[s3]>=5",
    "mypy>=1.10",
    "onnx>=1.16,<1.18",  # 1.18 requires protobuf 4
    "pytest>=8",
    "pytest-randomly>=3.15",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "pyyaml>=6",
    "ruff>=0.6",
    "scikit-image>=0.22",
    "scikit-learn>=1.3",
    "scipy>=1.11",
    "trustme>=1.1",
    "uv>=0.5",
]

EXTRAS = {
    "pipeline": PIPELINE,
    "render": RENDER,
    "eval": EVAL,
    "parquet": PARQUET,
    "serving": SERVING,
    "kubeflow": [*PIPELINE, "kfp==1.8.22"],  # the last 1.8; TFX 1.15 cannot compile with kfp 2
    "s3": S3,
    "gpu": ["tensorflow[and-cuda]==2.15.1"],
    "dev": DEV,
}

DATA_FILES = [
    *("html", "j2", "css", "svg", "png", "json", "jsonl", "yaml", "yml", "txt", "ttf", "xml", "pb", "typed"),
    "config",
]


def _version() -> str:
    text = (ROOT / "storygan_tf" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('storygan_tf/__init__.py: no line __version__ = "..."')
    return match.group(1)


setup(
    name="storygan",
    version=_version(),
    description="StoryGAN: a sequence of pictures for a sequence of sentences, trained and served by a TFX pipeline",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    packages=find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")]),
    # All files of a SavedModel: its graph (`.pb` above), variables, assets, and extra assets (lineage, model card).
    package_data={
        "": [f"**/*.{suffix}" for suffix in DATA_FILES]
        + ["**/variables/variables.*", "**/assets/*", "**/assets.extra/*"]
    },
    python_requires=">=3.10,<3.12",
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["storygan = storygan_cli.main:main"]},
)
