"""Flow files: what they say is what is read, and every mistake is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

from tests.flows import flows, unhurried
from wmtwisted.errors import SpecError
from wmtwisted.flow.duration import parse_duration, print_duration
from wmtwisted.flow.expression import parse
from wmtwisted.flow.model import Flow, Handler, Plugin, Sink, Source, Synchronizer
from wmtwisted.flow.place import FlowError, Place
from wmtwisted.flow.spec import MOST_PROBLEMS, print_flow, read_flow

#: As copied from the slides, with the blanks behind the backslashes.
SLIDES = """
synchronizer = {'ID' : 'JobPostProcess',\\  
  'action' : 'PA.Core.Trigger.PrepareCleanup'}

handler = {'messageIn' : 'SubmitJob',\\  
  'messageOut' : 'TrackJob|JobSubmitFailed',\\  
  'component' : 'JobSubmitter',\\  
  'threading' : 'yes',\\  
  'createSynchronizer' : 'JobPostProcess'}

handler = {'messageIn' : 'CreateJob', \\  
          'messageOut' : "", \\  
          'threading' : 'yes', \\
          'configurable': 'yes', \\
          'component' : 'JobCreator'}

handler = {'messageIn' : 'JobCreator:SetCreator', \\
          'messageOut' : "", \\
          'component' : 'JobCreator'}
"""  # noqa: W291 (the blanks are the point)


def mistakes(text: str) -> list[str]:
    """The lines of all problems in a text."""
    with pytest.raises(FlowError) as caught:
        read_flow(text, "f")
    return [str(problem) for problem in caught.value.problems]


def test_the_slides_sample_is_read() -> None:
    flow = read_flow(SLIDES)
    assert flow == Flow(
        handlers=(
            Handler(
                component="JobSubmitter",
                message_in="SubmitJob",
                message_out=parse("TrackJob|JobSubmitFailed"),
                threading=True,
                creates=("JobPostProcess",),
            ),
            Handler(
                component="JobCreator", message_in="CreateJob", threading=True, configurable=True
            ),
            Handler(component="JobCreator", message_in="JobCreator:SetCreator"),
        ),
        synchronizers=(
            Synchronizer(name="JobPostProcess", action="PA.Core.Trigger.PrepareCleanup"),
        ),
    )
    assert flow.synchronizers[0].message == ""


def test_every_key_is_read() -> None:
    flow = read_flow(
        """
        source = {'ID': 'User', 'messageOut': 'New'}
        """.strip()
        + """
handler = {'component': 'A', 'messageIn': 'New', 'messageOut': 'B,(C|())', 'synchronize': 'S, T',
           'jobType': 'Merge', 'delay': '1.5m', 'retry': '10', 'timeout': '2h',
           'threading': 'no'}
synchronizer = {'ID': 'S', 'action': 'Clean', 'timeout': '1d'}
plugin = {'component': 'A', 'handler': 'New', 'plugins': 'Condor,GLite'}
sink = {'ID': 'Mail', 'messageIn': 'B, C'}
"""
    )
    assert flow.sources == (Source(name="User", message_out=parse("New")),)
    assert flow.handlers == (
        Handler(
            component="A",
            message_in="New",
            message_out=parse("B,(C|())"),
            completes=("S", "T"),
            job_types=("Merge",),
            delay=90.0,
            retry=10,
            timeout=7200.0,
        ),
    )
    assert flow.synchronizers == (Synchronizer(name="S", action="Clean", timeout=86400.0),)
    assert flow.plugins == (Plugin(component="A", handler="New", plugins=("Condor", "GLite")),)
    assert flow.sinks == (Sink(name="Mail", messages_in=("B", "C")),)


@unhurried
@given(flows)
def test_parse_of_print_is_identity(flow: Flow) -> None:
    text = print_flow(flow)
    assert read_flow(text) == flow
    assert print_flow(read_flow(text)) == text


def test_places_are_where_the_values_stand() -> None:
    text = "# ü\r\nhandler = {'component': 'A',\r           'messageIn': 'B'}\n"
    handler = read_flow(text, "x.flow").handlers[0]
    assert handler.place() == Place("x.flow", 2, 11)
    assert handler.place("component") == Place("x.flow", 2, 25)
    assert handler.place("messageIn") == Place("x.flow", 3, 25)
    assert handler.place("messageOut") == handler.place()


def test_columns_count_characters_not_bytes() -> None:
    assert mistakes("handler = {'component': 'é', 'messageIn': 'ß'}") == [
        "f:1:25: component: found '\\xe9', expected a name (a letter, then letters, digits or _, "
        "40 at most)",
        "f:1:43: messageIn: found '\\xdf', expected one message name (a letter, then letters, "
        "digits or _, such names joined by : or /, 128 at most)",
    ]


def test_all_mistakes_are_named_in_order_with_the_nearest_name() -> None:
    text = """handlr = {'component': 'A'}
