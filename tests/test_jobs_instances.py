"""Generated jobs are seeded, sound and held out, and a wrong answer leaves its mark on what follows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest

from harness.errors import UsageError
from harness.grading import CodeGrader
from harness.models import checkpoint, split
from harness.models.chat import END_OF_TURN, opening
from harness.workflow.jobs import (
    Job,
    answer_of,
    grade_answer,
    instances,
    published,
    render,
    right_answer,
)
from harness.workflow.jobs.job import CodeKey, LabelKey, NumberKey
from harness.workflow.jobs.priors import answer_job, worth_by_type

SHAPES = {each.id: each.graph for each in published().jobs}
STYLES = ("workflowbench", "pocket")


@pytest.fixture(scope="module")
def grader() -> Iterator[CodeGrader]:
    with CodeGrader() as started:
        yield started


def chain(job: Job) -> Iterator[tuple[str, str]]:
    """Each task's prompt after right answers, with its id."""
    answers: dict[str, str] = {}
    for task in job.tasks:
        yield task.id, render(job, task, answers)
        answers[task.id] = answer_of(task, right_answer(task))


@pytest.mark.parametrize("style", STYLES)
def test_there_are_sixty_jobs_of_the_published_shapes(style: str) -> None:
    """180 tasks: a third of the jobs is of each shape, with its types and edges."""
    jobs = instances(style).jobs
    assert len(jobs) >= 60
    assert Counter(job.shape for job in jobs) == {"wb1": 20, "wb2": 20, "wb3": 20}
    assert len({job.id for job in jobs}) == len(jobs)
    for job in jobs:
        shape = SHAPES[job.shape]
        assert [task.type for task in job.tasks] == [task.type for task in shape.tasks]
        assert job.edges == shape.edges


@pytest.mark.parametrize("style", STYLES)
def test_a_seed_draws_the_same_jobs_and_another_seed_others(style: str) -> None:
    """However many are asked for; hardly a prompt of one seed occurs in another."""
    first = instances(style, num_jobs=6, seed=5)
    assert instances(style, num_jobs=3, seed=5).jobs == first.jobs[:3]
    assert instances.__wrapped__(style, num_jobs=6, seed=5) == first
    other = instances(style, num_jobs=6, seed=6)
    assert other.sha256 != first.sha256
    ours, theirs = ({prompt for job in file.jobs for _, prompt in chain(job)} for file in (first, other))
    assert len(ours & theirs) <= 2


@pytest.mark.parametrize("style", STYLES)
def test_a_right_answer_is_right_and_so_is_what_travels(style: str, grader: CodeGrader) -> None:
    """Every key grades its own reference, whole and as it goes along an edge."""
    for job in instances(style).jobs[:30]:
        for task in job.tasks:
            assert grade_answer(task, right_answer(task), grader) == (1.0, True, None)
            assert grade_answer(task, answer_of(task, right_answer(task)), grader).is_right


@pytest.mark.parametrize("style", STYLES)
def test_a_wrong_answer_changes_every_prompt_after_it(style: str) -> None:
    """No edge is without an effect, which is what the origin's were."""
    for job in instances(style).jobs:
        rights = {task.id: answer_of(task, right_answer(task)) for task in job.tasks}
        for before, after in job.edges:
            wrongs = {**rights, before: "-"}
            assert render(job, job.task(after), rights) != render(job, job.task(after), wrongs)


def test_pocket_prompts_are_held_out_from_training() -> None:
    """The prompts that a chain of right answers gives, and the skeletons of the programs."""
    for job in instances("pocket").jobs:
        for name, prompt in chain(job):
            key = job.task(name).key
            if prompt.startswith("Record:") or isinstance(key, NumberKey):
                assert split.is_held_out_key(prompt), prompt
            if isinstance(key, CodeKey):
                assert split.is_held_out_source(key.reference), prompt


