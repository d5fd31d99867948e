"""The documentation site: built strictly once, then read as files and in a browser, without a network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe

from tests.documents.running import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("mkdocs", "material", "mkdocstrings")),
    reason="MkDocs is not installed; install it with pip install 'mdetr[docs]'",
)

LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
RULES_OF_THE_THEME = {"aria-dialog-name", "landmark-unique"}  # broken by the theme's own templates
NOT_LOADED = {"canonical", "prev", "next"}  # links to pages, which a browser does not load


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site") / "site"
    result = build("--site-dir", str(folder))
    assert result.returncode == 0, result.stderr
    return folder


def build(*options: str, config: Path = ROOT / "mkdocs.yml") -> subprocess.CompletedProcess[str]:
    """Build a site strictly, as `make docs` does."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), *options]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


class Loads(HTMLParser):
    """Collects the addresses that a browser loads for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("rel") not in NOT_LOADED and (address := values.get(LOADED.get(tag, ""))):
            self.addresses.append(address)


def test_a_page_loads_nothing_from_other_servers(site: Path) -> None:
    outside, inside = [], 0
    for page in site.rglob("*.html"):
        loads = Loads()
        loads.feed(page.read_text())
        for address in loads.addresses:
            if re.match(r"(https?:)?//", address):
                outside.append(f"{page.relative_to(site)}: {address}")
            elif not address.startswith("data:"):
                assert (page.parent / address.partition("?")[0]).is_file() or page.name == "404.html"
                inside += 1
    assert not outside
    assert inside > 100


def test_style_sheets_load_nothing_from_other_servers(site: Path) -> None:
    sheets = list(site.rglob("*.css"))
    assert len(sheets) >= 3
    for sheet in sheets:
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", sheet.read_text()), sheet


def test_every_page_of_the_documentation_is_on_the_site(site: Path) -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        uri = page.relative_to(ROOT / "docs").with_suffix(".html")
        assert (site / uri.parent / uri.name.replace("README", "index")).is_file()


def test_the_reference_describes_every_public_name(site: Path) -> None:
    import mdetr

    pages = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    for name in mdetr.__all__:
        if name != "__version__":
            assert f'id="mdetr.{name}"' in pages, name
    described = re.findall(r'<h[2-6] id="(mdetr\.[\w.]+)"', pages)
    assert len(described) > 100


def test_a_link_to_a_source_file_leads_to_a_page_that_shows_it(site: Path) -> None:
    training = (site / "training.html").read_text()
    (address,) = re.findall(r'href="([^"]+)">loop\.py<', training)
    shown = re.sub(r"<[^>]+>", "", (site / address).read_text())
    assert "class TrainingLoop" in shown


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("[page](no-such-page.md)", "no-such-page.md"),
        ("[heading](other.md#no-such-heading)", "no-such-heading"),
        ("[file](../src/mdetr/no_such_file.py)", "no_such_file.py"),
    ],
)
def test_a_broken_link_fails_the_build(tmp_path: Path, link: str, problem: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# Start\n\n{link}\n")
    (tmp_path / "docs" / "other.md").write_text("# Other\n")
    lines = (ROOT / "mkdocs.yml").read_text().replace("tools/", f"{ROOT}/tools/")
    settings, _, _ = lines.partition("\nnav:\n")
    (tmp_path / "mkdocs.yml").write_text(settings)
    result = build(config=tmp_path / "mkdocs.yml")
    assert result.returncode == 1
    assert problem in result.stderr


@pytest.fixture
def page(site: Path, browser: Browser) -> Page:
    """A page of a browser, which fails the test when anything but a file is loaded."""
    opened = browser.new_page(viewport={"width": 1440, "height": 900})
    opened.on("request", lambda request: check_local(request.url))
    return opened


def check_local(address: str) -> None:
    """Fail for an address of another server."""
    assert address.startswith(("file:", "data:", "blob:", "about:")), address


def test_the_search_finds_a_page_without_a_server(site: Path, page: Page) -> None:
    page.goto((site / "index.html").as_uri())
    page.get_by_role("textbox", name="Search").click()
    page.keyboard.type("generalized iou")
    result = page.locator(".md-search-result__link").first
    result.wait_for()
    assert "generalized" in page.locator(".md-search-result__list").inner_text().lower()


def test_no_page_is_wider_than_a_phone(site: Path, page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    for path in sorted(site.rglob("*.html")):
        if "source" not in path.parts:
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= 390, path.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible(site: Path, page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    for name in ("index", "how-it-works", "recipes", "api/losses"):
        page.goto((site / f"{name}.html").as_uri())
        violations = Axe().run(page).response["violations"]
        found = {f"{name}: {violation['id']}: {violation['nodes'][0]['html']}" for violation in violations}
        assert not {line for line in found if line.split(": ")[1] not in RULES_OF_THE_THEME}
