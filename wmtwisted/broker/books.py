"""What the writer's thread knows by heart: what must be exact, as of the last commit."""

from __future__ import annotations

from attrs import define, field

from wmtwisted.broker.routing import Router
from wmtwisted.store.messages import MessageStore, Range
from wmtwisted.store.tables import Tables
from wmtwisted.wire import MAX_PAYLOAD


@define
class Component:
    """A component's numbers."""

    id: int
    name: str
    #: The next sequence number of each lane.
    next: list[int]
    #: Rows below it have left `buffer_in` for the queue table, by lane.
    moved: list[int]
    #: What `next` was at the last flush: older rows move at the next one.
    mark: list[int]


@define
class Origin:
    """Who publishes, by id."""

    id: int
    #: The highest number stored; a higher one is new without a look.
    highest: int


@define
class Books:
    """Who is interested, the next numbers of all that is counted, and what is not yet flushed."""

    tables: Tables
    store: MessageStore
    router: Router = field(factory=Router)
    components: dict[str, Component] = field(factory=dict)
    origins: dict[str, Origin] = field(factory=dict)
    next_message: int = 1
    #: What tells this store's ids from those of another one, made with it.
    tag: str = ""
    #: The longest payload that the store takes, in bytes.
    max_payload: int = MAX_PAYLOAD
    #: Settled since the last flush.
    unflushed: list[Range] = field(factory=list)
    #: Rows written since the last flush.
    rows: int = 0

    def origin(self, name: str) -> str:
        """The origin of what a component's handlers return, or of what a trigger publishes.

        Programs have `name~boot`, and a boot has no dash. So a store that is made anew beside an
        old job store, say, repeats no id.
        """
        return f"{name}~{self.tag}"
