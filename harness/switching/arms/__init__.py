"""The arms: policies over an arena, and what one would do without it."""
