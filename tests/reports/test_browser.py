"""The report in a real browser: `make test-report` brings Chromium, Selenium and axe-core, and says so where it cannot.

Nothing here needs a network. Where a part is missing the tests that need it are skipped, with what to install.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from abliterate.reports.compare import render_comparison
from abliterate.reports.html import render_report
from tests.reports.records import ATTACK, full_record, rich_record, samples

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MARKER = "<script>document.title='owned'; console.error('owned'); fetch('http://127.0.0.1:9/')</script>"

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Open:
    """Open a page in a scheme and width, with the logs emptied before."""

    def open_page(html: str, *, scheme: str = "light", width: int = 1100, media: str = "") -> Any:
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        emulated = {"media": media, "features": [{"name": "prefers-color-scheme", "value": scheme}]}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        for log in ("browser", "performance"):
            browser.get_log(log)
        browser.get(path.as_uri())
        return browser

    return open_page


def attacked() -> str:
    """A page whose every foreign word tries to run."""
    words = [s.model_copy(update=dict.fromkeys(("prompt", "before", "after"), MARKER + ATTACK)) for s in samples()]
    model = rich_record().model.model_copy(update={"source": MARKER})
    return render_report(rich_record(samples=words, model=model))


def pages() -> dict[str, str]:
    runs = {"first": rich_record(), "second <b>": full_record(strength=0.5)}
    return {"report": render_report(rich_record()), "comparison": render_comparison(runs)}


@pytest.mark.parametrize("name", ["report", "comparison", "attacked"])
def test_a_page_asks_for_nothing_and_complains_of_nothing(show: Open, name: str) -> None:
    page = show(attacked() if name == "attacked" else pages()[name])
    assert page.title != "owned"
    assert page.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url.rsplit("/", 1)[-1] for url in asked] == ["page.html"]
    if name == "attacked":
        assert "document.title='owned'" in page.find_element("tag name", "main").text


def test_the_policy_stops_a_script_that_was_not_escaped(show: Open) -> None:
    """The second lock, should the first ever fail."""
    page = show(render_report(rich_record()).replace("</main>", MARKER + "</main>"))
    assert page.title != "owned"
    assert any("Content Security Policy" in entry["message"] for entry in page.get_log("browser"))


def test_the_slider_moves_by_keyboard(show: Open) -> None:
    page = show(render_report(rich_record()))
    keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
    slider, name = (page.find_element("css selector", f"#layers {part}") for part in ("input[type=range]", "output"))
    assert name.text == "layer 15, the chosen one"
    for key, layer in ((keys.ARROW_RIGHT, 16), (keys.ARROW_LEFT, 15), (keys.END, 27), (keys.HOME, 1)):
        slider.send_keys(key)
        assert name.text.startswith(f"layer {layer}")
        shown = [item for item in page.find_elements("css selector", "#layers li") if item.is_displayed()]
        assert len(shown) == 1
    reached = page.switch_to.active_element
    assert reached == slider and slider.get_attribute("aria-valuetext") == "layer 1"
    slider.send_keys(keys.TAB)
    page.switch_to.active_element.send_keys(keys.SPACE)
    assert all(item.is_displayed() for item in page.find_elements("css selector", "#layers li"))


def test_every_layer_is_shown_without_script_and_in_print(show: Open) -> None:
    html = render_report(rich_record())
    for page in (
        show(html.replace("<script>", "<template>").replace("</script>", "</template>")),
        show(html, media="print"),
    ):
        assert sum(item.is_displayed() for item in page.find_elements("css selector", "#layers li")) == 27
        assert not page.find_element("css selector", "#layers .control").is_displayed()


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("width", [320, 390, 1100])
def test_a_page_never_scrolls_sideways(show: Open, name: str, width: int) -> None:
    page = show(pages()[name], width=width)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["report", "comparison"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(show: Open, name: str, scheme: str) -> None:
    axe = Path(os.environ.get("ABLITERATE_AXE", "build/axe/node_modules/axe-core/axe.min.js"))
    if not axe.exists():
        pytest.skip("needs axe-core: make test-report, or ABLITERATE_AXE=PATH/axe.min.js")
    page = show(pages()[name], scheme=scheme)
    page.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    page.execute_script(axe.read_text(encoding="utf-8"))
    found = page.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found["violations"]] == []
