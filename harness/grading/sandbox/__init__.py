"""The process tree in which candidates run: `zygote` forks them, `confine` limits them, `candidate` is one.

    suite ── supervisor ── zygote ── one fork per candidate ── whatever the candidate starts

It runs under a bare interpreter (standard library only) and is told neither what a test expects nor what
the candidate is for.
"""
