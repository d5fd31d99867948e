"""The page in a real browser: looked at, clicked and typed into."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from mdetr.app.handlers import Handlers, PageConfig
from mdetr.app.page import build_page
from mdetr.app.predictor import CachedPredictor
from tests.app.conftest import DEMO

SLOW = 15_000  # milliseconds; the machine may run other tests at the same time
TEXT = "two purple metal balls and a red cube"


class Visit:
    """A page that is open, and what the browser did meanwhile."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        page.set_default_timeout(SLOW)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.goto(address)
        page.locator("#run").wait_for()

    def scene(self) -> None:
        """Click the example of a synthetic scene, and wait for its result."""
        self.page.locator("#example-scene").click()
        expect(self.page.locator("#viewer tbody tr")).to_have_count(3, timeout=SLOW)
        self.page.locator("#as-json").wait_for()

    def enter(self, text: str) -> None:
        """Enter a text, and click on Find."""
        self.page.locator("#text textarea").fill(text)
        self.page.locator("#run").click()

    def upload(self, file: Path) -> None:
        """Choose a file as the image."""
        self.page.locator("#picture input[type=file]").set_input_files(str(file))

    def set_slider(self, name: str, value: float) -> None:
        """Enter a number beside a slider."""
        field = self.page.locator(f"#{name} input[type=number]")
        field.fill(str(value))
        field.press("Enter")
        field.blur()

    def message(self) -> Any:
        """The sentence above the result."""
        return self.page.locator("#viewer .message")


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    yield Visit(page, address)
    page.close()


def test_the_example_photo_shows_the_cat_and_loads_nothing_from_elsewhere(visit: Visit, address: str) -> None:
    visit.page.locator("#example-photo").click()
    expect(visit.page.locator("#viewer .word")).to_have_text("a brown cat", timeout=SLOW)
    expect(visit.page.locator("#viewer rect")).to_have_count(1)
    expect(visit.page.locator("#model input")).to_have_value("photo-tiny: small, everyday photos")
    outside = [url for url in visit.requests if not url.startswith((address, "data:", "blob:"))]
    assert outside == []
    assert visit.errors == []


def test_a_word_highlights_its_boxes_and_a_box_its_words(visit: Visit) -> None:
    visit.scene()
    page = visit.page
    words, boxes = page.locator("#viewer .word"), page.locator("#viewer rect")
    expect(words).to_have_text(["two purple metal balls", "a red cube"])
    words.nth(0).hover()
    expect(page.locator("#viewer rect.lit")).to_have_count(2)
    expect(page.locator("#viewer tr.lit")).to_have_count(2)
    cube = page.locator("#viewer .label", has_text="a red cube")
    cube.hover()
    expect(page.locator("#viewer .word.lit")).to_have_text("a red cube")
    expect(page.locator("#viewer rect.lit")).to_have_count(1)
    words.nth(1).focus()  # as with the keyboard
    expect(page.locator("#viewer tr.lit")).to_contain_text("a red cube")
    assert boxes.count() == 3


def test_the_sliders_filter_the_boxes_and_say_the_best_score_below(visit: Visit) -> None:
    visit.scene()
    visit.set_slider("threshold", 1)
    expect(visit.message()).to_contain_text("No box has a score above 1.00. The best score is ", timeout=SLOW)
    expect(visit.page.locator("#viewer rect")).to_have_count(0)
    visit.set_slider("threshold", 0.5)
    expect(visit.page.locator("#viewer tbody tr").first).to_be_visible(timeout=SLOW)


def test_an_uploaded_image_is_searched_for_one_text_after_another(visit: Visit, tmp_path: Path) -> None:
    Image.open(DEMO / "shapes.png").convert("RGB").save(tmp_path / "mine.jpg")
    visit.scene()
    visit.upload(tmp_path / "mine.jpg")
    for text in ("the green ball", "the red cube"):
        visit.enter(text)
        expect(visit.page.locator("#viewer .text")).to_have_text(text, timeout=SLOW)
        expect(visit.page.locator("#viewer .word")).to_have_text(text)
    expect(visit.page.locator("#code")).to_contain_text("mine.jpg")


