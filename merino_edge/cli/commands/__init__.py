"""One verb, one file: `configure(parser)` and `run(args) -> exit code`."""
