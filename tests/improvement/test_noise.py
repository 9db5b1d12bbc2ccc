"""Wrong labels on purpose."""

from typing import Literal, get_args

import numpy as np
import pytest
from helpers import copy_task, padded, properties
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.engines.decoding import Answers
from easy2hard.improvement.filters import Filtered, apply_filters
from easy2hard.improvement.noise import inject
from easy2hard.improvement.proposals import count_votes
from easy2hard.seeding import numpy_generator
from easy2hard.settings.rounds import NoiseSettings
from easy2hard.vocabulary import EOS

Kind = Literal["random", "drop", "off-by-one", "drop-off-by-one"]
kinds = st.sampled_from(get_args(Kind))


def labels_of(texts: list[str]) -> Filtered:
    """Return labels, the last of them without an end."""
    vocabulary = copy_task()[0].vocabulary
    answers = padded([[*vocabulary.encode(text), EOS] for text in texts[:-1]] + [vocabulary.encode(texts[-1])], 12)
    finished = np.arange(len(texts)) < len(texts) - 1
    sure = np.ones(len(texts), dtype=np.float32)
    prompts = vocabulary.encode_prompts([f"{number:04d}=" for number in range(len(texts))])
    return apply_filters([], count_votes(4, prompts, [Answers(answers, finished, sure, np.log(sure))]))


texts = st.lists(st.text("0123456789", min_size=2, max_size=10), min_size=2, max_size=40)


def spoil(kind: Kind, share: float, labels: Filtered, digits: int = 3, seed: int = 0) -> tuple[Filtered, np.ndarray]:
    settings = NoiseSettings(round=1, kind=kind, share=share, digits=digits)
    return inject(settings, labels, copy_task()[0].vocabulary, numpy_generator(seed, "noise"))


@properties
@given(kind=kinds, share=st.floats(0.05, 1.0), texts=texts, seed=st.integers(0, 99))
def test_noise_changes_the_answers_of_a_share_of_the_kept_labels_and_nothing_else(
    kind: Kind, share: float, texts: list[str], seed: int
) -> None:
    labels = labels_of(texts)
    noisy, spoilt = spoil(kind, share, labels, seed=seed)
    assert spoilt.sum() == round(share * (len(texts) - 1))
    assert not spoilt[~labels.kept].any()
    np.testing.assert_array_equal(noisy.proposals.prompts, labels.proposals.prompts)
    np.testing.assert_array_equal(noisy.kept, labels.kept)
    changed = (noisy.proposals.answers != labels.proposals.answers).any(axis=1)
    np.testing.assert_array_equal(changed, spoilt)
    again, _ = spoil(kind, share, labels, seed=seed)
    np.testing.assert_array_equal(again.proposals.answers, noisy.proposals.answers)


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("digits", [1, 3])
def test_each_kind_is_what_it_is_called(kind: Kind, digits: int) -> None:
    rng = np.random.default_rng(0)
    texts = ["".join(map(str, rng.integers(0, 10, 8))) for _ in range(400)]
    noisy, spoilt = spoil(kind, 1.0, labels_of(texts), digits)
    after = copy_task()[0].vocabulary.decode_answers(noisy.proposals.answers)
    lost, off = set(), set()
    for old, new in [(old, new) for old, new, hit in zip(texts, after, spoilt, strict=True) if hit]:
        lost.add(len(old) - len(new))
        if kind == "random":
            continue
        wrong = [place for place, (a, b) in enumerate(zip(old, new, strict=False)) if a != b]
        assert all((int(old[place]) - int(new[place])) % 10 in (1, 9) for place in wrong)
        assert wrong == list(range(len(new) - len(wrong), len(new)))  # the last ones, without a gap
        off.add(len(wrong))
    counts = set(range(1, digits + 1))
    assert lost == (counts if "drop" in kind else {0})
    assert kind == "random" or off == (counts if "off" in kind else {0})


def test_something_is_left_of_a_short_answer() -> None:
    noisy, _ = spoil("drop-off-by-one", 1.0, labels_of(["4"] * 30))
    assert all(len(text) == 1 for text in copy_task()[0].vocabulary.decode_answers(noisy.proposals.answers)[:-1])
