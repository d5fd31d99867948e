"""Tests of the processor: targets against recorded numbers, tokens, spans, results, saving, bad input."""

from __future__ import annotations

import json
import logging
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import AutoProcessor, PreTrainedTokenizerFast

from mdetr.errors import InvalidInputError
from mdetr.model.interface import MdetrOutput
from mdetr.processing.detections import Detections
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.post_processing import post_process_boxes
from mdetr.processing.processor import MdetrProcessor, roberta_tokenizer
from mdetr.processing.rle import encode_masks
from mdetr.processing.tokens import read_back, tokenized_texts
from mdetr.training.pretrained_parts import train_bpe

FIXTURES = Path(__file__).parents[1] / "fixtures"
OFFICIAL = FIXTURES / "official"
SIZES = [(480, 640), (300, 225), (400, 500)]  # height, width, as recorded
GREY = np.full((50, 100, 3), 128, np.uint8)


@cache
def roberta_processor() -> MdetrProcessor:
    return MdetrProcessor(MdetrImageProcessor(size=None), roberta_tokenizer())


@cache
def own_processor() -> MdetrProcessor:
    return MdetrProcessor(MdetrImageProcessor(size=None), train_bpe(["a red cube", "two blue balls"], 300))


@pytest.fixture
def processor() -> MdetrProcessor:
    return roberta_processor()


