"""The configuration of a run: its settings, their valid values, and named presets.

`schema` defines the settings as frozen dataclasses; start reading there. `parsing` builds them from JSON and from
`--set key=value`, and `presets` holds complete settings by name. Command-line options are defined in `storygan_cli`,
and the resources of a cluster in `pipeline.cluster`.
"""
