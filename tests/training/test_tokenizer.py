"""A tokenizer of one's own."""

from __future__ import annotations

from mdetr.training.tokenizer import train_bpe

TEXTS = ["a red cube and two blue spheres", "the blue sphere behind a red cube", "a cube"] * 4


def test_common_words_are_one_token_and_any_text_can_be_encoded() -> None:
    tokenizer = train_bpe(TEXTS, 320)
    assert tokenizer.tokenize("a red cube") == ["a", "Ġred", "Ġcube"]
    text = "ein Würfel 🟥"
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_special_tokens_and_offsets_are_as_robertas() -> None:
    encoding = train_bpe(TEXTS, 320)("a red cube")
    assert encoding.input_ids[0] == 0
    assert encoding.input_ids[-1] == 2
    assert encoding.char_to_token(2) == 2
    assert encoding.token_to_chars(2) == (2, 5)  # without the space before the word


def test_the_same_texts_give_the_same_tokenizer() -> None:
    assert train_bpe(TEXTS, 320).get_vocab() == train_bpe(TEXTS, 320).get_vocab()