def _recorded(variant: str) -> dict[str, Tensor]:
    with np.load(OFFICIAL / "forward" / f"{variant}.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def _recorded_inputs() -> tuple[list[np.ndarray], list[str], list[dict[str, Any]]]:
    description = json.loads((OFFICIAL / "inputs.json").read_text())
    with np.load(OFFICIAL / "inputs.npz") as file:
        images = [file[f"image_{index}"] for index in range(3)]
    targets = []
    for image, target in zip(images, description["targets"], strict=True):
        height, width = image.shape[:2]
        boxes = [
            ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
            for x, y, w, h in target["boxes_cxcywh"]
        ]
        referred = [bool(value) for value in target["is_referred"]]
        targets.append({"boxes": boxes, "spans": target["spans"], "is_referred": referred})
    return images, description["captions"], targets


def _ground(
    processor: MdetrProcessor,
    output: MdetrOutput,
    texts: list[str],
    sizes: list[tuple[int, int]],
    **thresholds: float,
) -> list[Detections]:
    return processor.post_process_grounding(output, processor.tokenize_each(texts), sizes, **thresholds)


def test_targets_agree_with_the_published_program(processor: MdetrProcessor) -> None:
    images, captions, targets = _recorded_inputs()
    made = processor(images, captions, targets)["targets"]
    positive = made["positive_map"][made["box_mask"]].float()
    uniform = positive / (positive.sum(-1, keepdim=True) + 1e-6)
    assert torch.equal(uniform, _recorded("pretrain_r101")["positive_map"])
    expected = torch.tensor(json.loads((OFFICIAL / "inputs.json").read_text())["targets"][0]["boxes_cxcywh"])
    torch.testing.assert_close(made["boxes"][0], expected, rtol=0, atol=1e-6)
    assert made["box_mask"].sum(1).tolist() == [4, 3, 0]
    assert made["is_referred"].tolist() == [[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert made["referred_mask"].tolist() == [True, True, True]


def test_boxes_and_scores_agree_with_the_published_program() -> None:
    recorded = _recorded("pretrain_r101")
    output = MdetrOutput(logits=recorded["pred_logits"], pred_boxes=recorded["pred_boxes"])
    results = post_process_boxes(output, SIZES)
    boxes = torch.from_numpy(np.stack([found.boxes_xyxy for found in results]))
    scores = torch.from_numpy(np.stack([found.scores for found in results]))
    torch.testing.assert_close(boxes, recorded["post_boxes"])
    torch.testing.assert_close(scores, recorded["post_scores"])
    assert all(found.referred_scores is None for found in results)


def test_referred_scores_agree_with_the_published_program() -> None:
    recorded = _recorded("clevrref_r18")
    output = MdetrOutput(
        logits=recorded["pred_logits"],
        pred_boxes=recorded["pred_boxes"],
        referred_logits=recorded["pred_isfinal"][..., 0],
    )
    referred = [torch.from_numpy(found.referred_scores) for found in post_process_boxes(output, SIZES)]
    torch.testing.assert_close(torch.stack(referred), recorded["post_scores_refexp"])


def test_bundled_tokenizer_gives_robertas_ids_and_offsets(processor: MdetrProcessor) -> None:
    for expected in json.loads((FIXTURES / "roberta_encodings.json").read_text()):
        found = processor.tokenizer(expected["text"], return_offsets_mapping=True)
        assert found["input_ids"] == expected["ids"]
        assert [list(offsets) for offsets in found["offset_mapping"]] == expected["offsets"]


def test_a_target_without_is_referred_is_masked(processor: MdetrProcessor) -> None:
    box = {"boxes": [(0, 0, 10, 10)], "spans": [[(0, 1)]]}
    made = processor([GREY, GREY], ["a b", "a b"], [{**box, "is_referred": [True]}, box])["targets"]
    assert made["referred_mask"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("span", "positive", "aligned"),
    [
        ((2, 11), {2, 3}, {2, 3}),  # "black cat"
        ((1, 11), {2, 3}, set()),  # begins on the space, so the next character is tried for soft tokens
        ((2, 8), {2}, set()),  # ends on the space
        ((11, 12), set(), set()),  # the space alone: its end is moved before its beginning
    ],
)
def test_spans_that_begin_or_end_between_tokens(
    processor: MdetrProcessor, span: tuple[int, int], positive: set[int], aligned: set[int]
) -> None:
    made = processor(GREY, "a black cat sat", {"boxes": [(0, 0, 10, 10)], "spans": [[span]]})["targets"]
    assert set(made["positive_map"][0, 0].nonzero()[:, 0].tolist()) == positive
    assert set(made["alignment_map"][0, 0].nonzero()[:, 0].tolist()) == aligned


def test_one_image_serves_several_texts(processor: MdetrProcessor) -> None:
    batch = processor(GREY, ["a cat", "a dog", "a cow"])
    assert batch["pixel_values"].shape[0] == 1
    assert batch["input_ids"].shape[0] == 3
    assert batch["image_index"].tolist() == [0, 0, 0]
    paired = processor([GREY, GREY], ["a cat", "a dog"])
    assert set(paired) == {"pixel_values", "pixel_mask", "input_ids", "attention_mask"}


def test_boxes_are_relative_to_the_image_that_their_text_speaks_of(processor: MdetrProcessor) -> None:
    wide, square = GREY, np.zeros((50, 50, 3), np.uint8)
    target = {"boxes": [(0, 0, 50, 50)], "spans": [[(0, 1)]]}
    batch = processor([wide, square], ["a", "a", "a"], [target] * 3, image_index=[1, 0, 1])
    assert batch["targets"]["boxes"][:, 0].tolist() == [
        [0.5, 0.5, 1, 1],
        [0.25, 0.5, 0.5, 1],
        [0.5, 0.5, 1, 1],
    ]


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_empty_text_is_refused(processor: MdetrProcessor, text: str) -> None:
    with pytest.raises(InvalidInputError, match="The text is empty"):
        processor(GREY, text)


@pytest.mark.parametrize("text", ["\ud83d", "a cat\udce9", ["a cat", "\udfff"]], ids=ascii)
def test_a_text_that_is_not_unicode_is_refused(processor: MdetrProcessor, text: str | list[str]) -> None:
    with pytest.raises(InvalidInputError, match=r"\\u\w+' is not valid Unicode at character \d") as refusal:
        processor([GREY] * (1 if isinstance(text, str) else 2), text)
    str(refusal.value).encode()  # the sentence itself can be printed


@pytest.mark.parametrize("text", [7, b"a cat", {"text": "a cat"}, [None], ["a cat", 7], [["a cat"]]], ids=str)
def test_what_is_no_text_is_refused(processor: MdetrProcessor, text: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"Expected a text.*, got "):
        processor(GREY, text)


@pytest.mark.parametrize("own", [False, True], ids=["roberta", "own"])
@pytest.mark.parametrize("text", ["a <mask> cube", "<s>red</s> <pad>", "<unk>", "cube<pad><pad>", "</s></s>"])
def test_special_tokens_in_a_text_are_plain_text(processor: MdetrProcessor, text: str, own: bool) -> None:
    if own:
        processor = own_processor()
    encoding = processor.tokenize([text, "a"])
    start, *inside, end = encoding["input_ids"][0][encoding["attention_mask"][0] == 1].tolist()
    special = {"<s>": 0, "</s>": 2}
    assert (start, end) == (special["<s>"], special["</s>"])
    assert not set(inside) & set(processor.tokenizer.all_special_ids)
    assert processor.tokenizer.decode(inside).strip() == text
    letters = [place for place, character in enumerate(text) if character != " "]
    tokens = [encoding.char_to_token(0, place) for place in letters]
    assert tokens == sorted(tokens)  # every character has its token
    (found,) = _ground(
        processor, _output_for({0: list(range(1, len(inside) + 1))}), [text], [(9, 9)], token_threshold=1e-3
    )
    assert found[0].phrase == text


def test_long_texts_and_padding_make_no_noise(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    tokenizer = train_bpe(["a red cube"], 300)
    tokenizer.model_max_length = 16
    MdetrProcessor(MdetrImageProcessor(size=None), tokenizer).save_pretrained(tmp_path)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        processor = AutoProcessor.from_pretrained(tmp_path)
        assert processor([GREY, GREY], ["a red cube " * 9, "a"])["input_ids"].shape == (2, 29)
    finally:
        logger.removeHandler(caplog.handler)
    assert not caplog.records
    assert not recwarn.list


def test_text_of_256_tokens_is_the_longest(processor: MdetrProcessor) -> None:
    assert processor(GREY, "cat" + " cat" * 253)["input_ids"].shape == (1, 256)
    with pytest.raises(InvalidInputError, match="has 257 tokens, but the model has only 256 positions"):
        processor(GREY, "cat" + " cat" * 254)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"images": [GREY, GREY], "text": ["a", "b", "c"]}, "2 images and 3 texts"),
        ({"images": [], "text": "a"}, "at least one image"),
        ({"images": GREY, "text": []}, "at least one text"),
        ({"images": GREY, "text": [7]}, "Expected a text, got int"),
        ({"images": GREY, "text": "a", "image_index": [1]}, "Expected an image_index between 0 and 0"),
        ({"images": GREY, "text": "a", "image_index": [0, 0]}, "Expected image_index of shape"),
        ({"images": GREY, "text": "a", "return_tensors": "tf"}, "return_tensors"),
        ({"images": None, "text": "a", "targets": {"boxes": [], "spans": []}}, "Targets need images"),
        ({"images": GREY, "text": "a", "targets": []}, "a target for each of the 1 texts"),
        (
            {"images": GREY, "text": "a", "targets": {"boxes": [(0, 0, 1, 1)], "spans": []}},
            "Expected spans for each",
        ),
        (
            {"images": GREY, "text": "a", "targets": {"boxes": [(0, 0, 1, 1)], "spans": [[(0, 2)]]}},
            r"Span \(0, 2\) is empty or outside its text",
        ),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    processor: MdetrProcessor, arguments: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        processor(**arguments)


def test_a_saved_processor_is_the_same_when_loaded(processor: MdetrProcessor, tmp_path: Path) -> None:
    image_processor = MdetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 100}, pad_to_multiple=16)
    MdetrProcessor(image_processor, processor.tokenizer, 64, 8).save_pretrained(tmp_path)
    loaded = MdetrProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, MdetrProcessor)
    assert isinstance(loaded.image_processor, MdetrImageProcessor)
    assert loaded.image_processor.size == {"shortest_edge": 64, "longest_edge": 100}
    assert (loaded.image_processor.pad_to_multiple, loaded.max_text_tokens, loaded.pad_text_to_multiple) == (
        16,
        64,
        8,
    )
    assert loaded(GREY, "a cat")["input_ids"].shape == (1, 8)


