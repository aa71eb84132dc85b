"""Commands of this working tree, run on the nodes of a Ray cluster; what they find comes home at once.

errand.py   one command on one node: its process, what it sends while it runs, how it ended
kinds.py    which nodes can take one, and whether they are machines of one kind
cluster.py  many errands at once over Ray, and the loss of a node
job.py      the suite itself as a Ray job, sent from a machine that is no node
"""
