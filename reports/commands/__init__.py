"""What `python -m reports` can do: one module per command.

Each has `HELP`, a line; `add_arguments(parser)`; and `run(args) -> int`, the exit status, which raises
`ReportError` on bad input. Heavy libraries are imported when a command runs, so that help answers at once.
"""
