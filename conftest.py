"""Loads the reporting plugin, the fixtures, and pytest's own plugin tester."""

pytest_plugins = [
    "reports.plugin",
    "fixtures.options",
    "fixtures.agents_options",
    "fixtures.switching_options",
    "fixtures.backends",
    "fixtures.pairing",
    "fixtures.unavailable",
    "fixtures.preview",
    "fixtures.workflows",
    "fixtures.routed",
    "pytester",
]
