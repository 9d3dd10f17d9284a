"""Judges frames: figures with intervals beside baselines that expose a bad model, and the gate that uses them."""
