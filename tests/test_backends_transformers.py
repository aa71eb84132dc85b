"""PyTorch in this process answers as the transformers library does, and as a server should."""

from __future__ import annotations

import asyncio
import gc
import itertools
import queue
import shutil
import subprocess
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

from harness.backends import Backend, BatchSampler, CacheFlusher, Chunk, Message, Request  # noqa: E402
from harness.backends.llamacpp import LlamaCppBackend  # noqa: E402
from harness.backends.transformers import TransformersBackend  # noqa: E402
from harness.clock import run_virtual  # noqa: E402
from harness.errors import (  # noqa: E402
    BackendBroken,
    BackendRejected,
    BackendTimeout,
    BackendUnreachable,
    LaunchError,
    ModelError,
    UnavailableError,
    UsageError,
)
from harness.launchers import EmbeddedLauncher, Server  # noqa: E402
from harness.launchers.inprocess import TransformersLauncher  # noqa: E402
from harness.models import checkpoint, gguf_path  # noqa: E402
from harness.models.torch_engine import Job  # noqa: E402
from harness.models.torch_engine.sampling import choose, generator  # noqa: E402
from harness.models.torch_engine.text import TextStream  # noqa: E402
from harness.models.workload import draw_tasks  # noqa: E402

LONG = "def f(x):\n    return x\n" * 30
ENDLESS = Request(prompt="x", max_tokens=900, ignore_eos=True)
PROMPTS = (
    *(f"Describe the defect.\n{task.case.buggy}" for task in draw_tasks(8)),
    "hello",
    "Grüße, 世界 🙂",
    "def f(x):\n    return x",
    LONG,
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with TransformersLauncher(model="nano", name="small").launch() as running:
        yield running


@pytest.fixture
def backend(server: Server) -> TransformersBackend:
    return TransformersBackend(server.held, name="small")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def oracle() -> Any:
    """The library's own model and tokenizer."""
    folder = checkpoint("nano")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model, transformers.AutoTokenizer.from_pretrained(folder)


def chat(text: str, **fields: Any) -> Request:
    return Request(**{"messages": (Message("user", text),), "max_tokens": 40, **fields})


def ask(backend: Backend, *requests: Request) -> list[Any]:
    async def answer() -> list[Any]:
        try:
            return [await backend.generate(request) for request in requests]
        finally:
            await backend.aclose()

    return asyncio.run(answer())


def generated(oracle: Any, ids: list[int], **options: Any) -> list[int]:
    """Tokens of the library's own greedy loop."""
    model, _ = oracle
    with torch.inference_mode():
        whole = model.generate(torch.tensor([ids]), do_sample=False, pad_token_id=0, **options)
    return whole[0, len(ids) :].tolist()


class TestGreedy:
    """Greedy text is what the library's own loop gives."""

    @pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
    def test_equals_model_generate(self, backend: TransformersBackend, oracle: Any, prompt: str) -> None:
        """A chat, ended by the model, and a raw prompt past its end give the library's text and counts."""
        _, tokenizer = oracle
        turns = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        expected = generated(oracle, ids, max_new_tokens=40)
        raw_ids = tokenizer.encode(prompt)
        raw_expected = generated(oracle, raw_ids, max_new_tokens=24, min_new_tokens=24)
        answer, raw = ask(backend, chat(prompt), Request(prompt=prompt, max_tokens=24, ignore_eos=True))
        assert answer.text == tokenizer.decode(expected, skip_special_tokens=True)
        assert (answer.prompt_tokens, answer.output_tokens) == (len(ids), len(expected))
        assert raw.text == tokenizer.decode(raw_expected, skip_special_tokens=True)
        assert (raw.prompt_tokens, raw.output_tokens, raw.finish_reason) == (len(raw_ids), 24, "length")

    def test_mostly_equals_llama_cpp(self, backend: TransformersBackend) -> None:
        """On f16 weights llama.cpp rounds otherwise, so a rare answer may differ, and no more than that."""
        requests = [chat(prompt, max_tokens=30) for prompt in PROMPTS]
        ours = [answer.text for answer in ask(backend, *requests)]
        with EmbeddedLauncher(gguf=gguf_path("nano"), model="nano").launch() as running:
            theirs = [a.text for a in ask(LlamaCppBackend(running.url, model="nano"), *requests)]
        assert sum(a == b for a, b in zip(ours, theirs, strict=True)) >= len(PROMPTS) - 2

    def test_logprobs_are_the_models_own(self, backend: TransformersBackend, oracle: Any) -> None:
        """One per token of text, of the distribution before temperature and the ban on ending."""
        model, tokenizer = oracle
        request = Request(
            prompt="def f(x)", max_tokens=12, ignore_eos=True, logprobs=True, temperature=0.7, seed=1
        )
        [answer] = ask(backend, request)
        ids, tokens = tokenizer.encode("def f(x)"), tokenizer.encode(answer.text)
        assert len(answer.token_logprobs) == 12
        if len(tokens) == 12:  # the text's own tokens are then those that were drawn
            with torch.inference_mode():
                scores = model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1].log_softmax(-1)
            expected = scores[torch.arange(12), torch.tensor(tokens)].tolist()
            assert answer.token_logprobs == pytest.approx(expected, abs=1e-4)

    def test_an_answer_that_ends_has_one_logprob_less_than_tokens(self, backend: TransformersBackend) -> None:
        """The token that ends it is counted and is no text."""
        [answer] = ask(backend, chat("hello", max_tokens=200, logprobs=True))
        assert answer.finish_reason == "stop"
        assert len(answer.token_logprobs) == answer.output_tokens - 1

    def test_a_stopped_answer_has_logprobs_of_its_text_only(self, backend: TransformersBackend) -> None:
        """Tokens of the stop string are counted and carry no log-probability."""
        [free] = ask(backend, chat("hello", ignore_eos=True, logprobs=True))
        [stopped] = ask(backend, chat("hello", ignore_eos=True, logprobs=True, stop=(free.text[5:8],)))
        assert stopped.text == free.text[:5]
        assert 0 < len(stopped.token_logprobs) < stopped.output_tokens
        assert stopped.token_logprobs == free.token_logprobs[: len(stopped.token_logprobs)]