def test_a_text_that_is_entered_during_a_prediction_comes_next(visit: Visit, tmp_path: Path) -> None:
    # An image of many pixels takes a while, so that the texts wait
    noise = np.random.default_rng(0).integers(0, 255, (4000, 6000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.jpg", quality=30)
    visit.scene()
    with visit.page.expect_response(lambda response: "queue/join" in response.url):
        visit.upload(tmp_path / "large.jpg")
    for text in ("the green ball", "the purple metal ball", "the red cube"):
        visit.enter(text)
        visit.page.wait_for_timeout(50)
    expect(visit.page.locator("#viewer .text")).to_have_text("the red cube", timeout=SLOW)


def test_no_event_is_ignored_or_overtaken(tmp_path: Path) -> None:
    config = PageConfig("clevr-tiny", "cpu", any_model=False, private_addresses=False)
    page = build_page(config, Handlers(config, CachedPredictor("cpu"), tmp_path))
    assert {event["trigger_mode"] for event in page.config["dependencies"]} == {"always_last"}
    predicting = [
        function for function in page.fns.values() if function.name in ("predict", "read_and_predict")
    ]
    assert len(predicting) == 10
    assert {function.concurrency_id for function in predicting} == {"predict"}


def test_questions_names_and_expressions_have_their_own_fields(visit: Visit) -> None:
    visit.scene()
    page = visit.page
    page.get_by_label("Answer", exact=True).check()
    expect(page.locator("#text label")).to_contain_text("Question", timeout=SLOW)
    visit.enter("What color is the large cube?")
    expect(page.locator("#viewer .answer")).to_contain_text("red (", timeout=SLOW)
    page.get_by_label("Refer", exact=True).check()
    expect(page.locator("#text label")).to_contain_text("Referring expression", timeout=SLOW)
    visit.enter("the green ball")
    expect(page.locator("#viewer .answer")).to_have_count(0, timeout=SLOW)
    expect(page.locator("#viewer rect")).to_have_count(1)
    page.get_by_label("Detect", exact=True).check()
    names = page.locator("#names input")
    names.wait_for()
    for name in ("red cube", "green ball"):
        names.fill(name)
        names.press("Enter")
    expect(page.locator("#viewer .text")).to_have_text("red cube, green ball", timeout=SLOW)


def test_downloads_hold_the_result_that_is_shown(visit: Visit, tmp_path: Path) -> None:
    visit.scene()
    contents: dict[str, bytes] = {}
    for name in ("as-json", "as-coco", "as-picture"):
        button = visit.page.locator(f"#{name}")
        button.wait_for()
        with visit.page.expect_download() as download:
            button.click()
        contents[name] = Path(download.value.path()).read_bytes()
    phrases = sorted(entry["phrase"] for entry in json.loads(contents["as-json"])["groundings"])
    assert phrases == ["a red cube", "two purple metal balls", "two purple metal balls"]
    assert sorted(entry["phrase"] for entry in json.loads(contents["as-coco"])) == phrases
    assert contents["as-picture"][:2] == b"\xff\xd8"  # JPEG


def test_a_broken_image_and_a_missing_text_are_explained_in_place_of_a_result(
    visit: Visit, tmp_path: Path
) -> None:
    visit.page.locator("#text textarea").fill("")
    visit.upload(DEMO / "cat.jpg")
    expect(visit.message()).to_have_text("Enter a text that says what to find.", timeout=SLOW)
    broken = tmp_path / "broken.png"
    broken.write_bytes((DEMO / "shapes.png").read_bytes()[:400])
    visit.page.locator("#picture button[aria-label='Remove Image']").click()
    visit.upload(broken)
    visit.enter("a cat")
    expect(visit.message()).to_contain_text("is damaged or cut off", timeout=SLOW)
    expect(visit.message()).to_have_attribute("role", "alert")


def test_an_address_inside_the_network_is_refused(visit: Visit, address: str) -> None:
    visit.page.locator("#from-address button").first.click()
    visit.page.locator("#address textarea, #address input").first.fill(f"{address}secret.png")
    visit.page.locator("#fetch").click()
    expect(visit.message()).to_contain_text("is in a private network", timeout=SLOW)


@pytest.mark.parametrize(
    ("width", "scheme"), [(1440, "light"), (390, "dark"), (390, "light"), (1440, "dark")]
)
def test_the_page_fits_and_is_accessible(browser: Browser, address: str, width: int, scheme: Any) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    visit = Visit(page, address)
    visit.scene()
    page.locator("#as-json").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    frame = page.locator("#viewer .frame").bounding_box()
    assert frame is not None
    for label in page.locator("#viewer .label").all():
        box = label.bounding_box()
        assert box is not None
        assert frame["x"] - 1 <= box["x"]
        assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
    results = Axe().run(page)
    violations = [
        f"{violation['id']}: {node['html'][:200]}"
        for violation in results.response["violations"]
        for node in violation["nodes"]
    ]
    page.close()
    assert violations == []


def test_markup_in_a_text_is_text(visit: Visit) -> None:
    visit.scene()
    text = 'a red cube <img src=x onerror="window.hit = 1"><script>window.hit = 1</script>'
    visit.enter(text)
    expect(visit.page.locator("#viewer .text")).to_have_text(text, timeout=SLOW)
    expect(visit.page.locator("#viewer script, #viewer img[src=x]")).to_have_count(0)
    assert visit.page.evaluate("window.hit") is None
    assert visit.errors == []
