"""The built site in a headless Chromium: every page, the tables, the figures and the search, all from files."""

import contextlib
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from experiments import entries, pages
from experiments.site import build

SCREENSHOTS = ROOT / "build" / "screenshots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SIZES = {"wide": (1300, 900), "phone": (375, 740)}
KINDS = ["index.html", "docs/training.html", "experiments/index.html", "experiments/alexnet.html"]
KINDS += ["experiments/resnet.html", "gallery.html", "reference/models.html"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; the test is skipped without the packages that build it."""
    for name in ("material", "mkdocstrings"):
        pytest.importorskip(name, reason="the site needs pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    (folder / build.MARK).parent.mkdir(parents=True)
    for stale in (build.MARK, "stale.html"):  # of an earlier site
        (folder / stale).write_text("")
    arguments = [sys.executable, "-m", "experiments", "site", f"--to={folder}"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"written: {folder}/index.html\n", "")
    assert not (folder / "stale.html").exists() and (folder / build.MARK).read_text()
    return folder


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of the system; the test is skipped without one."""
    reason = "the browser's tests need pip install -e '.[site-test]'"
    driver = pytest.importorskip("playwright.sync_api", reason=reason)
    pytest.importorskip("axe_playwright_python", reason=reason)
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian's package chromium has one)")
    with driver.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@contextlib.contextmanager
def opened(browser, site, size="wide", scheme="light"):
    """A tab that may only read the site's files; at its end, it must have logged no warning or error."""
    width, height = SIZES[size]
    view = {"width": width, "height": height}
    context = browser.new_context(viewport=view, color_scheme=scheme, has_touch=size == "phone")
    tab, told = context.new_page(), []
    tab.on("console", lambda message: told.append(message.text) if message.type in ("warning", "error") else None)
    tab.on("pageerror", lambda error: told.append(str(error)))
    aborted = "net::ERR_ABORTED"  # by the next page
    tab.on("requestfailed", lambda lost: told.append(f"failed: {lost.url}") if lost.failure != aborted else None)
    home = site.as_uri()
    tab.on("request", lambda asked: told.append(asked.url) if not asked.url.startswith((home, "data:")) else None)
    yield tab
    context.close()
    assert not told, told


def keep(tab, name):
    """Writes a screenshot to build/screenshots."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.wait_for_timeout(300)  # colours fade
    tab.screenshot(path=SCREENSHOTS / f"{name}.png")


def findings(tab):
    """The serious and critical findings of axe: (rule, elements)."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"resultTypes": ["violations"], "preload": False}  # axe may not read style sheets of files
    found = Axe().run(tab, options=options).response["violations"]
    grave = [rule for rule in found if rule["impact"] in ("serious", "critical")]
    return [(rule["id"], [node["target"] for node in rule["nodes"]][:5]) for rule in grave]


@pytest.mark.parametrize("size, scheme", [("phone", "light"), ("wide", "dark")])
def test_pages_are_for_everyone(site, browser, size, scheme):
    """Without errors, requests to elsewhere, scrolling to the side, and what keeps people from reading it.

    All pages are opened on a phone; one of each kind is opened in dark colours, too.
    """
    files = sorted(site.rglob("*.html"))
    assert len(files) > 30
    with opened(browser, site, size, scheme) as tab:
        for file in files:
            name = file.relative_to(site).as_posix()
            if size == "phone" or name in KINDS:
                tab.goto(file.as_uri())
                assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
                assert findings(tab) == [], name
                scheme_name = {"light": "default", "dark": "slate"}[scheme]
                assert tab.evaluate("document.body.dataset.mdColorScheme") == scheme_name
            if name in KINDS:
                keep(tab, f"{name.removesuffix('.html').replace('/', '-')}-{size}-{scheme}")


def test_links_lead_to_places_that_exist(site):
    ids = {file: {*re.findall(r' id="?([^"\s>]+)', file.read_text())} for file in site.rglob("*.html")}
    for file in ids:
        for link in re.findall(r'<a [^>]*href="([^"]*)"', file.read_text()):
            path, _, anchor = link.partition("#")
            if not re.match("[a-z]+:", link):
                target = (file.parent / path).resolve() if path else file
                assert target.exists(), (file, link)
                assert not anchor or anchor in ids[target] or anchor.startswith("__"), (file, link)


@pytest.mark.parametrize("size", SIZES)
def test_tables_filter_and_cells_open(site, browser, size):
    with opened(browser, site, size) as tab:
        tab.goto(f"{site.as_uri()}/experiments/resnet.html")
        rows = tab.locator(".dc-entry > .dc-scroll tbody tr")
        whole = rows.count()
        tab.get_by_label("Show rows with").fill("table 6 resnet-110")
        assert rows.filter(visible=True).count() == 2
        assert tab.locator(".dc-filter output").inner_text() == f"2 of {whole} rows are shown."
        assert tab.locator(".md-content h2").filter(visible=True).count() == 1
        keep(tab, f"filtered-{size}")
        tab.get_by_label("Show rows with").fill("")
        for state in ("reproduced", "not run", "out of reach", "quoted only"):
            tab.locator(".dc-filter label").filter(has_text=state).get_by_role("checkbox").uncheck()
        (deviating,) = rows.filter(visible=True).all()
        assert "3.86" in deviating.inner_text()
        tab.goto(f"{site.as_uri()}/experiments/alexnet.html")
        cell = tab.locator('[data-opens="fig1-0"]')
        assert cell.inner_text().split()[:3] == ["≠", "deviating:", "7"]
        cell.focus()
        tab.keyboard.press("ArrowDown")
        assert tab.evaluate("document.activeElement.dataset.opens") == "fig1-1"
        tab.keyboard.press("ArrowUp")
        tab.keyboard.press("Enter")
        dialog = tab.get_by_role("dialog", name="ReLU, 18pct")
        assert "commit e137212d6e" in dialog.inner_text() and tab.url.endswith("#fig1-0")
        assert tab.evaluate("document.activeElement.ariaLabel") == "Close"
        assert findings(tab) == []
        keep(tab, f"details-{size}")
        tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
        dialog.get_by_role("button", name="Copy").click()
        dialog.get_by_role("button", name="Copied").wait_for()
        table = entries.load(["alexnet/fig1"])["alexnet/fig1"]
        copied = tab.evaluate("navigator.clipboard.readText()")
        assert [copied] == pages.row_commands(table, table.rows[0])
        tab.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
        assert tab.evaluate("document.activeElement.dataset.opens") == "fig1-0" and "#" not in tab.url
        tab.goto(f"{site.as_uri()}/experiments/alexnet.html#fig1-1")  # a link to a cell's details
        tab.reload()
        tab.get_by_role("dialog", name="tanh, 18pct").wait_for()


def test_figures_zoom_and_colours_change(site, browser):
    with opened(browser, site) as tab:
        tab.goto(f"{site.as_uri()}/experiments/resnet.html#fig6")
        figure = tab.locator(".dc-entry", has=tab.locator("svg#none, [id^=fig6-figure]")).locator(".dc-figure").first
        drawn, view = figure.locator("svg"), figure.locator(".dc-view")

        def shown():
            return [float(number) for number in drawn.get_attribute("viewBox").split()]

        whole = shown()
        figure.get_by_role("button", name="Zoom in").click()
        zoomed = shown()
        assert zoomed[2] == pytest.approx(whole[2] / 1.5) and zoomed[2] / zoomed[3] == pytest.approx(
            whole[2] / whole[3]
        )
        view.focus()
        tab.keyboard.press("ArrowRight")
        assert shown()[0] == pytest.approx(zoomed[0] + 0.1 * zoomed[2])
        keep(tab, "zoomed")
        box = view.bounding_box()
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        tab.mouse.move(*middle)
        tab.mouse.down()
        tab.mouse.move(middle[0] + 60, middle[1])
        tab.mouse.up()
        assert shown()[0] < zoomed[0] + 0.1 * zoomed[2]
        tab.keyboard.press("0")
        assert shown() == whole
        tab.locator("label[title='Dark colours']").click()
        assert tab.evaluate("document.body.dataset.mdColorScheme") == "slate"
        keep(tab, "switched-to-dark")


def test_search_works_from_files(site, browser):
    with opened(browser, site) as tab:
        tab.goto(f"{site.as_uri()}/index.html")
        # all at once: the theme reports an error for a word that ends with "-", as it does while it is typed slowly
        tab.get_by_role("textbox", name="Search").fill("multiply-adds")
        tab.locator(".md-search-result__link").first.wait_for()
        assert "multiply-adds" in tab.locator(".md-search-result__list").inner_text().lower()
        keep(tab, "search")