class TestText:
    """Pieces hold whole characters and join to the whole text."""

    @given(st.data())
    def test_pieces_join_to_the_text_of_all_tokens(self, oracle: Any, data: st.DataObject) -> None:
        """For any tokens, characters cut anywhere and broken bytes among them."""
        _, tokenizer = oracle
        ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=30))
        stream = TextStream(lambda ids: tokenizer.decode(ids, skip_special_tokens=True))
        pieces = [*map(stream.push, ids), stream.finish()]
        assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
        assert stream.num_tokens_of_text == len(ids)

    @given(st.text(alphabet="ab 世🙂", max_size=12))
    def test_words_with_blanks_before_them_join_too(self, text: str) -> None:
        """A tokenizer that drops the first blank of a text and falls back to bytes, as Mistral's does."""
        known = ("▁", "a", "b", "▁a", *(f"<0x{byte:02X}>" for byte in range(256)))
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(dict(zip(known, range(260), strict=True)), []))
        strip = tokenizers.decoders.Strip(" ", 1, 0)
        steps = (tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback())
        tokenizer.decoder = tokenizers.decoders.Sequence([*steps, tokenizers.decoders.Fuse(), strip])
        pieces = [
            [c.replace(" ", "▁")] if c in "ab " else [f"<0x{b:02X}>" for b in c.encode()] for c in " " + text
        ]
        ids = [known.index(token) for piece in pieces for token in piece]
        stream = TextStream(tokenizer.decode)
        assert "".join([*map(stream.push, ids), stream.finish()]) == tokenizer.decode(ids) == text

    @given(st.text(alphabet="aß世🙂", max_size=12), st.integers(1, 3))
    def test_no_piece_ends_within_a_character(self, text: str, grain: int) -> None:
        """Tokens of a few bytes each give only whole characters, as soon as they are whole."""
        data = text.encode()
        cuts = [data[at : at + grain] for at in range(0, len(data), grain)]
        stream = TextStream(lambda ids: b"".join(cuts[i] for i in ids).decode(errors="replace"))
        pieces = [stream.push(i) for i in range(len(cuts))]
        assert "".join(pieces) == text
        assert not any("\ufffd" in piece for piece in pieces)

    @given(
        st.lists(st.text(alphabet="ab", max_size=3), max_size=12),
        st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3),
    )
    def test_the_text_ends_before_the_first_stop_string(self, words: list[str], stop: list[str]) -> None:
        """However tokens cut it, and nothing of a stop string was given out before it was whole."""
        stream = TextStream(lambda ids: "".join(words[i] for i in ids), stop)
        pieces = []
        for i in range(len(words)):
            pieces.append(stream.push(i))
            if stream.is_stopped:
                break
        pieces.append(stream.finish())
        full = "".join(words)
        ends = [at for at in map(full.find, stop) if at >= 0]
        assert stream.is_stopped == bool(ends)
        assert "".join(pieces) == stream.text
        if ends:
            # A token may hold two stop strings, and the one that is whole first may begin later.
            assert not any(s in stream.text for s in stop)
            assert any(full.startswith(stream.text + s) for s in stop)
        else:
            assert stream.text == full


