"""The console in a real browser: what it shows, to whom, and what it never does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, Error, Page, Request, expect, sync_playwright

from tests.console.stub_daemon import HOSTILE_NAME, TOKEN, StubDaemon, stub_daemon

pytestmark = pytest.mark.browser

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@dataclass
class Visit:
    """A page on a daemon, and everything that must not happen there."""

    page: Page
    daemon: StubDaemon
    mistakes: list[str] = field(default_factory=list)

    def on_error(self, error: Error) -> None:
        self.mistakes.append(f"error: {error}")

    def on_request(self, request: Request) -> None:
        if not request.url.startswith(self.daemon.url):
            self.mistakes.append(f"outside: {request.url}")

    def sign_in(self, token: str = TOKEN) -> None:
        self.page.get_by_label("Access token").fill(token)
        self.page.keyboard.press("Enter")


@pytest.fixture(params=["light", "dark"])
def visit(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    with stub_daemon() as daemon:
        context = browser.new_context(color_scheme=request.param, viewport={"width": 1400, "height": 1000})
        page = context.new_page()
        visit = Visit(page, daemon)
        page.on("pageerror", visit.on_error)
        page.on("request", visit.on_request)
        page.goto(daemon.url)
        yield visit
        context.close()
        assert visit.mistakes == []


def test_a_wrong_token_is_refused_and_the_right_one_shows_the_site(visit: Visit) -> None:
    page = visit.page
    expect(page.locator("#view")).to_be_hidden()
    expect(page.get_by_label("Access token")).to_be_focused()
    visit.sign_in("wm_wrong")
    expect(page.get_by_role("alert")).to_contain_text("unknown, expired or revoked")
    visit.sign_in()
    expect(page.locator("#limit")).to_have_text("of 1,850 W")
    expect(page.locator("#power-note")).to_have_text("worst case 1,207 W, 643 W free")
    expect(page.locator("#price")).to_have_text("524.27")
    expect(page.locator("#price-rules")).to_have_text("in force: evening-spike")
    expect(page.locator("#jobs-note")).to_have_text("1 waiting, 1 paused, 2 ended")
    expect(page.locator("#link")).to_have_text("live")


def test_each_job_says_what_it_does_and_why(visit: Visit) -> None:
    visit.sign_in()
    row = visit.page.get_by_role("row").filter(has=visit.page.get_by_role("rowheader", name="flexible"))
    for words in ("running", "capped by price", "141 W", "101", "43 %", "21.3 % of 50.0 %", "above 200"):
        expect(row).to_contain_text(words)
    waiting = visit.page.get_by_role("row").filter(
        has=visit.page.get_by_role("rowheader", name="llm-finetune")
    )
    expect(waiting).to_contain_text("needs 8 GPUs, 2 are free")
    failed = visit.page.get_by_role("row").filter(has=visit.page.get_by_role("rowheader", name="sweep-17"))
    expect(failed).to_contain_text("exit code 1")


def test_gpus_and_charts_are_there_and_described(visit: Visit) -> None:
    page = visit.page
    visit.sign_in()
    expect(page.locator("#gpus > li")).to_have_count(8)
    expect(page.locator("#gpus > li").nth(1)).to_contain_text("138 W, cap 141 W")
    expect(page.locator("#gpus > li").nth(6)).to_contain_text("cordoned")
    expect(page.locator("#gpus > li").nth(7)).to_contain_text("GPU is lost")
    expect(page.locator("#power-chart canvas")).to_be_visible()
    expect(page.locator("#price-chart canvas")).to_be_visible()
    label = page.locator("#price-chart").get_attribute("aria-label") or ""
    assert "highest 524.27 EUR/MWh" in label


def test_what_a_person_wrote_is_text_and_never_markup(visit: Visit) -> None:
    visit.sign_in()
    expect(visit.page.get_by_role("rowheader", name=HOSTILE_NAME)).to_be_visible()
    assert visit.page.locator("#jobs img").count() == 0
    assert "pwned" not in visit.page.title()


def test_a_lost_daemon_is_shown_and_found_again(visit: Visit) -> None:
    page = visit.page
    visit.sign_in()
    expect(page.locator("#link")).to_have_text("live")
    visit.daemon.refuse_with = 503
    expect(page.locator("#link")).to_have_text("no cycle has run yet")
    expect(page.locator("#view")).to_have_class("stale")
    visit.daemon.refuse_with = None
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#view")).not_to_have_class("stale")


def test_a_revoked_token_signs_out_and_forgets_it(visit: Visit) -> None:
    page = visit.page
    visit.sign_in()
    expect(page.locator("#view")).to_be_visible()
    visit.daemon.refuse_with = 401
    expect(page.get_by_role("alert")).to_contain_text("signed out")
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    assert page.evaluate("document.cookie") == ""


def test_over_budget_and_degraded_are_said_in_words(visit: Visit) -> None:
    visit.daemon.state["domains"][0]["accounted_w"] = 1900.0
    visit.daemon.state["degraded"] = ["no_prices"]
    visit.sign_in()
    expect(visit.page.locator("#power-note")).to_have_text("worst case 1,900 W, over by 50 W")
    expect(visit.page.locator("#degraded")).to_have_text("Running with less: no prices")


def test_it_survives_a_site_without_prices_limits_or_jobs(visit: Visit) -> None:
    state = visit.daemon.state
    state.update(price_per_mwh=None, price_source=None, carbon_g_per_kwh=None, carbon_source=None, jobs=[])
    state["domains"] = state["domains"][:1]
    state["domains"][0]["limit_w"] = None
    for gpu in state["gpus"]:
        gpu.update(power_w=None, cap_w=None, utilization=None, temperature_c=None, job_id=None)
    visit.daemon.jobs = []
    visit.sign_in()
    expect(visit.page.locator("#limit")).to_have_text("no budget set")
    expect(visit.page.locator("#price-note")).to_contain_text("price-blind")
    expect(visit.page.locator("#no-jobs")).to_be_visible()
    expect(visit.page.locator("#gpus > li").first).to_contain_text("–, cap –")


def test_text_stands_out_from_its_ground(visit: Visit) -> None:
    """WCAG AA: at least 4.5 to 1, for every colour that text has on panels."""
    visit.sign_in()
    expect(visit.page.locator("#jobs tr").first).to_be_visible()
    ratios = visit.page.evaluate(
        """() => {
          const css = getComputedStyle(document.documentElement);
          const light = (name) => {
            const hex = css.getPropertyValue(name).trim().slice(1);
            const part = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
              .map((c) => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
            return 0.2126 * part[0] + 0.7152 * part[1] + 0.0722 * part[2];
          };
          const against = (a, b) => {
            const [high, low] = [light(a), light(b)].sort((x, y) => y - x);
            return (high + 0.05) / (low + 0.05);
          };
          const inks = ["--ink", "--muted", "--price", "--bad", "--good"];
          return Object.fromEntries(inks.map((ink) => [ink, against(ink, "--panel")]));
        }"""
    )
    assert {ink: ratio for ink, ratio in ratios.items() if ratio < 4.5} == {}
