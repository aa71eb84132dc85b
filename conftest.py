"""Loads the reporting plugin, the fixtures, and pytest's own plugin tester."""

pytest_plugins = [
    "reports.plugin",
    "fixtures.options",
    "fixtures.agents_options",
    "fixtures.clusters",
    "fixtures.switching_options",
    "fixtures.backends",
    "fixtures.lanes",
    "fixtures.gpu_rounds",
    "fixtures.pairing",
    "fixtures.unavailable",
    "fixtures.preview",
    "fixtures.workflows",
    "fixtures.routed",
    "pytester",
]
