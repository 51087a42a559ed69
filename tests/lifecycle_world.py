"""The components of the life cycle in memory, with a pump for their messages that can fail.

The job store and the batch system are real. What a broker does is done here: outputs are published
once under ids that follow from the message handled, flags and triggers are counted, and what a
crash left unfinished is given again.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

from attrs import define, field
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from wmtwisted.batch import runner
from wmtwisted.batch.local import Local
from wmtwisted.batch.model import BatchState, Status
from wmtwisted.broker.triggers import Barrier
from wmtwisted.component.component import Component, Context, Reject, outputs
from wmtwisted.config import Config, load
from wmtwisted.errors import StoreError
from wmtwisted.lifecycle import jobcleanup, stageout
from wmtwisted.lifecycle.agent import Agent
from wmtwisted.message import Delivery, Flag, Message, Output, Trigger
from wmtwisted.store.database import open_engine
from wmtwisted.store.jobs import JobStore
from wmtwisted.wmbs.model import Splitting, Task, Workflow
from wmtwisted.wmbs.records import Job
from wmtwisted.wmbs.states import TRANSITIONS, JobState
from wmtwisted.wmbs.workflow import to_dict

DEADLINE = 60.0
#: Deliveries before a message is a dead letter.
ATTEMPTS = 10

#: Calls that leave nothing behind: whoever fails after one fails before the next change.
READS = frozenset(
    {"job", "jobs", "task", "model", "history", "description", "job_outputs", "free", "log"}
)

#: Says which attempt it is; WM_BATCH_JOB ends with the batch system's token.
RAN = 'token=${WM_BATCH_JOB##*/}; echo "$token" >> %s; '
MAKE = (
    "case $token in *-make-1.1) exit 3;; esac; echo data of $token > out.txt; "
    """echo '{"outputs": [{"name": "out.txt", "events": 10, "runs": [1]}]}' > report.json"""
)
ADD = """grep -o '"path": "[^"]*"' job.json | cut -d'"' -f4 | xargs cat > all.txt"""


class Crash(BaseException):
    """The process that called is gone."""


@define
class Faults:
    """Something fails at the n-th call, after it took effect."""

    at: int = 0
    error: Callable[[], BaseException] = Crash
    calls: int = 0
    what: str = ""
    #: Called each time, with what was done.
    then: Callable[[str], None] = lambda what: None

    def happened(self, what: str) -> None:
        self.calls += 1
        self.then(what)
        if self.calls == self.at:
            self.what = what
            raise self.error()

    @property
    def fired(self) -> bool:
        return bool(self.what)


class _Calls:
    """A store, catalogue or batch system whose calls are counted, and may fail."""

    def __init__(self, target: Any, faults: Faults) -> None:
        self._target = target
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            looks = (BatchState.PENDING, BatchState.RUNNING)
            if name in READS or (isinstance(result, Status) and result.state in looks):
                return result
            self._faults.happened(f"{type(self._target).__name__}.{name}")
            return result

        return call


@define(eq=False)
class Handling:
    """A delivery on its way through a handler."""

    delivery: Delivery
    process: Process
    #: What it returned the first time, when every message is handled twice.
    first: list[Output] | None = None


@define(eq=False)
class Process:
    """One process of a component."""

    component: Component
    alive: bool = True
    running: list[Handling] = field(factory=list)


@define(eq=False, slots=False)
class World:
    """An instance in `folder`, without a broker."""

    folder: Path
    url: str = ""
    #: More of the configuration.
    more: str = ""
    faults: Faults = field(factory=Faults)
    #: Handle every message a second time before anything is published.
    twice: bool = True
    #: Give every message to two processes of the component at the same time.
    both: bool = False
    seed: int = 0
    dead: list[tuple[str, str, str]] = field(factory=list, init=False)
    published: dict[tuple[str, int], Delivery] = field(factory=dict, init=False)
    returned: dict[tuple[str, str], list[Output]] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.url = self.url or f"sqlite:///{self.folder}/jobs.sqlite"
        path = self.folder / "wm.toml"
        path.write_text(
            f'[store]\njobs = "{self.url}"\n[batch]\nslots = 2\n'
            f"[components.ErrorHandler.options]\ncooloff = 0.2\n{self.more}"
        )
        self.config: Config = load(path, {})
        self.random = random.Random(self.seed)  # noqa: S311 (nothing secret)
        self.clock = Clock()
        self.store = JobStore(open_engine(self.url, "jobs"))
        self.store.create_tables()
        self.tasks: list[tuple[Process, Callable[[], None]]] = []
        self.waiting: list[tuple[str, Delivery, float]] = []
        self.barriers: dict[tuple[str, str], Barrier] = {}
        self.broken: list[Failure] = []
        self.processes: dict[str, list[Process]] = {}
        self.classes: dict[str, type[Component]] = {}
        for name, settings in self.config.components.items():
            module, _, attribute = settings.class_.partition(":")
            self.classes[name] = getattr(import_module(module), attribute)
            self.processes[name] = [self.process(name) for _ in range(1 + self.both)]

    def close(self) -> None:
        """Ends everything, also the jobs that a failed test may have left."""
        for claim in self.folder.glob("**/batch/*/claim"):
            runner.sweep(str(claim.parent))
        for processes in self.processes.values():
            for process in processes:
                process.component.stop()
        self.store.engine.dispose()

    # Processes

    def process(self, name: str) -> Process:
        process: Process

        def run(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
            done: Deferred[Any] = Deferred()

            def task() -> None:
                try:
                    result = function(*args)
                except Crash:
                    raise
                except BaseException:
                    done.errback(Failure())
                else:
                    done.callback(result)

            self.tasks.append((process, task))
            return done

        component = self.classes[name](Context(name, self.config, self.clock, run))
        process = Process(component)
        assert isinstance(component, Agent)
        component.start()
        for part in ("store", "batch", "catalog"):
            if hasattr(component, part):
                setattr(component, part, _Calls(getattr(component, part), self.faults))
        for name in ("_write", "_remove"):
            if hasattr(component, name):
                setattr(component, name, self.counted(name, getattr(component, name)))
        return process

    def counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """What changes files fails like what changes the store."""

        def call(*args: Any) -> Any:
            result = function(*args)
            self.faults.happened(name)
            return result

        return call

    def crash(self, process: Process) -> None:
        """The process is gone; another one takes its place, and gets what it had."""
        process.alive = False
        name = process.component.name
        self.tasks = [one for one in self.tasks if one[0] is not process]
        process.component.stop()
        there = self.processes[name]
        there[there.index(process)] = self.process(name)
        for handling in process.running:
            self.again(name, handling.delivery, "lost", 0.0)
        process.running.clear()

    # Messages

    def publish(self, origin: str, number: int, message: Message) -> None:
        key = (origin, number)
        known = self.published.get(key)
        if known is not None:
            same = (known.type, known.payload) == (message.type, message.payload)
            assert same or self.was_killed(message), known
            return
        delivery = Delivery(
            len(self.published) + 1, message.type, message.payload, origin, number, 0.0, 1, "new"
        )
        self.published[key] = delivery
        due = self.clock.seconds() + message.delay
        for name, one in self.classes.items():
            if message.type in one.consumes():
                self.waiting.append((name, delivery, due))

    def submit(self, workflow: Workflow, *inputs: dict[str, Any]) -> None:
        payload = {"workflow": to_dict(workflow), "inputs": list(inputs)}
        self.publish("wm~1", len(self.published) + 1, Message("NewWorkflow", payload))

    def was_killed(self, message: Message | Delivery) -> bool:
        return self.store.job(json.loads(message.payload)["job"]).outcome is JobState.KILLED

    def again(self, name: str, old: Delivery, reason: str, delay: float) -> None:
        """Gives a message again, or buries it."""
        if old.attempt >= ATTEMPTS:
            self.dead.append((name, old.type, reason))
            return
        new = Delivery(
            old.key, old.type, old.payload, old.origin, old.number, old.published,
            old.attempt + 1, reason,
        )  # fmt: skip
        self.waiting.append((name, new, self.clock.seconds() + delay))

    def start(self, name: str, delivery: Delivery) -> None:
        for process in self.processes[name]:
            handling = Handling(delivery, process)
            process.running.append(handling)
            self.call(handling)

    def call(self, handling: Handling) -> None:
        process, delivery = handling.process, handling.delivery
        handler = process.component.handlers()[delivery.type]
        method = getattr(process.component, handler.name)
        if handler.coroutine:
            done = ensureDeferred(method(delivery))
        else:
            done = process.component.context.run(method, delivery)

        def ended(result: object) -> None:
            if not process.alive:
                return
            error = result.value if isinstance(result, Failure) else None
            if isinstance(error, Crash):
                self.crash(process)
            elif isinstance(error, Reject | AssertionError):
                process.running.remove(handling)
                self.dead.append((process.component.name, delivery.type, str(error)))
            elif error is not None:
                process.running.remove(handling)
                self.again(process.component.name, delivery, repr(error), 1.0)
            else:
                self.finished(handling, outputs(result))

        done.addBoth(ended)
        done.addErrback(self.broken.append)

    def finished(self, handling: Handling, found: list[Output]) -> None:
        process, delivery = handling.process, handling.delivery
        name = process.component.name
        assert not process.component.handlers()[delivery.type].problem(found)
        before = handling.first or self.returned.get((name, delivery.id))
        if before is not None and before != found:
            # Only what somebody did in between may make a difference.
            assert self.was_killed(delivery), (name, delivery.type, before, found)
        if self.twice and handling.first is None:
            handling.first = found
            self.call(handling)
            return
        process.running.remove(handling)
        self.returned[name, delivery.id] = found
        messages = [one for one in found if isinstance(one, Message)]
        for index, message in enumerate(messages):
            self.publish(name, delivery.key * 65536 + index, message)
        for one in found:
            match one:
                case Trigger():
                    barrier = self.barriers.setdefault((one.name, one.id), Barrier())
                    if barrier.declare(one, "", 0.0):
                        self.fire(one.name, barrier)
                case Flag():
                    barrier = self.barriers.setdefault((one.trigger, one.id), Barrier())
                    if barrier.set(one.flag, name, 0.0):
                        self.fire(one.trigger, barrier)

    def fire(self, name: str, barrier: Barrier) -> None:
        assert barrier.action is not None
        self.publish(name, len(self.published), barrier.action)

    # Time

    def step(self) -> bool:
        """Does one thing, of those that could be next; False when there is nothing to do."""
        due = [one for one in self.waiting if one[2] <= self.clock.seconds()]
        if self.tasks and (not due or self.random.random() < 0.7):
            process, task = self.tasks.pop(self.random.randrange(len(self.tasks)))
            try:
                task()
            except Crash:
                self.crash(process)
            return True
        if due:
            chosen = self.random.choice(due)
            self.waiting.remove(chosen)
            self.start(*chosen[:2])
            return True
        if self.waiting or any(one.running for some in self.processes.values() for one in some):
            if not self.tasks:
                # Jobs run, or time must pass.
                threading.Event().wait(0.002)
                self.clock.advance(0.05)
            return True
        return False

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Goes on until nothing is left to do, or `until` comes true."""
        end = time.monotonic() + DEADLINE
        with self.patched():
            while not until() and self.step():
                for failure in self.broken:
                    failure.raiseException()
                assert time.monotonic() < end, f"stuck: {self.waiting} {self.jobs()}"

    @contextmanager
    def patched(self) -> Iterator[None]:
        """What moves files may fail as well."""
        moved = self.counted("move", stageout.move)
        with patch.object(stageout, "move", moved), patch.object(jobcleanup, "move", moved):
            yield

    def replay(self) -> None:
        """Gives every message once more, as an operator could."""
        before, published = self.result(), set(self.published)
        for delivery in list(self.published.values()):
            for name, one in self.classes.items():
                if delivery.type in one.consumes():
                    self.waiting.append((name, delivery, 0.0))
        self.run()
        assert set(self.published) == published
        assert self.result() == before

    # Trouble

    def job_elsewhere(self, name: str) -> Callable[[], None]:
        """Takes a slot, as another instance's job would; what gives it back."""
        cwd = self.folder / name
        cwd.mkdir()
        batch = Local(self.config.batch.root, self.config.batch.slots)
        batch.submit("1", ["sleep", "1000"], cwd)
        return lambda: batch.cancel(cwd, "1")

    @contextmanager
    def without(self, path: Path) -> Iterator[None]:
        """The job store's file is gone for a while."""
        away = path.with_name(f"{path.name}.away")
        self.disconnect()
        path.rename(away)
        yield
        away.replace(path)
        self.disconnect()

    def disconnect(self) -> None:
        for processes in self.processes.values():
            for process in processes:
                assert isinstance(process.component, Agent)
                process.component.store.engine.dispose()

    # What came of it

    def jobs(self) -> list[Job]:
        return self.store.jobs(limit=1000)

    def job(self, name: str) -> Job:
        return next(job for job in self.jobs() if job.name == name)

    def whys(self, name: str) -> list[str]:
        return [change.why for change in self.store.history(self.job(name).id)]

    def ran(self) -> list[str]:
        """The attempts that the batch system ran, once for each time."""
        path = self.folder / "ran"
        return sorted(path.read_text().split()) if path.exists() else []

    def types(self) -> Counter[str]:
        return Counter(delivery.type for delivery in self.published.values())

    def ends(self) -> Counter[tuple[str, int]]:
        """JobSuccess and JobFailed by job."""
        ends = ("JobSuccess", "JobFailed")
        return Counter(
            (one.type, json.loads(one.payload)["job"])
            for one in self.published.values()
            if one.type in ends
        )

    def result(self) -> dict[str, Any]:
        """All that must be the same, whatever happened on the way."""
        jobs = {}
        for job in self.jobs():
            changes = self.store.history(job.id)
            for old, new in pairwise(changes):
                assert new.old == old.new
                assert new.new in TRANSITIONS[old.new]
            steps = [(one.new.value, one.who, one.why, one.attempt) for one in changes]
            made = [(f.lfn, f.size, f.events, f.runs) for f in self.store.job_outputs(job.id)]
            jobs[job.name] = (job.state, job.outcome, job.attempt, steps, made)
        folders = self.config.paths.sandbox.glob("*/*")
        logs = (self.config.paths.storage / "log").glob("*/*")
        return {
            "jobs": jobs,
            "workflows": [(one.name, one.state) for one in self.store.workflows()],
            "ran": self.ran(),
            "types": self.types(),
            "dead": self.dead,
            "folders": sorted(path.name for path in folders),
            "logs": sorted(path.name for path in logs),
            "barriers": {key: barrier.state for key, barrier in self.barriers.items()},
        }


