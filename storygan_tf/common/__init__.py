"""Helpers that every other package may use: errors, progress, atomic files, cached folders, and paths of models.

The modules here import no other package of this project, and import TensorFlow at most inside a function. Code about
stories, networks or metrics belongs into the other packages. Start with `errors`.
"""
