"""What the page's server answers, over an in-memory connection and an explicit clock."""

from __future__ import annotations

import json
from typing import Any

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.web_source import Simulation
from wmtwisted.web.feed import LISTENERS, PATIENCE
from wmtwisted.web.guard import HEADERS, host_name, is_loopback
from wmtwisted.web.pages import HEALTH_TIMEOUT, LOG_MAX, TIMEOUT
from wmtwisted.web.site import make_site


@frozen
class Reply:
    """An answer, taken apart."""

    code: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Browser:
    """One connection to the page."""

    def __init__(self, site: Any) -> None:
        self.transport = StringTransport()
        self.protocol = site.buildProtocol(None)
        self.protocol.makeConnection(self.transport)

    def send(self, path: str, method: str = "GET", host: str = "localhost:80", **more: str) -> None:
        lines = [f"{method} {path} HTTP/1.1"]
        if host:
            lines.append(f"Host: {host}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
        self.protocol.dataReceived("\r\n".join([*lines, "", ""]).encode())

    def taken(self) -> bytes:
        """What came since the last look."""
        data: bytes = self.transport.value()
        self.transport.clear()
        return data

    def reply(self) -> Reply:
        head, _, body = self.taken().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        pairs = (line.partition(": ") for line in lines)
        headers = {name.lower(): value for name, _, value in pairs}
        if headers.get("transfer-encoding") == "chunked":
            body = chunks(body)
        return Reply(int(first.split()[1]), headers, body)

    def pause(self) -> None:
        """As the transport does when the browser does not read."""
        producer = self.transport.producer
        assert producer is not None
        producer.pauseProducing()

    def resume(self) -> None:
        producer = self.transport.producer
        assert producer is not None
        producer.resumeProducing()

    def close(self) -> None:
        self.protocol.connectionLost(Failure(ConnectionDone()))


def chunks(data: bytes) -> bytes:
    """The body of a chunked answer, or of a further part of one."""
    body = b""
    data = data.partition(b"\r\n\r\n")[2] if data.startswith(b"HTTP") else data
    while data:
        size, _, rest = data.partition(b"\r\n")
        body += rest[: int(size, 16)]
        data = rest[int(size, 16) + 2 :]
    return body


class PageTest(SynchronousTestCase):
    """A page over a simulated bus."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_790_000_000)
        self.world: Any = Simulation(self.clock.seconds)
        self.site = make_site(self.world, self.clock, hosts=["wm.example.org"])
        self.browsers: list[Browser] = []

    def tearDown(self) -> None:
        for browser in self.browsers:
            browser.close()
        assert [call for call in self.clock.getDelayedCalls() if call.active()] == []

    def browser(self) -> Browser:
        browser = Browser(self.site)
        self.browsers.append(browser)
        return browser

    def get(self, path: str, **more: str) -> Reply:
        browser = self.browser()
        browser.send(path, **more)
        return browser.reply()


class GuardTests(PageTest):
    """Who may ask, and for what."""

    def test_every_answer_has_the_security_headers(self) -> None:
        for path in ("/", "/api/status", "/nothing", "/static/main.js", "/api/jobs/x", "/health"):
            headers = self.get(path).headers
            for name, value in HEADERS.items():
                if name != "Cache-Control":
                    self.assertEqual(headers[name.lower()], value, path)

    def test_the_policy_allows_no_inline_script_and_no_other_origin(self) -> None:
        policy = self.get("/").headers["content-security-policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertIn("script-src 'self'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("http", policy)

    def test_loopback_names_are_served(self) -> None:
        for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:1", "127.8.0.1", "[::1]:80"):
            self.assertEqual(self.get("/health", host=host).code, 200, host)

    def test_a_configured_name_is_served(self) -> None:
        self.assertEqual(self.get("/health", host="wm.example.org:8443").code, 200)

    def test_other_names_are_refused(self) -> None:
        for host in (
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "[",
            ":",
            "a:b",
        ):
            reply = self.get("/api/status", host=host)
            self.assertEqual(reply.code, 403, host)
            self.assertNotIn(b"wm@testbed", reply.body)

    def test_without_a_host_nothing_is_served(self) -> None:
        self.assertEqual(self.get("/", host="").code, 400)

    def test_nothing_can_be_sent(self) -> None:
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
            reply = self.get("/api/jobs", method=method)
            self.assertEqual((reply.code, reply.headers["allow"]), (405, "GET, HEAD"), method)

    def test_a_body_is_refused_before_it_is_read(self) -> None:
        for more in ({"Content_Length": "300000000"}, {"Transfer_Encoding": "chunked"}):
            browser = self.browser()
            browser.send("/api/jobs", method="POST", **more)
            browser.protocol.dataReceived(b"x" * 100_000)
            self.assertTrue(browser.taken().startswith(b"HTTP/1.1 413 "))
            self.assertTrue(browser.transport.disconnecting)

    def test_another_site_may_not_read_the_data(self) -> None:
        self.assertEqual(self.get("/api/status", Sec_Fetch_Site="cross-site").code, 403)
        self.assertEqual(self.get("/api/status", Sec_Fetch_Site="same-origin").code, 200)
        self.assertEqual(self.get("/", Sec_Fetch_Site="cross-site").code, 200)

    @given(st.text(max_size=40))
    def test_no_host_header_makes_an_exception(self, value: str) -> None:
        name = host_name(value)
        self.assertFalse(is_loopback(name) and "evil" in value)


class FileTests(PageTest):
    """The page's own files."""

    def test_the_page_and_its_parts_have_their_types(self) -> None:
        for path, kind in (
            ("/", "text/html; charset=utf-8"),
            ("/static/main.js", "text/javascript; charset=utf-8"),
            ("/static/base.css", "text/css; charset=utf-8"),
            ("/static/vendor/dagre.js", "text/javascript; charset=utf-8"),
            ("/static/vendor/uplot.LICENSE.txt", "text/plain; charset=utf-8"),
            ("/static/vendor/inter.woff2", "font/woff2"),
            ("/static/icon.svg", "image/svg+xml"),
        ):
            reply = self.get(path)
            self.assertEqual((reply.code, reply.headers["content-type"]), (200, kind), path)
            self.assertGreater(len(reply.body), 200)

    def test_an_unchanged_file_is_not_sent_twice(self) -> None:
        etag = self.get("/static/main.js").headers["etag"]
        again = self.get("/static/main.js", If_None_Match=etag)
        self.assertEqual((again.code, again.body), (304, b""))

    def test_no_path_leads_out_of_the_folder(self) -> None:
        for path in (
            "/static/../pages.py",
            "/static/%2e%2e/pages.py",
            "/static/..%2fpages.py",
            "/static//etc/passwd",
            "/static/",
            "/static/vendor",
        ):
            self.assertIn(self.get(path).code, (301, 308, 404), path)

    def test_head_has_no_body(self) -> None:
        reply = self.get("/", method="HEAD")
        self.assertEqual((reply.code, reply.body), (200, b""))

    def test_nothing_in_the_page_names_another_server(self) -> None:
        for path in ("/", "/static/base.css", "/static/panels.css", "/static/flow.css"):
            self.assertNotIn(b"//", self.get(path).body.replace(b"http://www.w3.org/2000/svg", b""))


class DataTests(PageTest):
    """The JSON under /api."""

    def setUp(self) -> None:
        super().setUp()
        self.world.submit("dimuon-1", 6)
        for _ in range(30):
            self.clock.advance(1)
            self.world.step()

    def test_the_flow_has_every_component(self) -> None:
        names = {node["id"] for node in self.get("/api/flow").json()["nodes"]}
        self.assertLessEqual({"JobCreator", "JobPostProcess", "JobCleanup"}, names)

    def test_status_and_workflows(self) -> None:
        self.assertEqual(self.get("/api/status").json()["broker"]["name"], "wm@testbed")
        (workflow,) = self.get("/api/workflows").json()
        self.assertEqual(
            [task["name"] for task in workflow["tasks"]], ["generate", "select", "merge"]
        )

    def test_jobs_come_in_pages(self) -> None:
        seen: list[int] = []
        after: int | None = 0
        while after is not None:
            page = self.get(f"/api/jobs?limit=5&after={after}").json()
            self.assertLessEqual(len(page["jobs"]), 5)
            seen += [job["id"] for job in page["jobs"]]
            after = page["next"]
        self.assertEqual(seen, list(range(1, 14)))

    def test_jobs_are_filtered(self) -> None:
        page = self.get("/api/jobs?workflow=dimuon-1&task=merge&state=").json()
        self.assertEqual([job["task"] for job in page["jobs"]], ["merge"])
        self.assertEqual(self.get("/api/jobs?workflow=none").json(), {"jobs": [], "next": None})

    def test_a_bad_query_says_what_was_expected(self) -> None:
        for query in (
            "limit=0",
            "limit=501",
            "limit=x",
            "after=-1",
            "after=" + "9" * 30,
            "limit=1_0",
        ):
            reply = self.get(f"/api/jobs?{query}")
            self.assertEqual(reply.code, 400, query)
            self.assertIn("a number from", reply.json()["error"]["hint"])
        self.assertEqual(self.get("/api/jobs?task=a&task=b").code, 400)
        self.assertEqual(self.get("/api/jobs?task=%ff").code, 400)
        self.assertEqual(self.get("/api/jobs?task=" + "a" * 501).code, 400)
        self.assertEqual(self.get("/api/spectrum").code, 400)

    def test_a_job_has_its_history(self) -> None:
        job = self.get("/api/jobs/1").json()
        self.assertEqual([job["history"][0][key] for key in ("from", "to")], [None, "new"])
        self.assertEqual(job["history"][-1]["to"], job["state"])

    def test_what_is_not_there_is_404(self) -> None:
        for path in (
            "/api/jobs/999",
            "/api/jobs/x",
            "/api/jobs/0",
            "/api/jobs/-1",
            "/api/jobs/" + "9" * 40,
            "/api/jobs/1/log/passwd",
            "/api/spectrum?workflow=none",
            "/api/nothing",
            "/nothing",
        ):
            reply = self.get(path)
            self.assertEqual(reply.code, 404, path)
            self.assertEqual(reply.json()["error"]["code"], "not-found")

    def test_the_log_is_plain_text(self) -> None:
        reply = self.get("/api/jobs/1/log/stdout")
        self.assertEqual(reply.headers["content-type"], "text/plain; charset=utf-8")
        self.assertIn(b"<1> & done", reply.body)

    def test_only_the_end_of_a_long_log_is_sent(self) -> None:
        self.world.log = lambda job_id, stream: "a" * LOG_MAX + "\ud800end"
        reply = self.get("/api/jobs/1/log/stderr")
        self.assertEqual(len(reply.body), LOG_MAX)
        self.assertTrue(reply.body.endswith(b"a?end"))

    def test_the_spectrum(self) -> None:
        spectrum = self.get("/api/spectrum?workflow=dimuon-1").json()
        self.assertEqual(len(spectrum["edges"]), len(spectrum["counts"]) + 1)

    def test_a_store_that_fails_is_503_with_its_reason(self) -> None:
        self.world.broken = "the job store is away"
        reply = self.get("/api/jobs")
        self.assertEqual(
            (reply.code, reply.json()["error"]["message"]), (503, "the job store is away")
        )
        health = self.get("/health")
        self.assertEqual((health.code, health.json()["reason"]), (503, "the job store is away"))

    def test_a_bug_is_logged_and_says_nothing_of_itself(self) -> None:
        self.world.status = lambda: 1 / 0
        reply = self.get("/api/status")
        self.assertEqual(reply.code, 500)
        self.assertNotIn(b"division", reply.body)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_no_question_stays_open(self) -> None:
        self.world.status = Deferred
        browser = self.browser()
        browser.send("/api/status")
        self.clock.advance(TIMEOUT - 0.1)
        self.assertEqual(browser.taken(), b"")
        self.clock.advance(0.1)
        self.assertEqual(browser.reply().code, 504)

    def test_a_broker_that_does_not_answer_is_not_healthy(self) -> None:
        self.world.health = Deferred
        browser = self.browser()
        browser.send("/health")
        self.clock.advance(HEALTH_TIMEOUT)
        reply = browser.reply()
        self.assertEqual((reply.code, reply.json()["ok"]), (503, False))

    def test_a_browser_that_leaves_while_it_waits_does_no_harm(self) -> None:
        answer: Deferred[Any] = Deferred()
        self.world.status = lambda: answer
        browser = self.browser()
        browser.send("/api/status")
        browser.close()
        self.browsers.remove(browser)
        self.assertEqual(self.flushLoggedErrors(), [])


def events(data: bytes) -> list[tuple[str, str, Any]]:
    """The server-sent events in `data`: (id, topic, value), beats left out."""
    found = []
    for block in data.decode().split("\n\n"):
        fields = dict(line.partition(": ")[::2] for line in block.split("\n") if ": " in line)
        if "data" in fields and fields.get("data"):
            found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
    return found


class FeedTests(PageTest):
    """The stream of news."""

    def watch(self, **more: str) -> Browser:
        browser = self.browser()
        browser.send("/api/events", **more)
        return browser

    def topics(self, browser: Browser) -> list[str]:
        return [topic for _, topic, _ in events(chunks(browser.taken()))]

    def test_a_browser_gets_everything_at_once_and_then_what_changes(self) -> None:
        browser = self.watch()
        data = chunks(browser.taken())
        self.assertTrue(data.startswith(b"retry: "))
        self.assertEqual(
            {topic for _, topic, _ in events(data)}, {"status", "workflows", "trouble"}
        )
        self.clock.advance(1)
        self.assertEqual(chunks(browser.taken()), b"event: beat\ndata:\n\n")
        self.world.submit("dimuon-1", 2)
        self.clock.advance(1)
        self.assertEqual(set(self.topics(browser)), {"status", "workflows"})

    def test_the_source_is_asked_once_for_all_and_not_at_all_for_nobody(self) -> None:
        asked: list[int] = []
        status = self.world.status

        def count() -> Any:
            asked.append(1)
            return status()

        self.world.status = count
        browsers = [self.watch() for _ in range(3)]
        self.assertEqual(len(asked), 1)
        self.clock.advance(1)
        self.assertEqual(len(asked), 2)
        for browser in browsers:
            browser.close()
            self.browsers.remove(browser)
        self.clock.pump([1] * 5)
        self.assertEqual(len(asked), 2)

    def test_a_browser_that_comes_back_gets_only_what_it_missed(self) -> None:
        stays = self.watch()
        last = events(chunks(stays.taken()))[-1][0]
        comes = self.watch(Last_Event_ID=last)
        self.assertEqual(self.topics(comes), [])
        self.world.submit("dimuon-1", 2)
        self.clock.advance(1)
        self.assertEqual(set(self.topics(self.watch(Last_Event_ID=last))), {"status", "workflows"})

    def test_numbers_of_another_feed_are_not_believed(self) -> None:
        for value in ("other-99", "-1", "99", "x-y", "", "\u0661"):
            browser = self.watch(Last_Event_ID=value)
            self.assertIn("status", self.topics(browser), value)

    def test_a_stalled_browser_is_kept_at_nothing_and_then_gets_the_newest(self) -> None:
        browser = self.watch()
        browser.taken()
        browser.pause()
        for number in range(20):
            self.world.submit(f"dimuon-{number}", 1)
            self.clock.advance(1)
        self.assertEqual(browser.taken(), b"")
        browser.resume()
        found = events(chunks(browser.taken()))
        self.assertEqual(sorted(topic for _, topic, _ in found), ["status", "workflows"])
        (rows,) = [value for _, topic, value in found if topic == "workflows"]
        self.assertEqual(rows[0]["name"], "dimuon-19")

    def test_trouble_is_told_and_taken_back(self) -> None:
        browser = self.watch()
        browser.taken()
        self.world.broken = "the store is away"
        self.clock.advance(1)
        (_, topic, lines), *_ = events(chunks(browser.taken()))[-1:]
        self.assertEqual((topic, lines), ("trouble", ["the store is away"]))
        self.assertEqual(len(self.flushLoggedErrors()), 2)
        self.clock.pump([1] * 3)
        self.assertEqual(self.flushLoggedErrors(), [])
        browser.taken()
        self.world.broken = ""
        self.clock.advance(1)
        self.assertEqual(events(chunks(browser.taken()))[-1][1:], ("trouble", []))

    def test_one_bad_answer_does_not_end_the_feed(self) -> None:
        status = self.world.status
        self.world.status = lambda: {"x": float("nan")}
        browser = self.watch()
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.world.status = status
        browser.taken()
        self.clock.advance(1)
        self.assertIn("status", self.topics(browser))

    def test_an_unanswered_question_is_not_asked_again_and_is_told(self) -> None:
        asked: list[Deferred[Any]] = []

        def ask() -> Deferred[Any]:
            asked.append(Deferred())
            return asked[-1]

        self.world.status = ask
        browser = self.watch()
        browser.taken()
        self.clock.pump([1] * int(PATIENCE + 3))
        self.assertEqual(len(asked), 1)
        found = [value for _, topic, value in events(chunks(browser.taken())) if topic == "trouble"]
        self.assertEqual(found, [["no answer about the status for 5 s"]])
        asked[0].callback({})
        self.assertEqual(set(self.topics(browser)), {"status", "trouble"})

    def test_one_browser_too_many_is_turned_away(self) -> None:
        for _ in range(LISTENERS):
            self.watch()
        self.assertEqual(self.watch().reply().code, 503)

    def test_head_does_not_stream(self) -> None:
        self.assertEqual(self.get("/api/events", method="HEAD").code, 200)
