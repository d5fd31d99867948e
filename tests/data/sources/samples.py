"""Files of every source that its reader reads without complaint, for tests that change them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mdetr.data.record import Record
from mdetr.data.sources.clevr import read_clevr, read_clevr_humans
from mdetr.data.sources.clevr_ref import read_clevr_ref
from mdetr.data.sources.coco import read_coco
from mdetr.data.sources.coco_captions import read_coco_captions
from mdetr.data.sources.csv_boxes import read_csv
from mdetr.data.sources.gqa import read_gqa
from mdetr.data.sources.json_lines import read_json_lines
from mdetr.data.sources.label_studio import read_label_studio
from mdetr.data.sources.lvis import read_lvis
from mdetr.data.sources.official import read_official
from mdetr.data.sources.pascal_voc import read_voc
from mdetr.data.sources.photos import read_photos
from mdetr.data.sources.phrasecut import read_phrasecut
from mdetr.data.sources.refcoco import read_refcoco
from mdetr.data.sources.visual_genome import read_visual_genome
from mdetr.data.sources.yolo import read_yolo

W, H = 60, 40
SQUARE = [[2, 2, 12, 2, 12, 9, 2, 9]]
OBJECT = {"color": "red", "shape": "cube", "material": "metal", "size": "large"}
PLACE = {"image_index": 0, "image_filename": "a.png"}
ALL = [
    {"function": "scene", "inputs": [], "value_inputs": []},
    {"function": "filter_color", "inputs": [0], "value_inputs": ["red"]},
    {"function": "unique", "inputs": [1], "value_inputs": []},
]
REF_ALL = [{"type": s["function"], "inputs": s["inputs"], "side_inputs": s["value_inputs"]} for s in ALL]


@dataclass(frozen=True)
class Sample:
    """Files that a reader reads without complaint: names with what they hold, and how they are read."""

    files: dict[str, Any]
    read: Callable[..., Iterator[Record]]
    root: str = "."
    split: str = "val"


def _coco(**more: Any) -> dict[str, Any]:
    image = {"id": 1, "width": W, "height": H, "file_name": "a.png"}
    annotation = {"id": 5, "image_id": 1, "category_id": 7, "bbox": [2, 2, 10, 7], "area": 70, "iscrowd": 0}
    return {
        "images": [image | more],
        "categories": [{"id": 7, "name": "cube", "image_count": 1, "frequency": "c"}],
        "annotations": [annotation | {"segmentation": SQUARE, "tokens_positive": [[2, 6]], "isfinal": 1}],
    }


def _lvis() -> dict[str, Any]:
    classes = {"neg_category_ids": [8], "not_exhaustive_category_ids": [7]}
    content = _coco(coco_url="http://x/val2017/1.jpg", **classes)
    content["categories"].append({"id": 8, "name": "ball", "image_count": 1, "frequency": "c"})
    return content


REGION = {"region_id": 3, "image_id": 1, "phrase": "a red cube", "x": 1, "y": 1, "width": 30, "height": 30}
THING = {"object_id": 4, "names": ["cube"], "x": 2, "y": 2, "w": 9, "h": 9}
SYNSET = {"entity_name": "cube", "synset_name": "cube.n.01", "entity_idx_start": 6, "entity_idx_end": 10}
SIZE = [{"image_id": 1, "width": W, "height": H, "url": "http://x/VG_100K/1.jpg"}]
SCENE = PLACE | {
    "objects": [OBJECT | {"rotation": 3.5, "3d_coords": [0.5, 0.5, 0.7], "pixel_coords": [240, 160, 11.0]}],
    "relationships": {"left": [[]]},
}
BOXED = PLACE | {"objects": [OBJECT | {"bbox": [1, 2, 30, 20]}], "relationships": {"left": [[]]}}
REF_SCENE = SCENE | {
    "obj_bbox": {"1": [10, 20, 30, 40]},
    "obj_mask": {"1": f"{480 * 20 + 10},30,{480 * 300 - 40}"},
}
TASK = {
    "id": 1,
    "data": {"image": "a.png", "caption": "a red cube"},
    "annotations": [
        {
            "was_cancelled": False,
            "result": [
                {
                    "id": "r1",
                    "type": "rectanglelabels",
                    "value": {"x": 10, "y": 10, "width": 20, "height": 30, "rotation": 0}
                    | {"rectanglelabels": ["red cube"]},
                }
            ],
        }
    ],
}
QUESTION = {
    "imageId": "n1",
    "question": "Is the cube red?",
    "answer": "yes",
    "types": {"semantic": "attr", "structural": "verify"},
    "groups": {"global": "color"},
    "entailed": ["q2"],
    "semantic": [{"operation": "select", "argument": "cube (12)", "dependencies": []}],
    "annotations": {"question": {"2": "12"}, "answer": {"0": "12"}, "fullAnswer": {}},
}
GRAPH = {"width": W, "height": H, "objects": {"12": {"name": "cube", "x": 1, "y": 2, "w": 9, "h": 9}}}
LINE = {
    "id": "x",
    "image": "a.png",
    "text": "a red cube",
    "boxes": [[1, 2, 30, 20]],
    "phrases": ["red cube"],
    "is_referred": [True],
    "answer": "yes",
    "answer_type": "obj",
}
PHOTO = {
    "image": "a.png",
    "source": "mine",
    "labels": ["cube"],
    "boxes": [[1, 2, 30, 20]],
    "width": W,
    "height": H,
}
CAPTION = PLACE | {"text": "a red cube", "phrases": [{"spans": [[2, 10]], "objects": [0]}]}
CLEVR_QUESTION = PLACE | {"question": "What is the red cube?", "answer": "red", "program": ALL}

SAMPLES = {
    "coco": Sample({"c.json": _coco()}, read_coco, "c.json"),
    "coco-captions": Sample(
        {
            "annotations/instances_val.json": _coco(),
            "annotations/captions_val.json": {
                "annotations": [{"id": 3, "image_id": 1, "caption": "a red cube"}]
            },
        },
        read_coco_captions,
    ),
    "official": Sample(
        {
            "o.json": _coco(
                caption="a red cube", tokens_positive_eval=[[[2, 6]]], dataset_name="lvis", answer="yes"
            )
        },
        read_official,
        "o.json",
    ),
    "lvis": Sample({"l.json": _lvis()}, read_lvis, "l.json"),
    "photos": Sample(
        {
            "records.jsonl": PHOTO
            | {"source": "flickr8k-small+nanodet", "text": "a cube", "spans": [[2, 6]]},
            "teacher.jsonl": PHOTO | {"scores": [0.8], "labels": ["cat"]},
        },
        read_photos,
        split="train",
    ),
    "photos-composed": Sample(
        {"records.jsonl": PHOTO | {"image": "images/03.png", "boxed": ["cube", "ball"]}},
        partial(read_photos, composed=True),
    ),
    "phrasecut": Sample(
        {
            "image_data_split3000.json": SIZE,
            "refer_val.json": [
                {
                    "task_id": "1",
                    "image_id": 1,
                    "phrase": "red cube",
                    "instance_boxes": [[2, 2, 10, 7]],
                    "Polygons": [[[[2, 2], [12, 2], [12, 9]]]],
                }
            ],
        },
        read_phrasecut,
    ),
    "refcoco": Sample(
        {
            "refcoco/instances.json": _coco(),
            "refcoco/refs(unc).p": [
                {
                    "ref_id": 1,
                    "ann_id": 5,
                    "image_id": 1,
                    "split": "val",
                    "sentences": [{"sent": "red cube", "sent_id": 9}],
                }
            ],
        },
        read_refcoco,
    ),
    "visual-genome": Sample(
        {
            "image_data.json": SIZE,
            "region_graphs.json": [
                {
                    "image_id": 1,
                    "regions": [
                        REGION | {"synsets": [SYNSET], "objects": [THING | {"synsets": ["cube.n.01"]}]}
                    ],
                }
            ],
        },
        read_visual_genome,
    ),
    "visual-genome by name": Sample(
        {
            "image_data.json": SIZE,
            "region_descriptions.json": [{"id": 1, "regions": [REGION]}],
            "attributes.json": [{"image_id": 1, "attributes": [THING | {"attributes": ["red"]}]}],
        },
        read_visual_genome,
    ),
    "gqa": Sample(
        {"val_balanced_questions.json": {"q1": QUESTION}, "val_sceneGraphs.json": {"n1": GRAPH}},
        read_gqa,
        split="val_balanced",
    ),
    "clevr": Sample(
        {
            "scenes/CLEVR_val_scenes.json": {"scenes": [SCENE]},
            "questions/CLEVR_val_questions.json": {"questions": [CLEVR_QUESTION]},
        },
        read_clevr,
    ),
    "synthesized": Sample(
        {
            "scenes/CLEVR_val_scenes.json": {"scenes": [BOXED]},
            "captions/CLEVR_val_captions.json": {"captions": [CAPTION]},
            "refexps/CLEVR_val_refexps.json": {"refexps": [CAPTION | {"target": 0}]},
        },
        read_clevr,
    ),
    "clevr-humans": Sample(
        {"CLEVR-Humans-val.json": {"questions": [PLACE | {"question": "Why?", "answer": "red"}]}},
        read_clevr_humans,
    ),
    "clevr-ref+": Sample(
        {
            "scenes/clevr_ref+_val_scenes.json": {"scenes": [REF_SCENE]},
            "refexps/clevr_ref+_val_refexps.json": {
                "refexps": [PLACE | {"refexp_index": 3, "refexp": "the red cube", "program": REF_ALL}]
            },
        },
        read_clevr_ref,
    ),
    "jsonl": Sample({"mine.jsonl": LINE}, read_json_lines, "mine.jsonl"),
    "label-studio": Sample({"export.json": [TASK]}, read_label_studio, "export.json"),
}


VOC = """<annotation><filename>|a.png|</filename><size><width>|60|</width><height>|40|</height></size><object>
<name>|red cube|</name><difficult>|0|</difficult><bndbox><xmin>|3|</xmin><ymin>|3|</ymin><xmax>|30|</xmax>
<ymax>|20|</ymax></bndbox></object></annotation>"""
# Files of text; what stands between bars is changed.
TEXT_SAMPLES = {
    "yolo labels": (
        {"data.yaml": "names: [cube]", "labels/val/a.txt": "|0| |0.5| |0.5| |0.2| |0.4|"},
        read_yolo,
        ".",
    ),
    "yolo settings": (
        {
            "data.yaml": "path: |.|\nnc: |1|\nval: |images/val|\nnames:\n  |0|: |cube|",
            "labels/val/a.txt": "0 0.5 0.5 1 1",
        },
        read_yolo,
        ".",
    ),
    "voc": ({"Annotations/a.xml": VOC}, read_voc, "."),
    "csv": (
        {
            "val.csv": "|image|,|text|,|label|,|x0|,y0,x1,y1,width\n"
            "|a.png|,|a red cube|,|cube|,|1|,|2|,|30|,|20|,|60|"
        },
        read_csv,
        "val.csv",
    ),
}


def write_sample(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".p":
        file.write_bytes(pickle.dumps(content))
    else:
        file.write_text(json.dumps(content))
