"""Draws the figures of docs/how-it-works.md.

    python tools/draw_figures.py           # write docs/images/*.svg
    python tools/draw_figures.py --check   # fail if a file shows another figure

Costs and assignments in the figure of the matching are computed by the code that they explain.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from svg import BLUE, GRAY, GREEN, INK, ORANGE, PURPLE, arrow, box, rectangle, svg, text

IMAGES = Path(__file__).parents[1] / "docs" / "images"

# What photo-tiny predicts for its photo of a cat; tests/documents/test_figures.py compares
CAPTION = "a brown cat and a red car"
TOKENS = ("[CLS]", "a", "brown", "cat", "and", "a", "red", "car", "[SEP]", "no object")
PREDICTED = (0.00, 0.30, 0.31, 0.32, 0.00, 0.00, 0.00, 0.00, 0.00, 0.08)

# An example of the matching: soft tokens on (red cube, metal ball, no object), and boxes cx, cy, w, h
PHRASES = ("red cube", "metal ball")
TRUE_BOXES = ((0.26, 0.62, 0.24, 0.34), (0.70, 0.36, 0.28, 0.40))
QUERIES = (
    ((0.05, 0.85, 0.10), (0.68, 0.38, 0.30, 0.38)),
    ((0.70, 0.10, 0.20), (0.30, 0.58, 0.22, 0.32)),
    ((0.55, 0.05, 0.40), (0.24, 0.74, 0.34, 0.30)),
    ((0.05, 0.10, 0.85), (0.80, 0.80, 0.20, 0.20)),
)


def draw_model() -> str:
    """The model from image and text to the heads."""
    parts = [
        # Features of image and text
        box(16, 30, 120, 62, GRAY, "image", ["3 × H × W"]),
        box(16, 170, 120, 62, GRAY, "text", ["L tokens"]),
        box(172, 30, 136, 62, BLUE, "backbone", ["ResNet, EfficientNet"]),
        box(172, 170, 136, 62, BLUE, "text encoder", ["RoBERTa"]),
        arrow((136, 61), (170, 61)),
        arrow((136, 201), (170, 201)),
        # One sequence
        box(346, 30, 134, 202, PURPLE, "joint encoder", ["self-attention", "over all h·w + L", "positions"]),
        arrow((308, 61), (344, 61)),
        arrow((308, 201), (344, 201)),
        text(326, 84, "h·w", 12),
        text(326, 192, "L", 12),
        # Queries
        box(518, 30, 122, 202, ORANGE, "decoder", ["cross-attention", "of Q queries", "to the sequence"]),
        arrow((480, 131), (516, 131)),
        box(518, 284, 122, 46, GRAY, "Q queries"),
        arrow((579, 284), (579, 234)),
        # Heads
        box(680, 16, 150, 52, GREEN, "soft tokens", ["Q × 256"]),
        box(680, 80, 150, 52, GREEN, "boxes", ["Q × 4"]),
        box(680, 144, 150, 52, GREEN, "alignment", ["Q × 64, training only"]),
        box(680, 208, 150, 52, GREEN, "answers, masks", ["models of these tasks"]),
    ]
    for y in (42, 106, 170, 234):
        parts.append(arrow((640, min(max(y, 60), 210)), (678, y)))

    # What a second text about the image computes again
    parts += [
        f'<path d="M172,352 H308" stroke="{BLUE}" stroke-width="3"/>',
        text(240, 372, "once per image, once per text", 12),
        f'<path d="M346,352 H830" stroke="{PURPLE}" stroke-width="3"/>',
        text(588, 372, "for each pair of image and text", 12),
    ]
    return svg(846, 388, parts)


def draw_soft_tokens() -> str:
    """The probabilities of one query over the tokens of a caption."""
    width, left, base, scale = 74, 30, 190, 420
    parts = [
        text(left, 28, "One query, one probability distribution over the tokens and “no object”", 15, "start")
    ]
    for index, (token, probability) in enumerate(zip(TOKENS, PREDICTED, strict=True)):
        middle = left + width * index + width / 2
        color = GRAY if token == "no object" else BLUE
        height = max(scale * probability, 1.5)
        parts += [
            rectangle(middle - 20, base - height, 40, height, color, 0.55, 2),
            text(middle, base - height - 7, f"{probability:.2f}", 12),
            text(middle, base + 20, token, 14, weight=600 if probability > 0.1 else 400),
        ]
    parts.append(f'<path d="M{left},{base} H{left + width * len(TOKENS)}" stroke="{INK}" stroke-width="1"/>')

    # Read the phrase and the score from it
    start, end = left + width + 8, left + 4 * width - 8
    parts += [
        f'<path d="M{start},{base + 34} v8 H{end} v-8" fill="none" stroke="{BLUE}" stroke-width="2"/>',
        text((start + end) / 2, base + 62, "phrase: tokens with 0.1 or more", 13),
        text(left + 9.5 * width, base + 46, "score:", 13),
        text(
            left + 9.5 * width,
            base + 64,
            f"1 − {PREDICTED[-1]:.2f} = {1 - PREDICTED[-1]:.2f}",
            13,
            weight=600,
        ),
    ]
    return svg(2 * left + width * len(TOKENS), 268, parts)


def draw_matching() -> str:
    """Queries, their costs for each true box, and the assignment of least total cost."""
    import torch

    from mdetr.losses.matcher import assign, matching_cost

    # Compute costs and assignment
    targets = torch.eye(3)[None, :2]
    logits = torch.tensor([query[0] for query in QUERIES]).log()[None, None]
    predicted = torch.tensor([query[1] for query in QUERIES])[None, None]
    cost = matching_cost(logits, predicted, targets, torch.tensor(TRUE_BOXES)[None])
    (matches,) = assign([cost], torch.ones(1, 2, dtype=torch.bool), [1])
    matched = dict(zip(matches.query.tolist(), matches.target.tolist(), strict=True))

    # Draw the image with true boxes (filled) and predicted ones (outlines)
    colors, size, left, top = (ORANGE, BLUE), 300, 24, 44
    parts = [text(left, 28, "true boxes (filled) and queries", 14, "start", weight=600)]
    parts.append(rectangle(left, top, size, size, GRAY, 0.06))
    for phrase, (cx, cy, w, h), color in zip(PHRASES, TRUE_BOXES, colors, strict=True):
        x, y = left + size * (cx - w / 2), top + size * (cy - h / 2)
        parts.append(rectangle(x, y, size * w, size * h, color, 0.3, 2))
        parts.append(text(x + size * w / 2, y + size * h / 2 + 4, phrase, 12))
    for index, (_, (cx, cy, w, h)) in enumerate(QUERIES):
        color = colors[matched[index]] if index in matched else GRAY
        x, y = left + size * (cx - w / 2), top + size * (cy - h / 2)
        outline = f'fill="none" stroke="{color}" stroke-width="2" stroke-dasharray="6 4"'
        parts.append(f'<rect x="{x:g}" y="{y:g}" width="{size * w:g}" height="{size * h:g}" {outline}/>')
        corner = (x + size * w - 5, y + size * h - 6)
        parts.append(text(*corner, str(index + 1), 13, "end", weight=600))

    # Draw the table of costs
    columns = (370, 486, 596, 706)
    parts.append(
        text(columns[0], 28, "cost of each pair, and the assignment of least total", 14, "start", weight=600)
    )
    for x, title in zip(columns, ("query", *PHRASES, "target"), strict=True):
        parts.append(
            text(x + (0 if x == columns[0] else 40), 66, title, 13, "start" if x == columns[0] else "middle")
        )
    for row in range(len(QUERIES)):
        y = 82 + 62 * row
        parts.append(text(columns[0], y + 30, f"query {row + 1}", 14, "start"))
        for column in range(2):
            is_matched = matched.get(row) == column
            color = colors[column] if is_matched else GRAY
            parts.append(rectangle(columns[column + 1] - 8, y, 96, 48, color, 0.3 if is_matched else 0.05))
            number = f"{cost[0, 0, row, column].item():.2f}".replace("-", "−")
            parts.append(
                text(columns[column + 1] + 40, y + 30, number, 15, weight=600 if is_matched else 400)
            )
        learned = PHRASES[matched[row]] if row in matched else "no object"
        parts.append(text(columns[3] + 40, y + 30, learned, 13))
    return svg(810, 366, parts)


def draw_flow() -> str:
    """The steps of the data from a data set to a metric, with the packages that take them."""
    steps = (
        ("source", "COCO, ..."),
        ("record", "one text"),
        ("store", "Parquet"),
        ("example", "augmented"),
        ("batch", "tensors"),
        ("model", "output"),
        ("detections", "boxes, words"),
        ("metric", "scores"),
    )
    packages = ((0, 3, "data", BLUE), (4, 4, "processing", PURPLE), (5, 5, "modeling", ORANGE))
    packages += ((6, 6, "processing", PURPLE), (7, 7, "evaluation", GREEN))
    width, step, left, top = 92, 108, 16, 22
    parts: list[str] = []
    for start, end, package, color in packages:
        for index in range(start, end + 1):
            parts.append(box(left + step * index, top, width, 58, color, steps[index][0], [steps[index][1]]))
            if index:
                parts.append(arrow((left + step * index - 16, top + 29), (left + step * index - 2, top + 29)))
        x, end_x = left + step * start, left + step * end + width
        parts.append(f'<path d="M{x},{top + 76} H{end_x}" stroke="{color}" stroke-width="3"/>')
        parts.append(text((x + end_x) / 2, top + 96, package, 13))
    return svg(2 * left + step * 7 + width, 134, parts)


FIGURES = {
    "model.svg": draw_model,
    "soft-tokens.svg": draw_soft_tokens,
    "matching.svg": draw_matching,
    "flow.svg": draw_flow,
}


def main() -> None:
    """Write or check the figures."""
    for name, draw in FIGURES.items():
        path, drawn = IMAGES / name, draw()
        if "--check" not in sys.argv:
            path.write_text(drawn, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != drawn:
            sys.exit(f"{path} shows another figure: run python tools/draw_figures.py")


if __name__ == "__main__":
    main()
