"""The systems under test, their baselines, and what drives them.

The harness measures. It imports no pytest, knows of no claim, and draws no figure.
"""
