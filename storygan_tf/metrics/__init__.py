"""Metrics of generated frames: pure functions of arrays, and the networks that a user supplies for published metrics.

Each module holds one kind of metric: `pixels`, `ssim`, `labels`, `consistency`, `frechet`. `bootstrap` and `jackknife`
compute 95% intervals. `resize` and `networks` prepare frames for FID, FSD and label networks and run them. Nothing here
reads stories or knows which model drew a frame: `storygan_tf.evaluation` does that, and combines the metrics. Start
with `labels` for the shape of a metric, and with `frechet` for one that is summed over batches.
"""
