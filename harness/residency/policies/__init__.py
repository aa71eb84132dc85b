"""Residency policies: one interface, the published system's, the controls, and what beats them."""

from harness.residency.policies.base import Copy, Load, Plan, Policy
from harness.residency.policies.belady import Belady, bound_bytes, whole_model_bytes
from harness.residency.policies.chunk_lfu import ChunkLFU
from harness.residency.policies.fifo_ring import FifoRing, FifoRingCopyOut
from harness.residency.policies.gdsf import GDSF
from harness.residency.policies.home_slot import HomeSlot
from harness.residency.policies.keep_last import KeepLast
from harness.residency.policies.lru import LRU, ChunkLRU
from harness.residency.policies.reload_every import ReloadEvery
from harness.residency.policies.resident import Resident

__all__ = [
    "GDSF",
    "LRU",
    "Belady",
    "ChunkLFU",
    "ChunkLRU",
    "Copy",
    "FifoRing",
    "FifoRingCopyOut",
    "HomeSlot",
    "KeepLast",
    "Load",
    "Plan",
    "Policy",
    "ReloadEvery",
    "Resident",
    "bound_bytes",
    "whole_model_bytes",
]
