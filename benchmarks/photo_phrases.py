"""What a model finds of each kind of phrase in photos that it never saw, and what it invents.

    python benchmarks/photo_phrases.py photos --model photo-tiny --photos 120

The folder has the layout of docs/photo-tiny.md; its validation photos are taken in a fixed random order. Each
phrase is a text by itself. It counts as found if the box of the query that is likeliest to mean it has an IoU
of at least 0.5 with one of its things. Absent things are drawn from the names that a photo is known not to
show; "other animal" are those among the five commonest animals, in photos of another of them. "like animal"
are the rest of the five, which have no box but are not known to be absent: sheep, cows and horses where
another of these is, and what the detector saw.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torchvision.ops import box_iou

from mdetr import Mdetr
from mdetr.data.class_names import class_name
from mdetr.data.composition.mentions import by_color, by_position, relation
from mdetr.data.composition.scene import Mention, Scene, scene_of
from mdetr.data.image_tensors import load_image_tensor
from mdetr.data.sources.photos import read_photos

ANIMALS = ("dog", "cat", "horse", "cow", "sheep")
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True)
class Phrase:
    """A text, what kind it is of, and what it means."""

    kind: str
    mention: Mention


def main() -> None:
    """Print how many phrases of each kind are found, and how often something is found at each threshold."""
    arguments = _arguments()
    torch.set_grad_enabled(False)
    model = Mdetr.from_pretrained(arguments.model)
    rng = Random(5)
    records = list(read_photos(arguments.folder, "val"))
    rng.shuffle(records)
    hits, scores = defaultdict[str, list[bool]](list), defaultdict[str, list[float]](list)
    for record in records[: arguments.photos]:
        image = load_image_tensor(arguments.folder / str(record.image))
        scene = scene_of(record, image)
        phrases = _phrases(scene, rng)
        best_boxes, best_scores = _predict(model, image, [phrase.mention for phrase in phrases])
        for phrase, box, score in zip(phrases, best_boxes, best_scores, strict=True):
            scores[phrase.kind].append(score)
            if phrase.mention.things:
                true = torch.tensor([scene.things[i].box for i in phrase.mention.things])
                hits[phrase.kind].append(bool((box_iou(box[None], true) >= 0.5).any()))
    print("kind            phrases  found  something above:  " + "   ".join(f"{t:.1f}" for t in THRESHOLDS))
    for kind, values in scores.items():
        found = f"{sum(hits[kind]) / len(hits[kind]):.2f}" if kind in hits else "    "
        shares = "  ".join(f"{sum(v > t for v in values) / len(values):.2f}" for t in THRESHOLDS)
        print(f"{kind:15} {len(values):7}   {found}                   {shares}")


def _phrases(scene: Scene, rng: Random) -> list[Phrase]:
    groups = scene.by_name()
    found = [
        Phrase("class name", Mention(rng.choice(("", "a ", "the ")) + _noun(name), things))
        for name, things in list(groups.items())[:4]
    ]
    for kind, make in (("color", by_color), ("place or size", by_position)):
        made = (make(scene, rng, name) for name in groups)
        found += [Phrase(kind, mention) for mention in [next(filter(None, made), None)] if mention]
    related = relation(scene, rng)
    found += [Phrase("relation", related)] if related is not None else []
    absent = rng.sample(scene.absent, min(4, len(scene.absent)))
    found += [Phrase("absent", Mention(f"a {_noun(name)}", ())) for name in absent]
    if set(groups) & set(ANIMALS):
        found += [
            Phrase("other animal" if name in scene.absent else "like animal", Mention(f"a {name}", ()))
            for name in ANIMALS
            if name not in groups
        ]
    return found


def _noun(name: str) -> str:
    words = class_name(name)
    return (words.singular or words.plural)[0]


def _predict(model: Mdetr, image: Tensor, mentions: Sequence[Mention]) -> tuple[Tensor, list[float]]:
    """The box (B, 4) in pixels of each mention's likeliest query, and the best score of any query."""
    texts = [mention.text for mention in mentions]
    batch = model.processor.prepare(images=image, text=texts)
    output = model.model(**batch.inputs)
    assert output.logits is not None
    probabilities = output.logits.float().softmax(-1)
    found = model.processor.post_process_boxes(output, [layout.given for layout in batch.layouts])
    boxes = []
    for row, (mention, text) in enumerate(zip(mentions, batch.texts, strict=True)):
        start, end = mention.root or (0, len(mention.text))
        tokens = {token for at in range(start, end) if (token := text.first_token([at])) is not None}
        best = int(probabilities[row][:, sorted(tokens)].amax(-1).argmax())
        boxes.append(torch.from_numpy(found[row].boxes_xyxy[best]))
    return torch.stack(boxes), (1 - probabilities[..., -1]).amax(-1).tolist()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default="photo-tiny")
    parser.add_argument("--photos", type=int, default=120)
    return parser.parse_args()


if __name__ == "__main__":
    main()
