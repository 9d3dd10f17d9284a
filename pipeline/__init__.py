"""The TFX pipeline: what it is made of, the code of its steps, and its runners."""
