"""Attention of one new token per session, over slabs that lie anywhere: Triton kernels.

PyTorch's own kernel for ragged batches wants all keys in one tensor (`varlen_attn`), and its block tables
want FlashAttention 3, a package of its own. A slab is memory of its own, taken from and given back to a
budget that others share, so these kernels are told where each slab begins, by a table whose `columns` are
named in a module of that name.

A session's tokens are divided into splits of SPLIT_TOKENS, which programs take side by side: with one session
a GPU would else be idle but for a few of its processors. The division depends on the session's length alone,
so a row's result does too, whatever rows are beside it.

Trap: of a pointer that was a number nothing is known. Unless it is said to be aligned, half-precision keys
are read two bytes at a time.

Sources: Dao et al., "FlashAttention", 2022, algorithm 1 (the running maximum and sum); Dao et al.,
"Flash-Decoding for long-context inference", 2023 (splits, and their sum afterwards).

Importing this imports Triton. With TRITON_INTERPRET=1 at that time the kernels run on a processor.
"""

from __future__ import annotations

import triton
import triton.language as tl

from harness.sessions.core.decoding import columns

__all__ = ["attend", "combine", "store"]

POSITION = tl.constexpr(columns.POSITION)
ADDRESS = tl.constexpr(columns.ADDRESS)
CAPACITY = tl.constexpr(columns.CAPACITY)
COLUMNS = tl.constexpr(columns.NUM_COLUMNS)
ALIGNED_BYTES = tl.constexpr(16)
"""Of a slab's address: an allocator's are by more."""


@triton.jit(do_not_specialize=["layer"])
def store(  # noqa: D103
    fresh, row_stride, table, layer,
    KV_HEADS: tl.constexpr, DIM: tl.constexpr, DIM_BLOCK: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    entry = table + row * COLUMNS
    position, capacity = tl.load(entry + POSITION), tl.load(entry + CAPACITY)
    slab = tl.multiple_of(tl.load(entry + ADDRESS).to(tl.pointer_type(fresh.dtype.element_ty)), ALIGNED_BYTES)
    at = tl.arange(0, DIM_BLOCK)
    for kind in tl.static_range(2):
        new = tl.load(fresh + row * row_stride + (kind * KV_HEADS + head) * DIM + at, mask=at < DIM)
        plane = (2 * layer + kind) * KV_HEADS + head
        tl.store(slab + (plane * capacity + position) * DIM + at, new, mask=at < DIM)


@triton.jit(do_not_specialize=["layer", "num_splits"])
def attend(  # noqa: D103
    query, row_stride, table, layer, scale, parts, sums, num_splits,
    KV_HEADS: tl.constexpr, GROUPS: tl.constexpr, DIM: tl.constexpr,
    SPLIT_TOKENS: tl.constexpr, BLOCK: tl.constexpr, GROUP_BLOCK: tl.constexpr, DIM_BLOCK: tl.constexpr,
):  # fmt: skip
    row, head, split = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    entry = table + row * COLUMNS
    num_tokens = tl.load(entry + POSITION) + 1
    begin = split * SPLIT_TOKENS
    if begin < num_tokens:
        capacity = tl.load(entry + CAPACITY)
        address = tl.load(entry + ADDRESS).to(tl.pointer_type(query.dtype.element_ty))
        slab = tl.multiple_of(address, ALIGNED_BYTES)
        keys = slab + (2 * layer * KV_HEADS + head) * capacity * DIM
        values = keys + KV_HEADS * capacity * DIM
        group, at = tl.arange(0, GROUP_BLOCK), tl.arange(0, DIM_BLOCK)
        asked = (group < GROUPS)[:, None] & (at < DIM)[None, :]
        rows = query + row * row_stride + (head * GROUPS + group[:, None]) * DIM + at[None, :]
        asks = tl.load(rows, mask=asked, other=0.0)
        best = tl.full([GROUP_BLOCK], float("-inf"), tl.float32)
        total = tl.zeros([GROUP_BLOCK], tl.float32)
        found = tl.zeros([GROUP_BLOCK, DIM_BLOCK], tl.float32)
        end = tl.minimum(begin + SPLIT_TOKENS, num_tokens)
        for first in range(begin, end, BLOCK):
            token = first + tl.arange(0, BLOCK)
            seen = token < end
            key = tl.load(
                keys + token[None, :] * DIM + at[:, None], mask=seen[None, :] & (at < DIM)[:, None], other=0.0
            )
            scores = tl.dot(asks, key, input_precision="ieee") * scale
            scores = tl.where(seen[None, :], scores, float("-inf"))
            better = tl.maximum(best, tl.max(scores, 1))
            weights = tl.exp(scores - better[:, None])
            shrink = tl.exp(best - better)
            value = tl.load(
                values + token[:, None] * DIM + at[None, :],
                mask=seen[:, None] & (at < DIM)[None, :],
                other=0.0,
            )
            total = total * shrink + tl.sum(weights, 1)
            found = found * shrink[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
            best = better
        place = (row * KV_HEADS + head) * num_splits + split
        tl.store(parts + (place * GROUPS + group[:, None]) * DIM + at[None, :], found, mask=asked)
        tl.store(sums + place * 2 * GROUPS + group, best, mask=group < GROUPS)
        tl.store(sums + (place * 2 + 1) * GROUPS + group, total, mask=group < GROUPS)


@triton.jit(do_not_specialize=["num_splits"])
def combine(  # noqa: D103
    parts, sums, table, out, num_splits,
    KV_HEADS: tl.constexpr, GROUPS: tl.constexpr, DIM: tl.constexpr,
    SPLIT_TOKENS: tl.constexpr, GROUP_BLOCK: tl.constexpr, DIM_BLOCK: tl.constexpr,
):  # fmt: skip
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    num_tokens = tl.load(table + row * COLUMNS + POSITION) + 1
    group, at = tl.arange(0, GROUP_BLOCK), tl.arange(0, DIM_BLOCK)
    asked = (group < GROUPS)[:, None] & (at < DIM)[None, :]
    best = tl.full([GROUP_BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([GROUP_BLOCK], tl.float32)
    found = tl.zeros([GROUP_BLOCK, DIM_BLOCK], tl.float32)
    for split in range(0, tl.cdiv(num_tokens, SPLIT_TOKENS)):
        place = (row * KV_HEADS + head) * num_splits + split
        part = tl.load(parts + (place * GROUPS + group[:, None]) * DIM + at[None, :], mask=asked, other=0.0)
        highest = tl.load(sums + place * 2 * GROUPS + group, mask=group < GROUPS, other=0.0)
        weight = tl.load(sums + (place * 2 + 1) * GROUPS + group, mask=group < GROUPS, other=1.0)
        better = tl.maximum(best, highest)
        shrink, grow = tl.exp(best - better), tl.exp(highest - better)
        total = total * shrink + weight * grow
        found = found * shrink[:, None] + part * grow[:, None]
        best = better
    result = (found / total[:, None]).to(out.dtype.element_ty)
    tl.store(
        out + ((row * KV_HEADS + head) * GROUPS + group[:, None]) * DIM + at[None, :], result, mask=asked
    )
