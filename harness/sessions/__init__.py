"""One process that holds a model's weights once, and many sessions whose keys and values stay between turns.

    core        the engine: weights, slabs, retention, the scheduler (needs torch)

The wire, the server and its client stand beside it. Nothing imported here needs torch.
"""
