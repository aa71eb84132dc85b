"""Serving several models from less memory than they take together: arms, each in a process of its own.

==========  ====================================================================================
module      what it holds
==========  ====================================================================================
`base`      what an arm is asked, and what it answers
`setting`   what the arms of a comparison have in common
`process`   an arm in a process of its own
`nursery`   where these processes come from: a fork of one that has torch imported
`arms`      the arms by name
==========  ====================================================================================

`base`, `setting` and `process` import no torch: whoever only asks has no need of it.
"""