def test_a_size_of_none_is_saved_as_such(processor: MdetrProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    assert MdetrProcessor.from_pretrained(tmp_path).image_processor.size is None


def test_auto_processor_knows_a_saved_processor(processor: MdetrProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    assert isinstance(AutoProcessor.from_pretrained(tmp_path), MdetrProcessor)


def test_any_fast_tokenizer_serves() -> None:
    words = Tokenizer(models.BPE(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<unk>"], show_progress=False)
    words.train_from_iterator(["a red cube left of two blue balls"] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    processor = MdetrProcessor(MdetrImageProcessor(size=None), tokenizer)
    text = "two blue cubes"
    made = processor(GREY, text, {"boxes": [(0, 0, 9, 9)], "spans": [[(4, 8)]]})
    tokens = made["targets"]["positive_map"][0, 0].nonzero()[:, 0]
    assert tokenizer.convert_ids_to_tokens(made["input_ids"][0, tokens]) == ["Ġblue"]
    found = _ground(processor, _output_for({0: tokens.tolist()}), [text], [(50, 100)])
    assert found[0][0].phrase == "blue"


def _output_for(tokens_of_query: dict[int, list[int]], num_queries: int = 3) -> MdetrOutput:
    """Queries that are sure of some tokens, evenly; all others are sure of "no object"."""
    logits = torch.full((1, num_queries, 256), -20.0)
    logits[..., -1] = 10
    boxes = torch.full((1, num_queries, 4), 0.5)
    for query, tokens in tokens_of_query.items():
        logits[0, query, -1] = query - 6.0  # the first is the surest
        logits[0, query, tokens] = 0
    return MdetrOutput(logits=logits, pred_boxes=boxes)


def test_grounding_reads_words_off_the_token_distribution(processor: MdetrProcessor) -> None:
    text = "the tall man in the red hat"  # tokens: <s> the tall man in the red hat </s>
    output = _output_for({0: [2, 3, 6, 7], 2: [1, 2, 3]})
    (found,) = _ground(processor, output, [text], [(100, 200)])
    assert [grounding.phrase for grounding in found] == ["tall man ... red hat", "the tall man"]
    assert found[0].spans == ((4, 12), (20, 27))
    assert found[0].box == (50.0, 25.0, 150.0, 75.0)
    assert found[0].score > found[1].score > 0.9


def test_a_long_phrase_whose_tokens_share_the_probability_is_read_too(processor: MdetrProcessor) -> None:
    text = "the very tall man in the old red hat with a broad green ribbon"
    output = _output_for({0: list(range(1, 15))})  # 1/14 each, less than the threshold of 0.1
    (found,) = _ground(processor, output, [text], [(9, 9)])
    assert [grounding.phrase for grounding in found] == [text]


def test_special_tokens_and_padding_never_give_words(processor: MdetrProcessor) -> None:
    (found,) = _ground(processor, _output_for({0: [0, 3, 40]}), ["a cat"], [(9, 9)])
    assert (found[0].phrase, found[0].spans) == ("", ())


def test_boxes_of_groundings_stay_in_the_image(processor: MdetrProcessor) -> None:
    output = _output_for({0: [2]})
    assert output.pred_boxes is not None
    output.pred_boxes[0, 0] = torch.tensor([0.9, 0.1, 0.6, 0.6])
    (found,) = _ground(processor, output, ["a cat"], [(100, 200)])
    assert found[0].box == pytest.approx((120, 0, 200, 40))


def test_threshold_decides_what_is_shown(processor: MdetrProcessor) -> None:
    output = _output_for({0: [1], 1: [2]})
    assert len(_ground(processor, output, ["a cat"], [(9, 9)], threshold=0.9999)[0]) == 0
    assert len(_ground(processor, output, ["a cat"], [(9, 9)])[0]) == 2


@pytest.mark.parametrize(
    ("text", "picked", "phrase"),
    [
        ("an aardvark", "ard", "aardvark"),
        ("snowboarders and cats", "board", "snowboarders"),
        ("the red-haired man", "haired man", "red-haired man"),
        ("the man's hat", "the man", "the man"),
        ("don't", "don", "don't"),
        ("nai\u0308ve cats", "na", "nai\u0308ve"),
        ("红色的立方体", "立方体", "立方体"),
        ("a cat.", "cat", "cat"),
    ],
)
def test_a_tokens_word_belongs_to_the_phrase_as_a_whole(
    processor: MdetrProcessor, text: str, picked: str, phrase: str
) -> None:
    encoding, start = processor.tokenize([text]), text.index(picked)
    tokens = {encoding.char_to_token(0, place) for place in range(start, start + len(picked))} - {None}
    (found,) = _ground(processor, _output_for({0: sorted(tokens)}), [text], [(9, 9)])
    assert found[0].phrase == phrase


WORDS = ("cat", "dog", "snowboarder's", "🐈", "red-haired", "naïve", "日本", "2nd")


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12), st.data())
@settings(deadline=None, max_examples=60)
def test_words_of_a_box_are_read_back_from_its_positive_map(words: list[str], data: st.DataObject) -> None:
    processor = roberta_processor()
    text = " ".join(words)
    first = data.draw(st.integers(0, len(words) - 1))
    last = data.draw(st.integers(first, len(words) - 1))
    start = len(" ".join(words[:first])) + (first > 0)
    span = (start, start + len(" ".join(words[first : last + 1])))
    made = processor(GREY, text, {"boxes": [(0, 0, 9, 9)], "spans": [[span]]})["targets"]
    tokens = made["positive_map"][0, 0].nonzero()[:, 0].tolist()
    output = _output_for({0: tokens})
    (found,) = _ground(processor, output, [text], [(9, 9)], token_threshold=1e-3)
    assert found[0].spans == (span,)
    assert found[0].phrase == text[slice(*span)]


SCRIPTS = (
    *("cat", "snowboarder", "extraordinarily", "Straßenbahnhaltestelle", "naïve", "nai\u0308ve", "2nd", "éé"),
    *(
        "велосипедист",
        "πράσινος",
        "הכלב",
        "السيارة",
        "می\u200cخواهم",
        "हिन्दी",
        "고양이",
        "t-shirt",
        "3.14",
        "don't",
    ),
    *("👩\u200d🚀", "🟥", "<mask>", "_"),
)
GAPS = (" ", "  ", ", ", ". ", "\n", "\u00a0", " (", ") ", "/", "\u3000")


@given(
    st.lists(st.tuples(st.sampled_from(GAPS), st.sampled_from(SCRIPTS)), min_size=1, max_size=9),
    st.booleans(),
    st.data(),
)
@settings(deadline=None, max_examples=150)
def test_a_span_never_cuts_a_word(pairs: list[tuple[str, str]], own: bool, data: st.DataObject) -> None:
    processor = own_processor() if own else roberta_processor()
    text, inside = "", set()  # the places inside a word, where no span may begin or end
    for gap, word in pairs:
        text += gap
        if word != "<mask>":  # whose signs may stand alone
            inside.update(range(len(text) + 1, len(text) + len(word)))
        text += word
    encoding = processor.tokenize([text])
    length = int(encoding["attention_mask"].sum())
    tokens = data.draw(st.sets(st.integers(1, length - 2), min_size=1, max_size=6))
    (found,) = _ground(processor, _output_for({0: sorted(tokens)}), [text], [(9, 9)], token_threshold=1e-3)
    spans = found[0].spans
    assert not {place for span in spans for place in span} & inside
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert all(text[end:start].strip() for (_, end), (start, _) in pairwise(spans))  # as few as can be
    picked = {
        place
        for place, character in enumerate(text)
        if encoding.char_to_token(0, place) in tokens and character.strip()
    }
    assert picked <= {place for start, end in spans for place in range(start, end)}
    assert found[0].phrase == " ... ".join(text[start:end] for start, end in spans)


def test_boxes_of_the_same_words_that_lie_on_each_other_are_one(processor: MdetrProcessor) -> None:
    output = _output_for({0: [1], 1: [1], 2: [2]})
    assert output.pred_boxes is not None
    output.pred_boxes[0, 1, 0] += 0.02  # overlaps the first by 0.92
    (found,) = _ground(processor, output, ["a cat"], [(100, 200)])
    assert [grounding.phrase for grounding in found] == ["a", "cat"]
    assert len(_ground(processor, output, ["a cat"], [(100, 200)], max_overlap=1)[0]) == 3
    output.pred_boxes[0, 1, 0] += 0.2  # overlaps it by 0.39
    assert len(_ground(processor, output, ["a cat"], [(100, 200)])[0]) == 3


def _two(size: int = 8) -> list[np.ndarray]:
    return [np.zeros((size, size, 3), dtype=np.uint8), np.zeros((size, 2 * size, 3), dtype=np.uint8)]


def test_masks_are_resized_and_padded_as_their_images_are(tokenizer) -> None:
    processor = MdetrProcessor(MdetrImageProcessor(size={"shortest_edge": 16, "longest_edge": 64}), tokenizer)
    mask = torch.zeros(1, 8, 8, dtype=torch.uint8)
    mask[0, :4] = 1
    targets = [
        {"boxes": [(0, 0, 8, 4)], "spans": [((0, 1),)], "masks": mask},
        {"boxes": [], "spans": [], "masks": None},
    ]
    batch = processor(_two(), ["a", "b"], targets=targets)
    assert batch["targets"]["masks"].shape == (2, 1, 16, 32)
    assert batch["targets"]["masks"][0, 0, :8, :16].all()
    assert batch["targets"]["masks"].sum() == 8 * 16
    encoded = [targets[0] | {"masks": encode_masks(mask.numpy())}, targets[1]]
    again = processor(_two(), ["a", "b"], targets=encoded)
    assert torch.equal(again["targets"]["masks"], batch["targets"]["masks"])


def test_a_mask_of_another_size_and_a_box_without_mask_are_refused(processor) -> None:
    target = {"boxes": [(0, 0, 8, 4)], "spans": [((0, 1),)]}
    with pytest.raises(InvalidInputError, match=r"mask of 8 x 8 pixels for each .* got \(1, 4, 4\)"):
        processor(_two()[0], "a", targets=target | {"masks": torch.zeros(1, 4, 4)})
    with pytest.raises(InvalidInputError, match="have masks, others have boxes without"):
        given = [target | {"masks": torch.zeros(1, 8, 8)}, target]
        processor(_two(), ["a", "b"], targets=given)


def test_answers_become_ids_and_unknown_ones_the_entry_for_it(tokenizer) -> None:
    words = {"obj": ["yes", "no"], "attr": ["red", "unknown"]}
    processor = MdetrProcessor(
        MdetrImageProcessor(), tokenizer, answer_types=["obj", "attr"], answer_vocabulary=words
    )
    none = {"boxes": [], "spans": []}
    targets = [
        none | {"answer": "no", "answer_type": "obj"},
        none | {"answer": "pink", "answer_type": "attr"},
        none,
    ]
    made = processor(_two()[0], ["a?", "b?", "c?"], targets=targets)["targets"]
    assert made["answer_type"].tolist() == [0, 1, -1]
    assert made["answer"].tolist() == [1, 1, -1]
    with pytest.raises(InvalidInputError, match="Expected an answer type of obj, attr, got 'reg'"):
        processor(_two()[0], "a?", targets=none | {"answer": "3", "answer_type": "reg"})
    with pytest.raises(InvalidInputError, match="no answer 'maybe' of the type obj: it has yes, no"):
        processor(_two()[0], "a?", targets=none | {"answer": "maybe", "answer_type": "obj"})


@pytest.mark.parametrize("text", ["a cat", "the tall man in the red hat", "Das Mädchen, 🐈 und 两只猫!"])
def test_texts_are_read_back_from_their_tokens_with_the_characters_of_each(
    processor: MdetrProcessor, text: str
) -> None:
    encoding = processor.tokenize([text, "a much longer text, so that the other is padded, and padded again"])
    read, made = (
        read_back(processor.tokenizer, encoding["input_ids"])[0],
        tokenized_texts(encoding.encodings, [text, ""])[0],
    )
    assert read.text == text
    assert len(read.token_spans) == len(made.token_spans) == encoding["input_ids"].shape[1]
    for ours, theirs in zip(read.token_spans, made.token_spans, strict=True):
        if theirs[1] - theirs[0] != 1:  # a token may be a part of one character
            assert text[slice(*ours)].strip() == text[slice(*theirs)].strip()


def test_grounded_detections_have_grounding_dinos_keys_and_the_boxes_of_ground(
    processor: MdetrProcessor,
) -> None:
    text = "the tall man in the red hat"
    output = _output_for({0: [2, 3, 6, 7], 2: [1, 2, 3]})
    output.input_ids = processor.tokenize([text])["input_ids"]
    (expected,) = _ground(processor, output, [text], [(100, 200)])
    (found,) = processor.post_process_grounded_object_detection(output, target_sizes=[(100, 200)])
    assert set(found) == {"scores", "boxes", "text_labels", "labels"}
    assert found["text_labels"] == found["labels"] == ["tall man ... red hat", "the tall man"]
    assert found["boxes"].tolist() == expected.boxes_xyxy.tolist() == [[50.0, 25.0, 150.0, 75.0]] * 2
    assert found["scores"].tolist() == expected.scores.tolist()


def test_grounded_detections_take_sizes_as_tensors_and_are_relative_without_any(
    processor: MdetrProcessor,
) -> None:
    output, ids = _output_for({0: [2]}), processor.tokenize(["a cat"])["input_ids"]
    read = processor.post_process_grounded_object_detection
    (found,) = read(output, ids, target_sizes=torch.tensor([[100, 200]]))
    assert found["boxes"].tolist() == [[50.0, 25.0, 150.0, 75.0]]
    (relative,) = read(output, ids)
    assert relative["boxes"].tolist() == [[0.25, 0.25, 0.75, 0.75]]
    assert read(output, ids, threshold=0.9999)[0]["text_labels"] == []
    with pytest.raises(InvalidInputError, match="each of the 1 texts, got 2"):
        read(output, ids, target_sizes=[(1, 1), (2, 2)])
    with pytest.raises(InvalidInputError, match="give the input_ids"):
        read(output)
    with pytest.raises(InvalidInputError, match="Expected a threshold between 0 and 1, got 7"):
        read(output, ids, text_threshold=7)


def test_a_higher_text_threshold_leaves_fewer_words(processor: MdetrProcessor) -> None:
    output, ids = _output_for({0: [1, 2]}), processor.tokenize(["a cat"])["input_ids"]
    output.logits[0, 0, 2] = 1.5  # of the two tokens, "cat" has 0.82 and "a" 0.18
    read = processor.post_process_grounded_object_detection
    assert read(output, ids)[0]["text_labels"] == ["a cat"]
    assert read(output, ids, text_threshold=0.25)[0]["text_labels"] == ["cat"]


def test_arrays_of_numpy_are_the_tensors_of_torch(processor: MdetrProcessor) -> None:
    images, texts = _two(), ["a", "a cat", "a black cat"]
    options: dict[str, Any] = {"images": images, "text": texts, "image_index": [0, 1, 1]}
    tensors, arrays = processor(**options), processor(**options, return_tensors="np")
    assert list(arrays) == list(tensors)
    for name, array in arrays.items():
        assert isinstance(array, np.ndarray), name
        assert str(tensors[name].dtype) == f"torch.{array.dtype}"
        assert np.array_equal(array, tensors[name].numpy())