handler = {'messagIn': 'B', 'component': 'A', 'component': 'C'}
handler = {'component': 'A', 'messageIn': 'B', 'threading': 'Yes', 'retry': '-1'}
sink = {'ID': 'S', 'messageIn': ''}
handler = {'component': 'A', 'messageIn': 'B', 'messageOut': 'C|D,E', 'delay': 'soon'}
handler = {'component': A, **more}
handler = ['component']
print('hello')
"""
    found = mistakes(text)
    assert [line.split(": ", 1)[0] for line in found] == [
        "f:1:1",
        "f:2:11",
        "f:2:12",
        "f:2:47",
        "f:3:61",
        "f:3:77",
        "f:4:33",
        "f:5:66",
        "f:5:80",
        "f:6:25",
        "f:6:30",
        "f:7:11",
        "f:8:1",
    ]
    assert found[0] == (
        "f:1:1: found 'handlr', expected synchronizer, source, handler, plugin or sink; "
        "did you mean 'handler'?"
    )
    assert found[1] == "f:2:11: found no key 'messageIn', expected it in every handler"
    assert found[2].startswith("f:2:12: found the key 'messagIn', expected component, messageIn,")
    assert found[2].endswith(" or timeout; did you mean 'messageIn'?")
    assert found[3] == "f:2:47: found the key 'component' a second time, expected it once"
    assert found[4] == (
        "f:3:61: threading: found 'Yes', expected 'yes' or 'no'; did you mean 'yes'?"
    )
    assert "f:5:66: messageOut: found ',' after '|', expected parentheses" in found[7]
    assert found[9] == "f:6:25: found the name 'A', expected a value in quotes"
    assert found[11] == "f:7:11: found a list, expected {'KEY': 'VALUE', ...}"
    assert found[12] == "f:8:1: found a call, expected KIND = {'KEY': 'VALUE', ...}"


def test_the_error_is_one_line_and_a_hint() -> None:
    with pytest.raises(SpecError) as caught:
        read_flow("a = {}\nb = {}\n", "f")
    error = caught.value
    assert error.code == "spec"
    assert str(error).startswith("f:1:1: found 'a', expected ")
    assert error.hint.startswith("1 more: f:2:1: found 'b', expected ")
    assert "\n" not in str(error) + error.hint


def test_a_file_of_mistakes_ends() -> None:
    assert MOST_PROBLEMS <= len(mistakes("a = {}\n" * 5000)) < 2 * MOST_PROBLEMS


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "some.flow"
    path.write_bytes(b"\xef\xbb\xbf# byte order mark\r\nsink = {'ID': 'A', 'messageIn': 'B'}")
    flow = read_flow(path)
    assert flow.sinks == (Sink(name="A", messages_in=("B",)),)
    assert flow.file == str(path)
    assert flow.sinks[0].place() == Place(str(path), 2, 8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, ":1:1: found no readable file (No such file or directory), expected a flow file"),
        (b"# \n\n  \xff", ":3:3: found byte 0xff, expected UTF-8"),
        (b"#" * 5_000_000, ":1:1: found more than 300,000 bytes, expected 300,000 at most"),
    ],
)
def test_a_file_that_cannot_be_read(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.flow"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_flow(path)
    assert str(caught.value) == f"{path}{message}"


def test_what_is_no_file_at_all(tmp_path: Path) -> None:
    for path, message in ((tmp_path, "found what is no file"), (Path("a\0b"), "found no path")):
        with pytest.raises(SpecError, match=message) as caught:
            read_flow(path)
        assert "\0" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        ("1.5s", 1.5),
        ("250ms", 0.25),
        ("10m", 600),
        ("2h", 7200),
        ("1d", 86400),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(print_duration(seconds)) == seconds


@pytest.mark.parametrize(
    "text", ["", "-1", "1e3", "nan", "inf", "1 s", "s", "1w", "9999d", "\u0661"]
)
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None
