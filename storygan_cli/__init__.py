"""The `storygan` command: it turns command-line options into settings and calls the library.

Each sub-command has a module of its own, with its options, its checks and the lines that it prints. Options that
several commands share are in `settings_options`, `model_options` and `runner_options`; folders in buckets are in
`remote_folders`. Training, evaluation, pipelines and servers are not here but in `storygan_tf`, `pipeline`,
`components` and `serving`, which a command imports only when it runs, so that `storygan --help` is fast.

Start reading in `main`, which registers the commands and turns errors into messages and exit codes.
"""
