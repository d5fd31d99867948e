"""Training of a BPE tokenizer."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from mdetr.training.pretrained_parts import train_bpe

TEXTS = ["a red cube and two blue spheres", "the blue sphere behind a red cube", "a cube"] * 4


@pytest.fixture(scope="module", params=["new", "loaded"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = train_bpe(TEXTS, 320)
    if request.param == "new":
        return made
    folder = tmp_path_factory.mktemp("tokenizer")
    made.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_common_words_are_one_token_and_any_text_can_be_encoded(tokenizer: Any) -> None:
    assert tokenizer.tokenize("a red cube") == ["Ġa", "Ġred", "Ġcube"]
    text = "ein Würfel 🟥"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True).strip() == text


@pytest.mark.parametrize(
    "text", ["red cube", " red cube", "  red  cube ", "\nred\tcube", "\u3000red\u00a0cube\u2003"], ids=ascii
)
def test_a_word_is_the_same_token_whatever_white_space_is_around_it(tokenizer: Any, text: str) -> None:
    encoding = tokenizer(text)
    assert encoding.tokens() == ["<s>", "Ġred", "Ġcube", "</s>"]
    for token, word in ((1, "red"), (2, "cube")):
        first = text.index(word)
        start, end = encoding.token_to_chars(token)
        assert text[start:end].strip() == word
        assert {encoding.char_to_token(first + place) for place in range(len(word))} == {token}


def test_special_tokens_and_offsets_are_those_of_roberta(tokenizer: Any) -> None:
    encoding = tokenizer("a red cube")
    assert encoding.input_ids[0] == 0
    assert encoding.input_ids[-1] == 2
    assert encoding.char_to_token(0) == 1
    assert encoding.char_to_token(2) == 2
    assert encoding.token_to_chars(1) == (0, 1)
    assert encoding.token_to_chars(2) == (2, 5)  # without the space before the word


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert train_bpe(TEXTS, 320).get_vocab() == train_bpe(TEXTS, 320).get_vocab()
