"""The arms, one per module; each has a classmethod `start`, and ends with `close`."""
