"""Job transitions on both databases: guarded, written down, idempotent, one winner in a race."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from tests.jobstores import DATABASES, S, chain, exhaust, files, move, open_store, succeed
from wmtwisted.errors import Conflict
from wmtwisted.store.database import open_engine
from wmtwisted.store.jobs import JobStore
from wmtwisted.store.jobs_schema import job_history, metadata, sub_file
from wmtwisted.wmbs.model import File, SplitBy, Splitting
from wmtwisted.wmbs.records import FileCounts, Job
from wmtwisted.wmbs.states import TRANSITIONS, JobState, WorkflowState

PARALLEL = 8


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    opened = open_store(request.param, tmp_path)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def job(store: JobStore) -> Job:
    number = store.inject(chain(jobs=1), cause="new")
    return store.split(number, cause="new")[0]


def test_every_transition_is_a_row_in_the_history(store: JobStore, job: Job) -> None:
    store.advance(
        job.id, S.CREATED, who="JobCreator", why="sandbox made", cause="m1", sandbox="/box/1"
    )
    store.advance(
        job.id, S.EXECUTING, who="JobSubmitter", why="submitted", cause="m2", batch_id="b7"
    )
    failed = store.advance(
        job.id,
        (S.COMPLETE, S.JOBFAILED),
        who="JobTracker",
        why="exit code 3",
        cause="m3",
        exit_code=3,
    )
    assert (failed.state, failed.exit_code, failed.why) == (S.JOBFAILED, 3, "exit code 3")
    assert (failed.sandbox, failed.batch_id) == ("/box/1", "b7")
    history = store.history(job.id)
    assert [(one.old, one.new, one.who, one.cause) for one in history] == [
        (None, S.NEW, "JobCreator", "new"),
        (S.NEW, S.CREATED, "JobCreator", "m1"),
        (S.CREATED, S.EXECUTING, "JobSubmitter", "m2"),
        (S.EXECUTING, S.COMPLETE, "JobTracker", "m3"),
        (S.COMPLETE, S.JOBFAILED, "JobTracker", "m3"),
    ]
    assert history[-1].exit_code == 3
    assert [one.when for one in history] == sorted(one.when for one in history)
    assert failed.changed == history[-1].when


def test_the_same_cause_again_changes_nothing(store: JobStore, job: Job) -> None:
    created = move(store, job, S.CREATED, cause="m1")
    assert move(store, job, S.CREATED, cause="m1") == created
    executing = move(store, job, S.EXECUTING, cause="m2")
    # The first message comes once more when the job has long moved on.
    again = store.advance(
        job.id, S.CREATED, who="x", why="again", cause="m1", expected=S.NEW, sandbox="/other"
    )
    assert again == executing
    assert len(store.history(job.id)) == 3


def test_a_path_goes_on_where_its_cause_left_it(store: JobStore, job: Job) -> None:
    move(store, job, S.CREATED, S.EXECUTING)
    move(store, job, S.COMPLETE, cause="m")
    done = move(store, job, S.COMPLETE, S.SUCCESS, cause="m")
    assert done.state is S.SUCCESS
    assert [one.new for one in store.history(job.id)].count(S.COMPLETE) == 1


def test_the_stored_state_is_what_counts(store: JobStore, job: Job) -> None:
    move(store, job, S.CREATED)
    with pytest.raises(Conflict, match=f"job {job.id} is created, expected new"):
        store.advance(job.id, S.CREATEFAILED, who="x", why="y", cause="z", expected=S.NEW)
    with pytest.raises(Conflict, match="cannot go from created to success"):
        move(store, job, S.SUCCESS)
    with pytest.raises(Conflict, match="cannot go from executing to success"):
        move(store, job, S.EXECUTING, S.SUCCESS)
    assert store.job(job.id).state is S.CREATED, "a path is gone as a whole or not at all"
    assert len(store.history(job.id)) == 2
    expected = {S.NEW, S.CREATED}
    store.advance(job.id, S.EXECUTING, who="x", why="y", cause="w", expected=expected)


@pytest.mark.parametrize(
    ("failed", "cooloff", "way"),
    [
        (S.CREATEFAILED, S.CREATECOOLOFF, ()),
        (S.SUBMITFAILED, S.SUBMITCOOLOFF, (S.CREATED,)),
        (S.JOBFAILED, S.JOBCOOLOFF, (S.CREATED, S.EXECUTING)),
    ],
)
def test_retries_are_counted(
    store: JobStore, job: Job, failed: JobState, cooloff: JobState, way: tuple[JobState, ...]
) -> None:
    if way:
        move(store, job, *way)
    store.advance(
        job.id, (failed, cooloff), who="x", why="y", cause="f1", exit_code=3, batch_id="b1"
    )
    tried = move(store, job, S.CREATED, cause="again")
    assert (tried.attempt, tried.exit_code, tried.batch_id) == (2, None, "")
    assert move(store, job, S.CREATED, cause="again").attempt == 2
    if failed is S.CREATEFAILED:
        gone = move(store, job, S.CREATEFAILED, S.EXHAUSTED, cause="f2")
    else:
        gone = move(store, job, *way[1:], failed, S.EXHAUSTED, cause="f2")
    assert (gone.state, gone.outcome, gone.attempt) == (S.EXHAUSTED, S.EXHAUSTED, 2)
    assert [one.attempt for one in store.history(job.id)][-1] == 2
    assert store.workflow("chain").tasks[0].retries == 1


def test_what_makes_no_sense_is_refused(store: JobStore, job: Job) -> None:
    with pytest.raises(ValueError, match="no state"):
        move(store, job)
    with pytest.raises(ValueError, match="needs a cause"):
        store.advance(job.id, S.CREATED, who="x", why="y", cause="")
    with pytest.raises(ValueError, match="outputs come with a success, not with created"):
        move(store, job, S.CREATED, files=files(1))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=st.lists(st.sampled_from(JobState), max_size=8))
def test_only_legal_ways_are_gone(
    any_job: tuple[JobStore, Iterator[Job]], path: list[JobState]
) -> None:
    store, jobs = any_job
    job = next(jobs)
    state, attempt = S.NEW, 1
    for number, to in enumerate(path):
        if to in TRANSITIONS[state]:
            attempt += "cooloff" in state and to is S.CREATED
            state = to
            move(store, job, to, cause=f"{number}")
        else:
            with pytest.raises(Conflict):
                move(store, job, to, cause=f"{number}")
    found = store.job(job.id)
    assert (found.state, found.attempt) == (state, attempt)
    history = store.history(job.id)
    assert [one.new for one in history[:-1]] == [one.old for one in history[1:]]
    assert history[-1].new is found.state


@pytest.fixture
def any_job(tmp_path: Path) -> Iterator[tuple[JobStore, Iterator[Job]]]:
    store = open_store("sqlite", tmp_path)
    number = store.inject(chain(jobs=100), cause="new")
    yield store, iter(store.split(number, cause="new"))
    store.engine.dispose()


def at_once(*calls: Callable[[], object]) -> list[object]:
    """What each call gave or raised; all start together, each on its own connection."""
    barrier = Barrier(len(calls), timeout=60)

    def one(call: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return call()
        except Conflict as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_of_two_transitions_at_once_one_wins(store: JobStore, job: Job) -> None:
    move(store, job, S.CREATED, S.EXECUTING)
    ends = (S.COMPLETE, S.JOBFAILED)
    results = at_once(
        *(partial(move, store, job, ends[n % 2], cause=f"racer {n}") for n in range(PARALLEL)),
    )
    states = [one.state for one in results if isinstance(one, Job)]
    # complete -> jobfailed is legal, so complete may win first and jobfailed next.
    assert states in ([S.COMPLETE], [S.JOBFAILED]) or sorted(states) == [S.COMPLETE, S.JOBFAILED]
    assert sum(isinstance(one, Conflict) for one in results) == PARALLEL - len(states)
    history = store.history(job.id)
    assert len(history) == 3 + len(states)
    assert [one.new for one in history[:-1]] == [one.old for one in history[1:]]


def test_one_cause_at_once_is_one_transition(store: JobStore, job: Job) -> None:
    results = at_once(*(lambda: move(store, job, S.CREATED, cause="m") for _ in range(PARALLEL)))
    assert results == [results[0]] * PARALLEL
    assert len(store.history(job.id)) == 2


def test_one_workflow_injected_at_once(store: JobStore) -> None:
    workflow = chain(generate=False)
    results = at_once(
        *(lambda: store.inject(workflow, files(20), cause="same") for _ in range(PARALLEL)),
    )
    assert results == [results[0]] * PARALLEL
    others = at_once(
        *(
            partial(store.inject, evolve(workflow, name="two"), files(20), cause=f"c{n}")
            for n in range(PARALLEL)
        ),
    )
    assert sum(isinstance(one, int) for one in others) == 1
    assert len(store.workflows()) == 2


def test_workflows_with_the_same_files_at_once(store: JobStore) -> None:
    results = at_once(
        *(
            partial(store.inject, chain(f"w{n}", generate=False), files(20), cause=f"c{n}")
            for n in range(4)
        ),
    )
    assert all(isinstance(one, int) for one in results)
    assert all(len(store.outputs(f"w{n}", "input")) == 20 for n in range(4))


def test_jobs_that_end_at_once_are_all_seen(store: JobStore) -> None:
    """Two jobs of one file end together: the file is complete, the next task gets both outputs."""
    number = store.inject(
        chain(generate=False, select=Splitting(SplitBy.EVENT, 100 // PARALLEL + 1)),
        files(1),
        cause="new",
    )
    jobs = store.split(number, cause="new")
    assert len(jobs) == PARALLEL

    def end(job: Job) -> list[Job]:
        succeed(store, job)
        return store.split(number, cause=f"end of {job.id}")

    made = at_once(*(partial(end, job) for job in jobs))
    merging = [job for some in made if isinstance(some, list) for job in some]
    assert len(merging) == 1
    assert len(store.inputs(merging[0].id)) == PARALLEL
    assert store.file_counts("chain")["select"] == FileCounts(0, 0, 1, 0)


def test_a_whole_workflow_by_many_hands(store: JobStore) -> None:
    workflow = chain(jobs=PARALLEL, select=Splitting(SplitBy.FILE, 3), wait=False)
    number = store.inject(workflow, cause="new")
    work = store.split(number, cause="new")
    seen: set[int] = set()

    def run(job: Job) -> list[Job]:
        if job.task == "select" and job.number == 2:
            exhaust(store, job)
        else:
            succeed(store, job)
        return store.split(number, cause=f"end of {job.id}")

    while work:
        assert seen.isdisjoint(job.id for job in work)
        seen.update(job.id for job in work)
        results = at_once(*(partial(run, job) for job in work))
        work = [job for some in results if isinstance(some, list) for job in some]
    status = store.workflow(number)
    assert status.state is WorkflowState.FAILED
    assert all(task.finished for task in status.tasks)
    used = [one.file.lfn for job in store.jobs(task="select") for one in store.inputs(job.id)]
    assert sorted(used) == sorted(
        f"/out/chain-generate-{n + 1}/events.csv" for n in range(PARALLEL)
    )


def test_a_kill_and_a_success_at_once(store: JobStore, job: Job) -> None:
    move(store, job, S.CREATED, S.EXECUTING, S.COMPLETE)
    ended, killed = at_once(
        lambda: move(store, job, S.SUCCESS, files=[File("/out/1", "/storage/1")]),
        lambda: store.kill(job.workflow_id, who="somebody", cause="k"),
    )
    final = store.job(job.id)
    if final.state is S.KILLED:
        assert isinstance(ended, Conflict)
        assert store.outputs("chain", "generate") == [], "a killed job leaves no data"
    else:
        assert killed == []
        assert len(store.outputs("chain", "generate")) == 1


def test_a_file_has_one_status_for_each_reader(store: JobStore) -> None:
    number = store.inject(chain(generate=False), files(1), cause="new")
    store.split(number, cause="new")
    with store.engine.begin() as connection:
        row = connection.execute(select(sub_file)).one()
    with pytest.raises(IntegrityError), store.engine.begin() as connection:
        connection.execute(insert(sub_file).values(**{**row._mapping, "status": "available"}))


def test_the_database_itself_keeps_a_transition_single(store: JobStore, job: Job) -> None:
    with store.engine.begin() as connection:
        row = connection.execute(select(job_history)).one()
    values = {key: value for key, value in row._mapping.items() if key != "id"}
    with pytest.raises(IntegrityError), store.engine.begin() as connection:
        connection.execute(insert(job_history).values(**values))


def test_tables_made_by_many_at_once(tmp_path: Path) -> None:
    for database in DATABASES:
        first = open_store(database, tmp_path)
        url = first.engine.url.render_as_string(hide_password=False)
        with first.engine.begin() as connection:
            metadata.drop_all(connection)
        stores = [JobStore(open_engine(url, "jobs")) for _ in range(4)]
        at_once(*(store.create_tables for store in stores))
        assert stores[0].inject(chain(), cause="new") == 1
        for store in (first, *stores):
            store.engine.dispose()