def test_a_wrong_number_makes_pocket_code_wrong(grader: CodeGrader) -> None:
    """A function written with any other constant fails; a rewrite is told another report."""
    for job in instances("pocket").jobs:
        if job.shape != "wb1":
            continue
        task, number = job.task("s2"), right_answer(job.task("s1"))
        others = [str(other) for other in range(2, 10) if str(other) != number]
        if task.table:
            assert task.table[number] not in [task.table[other] for other in others]
            continue
        assert isinstance(task.key, CodeKey)
        text = render(job, task, {"s1": number})
        place = text.split(", then ").index(next(part for part in text.split(", then ") if number in part))
        lines = task.key.reference.split("\n")
        for other in others:
            lines[place + 1] = re.sub(r"\b\d\b", other, task.key.reference.split("\n")[place + 1])
            assert not grade_answer(task, "\n".join(lines), grader).is_right


def test_a_wrong_word_looks_another_function_up() -> None:
    """Its defect is in another line, so that the right label is not found by luck."""
    for job in instances("pocket").jobs:
        if job.shape == "wb3":
            record, reasoning = job.task("s0").key, job.task("s1")
            assert isinstance(record, LabelKey)
            assert set(reasoning.table) == set(record.labels)
            right = reasoning.table[record.value]
            assert right not in [text for word, text in reasoning.table.items() if word != record.value]


@pytest.mark.parametrize("style", STYLES)
def test_labels_are_drawn_evenly_enough_that_none_is_a_good_guess(style: str) -> None:
    """Naming the commonest line, or weekday, every time is right less than half of the time."""
    labels = [right_answer(job.task("s1")) for job in instances(style).jobs if job.shape == "wb3"]
    assert max(Counter(labels).values()) < len(labels) / 2


def test_the_token_estimates_are_those_of_the_models_tokenizer() -> None:
    """Within a fifth by task type, over the jobs that are graded."""
    tokenizers = pytest.importorskip("tokenizers", reason="pip install 'assay[torch]' for the tokenizer")
    tokenizer = tokenizers.Tokenizer.from_file(str(checkpoint("nano") / "tokenizer.json"))
    estimates, counts = Counter[str](), Counter[str]()
    for job in instances("pocket").jobs:
        for name, prompt in chain(job):
            task = job.task(name)
            if task.type in ("math", "reasoning"):
                continue  # their answers are longer than what is right about them
            text = opening(prompt) + right_answer(task) + END_OF_TURN
            estimates[task.type] += task.num_tokens
            counts[task.type] += len(tokenizer.encode(text, add_special_tokens=False).ids)
    for kind, count in counts.items():
        assert estimates[kind] == pytest.approx(count, rel=0.2)


def test_what_makes_no_sense_is_refused() -> None:
    """An unknown style, and no job."""
    with pytest.raises(UsageError, match="no jobs in style 'swe'; use workflowbench, pocket"):
        instances("swe")
    with pytest.raises(UsageError, match="0 jobs asked for"):
        instances("pocket", num_jobs=0)


async def answers_of(model: str, grader: CodeGrader) -> dict[str, float]:
    from harness.backends import connect, parse_backend

    async with connect(parse_backend(f"{model}=pocket:{model}")) as connection:
        jobs = instances("pocket").jobs[:12]
        alone = await answer_job(connection.backend, jobs[0], grader, chain="own")
        assert set(alone) == {"s0", "s1", "s2"}
        worth = await worth_by_type(connection.backend, jobs, grader)
    return {kind: found.score for kind, found in worth.items()}


def test_the_pocket_models_differ_by_task_type(grader: CodeGrader) -> None:
    """Each specialist is ahead of the smallest model at its own type, on jobs that no prior saw."""
    import asyncio

    scores = {model: asyncio.run(answers_of(model, grader)) for model in ("nano", "math", "code")}
    assert scores["math"]["math"] > scores["nano"]["math"] + 0.2
    assert scores["nano"]["summarize"] > scores["code"]["summarize"] + 0.5
    assert scores["code"]["code"] > scores["math"]["code"] + 0.5
