"""The report's page in headless Chromium: it asks for nothing, fits every width, and can be searched, zoomed and used by keyboard."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterator

import pytest
from browser import Browser, open_browser
from report_models import make_partition, write_folder
from test_report import SMALL, make_hostile

from beforehand.report.write_report import read_report, write_report

TWENTY_THOUSAND = [("segment" if i % 2 else "native", 200) for i in range(100)]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with open_browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """A page of each kind."""
    base = tmp_path_factory.mktemp("pages")
    folders = {
        "small": write_folder(base / "small", make_partition(SMALL)),
        "two_nodes": write_folder(
            base / "two_nodes", make_partition([("native", 1), ("segment", 1)]), engines=0, measured=False
        ),
        "large": write_folder(base / "large", make_partition(TWENTY_THOUSAND, lanes=5)),
        "wide": write_folder(base / "wide", make_partition([("native", 2000), ("segment", 3000)] * 4, lanes=60)),
    }
    found = {name: write_report(read_report(folder), folder)[0] for name, folder in folders.items()}
    found["hostile"] = base / "hostile.html"
    found["hostile"].write_text(make_hostile(base / "hostile"), encoding="utf-8", errors="surrogatepass")
    return found


def read_transform(browser: Browser) -> tuple[float, float, float]:
    """Left, top, scale of the graph that is shown."""
    text = browser.run(
        "return document.querySelector('.canvas svg:not([style*=none]) .view').getAttribute('transform')"
    )
    left, top, scale = map(float, re.findall(r"-?[\d.]+(?:e-?\d+)?", text))
    return left, top, scale


def list_visible_blocks(browser: Browser) -> list[str]:
    """Names of the blocks whose middle is within the canvas."""
    names: list[str] = browser.run("""
        const frame = document.querySelector('.canvas').getBoundingClientRect();
        return [...document.querySelectorAll('.canvas .block')].filter((block) => {
          const box = block.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
          return box.width && x > frame.left && x < frame.right && y > frame.top && y < frame.bottom;
        }).map((block) => block.querySelector('title').textContent.split('\\n')[0]);""")
    return names


SEEN_AS = [
    *itertools.product(["small", "two_nodes", "large", "wide", "hostile"], [390, 1440], ["light", "dark"]),
    *itertools.product(["small", "hostile"], [320, 768], ["light"]),
]


@pytest.mark.parametrize(("name", "width", "scheme"), SEEN_AS)
def test_a_page_fits_its_width_logs_nothing_and_asks_for_nothing(
    name: str, width: int, scheme: str, browser: Browser, pages: dict[str, pathlib.Path]
) -> None:
    browser.open(pages[name], width, scheme)
    assert browser.run("return document.documentElement.classList.contains('js')"), "the script did not run"
    browser.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth") <= width
    beyond = browser.run("""
        return [...document.querySelectorAll('main *, header *')].filter((element) => !element.closest('.canvas, .side, thead')
          && element.getBoundingClientRect().right > innerWidth + 0.5).map((element) => element.outerHTML.slice(0, 120));""")
    assert beyond == []
    overlapping = browser.run("""
        const boxes = (kind) => [...document.querySelectorAll(`.chart .${kind}`)].map((text) => [text.textContent, text.getBoundingClientRect()]);
        const values = boxes('value');
        return boxes('label').filter(([, label]) => label.width && values.some(([, value]) => value.width && label.top < value.bottom
          && value.top < label.bottom && label.right > value.left)).map(([text]) => text);""")
    assert overlapping == []
    assert browser.list_errors() == []
    assert browser.list_requests() == [pages[name].resolve().as_uri()]
    if folder := os.environ.get("BEFOREHAND_TEST_PICTURES"):  # for people to look at
        browser.save_picture(pathlib.Path(folder) / f"{name}_{width}_{scheme}.png")


def test_the_colours_follow_the_scheme_and_text_can_be_read_on_them(
    browser: Browser, pages: dict[str, pathlib.Path]
) -> None:
    papers = {}
    for scheme in ("light", "dark"):
        browser.open(pages["small"], scheme=scheme)
        for selector in ("body", ".note", ".figures dt", "nav a", ".block .told", ".chart .value", "th", ".bad"):
            color, papers[scheme] = browser.run(f"""
                const style = getComputedStyle(document.querySelector('{selector}')), svg = document.querySelector('{selector}').ownerSVGElement;
                return [svg ? style.fill : style.color, getComputedStyle(document.body).backgroundColor];""")
            assert find_contrast(color, papers[scheme]) >= 4.5, (scheme, selector, color)
    assert papers["light"] != papers["dark"]


def find_contrast(one: str, other: str) -> float:
    """By WCAG 2, of two colours as `rgb(1, 2, 3)`."""
    brightness = []
    for color in (one, other):
        parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        brightness.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(brightness) + 0.05) / (min(brightness) + 0.05)


@pytest.mark.parametrize("width", [390, 1440])
def test_a_layer_of_twenty_thousand_nodes_is_found_shown_and_described(
    width: int, browser: Browser, pages: dict[str, pathlib.Path]
) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["large"], width)
    assert "TRTEngineOp_000_044" not in list_visible_blocks(browser)
    search = browser.driver.find_element(By.ID, "graph-search")
    search.send_keys("STAGE_89 dense_17")
    assert browser.run("return document.querySelector('.side').innerText").startswith("1 block has it")
    assert browser.run("return document.querySelectorAll('.block.hit').length") == 1
    search.send_keys(Keys.ENTER)
    assert "TRTEngineOp_000_044" in list_visible_blocks(browser)
    assert read_transform(browser)[2] >= 0.9, "too small to be read"
    told = browser.run("return document.querySelector('.side').innerText")
    assert told.startswith("TRTEngineOp_000_044\nsegment, 200 nodes")
    assert "model/stage_89/dense_17" in told
    assert "engine for x=2x4, BF16" in told
    search.clear()
    search.send_keys("string")  # of many blocks
    assert "50 blocks have it" in browser.run("return document.querySelector('.side').innerText")
    search.send_keys(Keys.ESCAPE)
    assert browser.run("return document.querySelectorAll('.block.hit').length") == 0


def test_zoom_pan_and_fit_work_by_button_wheel_pointer_and_key(
    browser: Browser, pages: dict[str, pathlib.Path]
) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser.open(pages["large"])
    canvas = browser.driver.find_element(By.CSS_SELECTOR, ".canvas")

    def press(name: str) -> None:
        browser.driver.find_element(By.ID, name).click()

    start = read_transform(browser)
    assert start[2] >= 0.55, "the beginning is shown at a size that can be read"
    press("zoom-in")
    assert read_transform(browser)[2] == pytest.approx(1.25 * start[2])
    press("zoom-out")
    assert read_transform(browser) == pytest.approx(start)
    press("zoom-fit")
    assert len(list_visible_blocks(browser)) == 102
    browser.run("document.querySelector('.canvas').focus()")
    before = read_transform(browser)
    ActionChains(browser.driver).send_keys("+", Keys.ARROW_LEFT, Keys.ARROW_DOWN).perform()
    after = read_transform(browser)
    assert after[2] == pytest.approx(1.25 * before[2])
    ActionChains(browser.driver).send_keys("n").perform()
    told = browser.run("return document.querySelector('.side h4').innerText")
    ActionChains(browser.driver).send_keys("n").perform()
    assert browser.run("return document.querySelector('.side h4').innerText") != told
    ActionChains(browser.driver).send_keys("0").perform()
    assert read_transform(browser) == pytest.approx(before)
    ActionChains(browser.driver).move_to_element(canvas).click_and_hold().move_by_offset(40, 25).release().perform()
    left, top, _ = read_transform(browser)
    assert (left - before[0], top - before[1]) == pytest.approx((40, 25))
    wheel = "const c = document.querySelector('.canvas'); return c.dispatchEvent(new WheelEvent('wheel', {deltaY: -90, ctrlKey: %s, cancelable: true}))"
    scale = read_transform(browser)[2]
    assert browser.run(wheel % "false"), "the page must scroll"
    assert read_transform(browser)[2] == scale
    assert not browser.run(wheel % "true")
    assert read_transform(browser)[2] > scale
    assert browser.list_errors() == []


def test_a_click_on_a_block_describes_it(browser: Browser, pages: dict[str, pathlib.Path]) -> None:
    from selenium.webdriver.common.by import By

    browser.open(pages["small"])
    assert browser.run("return document.querySelector('.side h4').innerText") == "TRTEngineOp_000_000", (
        "the largest segment first"
    )
    browser.driver.find_element(By.CSS_SELECTOR, '[data-block="1"]').click()
    told = browser.run("return document.querySelector('.side').innerText")
    assert told.startswith("model/stage_0/dense_0\nnative, 3 nodes: resource or string")
    assert "Why native" in told


def test_no_markup_of_a_model_becomes_an_element_or_runs(browser: Browser, pages: dict[str, pathlib.Path]) -> None:
    browser.open(pages["hostile"])
    title = browser.run("return document.title")
    browser.run(
        "const s = document.getElementById('graph-search'); s.value = 'script'; s.dispatchEvent(new Event('input'))"
    )
    for index in range(6):
        browser.run(
            f"document.querySelector('[data-block=\"{index}\"]').dispatchEvent(new MouseEvent('click', {{bubbles: true}}))"
        )
    assert "<img src=x" in browser.run("return document.querySelector('.side').innerText")
    assert browser.run("return document.querySelectorAll('img').length") == 0
    assert browser.run("return document.querySelectorAll('script').length") == 2
    assert browser.run("return document.title") == title != "owned"
    assert browser.list_errors() == []


def test_the_policy_stops_a_script_that_got_in_all_the_same(browser: Browser, pages: dict[str, pathlib.Path]) -> None:
    page = pages["small"].with_name("injected.html")
    page.write_text(pages["small"].read_text().replace("<main>", "<main><script>document.title = 'owned'</script>"))
    browser.open(page)
    assert browser.run("return document.title") != "owned"
    assert any("Content Security Policy" in message for message in browser.list_errors())


def test_what_can_be_used_has_a_name_and_is_reached_by_the_tab_key(
    browser: Browser, pages: dict[str, pathlib.Path]
) -> None:
    browser.open(pages["small"])
    nameless = browser.run("""
        return [...document.querySelectorAll('button, input, select, [tabindex], svg[role=img]')].filter((element) =>
          !(element.getAttribute('aria-label') || element.innerText || (element.labels && element.labels.length)))
          .map((element) => element.outerHTML.slice(0, 100));""")
    assert nameless == []
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    reached = []
    for _ in range(16):
        ActionChains(browser.driver).send_keys(Keys.TAB).perform()
        reached.append(browser.run("return document.activeElement.id || document.activeElement.className"))
    assert [name for name in reached if name] == [
        "graph-search",
        "zoom-out",
        "zoom-in",
        "zoom-fit",
        "canvas",
        "side",
    ], json.dumps(reached)
