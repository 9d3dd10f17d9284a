"""TFX components of our own, a folder each: `component.py` says what it takes and gives, `executor.py` does it."""
