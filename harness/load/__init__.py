"""Offers load and says what came of it.

===============  ==============================================================================
module           what it holds
===============  ==============================================================================
`arrivals`       Poisson, gamma and even arrivals
`replay`         recorded arrivals
`open_loop`      work at due times, whether or not earlier work is done
`closed_loop`    so many users, one piece of work each at a time
`alarm`          waking within a tenth of a millisecond
`asking`         what each request asks
`scenario`       one load on one event loop, every request an entry
`workers`        the same from several processes
`log`            the entries, and `requests.jsonl`
`window`         what is counted, and whether it was steady
`metrics`        TTFT, TPOT, ITL and rates, with their formulas
`client`         whether the client was what was slow
`descriptors`    as many of them as the process may have
`goodput`        one rate of a load of workflows
===============  ==============================================================================

`python -m harness.load --help` offers load to any server.
"""

from __future__ import annotations

from harness.load.alarm import Alarm
from harness.load.arrivals import constant, gamma, poisson
from harness.load.client import ClientCheck, check_client
from harness.load.closed_loop import hold
from harness.load.goodput import LoadPoint, Served, summarize
from harness.load.log import Entry, RequestLog, read_log
from harness.load.open_loop import Offered, offer
from harness.load.replay import Trace, read_trace

__all__ = [
    "Alarm",
    "ClientCheck",
    "Entry",
    "LoadPoint",
    "Offered",
    "RequestLog",
    "Served",
    "Trace",
    "check_client",
    "constant",
    "gamma",
    "hold",
    "offer",
    "poisson",
    "read_log",
    "read_trace",
    "summarize",
]