class TestSampling:
    """Drawn answers follow the model's distribution and their seed."""

    @given(st.integers(0, 2**70), st.floats(0.05, 1.0))
    @settings(max_examples=40)
    def test_only_tokens_of_the_nucleus_are_drawn(self, seed: int, top_p: float) -> None:
        """The tokens likelier than the drawn one have less than `top_p` together."""
        logits = torch.randn(1, 50, generator=torch.Generator().manual_seed(seed % 2**60))
        chosen = choose(logits, temperature=1.0, top_p=top_p, draws=[generator(seed, 0)])
        probabilities = logits[0].double().softmax(-1)
        likelier = probabilities[probabilities > probabilities[chosen.tokens[0]]].sum()
        assert likelier < top_p + 1e-9

    def test_draws_follow_the_tempered_distribution(self) -> None:
        """Of 4,000 draws each token gets its share, within 4 standard errors."""
        logits, num = torch.tensor([[2.0, 1.0, 0.0, -1.0, 3.0]]), 4000
        draws = [generator(1, row) for row in range(num)]
        chosen = choose(logits.expand(num, -1), temperature=0.8, top_p=1.0, draws=draws)
        shares = torch.bincount(torch.tensor(chosen.tokens), minlength=5) / num
        expected = (logits[0] / 0.8).softmax(-1)
        assert bool(((shares - expected).abs() < 4 * (expected * (1 - expected) / num).sqrt()).all())

    def test_a_forbidden_token_is_never_chosen(self) -> None:
        """Neither greedily nor by chance, and its share of the log-probabilities stays."""
        logits = torch.tensor([[0.0, 9.0, 1.0]])
        for temperature in (0.0, 1.0):
            chosen = choose(
                logits, temperature=temperature, top_p=1.0, draws=[generator(0, 0)],
                forbidden=torch.tensor([1]), logprobs=True,
            )  # fmt: skip
            assert chosen.tokens != [1]
            assert chosen.logprobs is not None
            assert chosen.logprobs[0] < -7

    def test_a_seed_decides_also_beside_others(self, backend: TransformersBackend) -> None:
        """The same seeds give the same texts one by one and all at once; no seed gives other texts."""
        requests = [
            Request(prompt="def f(x)", max_tokens=24, ignore_eos=True, temperature=1.0, seed=seed)
            for seed in (1, -1, 2**70, 1)
        ]
        alone = [answer.text for answer in ask(backend, *requests)]

        async def together() -> list[str]:
            return [a.text for a in await asyncio.gather(*map(backend.generate, requests))]

        assert asyncio.run(together()) == alone
        assert alone[0] == alone[3]
        assert len(set(alone)) == 3
        free = Request(prompt="def f(x)", max_tokens=24, ignore_eos=True, temperature=1.0)
        assert len({answer.text for answer in ask(backend, free, free, free)}) > 1

    def test_a_batch_gives_what_single_requests_give(self, backend: TransformersBackend) -> None:
        """Greedy rows all equal the single answer, sampled rows differ and the first is the single one's."""
        assert isinstance(backend, BatchSampler)
        greedy = chat("hello", max_tokens=60)
        drawn = chat("hello", max_tokens=60, temperature=1.0, seed=5)
        single, sampled = ask(backend, greedy, drawn)
        same = asyncio.run(backend.sample(greedy, 3))
        assert same.texts == (single.text,) * 3
        assert same.output_tokens == 3 * single.output_tokens
        assert same.prompt_tokens == single.prompt_tokens
        batch, again = (asyncio.run(backend.sample(drawn, num)) for num in (6, 3))
        assert batch.texts[0] == sampled.text
        assert batch.texts[:3] == again.texts
        assert len(set(batch.texts)) > 2
        assert set(batch.finish_reasons) <= {"stop", "length"}

    def test_rows_end_apart(self, backend: TransformersBackend) -> None:
        """Rows that end early leave the batch, and the count is of what each decoded."""
        request = chat("hello", max_tokens=30, temperature=1.5, seed=1)
        batch = asyncio.run(backend.sample(request, 8))
        assert len({len(text) for text in batch.texts}) > 1
        assert batch.output_tokens is not None
        assert 8 < batch.output_tokens < 8 * 30
        exact = asyncio.run(backend.sample(chat("hello", max_tokens=5, ignore_eos=True), 4))
        assert (exact.output_tokens, exact.finish_reasons) == (20, ("length",) * 4)


