"""Who can ever receive anything: the components that messages from the sources lead to."""

from __future__ import annotations

from collections import defaultdict

from wmtwisted.flow.expression import names
from wmtwisted.flow.model import Flow, Handler


def reachable(flow: Flow) -> frozenset[str]:
    """The components that handle something which the sources set in motion.

    A synchronizer opens when every component that it waits for can set its flag.
    """
    waiting: dict[str, list[Handler]] = defaultdict(list)
    for handler in flow.handlers:
        waiting[handler.message_in].append(handler)
    missing = {each.name: set(flow.flags(each.name)) for each in flow.synchronizers}
    actions = {each.name: each.message for each in flow.synchronizers if each.message}
    todo = [name for source in flow.sources for name in names(source.message_out)]
    seen = set(todo)
    reached: set[str] = set()
    while todo:
        for handler in waiting[todo.pop()]:
            reached.add(handler.component)
            new = set(names(handler.message_out))
            for name in handler.completes:
                missing.get(name, set()).discard(handler.component)
                if name in actions and not missing[name]:
                    new.add(actions[name])
            todo += sorted(new - seen)
            seen |= new
    return frozenset(reached)
