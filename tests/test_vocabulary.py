"""Texts and tokens are the same thing in two forms, whatever the alphabet."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from easy2hard.errors import UserError
from easy2hard.vocabulary import BOS, EOS, PAD, SPECIAL, Tokens, Vocabulary

DIGITS = Vocabulary("0123456789=")
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
VOCABULARIES = st.lists(CHARACTERS, min_size=1, max_size=20, unique=True).map("".join).map(Vocabulary)


def texts(vocabulary: Vocabulary, **sizes: int) -> st.SearchStrategy[str]:
    return st.text(st.sampled_from(vocabulary.symbols), **sizes)


def tokens(rows: list[list[int]]) -> Tokens:
    return np.array(rows, dtype=np.int32)


@given(VOCABULARIES)
def test_every_symbol_has_an_id_of_its_own_after_the_special_tokens(vocabulary: Vocabulary) -> None:
    ids = [vocabulary.id(symbol) for symbol in vocabulary.symbols]
    assert ids == list(range(SPECIAL, len(vocabulary)))
    assert not {PAD, BOS, EOS} & set(ids)


def test_a_repeated_symbol_is_refused() -> None:
    with pytest.raises(ValueError, match="not distinct"):
        Vocabulary("010")


@given(st.data(), VOCABULARIES, st.integers(0, 12), st.integers(0, 5))
def test_prompts_round_trip(data: st.DataObject, vocabulary: Vocabulary, length: int, count: int) -> None:
    one_prompt = texts(vocabulary, min_size=length, max_size=length)
    prompts = data.draw(st.lists(one_prompt, min_size=count, max_size=count))
    encoded = vocabulary.encode_prompts(prompts)
    assert vocabulary.decode_prompts(encoded) == prompts
    assert [row[1:].tolist() for row in encoded] == [vocabulary.encode(text) for text in prompts]
    assert (encoded[:, 0] == BOS).all()


@given(st.data(), VOCABULARIES)
def test_answers_of_any_lengths_round_trip(data: st.DataObject, vocabulary: Vocabulary) -> None:
    answers = data.draw(st.lists(texts(vocabulary, max_size=12), max_size=6))
    encoded = vocabulary.encode_answers(answers)
    assert encoded.shape == (len(answers), max(map(len, answers), default=0) + 1)
    assert vocabulary.decode_answers(encoded) == answers
    for text, row in zip(answers, encoded.tolist(), strict=True):
        assert row == [*vocabulary.encode(text), EOS, *[PAD] * (len(row) - len(text) - 1)]


@given(texts(DIGITS, max_size=8), st.lists(st.integers(0, len(DIGITS) - 1), max_size=8))
def test_what_follows_the_end_of_an_answer_is_ignored(text: str, rest: list[int]) -> None:
    assert DIGITS.decode_answers(tokens([[*DIGITS.encode(text), EOS, *rest]])) == [text]


@given(texts(DIGITS, min_size=1, max_size=8))
def test_an_answer_without_an_end_is_read_to_its_last_token(text: str) -> None:
    assert DIGITS.decode_answers(tokens([DIGITS.encode(text)])) == [text]


@given(VOCABULARIES, CHARACTERS, st.integers(0, 3))
def test_a_refusal_names_the_foreign_character(vocabulary: Vocabulary, foreign: str, at: int) -> None:
    assume(foreign not in vocabulary.symbols)
    symbols = "".join(vocabulary.symbols)
    text = symbols[:at] + foreign + symbols
    with pytest.raises(UserError) as error:
        vocabulary.encode(text)
    assert repr(foreign) in str(error.value)
    assert " ".join(vocabulary.symbols) in str(error.value)


NUMBERS = Vocabulary([*map(str, range(1, 100)), *">#:,-="])


@given(st.lists(st.lists(st.sampled_from(NUMBERS.symbols), max_size=8), max_size=6))
def test_numbers_are_one_token_each_and_neighbours_stay_apart(rows: list[list[str]]) -> None:
    ids = [[NUMBERS.id(symbol) for symbol in row] for row in rows]
    longest = max(map(len, ids), default=0)
    answers = tokens([[*row, EOS, *[PAD] * (longest - len(row))] for row in ids]).reshape(len(rows), longest + 1)
    texts = NUMBERS.decode_answers(answers)
    assert [text.replace(" ", "") for text in texts] == ["".join(row) for row in rows]
    assert [NUMBERS.encode(text) for text in texts] == ids
    assert (NUMBERS.encode_answers(texts) == answers).all()
    assert NUMBERS.lengths(texts).tolist() == [len(row) for row in rows]


@pytest.mark.parametrize(("text", "foreign"), [("5>100=", "number '100'"), ("05", "number '05'"), ("5;6", "';'")])
def test_a_refusal_names_the_foreign_number(text: str, foreign: str) -> None:
    with pytest.raises(UserError, match=foreign) as error:
        NUMBERS.encode(text)
    assert "1-99 > # : , - =" in str(error.value)


def test_a_symbol_is_a_character_or_a_number() -> None:
    with pytest.raises(ValueError, match="one character or a decimal number"):
        Vocabulary(["a", "bc"])
