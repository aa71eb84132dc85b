"""Serving several models from less memory than they take together: arms, each in a process of its own."""