def workflow(
    folder: Path,
    name: str = "w",
    *,
    jobs: int = 1,
    make: str = MAKE,
    retries: int = 2,
    **values: Any,
) -> Workflow:
    """make -> add: the first attempt of the first job fails."""
    ran = RAN % (folder / "ran")
    values = {"outputs": ["out.txt"], "retries": retries, "time_limit": 60.0, **values}
    return Workflow(
        name,
        [
            Task("make", ["sh", "-c", ran + make], None, Splitting("event", 10, jobs), **values),
            Task("add", ["sh", "-c", ran + ADD], "make", Splitting(), {}, ["all.txt"], True),
        ],
    )


def command(name: str, *argv: str, **values: Any) -> Workflow:
    """A workflow of one job."""
    values = {"retries": 1, "time_limit": 60.0, **values}
    return Workflow(name, [Task("make", argv, None, Splitting("event", 10, 1), **values)])


def store_error() -> StoreError:
    return StoreError("the database went away after the commit")


@contextmanager
def world(**values: Any) -> Iterator[World]:
    """A world in a folder of its own."""
    # In memory where there is such a folder: a sync costs nothing there.
    place = "/dev/shm" if Path("/dev/shm").is_dir() else None
    folder = Path(tempfile.mkdtemp(dir=place))
    try:
        one = World(folder / "w", **values)
        try:
            yield one
        finally:
            one.close()
    finally:
        shutil.rmtree(folder)


__all__ = ["Crash", "Faults", "JobState", "World", "command", "store_error", "workflow", "world"]
