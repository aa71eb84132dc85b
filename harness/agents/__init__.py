"""Agents that reason, wait for a tool and reflect: what keeps their state meanwhile, and what that costs.

An arm is a way to serve them: an actor per agent, a task per step, sessions on one server. `base` is what
every arm offers, `load` sends agents to it, and `density` and `replay` say how many fit and how long they
wait, by arithmetic and by simulation.
"""
