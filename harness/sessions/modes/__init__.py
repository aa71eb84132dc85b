"""What stays on the server while tokens are decoded one by one, and what crosses for each of them.

====================  ===================================================================================
module                for each token
====================  ===================================================================================
`native`              nothing crosses: the engine is in this process, without a server
`full`                its id comes down; keys, values and weights stay (with logits, if they are wanted)
`partially_aware`     keys and values cross in a session that is new each time; the weights stay
`semantic_blind`      the weights cross too
`transformers`        nothing: the library's own `generate`, alone or for a batch
`batched`             many sessions of one server at once, and the same ones one after the other
====================  ===================================================================================

All but `transformers` compute with one engine, so that their tokens are the same. Nothing is imported here:
`native` and `transformers` need torch, the others do not.
"""
