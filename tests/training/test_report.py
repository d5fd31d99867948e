"""Report of a run in one file."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from mdetr.training.report import write_report

HISTORY = [
    {"step": 10, "loss": 5.0, "loss_ce": 2.0, "loss_ce_0": 3.0, "loss_ce_proposals": 4.0, "lr_rest": 1e-3},
    {"step": 20, "loss": 4.0, "loss_ce": 1.5, "loss_ce_0": 2.5, "loss_ce_proposals": 3.5, "lr_rest": 5e-4},
    {"step": 20, "eval_shapes_recall@1": 0.75, "eval_shapes_recall@5": 0.9},
    {"step": 30, "eval_shapes_recall@1": 0.5, "eval_shapes_recall@5": 0.95},
    {"step": 30, "train_runtime": 61.0, "train_loss": 4.5},
]
MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> $\\frac$ & </pre>"
CONSTANT = [
    {"step": 10, "padding": 0.0, "accuracy_answer_reg": 1.0, "images_per_second": 3.0},
    {"step": 20, "padding": 0.0, "accuracy_answer_reg": 1.0, "images_per_second": 4.0},
    {"step": 20, "eval_shapes_num_phrases": 22.0, "eval_shapes_accuracy/answer_type=reg": 1.0},
]


def test_curves_scores_pictures_and_the_recipe_are_all_in_one_file(tmp_path: Path) -> None:
    picture = tmp_path / "shapes-0000030.png"
    Image.new("RGB", (8, 8), "red").save(picture)
    report = tmp_path / "report.html"
    write_report(report, "first", HISTORY, "seed: 1 # <odd>", {"shapes": picture})
    text = report.read_text()
    assert "30 steps, 0:01:01 since the run was last started, on" in text
    assert "<td>shapes_recall@1</td>" in text
    assert re.search(r"0\.5000</td><td[^>]*>0\.7500</td><td[^>]*>20</td>", text)
    assert "seed: 1 # &lt;odd&gt;" in text
    assert base64.b64encode(picture.read_bytes()).decode() in text
    sources = re.findall(r'src="([^"]+)"', text)
    assert all(source.startswith("data:image/") for source in sources)  # nothing outside is needed
    charts = re.findall(r'alt="([^"]+) over the steps" src="data:image/svg\+xml;base64,([^"]+)"', text)
    words = "words of each box, cross-entropy (loss_ce)"
    total = "all losses, weighted (loss)"
    assert [name for name, _ in charts] == ["shapes_recall", total, words, "learning rate"]
    drawn = {name: base64.b64decode(svg).decode() for name, svg in charts}
    assert all(ElementTree.fromstring(svg).tag.endswith("svg") for svg in drawn.values())
    lines = {name: len(re.findall(r'id="line2d_\d+"', svg)) for name, svg in drawn.items()}
    assert lines[words] > lines[total]  # three layers, and a legend for them
    assert all(name in drawn[words] for name in ("last layer", "layer 1", "proposals"))


def test_constant_curves_are_left_out(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    write_report(report, "second", CONSTANT, "", {})
    text = report.read_text()
    assert re.findall(r'alt="(.+) over the steps"', text) == ["images per second (images_per_second)"]
    assert re.findall("<h2>(.+)</h2>", text) == ["Scores", "Speed", "Recipe"]


def test_the_table_of_scores_has_counts_and_full_names_of_answer_types(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    write_report(report, "second", CONSTANT, "", {})
    text = report.read_text()
    assert re.search(r"<td>shapes_num_phrases</td><td[^>]*>22</td>", text)
    assert re.search(r"<td>shapes_accuracy/answer_type=number</td><td[^>]*>1\.0000</td>", text)


def test_markup_in_names_and_settings_is_text(tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (8, 8)).save(picture)
    names = ("eval_{}_score@1", "loss_{}", "lr_{}", "accuracy_{}")
    history = [{"step": step, **{name.format(MARKUP): float(step) for name in names}} for step in (1, 2)]
    report = tmp_path / "report.html"
    write_report(report, MARKUP, history, MARKUP, {MARKUP: picture})
    text = report.read_text()
    assert "<script" not in text and "<img src=x" not in text and text.count("</pre>") == 1
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 6  # as often as it is shown
    charts = re.findall(r"data:image/svg\+xml;base64,([^\"]+)", text)
    assert len(charts) == 4
    for chart in map(base64.b64decode, charts):
        tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(chart).iter()}
        assert not tags & {"script", "img", "image", "foreignObject"}
