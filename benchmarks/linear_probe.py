"""Measures how well a linear classifier finds the attributes of an object in the vector of the sentence about it.

    .venv/bin/python benchmarks/linear_probe.py [--stories 1250] [--encoder embedded] [--seed 1]

A generator can hardly draw an attribute that is not in the vector. Sentences of `blocks` stories are encoded, and a PCA
reduces them to 128 components, as in training. A ridge classifier for each attribute and for each coordinate of the
place is fitted on four fifths of the stories, and its accuracy is measured on the rest.
"""

from __future__ import annotations

import argparse

import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.linear_model import RidgeClassifier

from storygan_tf.data.blocks.placement import story_objects
from storygan_tf.data.blocks.sentences import story_sentences
from storygan_tf.text.sentence_encoder import load_encoder

COMPONENTS = 128


def probe(stories: int, encoder: str, seed: int) -> dict[str, float]:
    """Returns the held-out accuracy of each attribute, and the fraction of the variance that the PCA keeps."""
    objects = [story_objects(seed, index) for index in range(stories)]
    sentences = [text for index, items in enumerate(objects) for text in story_sentences(items, index)]
    described = [item for items in objects for item in items]
    vectors = load_encoder(encoder)(tf.constant(sentences)).numpy()
    fitted = len(sentences) * 4 // 5
    pca = PCA(COMPONENTS, random_state=seed).fit(vectors[:fitted])
    reduced = pca.transform(vectors) / np.sqrt(pca.explained_variance_.mean())
    answers = {name: [getattr(item, name) for item in described] for name in ("shape", "colour", "material", "size")}
    answers |= {
        "left or right": [item.steps[0] for item in described],
        "back or forward": [item.steps[1] for item in described],
    }
    scores = {name: _accuracy(reduced, np.array(values), fitted) for name, values in answers.items()}
    return scores | {"variance kept": float(pca.explained_variance_ratio_.sum())}


def _accuracy(vectors: np.ndarray, answers: np.ndarray, fitted: int) -> float:
    classifier = RidgeClassifier().fit(vectors[:fitted], answers[:fitted])
    return float((classifier.predict(vectors[fitted:]) == answers[fitted:]).mean())


def main() -> None:
    """Prints the accuracy of each attribute and the variance that the PCA keeps, a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stories", type=int, default=1250)
    parser.add_argument("--encoder", default="embedded")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for name, score in probe(arguments.stories, arguments.encoder, arguments.seed).items():
        print(f"{name:16s} {score:.4f}")


if __name__ == "__main__":
    main()