class TestReuse:
    """A prompt's beginning is skipped when it was just computed, if asked for, and counted."""

    @given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 40))
    @settings(max_examples=20, deadline=None)
    def test_the_count_is_the_shared_prefix(
        self, server: Server, first: int, second: int, shared: int
    ) -> None:
        """Of two prompts that share some tokens, so many are skipped, the last one never."""
        backend = TransformersBackend(server.held)  # type: ignore[arg-type]
        head = "a " * shared
        prompts = [head + "b " * first, head + "c " * second]
        engine = backend.engine
        lens = [engine.count_tokens(prompt) for prompt in prompts]
        requests = [Request(prompt=p, max_tokens=1, cache_prompt=i > 0) for i, p in enumerate(prompts)]
        answers = ask(backend, *requests, requests[1])
        one, other = (engine._loaded.tokenizer.encode(prompt) for prompt in prompts)
        common = list(itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
        assert [answer.prompt_tokens for answer in answers[:2]] == lens
        assert answers[0].cached_tokens == 0
        assert answers[1].cached_tokens == min(len(common), lens[1] - 1)
        assert answers[2].cached_tokens == lens[1] - 1

    def test_reuse_changes_no_text_and_covers_the_answer(self, backend: TransformersBackend) -> None:
        """A conversation's next turn skips the turn before it, answer included, and says the same."""
        [first] = ask(backend, Request(prompt=LONG, max_tokens=10, ignore_eos=True))
        longer = Request(prompt=LONG + first.text + "\n", max_tokens=20, cache_prompt=True)
        fresh = Request(prompt=LONG + first.text + "\n", max_tokens=20)
        [reused] = ask(backend, longer)
        [computed] = ask(backend, fresh)
        assert reused.cached_tokens >= first.prompt_tokens
        assert computed.cached_tokens == 0
        assert reused.text == computed.text

    def test_what_is_not_shared_is_computed(self, backend: TransformersBackend) -> None:
        """A prompt that leaves the kept one in its middle gives the text that it gives alone."""
        prompt = LONG[: len(LONG) // 2] + "def g(text):\n    return"
        [fresh] = ask(backend, Request(prompt=prompt, max_tokens=20, ignore_eos=True))
        ask(backend, Request(prompt=LONG, max_tokens=5, ignore_eos=True))
        request = Request(prompt=prompt, max_tokens=20, ignore_eos=True, cache_prompt=True)
        [reused] = ask(backend, request)
        assert 100 < reused.cached_tokens < reused.prompt_tokens - 1
        assert reused.text == fresh.text

    def test_flushing_forgets(self, backend: TransformersBackend) -> None:
        """After a flush nothing is skipped, once; while a request runs, a flush is refused."""
        assert isinstance(backend, CacheFlusher)
        request = Request(prompt=LONG, max_tokens=1, cache_prompt=True)

        async def flush() -> list[int | None]:
            counts = [(await backend.generate(request)).cached_tokens]
            await backend.flush_cache()
            counts += [(await backend.generate(request)).cached_tokens for _ in range(2)]
            running = asyncio.create_task(backend.generate(ENDLESS))
            await asyncio.sleep(0)
            with pytest.raises(BackendRejected, match="small: 1 requests run"):
                await backend.flush_cache()
            running.cancel()
            return counts

        _, forgotten, again = asyncio.run(flush())
        assert forgotten == 0
        assert again > 200


class TestTurns:
    """One request at a time, in order, and the event loop runs on beside it."""

    def test_requests_are_answered_in_the_order_of_the_calls(self, backend: TransformersBackend) -> None:
        """The engine tells how long each waited, and the waits follow each other."""

        async def gather() -> Any:
            requests = [Request(prompt=f"{i}", max_tokens=20, ignore_eos=True) for i in range(5)]
            return await asyncio.gather(*map(backend.generate, requests))

        answers = asyncio.run(gather())
        firsts = [answer.first_token_s for answer in answers]
        assert firsts == sorted(firsts)
        waits = [answer.engine.queue_s for answer in answers]
        assert waits == sorted(waits)
        for before, after in itertools.pairwise(answers):
            worked_s = before.engine.prefill_s + before.engine.decode_s
            assert after.engine.queue_s >= before.engine.queue_s + 0.5 * worked_s

    def test_the_event_loop_runs_while_the_engine_decodes(self, backend: TransformersBackend) -> None:
        """Other tasks get their turn many times within one answer, and see its pieces as they come."""

        async def count() -> tuple[int, int]:
            seen: list[Chunk] = []
            request = Request(prompt="x", max_tokens=200, ignore_eos=True)
            task = asyncio.create_task(backend.generate(request, seen.append))
            turns, seen_at_turn = 0, set()
            while not task.done():
                await asyncio.sleep(0.001)
                turns += 1
                seen_at_turn.add(len(seen))
            return turns, len(seen_at_turn)

        turns, distinct = asyncio.run(count())
        assert turns >= distinct > 10

    def test_cancelling_frees_the_engine_within_a_token(self, backend: TransformersBackend) -> None:
        """Of a cancelled answer no more than the token in work is decoded; waiting ones are never begun."""
        engine = backend.engine

        async def cancel() -> int:
            seen: list[Chunk] = []
            tasks = [asyncio.create_task(backend.generate(ENDLESS, seen.append)) for _ in range(4)]
            while not seen:
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            while engine.num_running:
                await asyncio.sleep(0.001)
            return len(seen)

        assert asyncio.run(cancel()) < 450

    def test_what_on_chunk_raises_reaches_the_caller(self, backend: TransformersBackend) -> None:
        """Its own TimeoutError too, untranslated, and the engine stops."""

        def fail(_: Chunk) -> None:
            raise TimeoutError("the caller's own")

        with pytest.raises(TimeoutError, match="own"):
            asyncio.run(backend.generate(ENDLESS, fail))
        assert ask(backend, Request(prompt="x", max_tokens=2))[0].output_tokens <= 2

    def test_virtual_time_is_refused(self, backend: TransformersBackend) -> None:
        """An engine that computes would be timed at nothing."""
        with pytest.raises(UsageError, match="small: nano in this process takes real time"):
            run_virtual(backend.generate(ENDLESS))
        assert backend.engine.num_running == 0

    def test_a_deadline_covers_the_queue(self, server: Server) -> None:
        """A request that waits behind another fails at its own deadline, in one line."""
        busy = TransformersBackend(server.held, name="busy")  # type: ignore[arg-type]
        late = TransformersBackend(server.held, name="late", timeout_s=0.02)  # type: ignore[arg-type]

        async def both() -> None:
            running = asyncio.create_task(busy.generate(ENDLESS))
            await asyncio.sleep(0)
            with pytest.raises(BackendTimeout, match=r"late: .* within 0\.02 s; raise timeout_s"):
                await late.generate(Request(prompt="x", max_tokens=1))
            running.cancel()

        asyncio.run(both())


class TestRefusals:
    """What cannot be done is said in one line that names role, value and remedy."""

    @pytest.mark.parametrize(
        ("request_", "says"),
        [
            (
                Request(prompt="x" * 3000, max_tokens=5),
                r"a prompt of 3000 tokens and an answer of 5 exceed the model's context of 1024; shorten",
            ),
            (Request(prompt="x", max_tokens=1024), r"answer of 1024 exceed .* or lower max_tokens"),
            (Request(prompt="", max_tokens=5), "the prompt has no tokens; send at least one"),
            (Request(prompt="x", max_tokens=5, temperature=1, top_p=1.5), r"top_p is 1\.5; give more than 0"),
        ],
        ids=["long prompt", "long answer", "empty", "top_p"],
    )
    def test_a_request_is_refused(self, backend: TransformersBackend, request_: Request, says: str) -> None:
        """The engine answers the next one."""
        with pytest.raises(BackendRejected, match=f"small: .*{says}"):
            ask(backend, request_)
        assert ask(backend, Request(prompt="x", max_tokens=1))[0].output_tokens == 1

    def test_the_whole_context_can_be_used(self, backend: TransformersBackend) -> None:
        """A prompt and an answer that just fit are answered to the last token."""
        prompt = "a" * 1000
        room = 1024 - backend.engine.count_tokens(prompt)
        [answer] = ask(backend, Request(prompt=prompt, max_tokens=room, ignore_eos=True))
        assert answer.output_tokens == room

    def test_a_schema_is_checked_and_not_enforced(self, backend: TransformersBackend) -> None:
        """The answer says why it is no instance; without a schema it says nothing."""
        answer, free = ask(backend, chat("hello", json_schema={"type": "object"}), chat("hello"))
        assert answer.schema_error is not None
        assert answer.text == free.text
        assert free.schema_error is None

    def test_a_stopped_engine_fails_what_waits(self) -> None:
        """Stopped in the middle, both the running and the waiting request fail, and later ones too."""
        server = TransformersLauncher(model="nano", name="small").launch()
        backend = TransformersBackend(server.held, name="small")  # type: ignore[arg-type]

        async def stop() -> list[Any]:
            started = asyncio.Event()
            calls = (
                backend.generate(ENDLESS, lambda _: started.set()),
                backend.generate(ENDLESS),
            )
            tasks = [asyncio.create_task(call) for call in calls]
            await started.wait()
            await asyncio.to_thread(server.stop)
            return await asyncio.gather(*tasks, return_exceptions=True)

        for result in asyncio.run(stop()):
            assert isinstance(result, BackendBroken)
            assert str(result) == "small: the engine of nano was stopped before it answered"
        with pytest.raises(
            BackendUnreachable, match="small: the engine of nano was stopped; launch it again"
        ):
            ask(backend, ENDLESS)
        with pytest.raises(BackendUnreachable, match="stopped"):
            asyncio.run(backend.ready())
        server.stop()


class TestLaunching:
    """Models are found, loaded and let go, or it is said why not."""

    def test_stopping_gives_the_memory_back(self) -> None:
        """Nothing holds the model or the thread after a stop, though the server is still held."""
        server = TransformersLauncher(model="nano", name="gone").launch()
        engine: Any = server.held
        model, thread = weakref.ref(engine._loaded.model), engine._thread
        ask(TransformersBackend(engine), Request(prompt=LONG, max_tokens=2))
        assert model() is not None
        server.stop()
        gc.collect()
        assert model() is None
        assert not thread.is_alive()

    def test_two_engines_differ_in_threads(self) -> None:
        """The number of threads is set for the engine's own thread alone."""
        before = torch.get_num_threads()
        one, two = (
            TransformersLauncher(model="nano", threads=threads).launch()
            for threads in (before + 1, before + 2)
        )

        def threads(server: Server) -> int:
            engine: Any = server.held
            said: queue.Queue[int] = queue.Queue()
            # What a job gives is handed over in the engine's thread.
            engine.submit(Job(prompt="x", max_tokens=1), lambda _: said.put(torch.get_num_threads()))
            return said.get(timeout=60)

        with one, two:
            assert (threads(one), threads(two)) == (before + 1, before + 2)
            assert torch.get_num_threads() == before

    @pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
    def test_weights_take_the_type_asked_for(self, dtype: str) -> None:
        """`auto` is the checkpoint's own."""
        with TransformersLauncher(model="nano", dtype=dtype).launch() as server:
            engine: Any = server.held
            assert engine._loaded.model.dtype == (torch.bfloat16 if dtype == "bfloat16" else torch.float16)
            [answer] = ask(TransformersBackend(engine), chat("hello", max_tokens=5, ignore_eos=True))
            assert answer.output_tokens == 5

    @pytest.mark.parametrize(
        ("options", "error", "says"),
        [
            ({"model": "nanoo"}, ModelError, r"unknown model 'nanoo'; pass nano, .*, a folder, or ORG/NAME"),
            ({"model": "/nowhere"}, LaunchError, "/nowhere does not exist; pass the folder"),
            ({"model": __file__}, LaunchError, "is a file; pass the folder"),
            ({"model": "nano", "device": "tpu"}, UsageError, "device is 'tpu'; use cpu, cuda or cuda:N"),
            ({"model": "nano", "device": "cuda:99"}, UnavailableError, "PyTorch sees .* pass device=cpu"),
            ({"model": "nano", "dtype": "int3"}, UsageError, "dtype is 'int3'; use float32"),
            ({"model": "nano", "threads": 0}, UsageError, "threads is 0, and must be at least 1"),
        ],
        ids=["name", "no folder", "file", "device", "cuda", "dtype", "threads"],
    )
    def test_what_cannot_be_launched_is_said(self, options: Any, error: type[Exception], says: str) -> None:
        """The message names role, value and remedy."""
        with pytest.raises(error, match=f"large: .*{says}"):
            TransformersLauncher(name="large", **options).launch()

    def test_a_load_that_takes_too_long_harms_no_later_one(self) -> None:
        """The deadline is said, and the load that goes on behind it does not spoil the next."""
        with pytest.raises(LaunchError, match=r"nano was not loaded within 0\.0001 s; raise deadline_s"):
            TransformersLauncher(model="nano", deadline_s=0.0001).launch()
        with TransformersLauncher(model="code").launch() as server:
            [answer] = ask(TransformersBackend(server.held), chat("hello"))  # type: ignore[arg-type]
        assert answer.text

    @pytest.mark.parametrize("harm", ["no config", "cut", "weights", "tokenizer"])
    def test_a_broken_checkpoint_is_not_loaded(self, tmp_path: Path, harm: str) -> None:
        """A folder that lacks something gives an error, never a model with random numbers in it."""
        folder = tmp_path / "model"
        shutil.copytree(checkpoint("nano"), folder)
        if harm == "no config":
            (folder / "config.json").unlink()
            says = "has no config.json"
        elif harm == "cut":
            (folder / "model.safetensors").write_bytes(b"x" * 99)
            says = "could not load"
        elif harm == "tokenizer":
            (folder / "tokenizer.json").unlink()
            says = "could not load"
        else:
            from safetensors.torch import load_file, save_file

            weights = load_file(folder / "model.safetensors")
            del weights["model.layers.1.mlp.up_proj.weight"]
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
            says = r"lacks 1 weights \(model.layers.1.mlp.up_proj.weight"
        with pytest.raises(LaunchError, match=f"large: .*{says}"):
            TransformersLauncher(name="large", model=str(folder)).launch()

    @pytest.mark.parametrize(
        ("constant", "value", "says"),
        [
            ("HF_HUB_OFFLINE", True, "and HF_HUB_OFFLINE is set; run `hf download some-org/none`"),
            ("ENDPOINT", "http://127.0.0.1:9", r"the hub is not reached \(ConnectError\); run `hf download"),
        ],
        ids=["offline", "no network"],
    )
    def test_a_hub_out_of_reach_is_said_at_once(
        self, monkeypatch: pytest.MonkeyPatch, constant: str, value: object, says: str
    ) -> None:
        """Without network or cache, one line says what to do."""
        from huggingface_hub import constants

        monkeypatch.setattr(constants, constant, value)
        with pytest.raises(LaunchError, match=f"large: some-org/none is not cached.*{says}"):
            TransformersLauncher(name="large", model="some-org/none").launch()

    def test_without_pytorch_the_line_that_installs_it_is_given(self) -> None:
        """The launcher can be made and says at launch what is missing."""
        program = (
            "import sys; sys.modules['torch'] = None\n"
            "from harness.errors import UnavailableError\n"
            "from harness.launchers.inprocess import TransformersLauncher\n"
            "try: TransformersLauncher(name='large', model='nano').launch()\n"
            "except UnavailableError as exc: print(exc)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.startswith("large: the transformers engine needs PyTorch")
        assert done.stdout.endswith("pip install 'assay[torch]', or pip install torch transformers\n")


@pytest.mark.gpu
def test_a_gpu_answers_and_gives_its_memory_back() -> None:
    """On a CUDA device the answer has its length and its times, and a stop frees what it took."""
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU and a PyTorch that is built with CUDA")
    # cuBLAS has a workspace for each thread that ever multiplied, of PyTorch's own memory: no model's.
    clear = torch._C._cuda_clearCublasWorkspaces
    clear()
    before = torch.cuda.memory_allocated()
    with TransformersLauncher(model="large", device="cuda").launch() as server:
        [answer] = ask(TransformersBackend(server.held), chat("hello", ignore_eos=True))  # type: ignore[arg-type]
        assert torch.cuda.memory_allocated() > before
    assert answer.output_tokens == 40
    assert answer.chunk_times_s == tuple(sorted(answer.chunk_times_s))
    clear()
    assert torch.cuda.memory_allocated() == before
