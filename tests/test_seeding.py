"""Streams are named by their purpose: repeatable, and disjoint for neighbouring seeds and purposes."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.seeding import derive, numpy_generator, torch_generator

SEEDS = st.integers(min_value=0)
WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126))
PURPOSES = st.lists(WORDS | st.integers(), max_size=4)


def test_the_streams_of_earlier_runs_stay_what_they_were() -> None:
    assert derive(0) == 7210762507766007076
    assert derive(1, "labels", 3, "12") == 2652867345374616225


@given(SEEDS, PURPOSES)
def test_a_derived_seed_is_repeatable_and_fits_63_bits(seed: int, purpose: list[str | int]) -> None:
    assert derive(seed, *purpose) == derive(seed, *purpose)
    assert 0 <= derive(seed, *purpose) < 2**63


@given(st.tuples(SEEDS, PURPOSES), st.tuples(SEEDS, PURPOSES))
def test_other_seeds_and_purposes_are_other_streams(
    one: tuple[int, list[str | int]], other: tuple[int, list[str | int]]
) -> None:
    same = derive(one[0], *one[1]) == derive(other[0], *other[1])
    assert same == (one == other)


@given(SEEDS, WORDS, WORDS, st.integers())
def test_a_purpose_is_its_parts_not_their_concatenation(seed: int, a: str, b: str, n: int) -> None:
    purposes: list[tuple[str | int, ...]] = [(a + b,), (a, b), (a, b, n), (a, b, str(n)), (a, f"{b}{n}")]
    assert len({derive(seed, *purpose) for purpose in purposes}) == len(set(purposes))


def test_neighbouring_seeds_and_indices_share_nothing() -> None:
    derived = {derive(seed, "labels", index) for seed in range(200) for index in range(200)}
    assert len(derived) == 200 * 200


def test_streams_of_neighbouring_purposes_draw_different_numbers() -> None:
    streams = [numpy_generator(seed, "labels", index) for seed in range(20) for index in range(20)]
    drawn = np.concatenate([stream.integers(2**63, size=20) for stream in streams])
    assert len(np.unique(drawn)) == len(drawn)


@given(SEEDS, PURPOSES)
def test_generators_repeat_their_stream(seed: int, purpose: list[str | int]) -> None:
    one, other = numpy_generator(seed, *purpose), numpy_generator(seed, *purpose)
    assert (one.integers(2**63, size=5) == other.integers(2**63, size=5)).all()
    left, right = (torch.rand(5, generator=torch_generator(seed, *purpose)) for _ in range(2))
    assert torch.equal(left, right)
    further = torch.rand(5, generator=torch_generator(seed, *purpose, "further"))
    assert not torch.equal(left, further)


def test_no_global_generator_is_read_or_seeded() -> None:
    drawn = []
    for seed in (1, 2):
        np.random.seed(seed)
        torch.manual_seed(seed)
        expected = np.random.random(), torch.rand(1).item()
        np.random.seed(seed)
        torch.manual_seed(seed)
        drawn.append((numpy_generator(0).random(), torch.rand(1, generator=torch_generator(0)).item()))
        assert (np.random.random(), torch.rand(1).item()) == expected
    assert drawn[0] == drawn[1]
