"""Tests of the page in Chromium, opened from disk: it loads without errors, sorts, filters, fits a phone and is accessible."""

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tests.harness.reporting.page.conftest import DENSE, HOSTILE, HUNDRED, PRUNED

pytestmark = pytest.mark.needs_chromium

BOARD = "full-cifar10-sample-linf-8-255"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PAGES = ["index.html", f"models/{PRUNED}.html", f"models/{HUNDRED}.html", "selftest.html", "notes.html"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    import shutil

    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def open_page(browser: Any, page: Path) -> Any:
    """Return a function that opens a page of the site at a given width, in light or dark mode."""

    def open_at(name: str, width: int = 1280, dark: bool = False) -> Any:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        # The browser would not reload an address that differs only in its fragment.
        browser.get("about:blank")
        browser.get((page / name.partition("#")[0]).as_uri() + "".join(name.partition("#")[1:]))
        return browser

    return open_at


def visible_rows(browser: Any, attribute: str = "model") -> list[str]:
    """Return a data attribute of the visible rows of the visible board."""
    script = "return [...document.querySelectorAll('.board:not([hidden]) tbody tr:not([hidden])')].map(row => row.dataset[arguments[0]])"
    return list(browser.execute_script(script, attribute))


def visible_boards(browser: Any) -> list[str]:
    return list(browser.execute_script("return [...document.querySelectorAll('.board:not([hidden])')].map(one => one.id)"))


def points(browser: Any) -> int:
    """Return the number of points that Plotly has drawn in the visible scatter plot."""
    return int(browser.execute_script("return document.querySelectorAll('.board:not([hidden]) .plot .scatterlayer .point').length"))


def set_value(browser: Any, selector: str, value: str) -> None:
    script = (
        "const field = document.querySelector(arguments[0]); field.value = arguments[1];"
        "for (const kind of ['input', 'change']) field.dispatchEvent(new Event(kind, {bubbles: true}))"
    )
    browser.execute_script(script, selector, value)


@pytest.mark.parametrize("name", PAGES)
def test_pages_load_from_disk_without_errors_or_network(name: str, open_page: Any) -> None:
    browser = open_page(name)
    assert [line["message"] for line in browser.get_log("browser")] == []
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    requests = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # The log also contains requests of the browser's first tab.
    urls = [request["request"]["url"] for request in requests if request["documentURL"].startswith("file:")]
    assert any(url.endswith("page.css") for url in urls)
    assert all(url.startswith(("file:", "data:", "blob:")) for url in urls), urls
    script = "return [...document.images].filter(one => one.complete && !one.naturalWidth).map(one => one.src)"
    assert browser.execute_script(script) == []


def test_a_click_on_a_scatter_point_opens_its_model(open_page: Any) -> None:
    browser = open_page("index.html")
    assert visible_boards(browser) == [BOARD] and points(browser) == len(visible_rows(browser)) == 3
    links = browser.execute_script(
        "return document.querySelector('.board:not([hidden]) .plot').data.flatMap(trace => trace.customdata ?? [])"
    )
    assert sorted(links) == sorted(f"models/{model}.html" for model in (PRUNED, DENSE, HOSTILE))
    emit = "document.querySelector('.board:not([hidden]) .plot').emit('plotly_click', {points: [{customdata: arguments[0]}]})"
    browser.execute_script(emit, f"models/{PRUNED}.html")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10).until(lambda driver: driver.current_url.endswith(f"models/{PRUNED}.html"))


def test_a_heading_sorts_in_both_directions_by_keyboard(open_page: Any) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    browser = open_page("index.html")
    assert visible_rows(browser) == [HOSTILE, DENSE, PRUNED]
    head = browser.find_element(By.CSS_SELECTOR, f"[id='{BOARD}'] th[data-field=bytes] button")
    for order in ("ascending", "descending"):
        head.send_keys(Keys.ENTER)
        sizes = [int(size) for size in visible_rows(browser, "bytes")]
        assert sizes == sorted(sizes, reverse=order == "descending") and len(set(sizes)) == 3
        assert browser.execute_script("return arguments[0].parentNode.ariaSort", head) == order
    browser.find_element(By.CSS_SELECTOR, f"[id='{BOARD}'] th[data-field=model] button").click()
    assert visible_rows(browser) == sorted(visible_rows(browser))
    # Unknown values come last in both directions: the dense model has no sparsity.
    for _ in range(2):
        browser.find_element(By.CSS_SELECTOR, f"[id='{BOARD}'] th[data-field=sparsity] button").click()
        assert visible_rows(browser)[-1] == DENSE


def test_filters_hide_rows_and_points(open_page: Any) -> None:
    from selenium.webdriver.common.by import By

    browser = open_page("index.html")

    def visible_models() -> set[str]:
        models = visible_rows(browser)
        assert points(browser) == len(models)
        assert browser.find_element(By.ID, "said").text == f"{len(models)} of 3 models"
        return set(models)

    def reset() -> None:
        browser.find_element(By.ID, "reset").click()
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(browser, 10).until(lambda driver: len(visible_rows(driver)) == 3)

    browser.find_element(By.ID, "name").send_keys("k05")
    assert visible_models() == {PRUNED}
    reset()
    set_value(browser, "#bits", "32")
    assert visible_models() == {DENSE}
    reset()
    browser.find_element(By.CSS_SELECTOR, "[name=family][value=pruned-binary]").click()
    assert visible_models() == {DENSE}
    reset()
    set_value(browser, "#bytes", "0")
    assert visible_models() == {PRUNED} and browser.find_element(By.ID, "bytes-said").text == "16,950"
    reset()
    set_value(browser, "[data-taxonomy=scored]", "random")
    assert visible_models() == {HOSTILE}
    browser.find_element(By.ID, "name").send_keys("nothing is called so")
    assert visible_rows(browser) == []
    assert browser.find_element(By.CSS_SELECTOR, f"[id='{BOARD}'] .none").is_displayed()
    reset()


def test_data_set_threat_model_and_suite_select_the_board(open_page: Any) -> None:
    browser = open_page("index.html")
    set_value(browser, "#threat", "L2 1/2")
    assert visible_boards(browser) == ["full-cifar10-sample-l2-1-2"]
    set_value(browser, "#dataset", "cifar100-sample")
    assert visible_boards(browser) == ["full-cifar100-sample-linf-4-255"] and visible_rows(browser) == [HUNDRED]
    set_value(browser, "#dataset", "cifar10-sample")
    set_value(browser, "#suite", "short")
    assert visible_boards(browser) == ["short-cifar10-sample-linf-8-255"]
    assert visible_boards(open_page(browser.current_url.rpartition("/")[2])) == ["short-cifar10-sample-linf-8-255"]


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_the_width_of_a_phone(name: str, open_page: Any) -> None:
    browser = open_page(name, width=390)
    assert browser.execute_script("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]


@pytest.mark.parametrize(("name", "dark"), [*((name, False) for name in PAGES), (PAGES[0], True), (PAGES[2], True)])
def test_axe_reports_no_serious_violations(name: str, dark: bool, open_page: Any) -> None:
    browser = open_page(name, dark=dark)
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true })")
    browser.execute_script(files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8"))
    report = browser.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    assert report["passes"]
    serious = [
        (fault["id"], fault["impact"], [node["html"] for node in fault["nodes"]][:3])
        for fault in report["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert not serious, json.dumps(serious, indent=1)
