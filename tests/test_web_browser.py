"""The page in a real Chromium, over a simulated bus in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import IO

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


class Server:
    """The page's process; `tell` moves its world."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.web_server", *arguments],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.url = self._pipes()[1].readline().strip()
        assert self.url.startswith("http://127.0.0.1:"), "the test's server did not start"

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout

    def tell(self, command: str) -> None:
        requests, answers = self._pipes()
        requests.write(command + "\n")
        assert answers.readline().strip() == "ok", command

    def stop(self) -> None:
        for pipe in self._pipes():
            pipe.close()
        self.process.wait(10)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.fail(f"{CHROMIUM} is missing, and the page is only proven in it: install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    if one.process.poll() is None:
        one.stop()


@pytest.fixture
def complaints() -> list[str]:
    """Console errors, exceptions and foreign requests; one that stays in it fails the test."""
    return []


@pytest.fixture
def page(chromium: Browser, server: Server, complaints: list[str]) -> Iterator[Page]:
    """The page on a wide screen, with a workflow that has begun."""
    context = chromium.new_context(viewport={"width": 1920, "height": 1080})
    tab = context.new_page()

    def foreign(request: Request) -> None:
        if not request.url.startswith(server.url):
            complaints.append(request.url)

    tab.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("request", foreign)
    server.tell("submit dimuon-1 6")
    server.tell("step 12")
    tab.goto(server.url)
    expect(tab.locator("#link")).to_have_text("live")
    yield tab
    context.close()
    assert complaints == []


def test_the_flow_is_drawn_with_its_counts(page: Page, server: Server) -> None:
    nodes = page.locator("#flow .node")
    expect(nodes).to_have_count(9)
    creator = page.locator('#flow [data-node="JobCreator"]')
    expect(creator).to_have_attribute("aria-label", re.compile("JobCreator, connected: .* done"))
    expect(page.locator('#flow [data-node="JobPostProcess"]')).to_contain_text("opened")
    expect(page.locator("#flow .edge .type", has_text="SubmitJob").first).to_be_visible()
    before = creator.get_attribute("aria-label")
    assert before is not None
    server.tell("step 6")
    expect(creator).not_to_have_attribute("aria-label", before)


def test_nothing_in_the_flow_overlaps(page: Page) -> None:
    boxes = page.locator("#flow .node .box")
    expect(boxes).to_have_count(9)
    room = page.locator("#flow").bounding_box()
    assert room is not None
    places = []
    for index in range(9):
        box = boxes.nth(index).bounding_box()
        assert box is not None
        left, top = box["x"], box["y"]
        right, bottom = left + box["width"], top + box["height"]
        assert left >= room["x"]
        assert right <= room["x"] + room["width"]
        places.append((left, top, right, bottom))
    for (left, top, right, bottom), (left2, top2, right2, bottom2) in combinations(places, 2):
        assert right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top


def test_a_message_moves_along_its_arrow(page: Page, server: Server) -> None:
    expect(page.locator("#flow .node")).to_have_count(9)
    server.tell("step 2")
    expect(page.locator("#flow .edge .dot").first).to_be_attached()
    expect(page.locator("#flow .edge.busy").first).to_be_attached()


def test_queues_show_who_is_away_and_what_died(page: Page, server: Server) -> None:
    row = page.locator('#queues [data-component="DBS"]')
    expect(row).not_to_have_class(re.compile("away"))
    server.tell("away DBS")
    server.tell("dead DBS 2")
    expect(row).to_have_class(re.compile("away"))
    expect(row.locator("td").nth(4)).to_have_text("2")
    expect(page.locator('#flow [data-node="DBS"]')).to_have_class(re.compile("away"))
    expect(page.locator('[data-figure="dead"]')).to_have_text("2")
    server.tell("back DBS")
    expect(row).not_to_have_class(re.compile("away"))


def test_a_workflow_runs_to_its_end_before_ones_eyes(page: Page, server: Server) -> None:
    workflow = page.locator('[data-workflow="dimuon-1"]')
    expect(workflow.locator("h3 .chip")).to_have_text("running")
    expect(workflow.locator('[data-task="generate"] .bar button').first).to_be_visible()
    server.tell("step 300")
    expect(workflow.locator("h3 .chip")).to_have_text(re.compile("done|failed"))
    expect(workflow.locator('[data-task="merge"] .tally')).to_contain_text("1 of 1")
    server.tell("submit dimuon-2 2")
    expect(page.locator("#workflows h3").first).to_contain_text("dimuon-2")


def test_the_spectrum_is_plotted(page: Page, server: Server) -> None:
    server.tell("step 300")
    server.tell("submit dimuon-2 2")
    expect(page.locator("#spectrum")).to_contain_text("Nothing is merged yet")
    page.get_by_role("button", name="dimuon-1", exact=True).click()
    expect(page.locator("#spectrum canvas")).to_be_visible()
    expect(page.locator("#spectrum")).to_have_attribute("data-final", "true")
    expect(page.locator("#spectrum-note")).to_contain_text(re.compile("peak 90.91 GeV"))
    middle = page.locator("#spectrum .u-over")
    middle.hover()
    expect(page.locator("#spectrum-note")).to_contain_text("± ")


def test_a_bar_leads_to_its_jobs_and_a_job_to_its_story(page: Page, server: Server) -> None:
    server.tell("step 300")
    bar = page.locator('[data-task="generate"] .bar .g-done')
    expect(bar).to_have_attribute("aria-label", re.compile("done"))
    expect(page.locator('[data-workflow="dimuon-1"] h3 .chip')).not_to_have_text("running")
    bar.click()
    expect(page.locator('[data-filter="task"]')).to_have_value("generate")
    rows = page.locator("#jobs tbody tr")
    expect(rows).to_have_count(6)
    page.get_by_role("link", name="dimuon-1-generate-2", exact=True).click()
    drawer = page.locator("#job")
    expect(drawer).to_be_visible()
    expect(page).to_have_url(re.compile("#job=2$"))
    expect(drawer.locator(".history li").first).to_contain_text("split")
    expect(drawer.locator(".history li").last).to_contain_text("cleanout")
    expect(drawer.locator("pre")).to_contain_text("<2> & done")
    drawer.get_by_role("tab", name="stderr").click()
    expect(drawer.locator("pre")).to_have_text("Nothing on stderr.")
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    assert "#job" not in page.url


def test_an_address_opens_a_job(page: Page, server: Server) -> None:
    page.goto(f"{server.url}#job=3")
    expect(page.locator("#job h2")).to_have_text("dimuon-1-generate-3")


def test_an_unknown_job_says_so(page: Page, server: Server, complaints: list[str]) -> None:
    page.goto(f"{server.url}#job=999")
    expect(page.locator("#job .facts")).to_contain_text("there is no job 999")
    assert all("404" in line for line in complaints)
    complaints.clear()


def test_jobs_are_filtered_by_state(page: Page, server: Server) -> None:
    server.tell("step 300")
    page.locator('[data-filter="state"]').select_option("killed")
    expect(page.locator("#jobs .empty")).to_have_text("No such job.")
    page.locator('[data-filter="state"]').select_option("cleanout")
    expect(page.locator("#jobs tbody tr")).to_have_count(13)


def test_the_messages_tab_is_reached_by_keyboard(page: Page) -> None:
    page.locator("#tab-jobs").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#messages")).to_be_visible()
    expect(page.locator("#jobs")).to_be_hidden()
    expect(page.locator("#messages li").first).to_contain_text("→")


def test_trouble_is_shown_until_it_is_over(page: Page, server: Server) -> None:
    expect(page.locator("#trouble")).to_be_hidden()
    server.tell("break the bus store is away")
    expect(page.locator("#trouble")).to_contain_text("the bus store is away")
    server.tell("mend")
    expect(page.locator("#trouble")).to_be_hidden()


def test_a_lost_broker_is_shown_and_found_again(
    page: Page, server: Server, complaints: list[str]
) -> None:
    port = server.url.split(":")[2].strip("/")
    server.stop()
    expect(page.locator("#link")).to_have_text("no broker")
    expect(page.locator("body")).to_have_class(re.compile("stale"))
    again = Server(port)
    try:
        expect(page.locator("#link")).to_have_text("live", timeout=15_000)
        expect(page.locator("#workflows .empty")).to_be_visible()
        expect(page.locator("#flow .node")).to_have_count(9)
    finally:
        page.goto("about:blank")
        again.stop()
    assert all("ERR_" in line or line == "about:blank" for line in complaints)
    complaints.clear()


@pytest.mark.parametrize(("width", "height"), [(390, 844), (768, 1024), (1366, 768), (2560, 1440)])
def test_no_screen_scrolls_sideways(page: Page, width: int, height: int) -> None:
    page.set_viewport_size({"width": width, "height": height})
    expect(page.locator("#flow .node")).to_have_count(9)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width


def test_one_screen_shows_everything(page: Page) -> None:
    expect(page.locator("#flow .node")).to_have_count(9)
    assert page.evaluate("document.documentElement.scrollHeight") <= 1080
    for panel in ("flow", "queues", "workflows", "spectrum", "jobs"):
        expect(page.locator(f"#{panel}")).to_be_in_viewport(ratio=1)


def test_inline_script_and_markup_do_nothing(page: Page, complaints: list[str]) -> None:
    found = page.evaluate(
        """() => {
            const tried = [];
            const attempt = (name, action) => {
                try { action(); } catch { return; }
                tried.push(name);
            };
            attempt("markup", () => { document.createElement("p").innerHTML = "<b>x</b>"; });
            attempt("script", () => { document.createElement("script").textContent = "1"; });
            attempt("timer", () => setTimeout("1"));
            return tried;
        }"""
    )
    assert found == []
    assert all("Trusted" in line or "Content Security Policy" in line for line in complaints)
    complaints.clear()
