"""Odd texts, given to the model and imported as captions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mdetr.data.store import Store
from tests.corpus.cases import Case, Refused, command, model
from tests.corpus.images import quarters

_LONG = "a red cube and a blue ball, " * 360  # 10,080 characters


def _grounded(text: Any) -> str:
    """Ground a text, draw the result, and check that each span has whole words of the text."""
    result = model().ground(quarters(), text, threshold=0)
    result.plot()
    json.dumps(result.to_dict())
    for row in result:
        assert row.phrase == " ... ".join(text[start:end] for start, end in row.spans), row
        for start, end in row.spans:
            assert 0 <= start < end <= len(text), row
            assert not (text[start - 1 : start].isalpha() and text[start].isalpha() and text.isascii()), row
            assert not (text[end - 1].isalpha() and text[end : end + 1].isalpha() and text.isascii()), row
    return "whole words"


def _imported(folder: Path, text: Any) -> str:
    """Import a text as the caption of a box, and read it from the store."""
    quarters().save(folder / "a.png")
    line = {"image": "a.png", "text": text, "boxes": [[1, 2, 30, 20]], "phrases": [[[0, len(text)]]]}
    (folder / "a.jsonl").write_text(json.dumps(line), encoding="utf-8")
    command("data", "import", "jsonl", folder / "a.jsonl", folder / "output")
    (record,) = Store.open(folder / "output")
    assert record.spans == (((0, len(text)),),)
    return record.text


_GOOD = {
    "one letter": "a",
    "emoji": "a 🐈 on a red 🛋️",
    "emoji of several characters": "👩‍👩‍👧‍👦 and 🏳️‍🌈 next to 👍🏽",
    "only an emoji": "🐈",
    "combining marks": "a cafe\u0301 with nai\u0308ve a\u030a\u0323\u0302 cubes",
    "only combining marks": "\u0301\u0302\u0303",
    "many marks on one letter": "a z" + "\u0300\u0316\u0334" * 20 + " cube",
    "right-to-left": "מכעב אדום ליד כדור כחול",
    "Arabic with marks": "مُكَعَّبٌ أَحْمَرُ",
    "both directions with marks of direction": "red \u202eeuc\u202c \u2067מכעב\u2069 cube",
    "Chinese": "红色的立方体在金属球的左边",
    "Japanese": "赤い立方体と青いボール、カップ",
    "Korean": "빨간 정육면체와 파란 공",
    "Thai": "ลูกบาศก์สีแดงข้างลูกบอลสีน้ำเงิน",
    "Hindi": "लाल घन और नीली गेंद",
    "fullwidth letters": "ｒｅｄ ｃｕｂｅ",
    "letters of ligatures": "the ﬁrst ﬂat oﬃce",
    "mathematical letters": "a 𝐫𝐞𝐝 𝒄𝒖𝒃𝒆",
    "zero-width spaces": "a red\u200bcube\u200c and\u200d\ufeff ball",
    "soft hyphens": "a metal\u00adlic cu\u00adbe",
    "newlines": "a red cube\non a\r\nblue\rball",
    "tabs": "a\tred\tcube",
    "odd spaces": "a\u00a0red\u2009cube\u3000and\u2028a\u2029ball\x0b\x0c",
    "many spaces": "a" + " " * 60 + "cube",
    "spaces before and behind": "   a red cube   ",
    "only punctuation": "...?!",
    "one dot": ".",
    "dots around": "... a red cube ...",
    "quotes and brackets": "\"a\" 'red' [cube] {ball} (x) <y>",
    "markup of the terminal": "the [/red] cube [bold]",
    "HTML": "<script>alert(1)</script> a & b &amp; c",
    "special tokens": "<s> a </s> <mask> cube <pad> <unk>",
    "format characters": "%s {0} {x} ${HOME} `id` $(id)",
    "path": "../../etc/passwd C:\\cube",
    "null character": "a red\0cube",
    "control characters": "a \x01\x1b[31mred\x1b[0m \x7f\x85cube",
    "last characters of Unicode": "a \U0010ffff\ufffd\uffff cube",
    "private characters": "a \ue000\uf8ff cube",
    "numbers": "1.5 cubes, 3,000 balls, 10% of 2x4",
    "hyphens and apostrophes": "the man's T-shirt, rock'n'roll, o'clock -- x-",
    "mixed case": "A rEd CUBE",
    "Turkish i": "İstanbul ıI",
    "sharp s": "STRASSE straße ẞ",
    "10,000 spaces and a word": " " * 10_000 + "cube",
    "as long as is accepted": "cube " * 120 + "ball",
}

CASES = [Case(name, lambda _, text=text: _grounded(text), "whole words") for name, text in _GOOD.items()]
for name in ("emoji", "only combining marks", "right-to-left", "Chinese", "newlines", "null character"):
    text = _GOOD[name]
    CASES.append(Case(f"{name}, imported", lambda folder, text=text: _imported(folder, text), text))
for name in ("odd spaces", "control characters", "last characters of Unicode", "spaces before and behind"):
    text = _GOOD[name]
    CASES.append(Case(f"{name}, imported", lambda folder, text=text: _imported(folder, text), text))
CASES.append(Case("10,000 characters, imported", lambda folder: _imported(folder, _LONG), _LONG))

_BAD: dict[str, tuple[Any, str]] = {
    "empty": ("", "empty"),
    "only spaces": (" \t\n\u3000", "empty"),
    "10,000 characters": (_LONG, "shorten it"),
    "one word of 10,000 letters": ("x" * 10_000, "shorten it"),
    "10,000 marks on one letter": ("a" + "\u0301" * 10_000, "shorten it"),
    "10,000 emojis": ("🐈" * 10_000, "shorten it"),
    "a million letters": ("cube" * 250_000, "shorten it"),
    "lone high surrogate": ("a \ud83d cube", "not valid Unicode"),
    "lone low surrogate": ("a \udc08 cube", "not valid Unicode"),
    "surrogates in the wrong order": ("a \udc08\ud83d cube", "not valid Unicode"),
    "byte that is no UTF-8": (b"caf\xe9 cube".decode("utf-8", "surrogateescape"), "not valid Unicode"),
    "None": (None, "Expected a text"),
    "number": (7, "Expected a text"),
    "bytes": (b"a red cube", "Expected a text"),
    "list": (["a red cube"], "call ground_batch"),
    "mapping": ({"text": "a red cube"}, "Expected one text"),
}
CASES += [
    Case(name, lambda _, text=text: _grounded(text), Refused(words)) for name, (text, words) in _BAD.items()
]
for name in ("empty", "only spaces", "lone high surrogate"):
    text, _ = _BAD[name]
    CASES.append(
        Case(f"{name}, imported", lambda folder, text=text: _imported(folder, text), Refused("line 1"))
    )


def _asked(method: str, *arguments: Any, **options: Any) -> Callable[[Path], object]:
    return lambda _: len(getattr(model(), method)(quarters(), *arguments, **options).boxes)


CASES += [
    Case("no class name", _asked("detect", []), Refused("no class name")),
    Case("class names as one text", _asked("detect", "cube"), Refused("list of class names")),
    Case("an empty class name", _asked("detect", ["cube", " "]), Refused("name 2 of 2 is empty")),
    Case("a class name twice", _asked("detect", ["cube", "cube"]), Refused("duplicate")),
    Case("a class name that is None", _asked("detect", ["cube", None]), Refused("Expected a text")),
    Case("a class name with half a character", _asked("detect", ["\ud83d"]), Refused("not valid Unicode")),
    Case("100 class names", _asked("detect", [f"thing {n}" for n in range(100)], threshold=1), 0),
    Case("class names of a generator", _asked("detect", (n for n in ("cube", "ball")), threshold=1), 0),
    Case("threshold of NaN", _asked("ground", "a cube", threshold=float("nan")), Refused("between 0 and 1")),
    Case("threshold of 2", _asked("ground", "a cube", threshold=2), Refused("between 0 and 1")),
    Case("threshold as text", _asked("ground", "a cube", threshold="high"), Refused("between 0 and 1")),
    Case("overlap of -1", _asked("detect", ["cube"], max_overlap=-1), Refused("between 0 and 1")),
    Case("batch size of 0", _asked("detect", ["cube"], batch_size=0), Refused("batch_size")),
    Case("unknown order of channels", _asked("ground", "a cube", channel_order="xyz"), Refused('"rgb" or')),
]
