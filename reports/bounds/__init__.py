"""Bounds by name: what hardware, counting or a source's own cells allow."""
