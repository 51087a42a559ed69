"""What a workflow's data must be: read into the model, with everything that is wrong noted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from wmtwisted.wmbs.document import Document, Path
from wmtwisted.wmbs.model import (
    NAME,
    NAME_LENGTH,
    WORKFLOW_INPUT,
    SplitBy,
    Splitting,
    Task,
    Workflow,
)

PER_JOB = {
    SplitBy.FILE: "files-per-job",
    SplitBy.EVENT: "events-per-job",
    SplitBy.RUN: "runs-per-job",
    SplitBy.SIZE: "size-per-job",
}
WORKFLOW_KEYS = ("name", "parameters", "task")
TASK_KEYS = (
    "name",
    "command",
    "input",
    "splitting",
    "jobs",
    *PER_JOB.values(),
    "wait",
    "time-limit",
    "retries",
    "parameters",
    "outputs",
)

#: Files of this name in a job's folder are not the job's.
RESERVED = frozenset({"job.json", "report.json", "result.json", "lock", "stdout", "stderr"})

MAX_JOBS = 1_000_000
MAX_NUMBER = 2**53
_PLACEHOLDER = re.compile(r"\{[A-Za-z_]\w*\}")


class Checker:
    """Reads plain data into a Workflow and notes everything that is wrong with it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[tuple[str, str]] = list(document.problems)

    def problem(self, path: Path, what: str, near: str = "", names: Iterable[str] = ()) -> None:
        """Note what is wrong with the part at `path`; suggest the one of `names` like `near`."""
        close = get_close_matches(near, list(names), n=1) if near else []
        more = f"; did you mean {close[0]!r}?" if close else ""
        self.problems.append((self.document.where(path), what + more))

    def workflow(self) -> Workflow:
        """The workflow; it means something only when no problem was noted."""
        data = self.document.data
        self.keys((), data, WORKFLOW_KEYS, "the workflow")
        name = self.name((), data, "the workflow")
        parameters = self.parameters((), data)
        raw = data.get("task", [])
        if not isinstance(raw, list) or not raw:
            self.problem((), "the workflow has no task, expected at least one")
            raw = []
        tasks = [self.task(("task", at), one) for at, one in enumerate(raw)]
        self.relations(tasks)
        return Workflow(name, tuple(tasks), parameters)

    def keys(self, path: Path, data: Mapping[str, Any], known: Iterable[str], whose: str) -> None:
        known = list(known)
        for key in data:
            if key not in known:
                text = f"{whose} has no {key!r}, expected one of {', '.join(known)}"
                self.problem((*path, key), text, str(key), known)

    def name(self, path: Path, data: Mapping[str, Any], whose: str) -> str:
        name = data.get("name")
        if name is None:
            self.problem(path, f"{whose} needs a name")
        elif not isinstance(name, str) or not NAME.fullmatch(name) or len(name) > NAME_LENGTH:
            text = f"{whose} cannot be called {name!r}: expected up to {NAME_LENGTH} letters, "
            self.problem((*path, "name"), text + "digits, `_`, `-` or `.`, a letter or digit first")
        else:
            return name
        return "unnamed"

    def parameters(self, path: Path, data: Mapping[str, Any]) -> dict[str, str]:
        raw = data.get("parameters", {})
        path = (*path, "parameters")
        if not isinstance(raw, Mapping):
            self.problem(path, f"found {raw!r} as parameters, expected names with values")
            return {}
        read = {}
        for key, value in raw.items():
            if not isinstance(key, str) or not NAME.fullmatch(key):
                self.problem((*path, key), f"a parameter cannot be called {key!r}")
            elif isinstance(value, bool):
                read[key] = str(value).lower()
            elif isinstance(value, (str, int, float)):
                read[key] = str(value)
            else:
                self.problem((*path, key), f"parameter {key!r} is {value!r}, expected one value")
        return read

    def task(self, path: Path, data: Any) -> Task:
        if not isinstance(data, Mapping):
            self.problem(path, f"found {data!r}, expected a task")
            data = {"name": "unnamed", "command": ["true"], "jobs": 1, "events-per-job": 1}
        whose = f"task {data.get('name', 'without a name')!r}"
        self.keys(path, data, TASK_KEYS, whose)
        read_from = data.get("input")
        if read_from is not None and not isinstance(read_from, str):
            self.problem((*path, "input"), f"{whose} reads {read_from!r}, expected a task's name")
            read_from = None
        wait = data.get("wait")
        if wait not in (None, "complete"):
            text = f"{whose} waits for {wait!r}, expected 'complete' or nothing"
            self.problem((*path, "wait"), text, str(wait), ["complete"])
        return Task(
            name=self.name(path, data, whose),
            command=self.command(path, data, whose),
            input=read_from,
            splitting=self.splitting(path, data, whose),
            parameters=self.parameters(path, data),
            outputs=self.outputs(path, data, whose),
            wait=wait is not None,
            time_limit=self.seconds(path, data, whose),
            retries=self.number(path, data, whose, "retries", 3, 0, 1000),
        )

    def splitting(self, path: Path, data: Mapping[str, Any], whose: str) -> Splitting:
        generates = data.get("input") is None
        names = [str(one) for one in SplitBy]
        raw = data.get("splitting", "event" if generates else "file")
        if raw not in names:
            text = f"{whose} has splitting {raw!r}, expected one of {', '.join(names)}"
            self.problem((*path, "splitting"), text, str(raw), names)
            return Splitting()
        by = SplitBy(raw)
        for other in PER_JOB.keys() - {by}:
            if PER_JOB[other] in data:
                text = f"{whose} has {PER_JOB[other]!r}, which goes with splitting {str(other)!r}, "
                self.problem((*path, PER_JOB[other]), text + f"not with {raw!r}")
        key = PER_JOB[by]
        if generates:
            if by is not SplitBy.EVENT:
                text = f"{whose} reads nothing, so its splitting is 'event', not {raw!r}"
                self.problem((*path, "splitting"), text)
            jobs = self.number(path, data, whose, "jobs", None, 1, MAX_JOBS)
            return Splitting(by, self.number(path, data, whose, key, None, 1, MAX_NUMBER), jobs)
        if "jobs" in data:
            text = f"{whose} reads {data['input']!r}, so its splitting decides how many jobs it has"
            self.problem((*path, "jobs"), text)
        whole = by is SplitBy.FILE and data.get("wait") is not None
        default, least = (0, 0) if whole else (None, 1)
        return Splitting(by, self.number(path, data, whose, key, default, least, MAX_NUMBER))

    def number(
        self,
        path: Path,
        data: Mapping[str, Any],
        whose: str,
        key: str,
        default: int | None,
        least: int,
        most: int,
    ) -> int:
        """The integer under `key`; one without a default is needed."""
        raw = data.get(key, default)
        if raw is None:
            self.problem(path, f"{whose} needs {key!r}")
            return least
        if isinstance(raw, str) and re.fullmatch(r"\d{1,18}", raw, re.ASCII):
            raw = int(raw)
        if isinstance(raw, bool) or not isinstance(raw, int) or not least <= raw <= most:
            text = f"{whose} has {key!r} {raw!r}, expected a whole number from {least} to {most}"
            self.problem((*path, key), text)
            return least
        return raw

    def seconds(self, path: Path, data: Mapping[str, Any], whose: str) -> float:
        raw = data.get("time-limit", 3600.0)
        try:
            value = float(raw) if not isinstance(raw, bool) else 0.0
        except (TypeError, ValueError):
            value = 0.0
        if not 0 < value <= 10**8:
            text = f"{whose} has 'time-limit' {raw!r}, expected seconds, more than 0"
            self.problem((*path, "time-limit"), text)
            return 1.0
        return value

    def words(self, path: Path, data: Mapping[str, Any], key: str, whose: str) -> list[str]:
        raw = data.get(key, [])
        if not isinstance(raw, list) or not all(isinstance(one, str) for one in raw):
            self.problem((*path, key), f"{whose} has {key} {raw!r}, expected a list of texts")
            return []
        for at, one in enumerate(raw):
            if "\0" in one:
                self.problem((*path, key, at), f"{whose} has {key} with a NUL character")
        return raw

    def command(self, path: Path, data: Mapping[str, Any], whose: str) -> tuple[str, ...]:
        words = self.words(path, data, "command", whose)
        if "command" not in data or data["command"] == [] or (words and not words[0]):
            self.problem(path, f"{whose} has no command, expected a program and its arguments")
        for at, word in enumerate(words):
            for found in _PLACEHOLDER.findall(word):
                if found != "{python}":
                    text = f"{whose} has {found} in its command, expected no placeholder but "
                    self.problem((*path, "command", at), text + "{python}")
        return tuple(words)

    def outputs(self, path: Path, data: Mapping[str, Any], whose: str) -> tuple[str, ...]:
        names = self.words(path, data, "outputs", whose)
        for at, name in enumerate(names):
            if not NAME.fullmatch(name) or len(name) > NAME_LENGTH or name in RESERVED:
                text = f"{whose} cannot have an output called {name!r}: expected a file name that "
                self.problem((*path, "outputs", at), text + "is not one of the job's own")
            elif name in names[:at]:
                self.problem((*path, "outputs", at), f"{whose} has two outputs called {name!r}")
        return tuple(names)

    def relations(self, tasks: list[Task]) -> None:
        names = [task.name for task in tasks]
        by_name = dict(zip(names, tasks, strict=True))
        for at, task in enumerate(tasks):
            path: Path = ("task", at)
            if task.name == WORKFLOW_INPUT:
                text = f"a task cannot be called {WORKFLOW_INPUT!r}: it is the workflow's own input"
                self.problem((*path, "name"), text)
            if task.name in names[:at]:
                self.problem((*path, "name"), f"there are two tasks called {task.name!r}")
            if task.input is None or task.input == WORKFLOW_INPUT:
                continue
            if task.input not in by_name:
                text = f"task {task.name!r} reads {task.input!r}, which is neither a task nor "
                known = [*names, WORKFLOW_INPUT]
                self.problem((*path, "input"), text + repr(WORKFLOW_INPUT), task.input, known)
            elif not by_name[task.input].outputs:
                text = f"task {task.name!r} reads {task.input!r}, which has no outputs"
                self.problem((*path, "input"), text)
        if not self.problems:
            try:
                Workflow("circle", tuple(tasks)).in_order()
            except ValueError:
                self.problem(("task", 0), "the tasks read each other in a circle")
