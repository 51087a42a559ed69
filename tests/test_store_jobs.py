"""The job store on both databases: workflows taken in, cut into jobs, and brought to their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from sqlalchemy import text

from tests.jobstores import DATABASES, S, chain, exhaust, files, move, open_store, succeed
from wmtwisted.errors import Conflict, InputError, NotFound, SpecError, StoreError
from wmtwisted.store.database import open_engine
from wmtwisted.store.jobs import JobStore
from wmtwisted.wmbs.model import File, Mask, SplitBy, Splitting
from wmtwisted.wmbs.records import FileCounts, Job
from wmtwisted.wmbs.states import WorkflowState


@pytest.fixture(params=DATABASES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobStore]:
    opened = open_store(request.param, tmp_path)
    yield opened
    opened.engine.dispose()


def test_a_workflow_runs_to_its_end(store: JobStore) -> None:
    number = store.inject(chain(), cause="new")
    generated = store.split(number, cause="new")
    assert [job.name for job in generated] == [f"chain-generate-{n}" for n in (1, 2, 3)]
    assert [job.first_event for job in generated] == [1, 101, 201]
    assert len({job.seed for job in generated}) == 3
    assert {job.state for job in generated} == {S.NEW}

    selected = []
    for at, job in enumerate(generated):
        succeed(store, job)
        selected += store.split(number, cause=f"end{at}")
    assert len(selected) == 6, "100 events a file, 50 a job"
    assert [one.mask for job in selected[:2] for one in store.inputs(job.id)] == [
        Mask(None, 0, 50),
        Mask(None, 50, 50),
    ]
    assert [task.finished for task in store.workflow("chain").tasks] == [True, False, False]

    merging: list[Job] = []
    for at, job in enumerate(selected):
        assert not merging, "merge waits for the last"
        succeed(store, job, 50)
        merging += store.split(number, cause=f"selected{at}")
    assert len(merging) == 1
    assert len(store.inputs(merging[0].id)) == 6
    assert store.workflow("chain").state is WorkflowState.RUNNING
    succeed(store, merging[0])
    assert store.split(number, cause="last") == []

    status = store.workflow("chain")
    assert status.state is WorkflowState.DONE
    assert status.finished is not None
    assert [(task.name, task.jobs, task.finished) for task in status.tasks] == [
        ("generate", 3, True),
        ("select", 6, True),
        ("merge", 1, True),
    ]
    assert store.workflows() == [status]
    assert store.file_counts("chain") == {
        "select": FileCounts(0, 0, 3, 0),
        "merge": FileCounts(0, 0, 6, 0),
    }
    made = store.outputs("chain", "merge")
    assert [file.lfn for file in made] == ["/out/chain-merge-1/spectrum.json"]
    assert set(made[0].parents) == {file.lfn for file in store.outputs("chain", "select")}
    assert store.job_outputs(merging[0].id) == made


def test_cleaned_out_jobs_keep_their_outcome(store: JobStore) -> None:
    number = store.inject(chain(jobs=1), cause="new")
    (job,) = store.split(number, cause="new")
    succeed(store, job)
    out = move(store, job, S.CLEANOUT)
    assert (out.state, out.outcome) == (S.CLEANOUT, S.SUCCESS)
    task = store.workflow(number).tasks[0]
    assert (task.states, task.outcomes) == ({"cleanout": 1}, {"success": 1})


def test_one_lost_job_fails_the_workflow_but_not_its_tasks(store: JobStore) -> None:
    number = store.inject(chain(select=Splitting(SplitBy.FILE, 1)), cause="new")
    first, second, third = store.split(number, cause="new")
    succeed(store, first)
    exhaust(store, second)
    succeed(store, third)
    selected = store.split(number, cause="s")
    assert len(selected) == 2
    succeed(store, selected[0])
    exhaust(store, selected[1])
    (merge,) = store.split(number, cause="m")
    assert [one.file.lfn for one in store.inputs(merge.id)] == [
        "/out/chain-select-1/histogram.json"
    ]
    succeed(store, merge)
    store.split(number, cause="e")
    assert store.workflow(number).state is WorkflowState.FAILED
    assert store.file_counts("chain")["select"] == FileCounts(0, 0, 1, 1)


def test_when_all_is_lost_nothing_is_waited_for(store: JobStore) -> None:
    number = store.inject(chain(jobs=1), cause="new")
    (job,) = store.split(number, cause="new")
    exhaust(store, job)
    assert store.split(number, cause="e") == []
    status = store.workflow(number)
    assert status.state is WorkflowState.FAILED
    assert [task.jobs for task in status.tasks] == [1, 0, 0]


def test_splitting_again_with_one_cause_makes_nothing_new(store: JobStore) -> None:
    number = store.inject(chain(jobs=2), cause="new")
    made = store.split(number, cause="new")
    succeed(store, made[0])
    again = store.split(number, cause="new")
    assert [job.id for job in again] == [job.id for job in made]
    selected = store.split(number, cause="a")
    assert [job.task for job in selected] == ["select", "select"]
    assert store.split(number, cause="b") == []
    assert store.split(number, cause="a") == selected


def test_files_that_do_not_fill_a_job_wait_for_more(store: JobStore) -> None:
    workflow = chain(jobs=3, select=Splitting(SplitBy.FILE, 2), wait=False)
    number = store.inject(workflow, cause="new")
    first, second, third = store.split(number, cause="new")
    succeed(store, first)
    assert store.split(number, cause="1") == []
    assert store.file_counts("chain")["select"] == FileCounts(1, 0, 0, 0)
    succeed(store, second)
    (pair,) = store.split(number, cause="2")
    assert len(store.inputs(pair.id)) == 2
    succeed(store, third)
    (rest,) = store.split(number, cause="3")
    assert len(store.inputs(rest.id)) == 1
    assert rest.number == 2


def test_input_files_by_run(store: JobStore) -> None:
    workflow = chain(generate=False, select=Splitting(SplitBy.RUN, 2))
    (one, two) = files(2, 90, (1, 2, 3))
    number = store.inject(workflow, [one, evolve(two, runs=(3, 4))], cause="new")
    jobs = store.split(number, cause="new")
    masks = [[(i.file.lfn, i.mask.runs) for i in store.inputs(job.id)] for job in jobs]
    assert masks == [[("/in/0", (1, 2))], [("/in/0", (3,)), ("/in/1", None)]]
    assert store.outputs("chain", "input") == [one, evolve(two, runs=(3, 4))]
    description = store.description(jobs[1].id)
    assert description["inputs"][0] == {
        "lfn": "/in/0",
        "path": "/data/0",
        "runs": [3],
        "first_event": 0,
        "events": None,
    }
    assert description["name"] == "chain-select-2"
    assert description["parameters"] == {"fail_rate": "0"}
    assert description["outputs"] == ["histogram.json"]
    succeed(store, jobs[0])
    assert store.file_counts("chain")["select"] == FileCounts(0, 2, 0, 0)
    succeed(store, jobs[1])
    assert store.file_counts("chain")["select"] == FileCounts(0, 0, 2, 0)


def test_injecting_again(store: JobStore) -> None:
    number = store.inject(chain(), cause="new")
    assert store.inject(chain(), cause="new") == number
    with pytest.raises(Conflict, match="'chain' was already submitted"):
        store.inject(chain(), cause="other")
    assert store.inject(chain("Chain"), cause="third") != number
    assert store.model("chain") == chain()


def test_workflows_that_cannot_be_taken_in(store: JobStore) -> None:
    with pytest.raises(InputError, match="came with none"):
        store.inject(chain(generate=False), cause="a")
    with pytest.raises(InputError, match="no task of it reads 'input'"):
        store.inject(chain(), files(1), cause="b")
    with pytest.raises(SpecError, match="no task"):
        store.inject(evolve(chain(), tasks=[]), cause="c")
    with pytest.raises(NotFound, match="'/nowhere' is unknown"):
        store.inject(chain(generate=False), [evolve(files(1)[0], parents=["/nowhere"])], cause="d")
    assert store.workflows() == [], "nothing half-written"


def test_input_files_are_known_once(store: JobStore) -> None:
    store.inject(chain("a", generate=False), files(2), cause="a")
    number = store.inject(chain("b", generate=False), files(2), cause="b")
    assert len(store.split(number, cause="b")) == 4
    with pytest.raises(Conflict, match=r"'/in/0' is known with size 1000, not 7"):
        store.inject(chain("c", generate=False), [evolve(files(1)[0], size=7)], cause="c")
    twice = [*files(1), evolve(files(1)[0], events=7)]
    with pytest.raises(Conflict, match=r"known with events"):
        store.inject(chain("d", generate=False), twice, cause="d")


def test_thousands_of_files_and_jobs(store: JobStore) -> None:
    number = store.inject(
        chain(generate=False, select=Splitting(SplitBy.EVENT, 50)), files(1200), cause="new"
    )
    jobs = store.split(number, cause="new")
    assert len(jobs) == 2400
    assert [job.number for job in jobs] == list(range(1, 2401))
    assert len(store.jobs("chain", limit=5000)) == 2400
    page = store.jobs("chain", "select", S.NEW, after=jobs[9].id, limit=3)
    assert [job.number for job in page] == [11, 12, 13]


def test_outputs_are_added_once(store: JobStore) -> None:
    number = store.inject(chain(jobs=2, select=Splitting(SplitBy.FILE, 1)), cause="new")
    job, other = store.split(number, cause="new")
    made = File("/out/1", "/storage/1", 5, 100, (7,))
    with pytest.raises(Conflict, match="only a job that is executing or complete"):
        store.add_outputs(job.id, [made])
    move(store, job, S.CREATED, S.EXECUTING)
    store.add_outputs(job.id, [made])
    (selecting,) = store.split(number, cause="early")
    # What was acquired does not become available again.
    store.add_outputs(job.id, [made])
    assert store.file_counts("chain")["select"] == FileCounts(0, 1, 0, 0)
    done = move(store, job, S.COMPLETE, S.SUCCESS, files=[made])
    assert done.state is S.SUCCESS
    store.add_outputs(job.id, [made])
    succeed(store, selecting)
    assert store.file_counts("chain")["select"] == FileCounts(0, 0, 1, 0)
    store.add_outputs(job.id, [made])
    assert store.file_counts("chain")["select"] == FileCounts(0, 0, 1, 0)
    assert store.split(number, cause="again") == []
    assert store.outputs("chain", "generate") == [made]

    move(store, other, S.CREATED, S.EXECUTING)
    with pytest.raises(Conflict, match=f"already known as made by job {job.id}"):
        move(store, other, S.COMPLETE, S.SUCCESS, files=[made])
    assert store.job(other.id).state is S.EXECUTING, "all or nothing"


def test_a_success_completes_a_file_when_its_other_jobs_succeeded(store: JobStore) -> None:
    number = store.inject(chain(generate=False), files(1), cause="new")
    first, second = store.split(number, cause="new")
    succeed(store, first)
    assert store.file_counts("chain")["select"] == FileCounts(0, 1, 0, 0)
    exhaust(store, second)
    assert store.file_counts("chain")["select"] == FileCounts(0, 0, 0, 1)
    store.fail_inputs(second.id)
    assert store.file_counts("chain")["select"] == FileCounts(0, 0, 0, 1)


def test_killing_a_workflow(store: JobStore) -> None:
    number = store.inject(chain(jobs=5), cause="new")
    jobs = store.split(number, cause="new")
    succeed(store, jobs[0])
    move(store, jobs[1], S.CREATED, S.EXECUTING, S.COMPLETE)
    move(store, jobs[2], S.CREATED, S.EXECUTING, S.JOBFAILED, S.JOBCOOLOFF)
    exhaust(store, jobs[3])
    killed = store.kill(number, who="somebody", cause="k")
    assert [job.id for job in killed] == [jobs[1].id, jobs[2].id, jobs[4].id]
    assert {job.state for job in killed} == {S.KILLED}
    assert {job.attempt for job in killed} == {1}
    assert store.kill(number, who="somebody", cause="k") == killed
    assert store.kill(number, who="another", cause="l") == []
    assert store.split(number, cause="later") == []
    assert store.workflow(number).state is WorkflowState.KILLED
    with pytest.raises(Conflict, match="from killed it may go to cleanout"):
        move(store, jobs[1], S.SUCCESS)
    with pytest.raises(Conflict, match="only a job that is executing or complete"):
        store.add_outputs(jobs[1].id, files(1))
    assert move(store, jobs[1], S.CLEANOUT).outcome is S.KILLED


def test_what_is_not_there(store: JobStore) -> None:
    store.inject(chain(), cause="new")
    with pytest.raises(NotFound, match="no workflow 'chan'") as caught:
        store.workflow("chan")
    assert caught.value.hint == "did you mean 'chain'?"
    with pytest.raises(NotFound, match="has no task 'mergé'"):
        store.outputs("chain", "mergé")
    for read in (store.job, store.task, store.history, store.inputs, store.job_outputs):
        with pytest.raises(NotFound, match="no job 99"):
            read(99)
    with pytest.raises(NotFound, match="no workflow 99"):
        store.split(99, cause="x")
    assert store.jobs("nothing") == []


def test_tables_are_made_once_and_have_a_version(store: JobStore) -> None:
    store.inject(chain(), cause="new")
    store.create_tables()
    store.require_tables()
    assert len(store.workflows()) == 1
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE wmbs_schema SET version = 99"))
    with pytest.raises(StoreError, match="of version 99, this program's of 1"):
        store.create_tables()
    with pytest.raises(StoreError, match="of version 99"):
        store.require_tables()


def test_a_store_without_tables(tmp_path: Path) -> None:
    store = JobStore(open_engine(f"sqlite:///{tmp_path}/empty.sqlite", "jobs"))
    with pytest.raises(StoreError, match="holds no job store"):
        store.require_tables()
    with pytest.raises(StoreError, match="no such table") as caught:
        store.workflows()
    assert "wm init" in caught.value.hint
    store.engine.dispose()
