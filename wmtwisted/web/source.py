"""What the page needs to know, as one protocol of plain data, and the shapes of that data.

Everything is JSON-able: text, numbers, None, lists and dicts with text keys. Times are seconds
since the epoch, durations are seconds. Counts may start from zero when the broker starts; the page
takes a count that went down for a restart. Extra keys are passed through to the page unharmed.
"""

from __future__ import annotations

from typing import Literal, NotRequired, Protocol, TypeAlias, TypedDict, TypeVar

from twisted.internet.defer import Deferred

T = TypeVar("T")

#: A value, or a Deferred of it when the answer takes a thread or a peer.
Answer: TypeAlias = T | Deferred[T]

#: What a job wrote while it ran.
Stream = Literal["stdout", "stderr"]


class FlowNode(TypedDict):
    """A box of the flow graph."""

    #: The name shown, unique among the nodes: a component's, a message source's, a trigger's.
    id: str
    #: `component`, `source` (from outside, e.g. a person), `sink` or `barrier` (a trigger).
    kind: str
    #: Whether the component handles messages on threads.
    threading: bool


#: An arrow of the flow graph. `type` is the message's, or "" for a flag; `from` and `to` are node
#: ids. `choice` says how it stands beside the other outputs of the same handler: `one of`, `all of`
#: or "". `synchronizer` is the trigger's name on an edge that begins or ends at one, else "".
FlowEdge = TypedDict(
    "FlowEdge", {"type": str, "from": str, "to": str, "choice": str, "synchronizer": str}
)


class Flow(TypedDict):
    """The flow graph; several edges may join the same two nodes."""

    nodes: list[FlowNode]
    edges: list[FlowEdge]


class BrokerRow(TypedDict):
    """The broker and its totals."""

    name: str
    pid: int
    #: When it started.
    started: float
    #: `full`, or `reduced` when a power cut could lose acknowledged messages.
    durability: str
    #: The kind of store, e.g. `sqlite`; never a URL with a password.
    store: str
    #: Messages accepted, copies delivered (redeliveries included), copies settled, commits made.
    published: int
    delivered: int
    settled: int
    commits: int


class ComponentRow(TypedDict):
    """A component's queue."""

    name: str
    connected: bool
    #: Ready, not yet delivered.
    waiting: int
    #: Delivered, not yet settled.
    leased: int
    #: Not yet due: retries and delayed messages.
    delayed: int
    #: Given up after the attempt limit.
    dead: int
    #: The age of the oldest waiting message in seconds; None when nothing waits.
    oldest: float | None
    #: Settled as done, and refused for another try.
    handled: int
    retried: int


class PublishedRow(TypedDict):
    """How many messages of a type one source published. A trigger publishes under its own name."""

    source: str
    type: str
    count: int


class ReceivedRow(TypedDict):
    """How many copies of a type one component was given and settled."""

    component: str
    type: str
    delivered: int
    settled: int


class TriggerRow(TypedDict):
    """How many barriers of one name wait for flags, and how many have opened."""

    name: str
    pending: int
    fired: int


class MessageRow(TypedDict):
    """A message that was published lately."""

    id: str
    type: str
    source: str
    time: float
    #: The components that receive it.
    destinations: list[str]


class Status(TypedDict):
    """The bus at this moment."""

    broker: BrokerRow
    components: list[ComponentRow]
    published: list[PublishedRow]
    received: list[ReceivedRow]
    triggers: list[TriggerRow]
    #: The last 50, oldest first.
    messages: list[MessageRow]


class TaskRow(TypedDict):
    """A task of a workflow and its jobs."""

    name: str
    #: The task it reads, `input`, or None when it reads nothing.
    input: str | None
    #: Whether all its jobs are made and ended.
    finished: bool
    #: Jobs by state, e.g. `{"executing": 2, "cleanout": 18}`; states without jobs may be left out.
    states: dict[str, int]
    #: Jobs by outcome (`success`, `exhausted`, `killed`), cleaned out or not.
    outcomes: dict[str, int]
    #: Attempts beyond the first, over all jobs.
    retries: int


class WorkflowRow(TypedDict):
    """A workflow, its tasks in the order of the workflow file."""

    name: str
    #: `running`, `done`, `failed` or `killed`; others are shown as they are.
    state: str
    created: float
    #: When it reached its last state; None while it runs.
    finished: float | None
    tasks: list[TaskRow]


class JobRow(TypedDict):
    """A job in the list."""

    id: int
    name: str
    workflow: str
    task: str
    state: str
    #: `success`, `exhausted` or `killed` once its work has ended, kept through `cleanout`.
    outcome: str | None
    #: 1 for the first.
    attempt: int
    #: Of the last attempt that ended; None before, or when it left none.
    exit_code: int | None
    #: The reason given for the last transition.
    why: str
    #: When the state last changed.
    changed: float


#: A change of a job's state: when, between which states (`from` is None when the job was made), by
#: which component or person, why, and in which attempt.
TransitionRow = TypedDict(
    "TransitionRow",
    {"time": float, "from": str | None, "to": str, "who": str, "why": str, "attempt": int},
)


class InputRow(TypedDict):
    """A file a job reads, and which part of it."""

    lfn: str
    #: Only these runs; None for all.
    runs: list[int] | None
    #: Rows from `first_event` on, `events` of them; None for all.
    first_event: int
    events: int | None


class OutputRow(TypedDict):
    """A file a job made."""

    lfn: str
    #: Bytes.
    size: int
    events: int


class JobDetail(JobRow):
    """A job with its whole story."""

    #: Oldest first.
    history: list[TransitionRow]
    inputs: NotRequired[list[InputRow]]
    outputs: NotRequired[list[OutputRow]]


class Spectrum(TypedDict):
    """A histogram, as the merge task writes it; `edges` (GeV) has one entry more than `counts`."""

    events: int
    edges: list[float]
    counts: list[int]
    underflow: int
    overflow: int
    jobs: NotRequired[int]
    files: NotRequired[int]
    #: False while it is a sum of what is there so far; absent means True.
    final: NotRequired[bool]


class Health(TypedDict):
    """Whether the broker makes progress, and if not, why."""

    ok: bool
    #: One line; "" when ok.
    reason: str


class Source(Protocol):
    """Where the page reads from. Nothing here changes anything.

    Each method may raise or fail with a WMError, whose text and hint are shown to the reader:
    NotFound becomes 404, every other one 503. Any other exception is logged and becomes a bare 500.
    Methods are called on the reactor's thread and may not block it.
    """

    def flow(self) -> Answer[Flow]:
        """The flow that this broker's components follow; asked once per page load."""

    def status(self) -> Answer[Status]:
        """The bus; asked about once a second, and only while somebody looks."""

    def workflows(self) -> Answer[list[WorkflowRow]]:
        """All workflows worth showing, newest first; asked about once a second as well."""

    def jobs(
        self, workflow: str | None, task: str | None, state: str | None, after: int, limit: int
    ) -> Answer[list[JobRow]]:
        """At most `limit` jobs with an id above `after`, by ascending id; None does not filter."""

    def job(self, job_id: int) -> Answer[JobDetail]:
        """One job with its history. Fails with NotFound."""

    def log(self, job_id: int, stream: Stream) -> Answer[str]:
        """The last attempt's output, "" when there is none yet. Fails with NotFound.

        At most the last 256 KiB: the page shows no more.
        """

    def spectrum(self, workflow: str) -> Answer[Spectrum | None]:
        """The workflow's merged spectrum; None when it has none (yet)."""

    def health(self) -> Answer[Health]:
        """Whether the broker makes progress. Must answer within two seconds, or counts as not."""
