"""What a whole answer must contain: parts against Python integers, lists and networkx."""

import re

import networkx as nx
import numpy as np
import pytest
from helpers import TASKS
from hypothesis import given
from hypothesis import strategies as st

from easy2hard.seeding import numpy_generator
from easy2hard.tasks.base import Part, Task
from easy2hard.tasks.registry import load_oracle, load_task
from easy2hard.vocabulary import BOS, EOS, PAD, SPECIAL, Tokens

ADDITIONS = pytest.mark.parametrize("name", ["reverse-addition", "forward-addition", "forward-addition-padded"])
STRINGS = pytest.mark.parametrize("name", ["copy", "reverse"])
LONG = st.integers(1, 10**40)


def parts_of(task: Task, prompt: str, answer: str) -> dict[str, Part]:
    """Return the parts of one prompt by their names."""
    prompts, answers = task.vocabulary.encode_prompts([prompt]), task.vocabulary.encode_answers([answer])
    found = {part.name: part for part in task.parts(prompts, answers)}
    assert all(part.rows.tolist() == [0] for part in found.values())
    return found


def text_of(task: Task, part: Part) -> str:
    (text,) = task.vocabulary.decode_prompts(part.prompts)
    return text


def agrees(task: Task, part: Part, answer: str, of_part: str) -> bool:
    (found,) = part.agree(task.vocabulary.encode_answers([answer]), task.vocabulary.encode_answers([of_part])).tolist()
    assert isinstance(found, bool)
    return found


def truth(task: Task, prompt: str) -> str:
    (answer,) = load_oracle(task).solve_texts([prompt])
    return answer


def sum_prompt(name: str, a: int, b: int) -> str:
    return f"{str(a)[::-1]}+{str(b)[::-1]}=" if name.startswith("reverse") else f"{a}+{b}="


def sum_answer(name: str, total: int, longer: int) -> str:
    """Return a number as the sum of operands of which the longer has ``longer`` digits."""
    text = str(total) if name == "forward-addition" else str(total).zfill(longer + 1)
    return text[::-1] if name.startswith("reverse") else text


@ADDITIONS
@given(a=LONG, b=LONG, shift=st.integers(-20, 20))
def test_a_sum_contains_the_sum_without_the_lowest_digits(name: str, a: int, b: int, shift: int) -> None:
    task, longer = load_task(name), max(len(str(a)), len(str(b)))
    prompt = sum_prompt(name, a, b)
    part = parts_of(task, prompt, truth(task, prompt)).get("all but the lowest digit")
    if min(a, b) < 10:
        assert part is None
        return
    assert part is not None
    assert text_of(task, part) == sum_prompt(name, a // 10, b // 10)
    lengths = len(str(a)) - 1, len(str(b)) - 1
    assert part.difficulty == (lengths[0] if lengths[0] == lengths[1] else lengths)
    given_part = a // 10 + b // 10 + shift
    if 0 < given_part < 10**longer:
        contained = (a + b) // 10 == given_part + (a % 10 + b % 10) // 10
        answers = sum_answer(name, a + b, longer), sum_answer(name, given_part, longer - 1)
        assert agrees(task, part, *answers) == contained == (shift == 0)


@ADDITIONS
@given(a=LONG, b=LONG, place=st.integers(0, 40), digit=st.integers(1, 9))
def test_a_sum_contains_the_lowest_digits_of_the_sum_without_the_highest(
    name: str, a: int, b: int, place: int, digit: int
) -> None:
    task, longer = load_task(name), max(len(str(a)), len(str(b)))
    cut = [str(n)[1:] if len(str(n)) == longer else str(n) for n in (a, b)]
    prompt = sum_prompt(name, a, b)
    part = parts_of(task, prompt, truth(task, prompt)).get("all but the highest digit")
    if any(digits[:1] in ("", "0") for digits in cut):
        assert part is None
        return
    lower = int(cut[0]), int(cut[1])
    assert part is not None
    assert text_of(task, part) == sum_prompt(name, *lower)
    place %= longer
    total = sum(lower)
    wrong = total - total // 10**place % 10 * 10**place + (total // 10**place + digit) % 10 * 10**place
    if len(str(wrong)) < longer - 1:
        return  # no sum of such operands
    whole = sum_answer(name, a + b, longer)
    assert agrees(task, part, whole, sum_answer(name, total, longer - 1))
    begins_with_zero = wrong == 0 and name == "forward-addition"  # which no sum does that is not padded
    expected = place == longer - 1 and not begins_with_zero
    assert agrees(task, part, whole, sum_answer(name, wrong, longer - 1)) == expected


@ADDITIONS
@given(a=st.integers(10, 10**30), b=st.integers(10, 10**30), place=st.integers(1, 30), digit=st.integers(1, 9))
def test_a_wrong_digit_above_the_lowest_is_seen(name: str, a: int, b: int, place: int, digit: int) -> None:
    """The newest digits are the highest: nothing that is wrong there passes all but the lowest digit."""
    task, longer = load_task(name), max(len(str(a)), len(str(b)))
    prompt = sum_prompt(name, a, b)
    part = parts_of(task, prompt, truth(task, prompt))["all but the lowest digit"]
    total, place = a + b, 1 + place % longer
    wrong = total - total // 10**place % 10 * 10**place + (total // 10**place + digit) % 10 * 10**place
    assert not agrees(task, part, sum_answer(name, wrong, longer), truth(task, text_of(task, part)))


@STRINGS
@given(number=st.integers(1, 10**40).map(str), place=st.integers(0, 40), digit=st.integers(1, 9))
def test_a_copy_contains_the_copies_of_its_beginning_and_its_end(
    name: str, number: str, place: int, digit: int
) -> None:
    task, place = load_task(name), place % len(number)
    step = 1 if name == "copy" else -1
    wrong = number[:place] + str((int(number[place]) + digit) % 10) + number[place + 1 :]
    found = parts_of(task, f"{number}=", number[::step])
    assert ("all but the last digit" in found) == (len(number) > 1)
    assert ("all but the first digit" in found) == (len(number) > 1 and number[1] != "0")
    for which, left_out in (("all but the first digit", 0), ("all but the last digit", len(number) - 1)):
        if which in found:
            rest = number[:left_out] + number[left_out + 1 :]
            assert text_of(task, found[which]) == f"{rest}="
            assert found[which].difficulty == len(rest)
            assert agrees(task, found[which], number[::step], rest[::step])
            assert agrees(task, found[which], wrong[::step], rest[::step]) == (place == left_out)
            assert not agrees(task, found[which], rest[::step], rest[::step])


@pytest.mark.parametrize("name", ["copy", "reverse", "reverse-addition", "forward-addition", "forward-addition-padded"])
def test_what_is_easiest_has_no_parts(name: str) -> None:
    task = load_task(name)
    prompts = task.sample(np.random.default_rng(0), 1, 5)
    assert task.parts(prompts, load_oracle(task).solve(prompts)) == []
    assert task.parts(prompts[:0], prompts[:0]) == []


def reversed_numbers(*numbers: int) -> str:
    return "*".join(str(number)[::-1] for number in numbers) + "="


def work(a: int, b: int, change: int | None = None) -> str:
    """Return worked multiplication; the digit or sign at place ``change`` is another."""
    la, lb = len(str(a)), len(str(b))
    answer, total = "", 0
    for i, digit in enumerate(reversed(str(b))):
        product = a * int(digit) * 10**i
        total += product
        answer += ("+" if i else "") + str(product).zfill(i + la + 1)[::-1]
        if 0 < i < lb - 1:
            answer += "(" + str(total).zfill(i + la + 1)[::-1] + ")"
    answer += "=" + str(total).zfill(la + lb)[::-1]
    if change is None:
        return answer
    return answer[:change] + ("7" if answer[change] != "7" else "3") + answer[change + 1 :]


OPERAND = st.integers(1, 10**6)


def shorter_operands(a: int, b: int) -> dict[str, tuple[int, int]]:
    """Return the operands of each part, whether or not it can be asked; 0 stands for a number that begins with 0."""

    def below(number: int) -> int:
        rest = str(number)[1:]
        return int(rest) if rest[:1] not in ("", "0") else 0

    return {
        "all but the highest digit of b": (a, below(b)),
        "all but the lowest digit of b": (a, b // 10),
        "all but the highest digit of a": (below(a), b),
        "all but the lowest digit of a": (a // 10, b),
    }


@given(a=OPERAND, b=OPERAND)
def test_a_multiplication_contains_those_of_shorter_operands(a: int, b: int) -> None:
    task = load_task("multiplication")
    found = parts_of(task, reversed_numbers(a, b), work(a, b))
    expected = {name: pair for name, pair in shorter_operands(a, b).items() if 0 not in pair}
    assert {name: text_of(task, part) for name, part in found.items()} == {
        name: reversed_numbers(*pair) for name, pair in expected.items()
    }
    for name, part in found.items():
        lengths = len(str(expected[name][0])), len(str(expected[name][1]))
        assert part.difficulty == (lengths[0] if lengths[0] == lengths[1] else lengths)
        assert agrees(task, part, work(a, b), work(*expected[name]))


def numbers_of(answer: str) -> tuple[list[int], list[int]]:
    """Return the partial products of worked multiplication, and what they add up to after each."""
    products, totals = [], []
    *works, product = re.split("[+=]", answer)
    for work in works:
        first, *total = re.findall("[0-9]+", work)
        products.append(int(first[::-1]))
        totals += [int(number[::-1]) for number in total]
    own = products[:1] if len(products) > 1 else []
    return products, [*own, *totals, int(product[::-1])]


def contains(name: str, a: int, b: int, answer: str, of_part: str) -> bool:
    """Return whether worked multiplication contains that of shorter operands, by integers."""
    (p, t), (q, u) = numbers_of(answer), numbers_of(of_part)
    if name == "all but the highest digit of b":
        return (p[:-1], t[:-1]) == (q, u)
    if name == "all but the lowest digit of b":
        return p[1:] == [10 * number for number in q] and t[1:] == [p[0] + 10 * number for number in u]
    if name == "all but the highest digit of a":
        low = 10 ** (len(str(a)) - 1)
        products = all((x - y) % (low * 10**i) == 0 for i, (x, y) in enumerate(zip(p, q, strict=True)))
        return products and all((x - y) % low == 0 for x, y in zip(t, u, strict=True))
    carries = [a % 10 * int(digit) // 10 for digit in reversed(str(b))]
    products = all(
        x // 10 ** (i + 1) == y // 10**i + carry for i, (x, y, carry) in enumerate(zip(p, q, carries, strict=True))
    )
    return products and t[0] // 10 == u[0] + carries[0]


@given(a=OPERAND, b=OPERAND, data=st.data())
def test_a_digit_that_is_wrong_in_a_multiplication_is_seen_where_it_is_compared(
    a: int, b: int, data: st.DataObject
) -> None:
    task = load_task("multiplication")
    for name, part in parts_of(task, reversed_numbers(a, b), work(a, b)).items():
        shorter = shorter_operands(a, b)[name]
        answer, of_part = work(a, b), work(*shorter)
        place = data.draw(st.integers(0, len(answer) + len(of_part) - 1))
        if place < len(answer):
            answer = work(a, b, change=place)
        else:
            of_part = work(*shorter, change=place - len(answer))
        form = [re.sub("[0-9]", "0", each) for each in (answer, of_part)]
        formed = form == [re.sub("[0-9]", "0", each) for each in (work(a, b), work(*shorter))]
        assert agrees(task, part, answer, of_part) == (formed and contains(name, a, b, answer, of_part))


@pytest.mark.parametrize("name", ["maze-hops", "maze-nodes"])
def test_the_easiest_maze_has_no_parts(name: str) -> None:
    task = load_task(name, {"hops": 2, "smallest": 6} if name == "maze-nodes" else {})
    prompts = task.sample(np.random.default_rng(0), 1 if name == "maze-hops" else 6, 5)
    assert task.parts(prompts, load_oracle(task).solve(prompts)) == []
    assert task.parts(prompts[:0], prompts[:0]) == []


def maze(name: str, difficulty: int, seed: int, **options: int) -> tuple[Task, str]:
    task = load_task(name, options)
    prompts = task.sample(numpy_generator(seed, "maze"), difficulty, 1)
    return task, task.vocabulary.decode_prompts(prompts)[0]


def tree_of(prompt: str) -> nx.Graph:
    entries = (entry.split(":") for entry in prompt.removesuffix("=").split("#")[1].split("-"))
    return nx.Graph((node, other) for node, names in entries for other in names.split(","))


@given(nodes=st.integers(3, 20), data=st.data())
def test_a_way_contains_its_rest_and_its_beginning(nodes: int, data: st.DataObject) -> None:
    hops = data.draw(st.integers(2, nodes - 1))
    task, prompt = maze("maze-hops", hops, data.draw(st.integers(0, 99)), nodes=nodes)
    (start, end), tree = prompt.split("#")[0].split(">"), prompt.split("#")[1]
    way = nx.shortest_path(tree_of(prompt), start, end)
    found = parts_of(task, prompt, ">".join(way))
    rest, beginning = found["from the second node on"], found["up to the last node but one"]
    assert (rest.difficulty, beginning.difficulty) == (hops - 1, hops - 1)
    assert text_of(task, rest) == f"{way[1]}>{end}#{tree}"
    assert text_of(task, beginning) == f"{start}>{way[-2]}#{tree}"
    assert agrees(task, rest, ">".join(way), ">".join(way[1:]))
    assert agrees(task, beginning, ">".join(way), ">".join(way[:-1]))
    for wrong in (way[1:], way[:-1], [start, *way], [*way, end], way[::-1], [start, end]):
        assert not agrees(task, rest, ">".join(wrong), ">".join(way[1:]))
        assert not agrees(task, beginning, ">".join(wrong), ">".join(way[:-1]))


@given(nodes=st.integers(4, 12), data=st.data())
def test_a_jump_in_a_way_is_seen_by_a_part(nodes: int, data: st.DataObject) -> None:
    """Any row of different nodes from start to end that is not the way: one of its parts is answered otherwise."""
    hops = data.draw(st.integers(2, nodes - 1))
    task, prompt = maze("maze-hops", hops, data.draw(st.integers(0, 99)), nodes=nodes)
    start, end = prompt.split("#")[0].split(">")
    tree = tree_of(prompt)
    between = data.draw(st.lists(st.sampled_from(sorted(set(tree) - {start, end})), min_size=1, unique=True))
    answer = ">".join([start, *between, end])
    found = parts_of(task, prompt, answer)
    right = answer == ">".join(nx.shortest_path(tree, start, end))
    assert all(agrees(task, part, answer, truth(task, text_of(task, part))) for part in found.values()) == right
    assert len(found) == 2


@pytest.mark.parametrize("answer", ["", "1", "1>", ">>>", "3>1", "3>99>1"])
def test_a_way_without_a_second_node_of_the_maze_has_no_parts(answer: str) -> None:
    assert parts_of(load_task("maze-hops"), "3>1#1:2-2:3,1-3:2=", answer) == {}


@pytest.mark.parametrize("answer", ["1>3", "3>>2>1", "3,3,3,3", "3,2,1", "3>3>2>1", "3>2>3>2>1", "3>2>1>1"])
def test_what_is_no_way_does_not_contain_the_ways_it_asks_for(answer: str) -> None:
    task = load_task("maze-hops")
    found = parts_of(task, "3>1#1:2-2:3,1-3:2=", answer)
    assert not all(agrees(task, part, answer, truth(task, text_of(task, part))) for part in found.values())


@given(nodes=st.integers(3, 30), data=st.data())
def test_a_leaf_less_changes_no_way(nodes: int, data: st.DataObject) -> None:
    hops = data.draw(st.integers(1, nodes - 2))
    seed = data.draw(st.integers(0, 99))
    task, prompt = maze("maze-nodes", nodes, seed, hops=hops, smallest=hops + 1)
    (part,) = parts_of(task, prompt, truth(task, prompt)).values()
    assert part.difficulty == nodes - 1
    before, after = tree_of(prompt), tree_of(text_of(task, part))
    start, end = prompt.split("#")[0].split(">")
    listed = [entry.split(":")[0] for entry in prompt.split("#")[1].split("-")]
    leaf = next(node for node in reversed(listed) if node not in (start, end) and before.degree[node] == 1)
    before.remove_node(leaf)
    assert nx.utils.graphs_equal(before, after)
    assert [n for n in listed if n != leaf] == [e.split(":")[0] for e in text_of(task, part).split("#")[1].split("-")]
    task.check_prompt(text_of(task, part))
    way = truth(task, prompt)
    assert agrees(task, part, way, way)
    assert not agrees(task, part, way, ">".join(reversed(way.split(">"))))


def test_a_way_without_an_end_has_no_parts() -> None:
    task = load_task("maze-hops")
    prompts = task.vocabulary.encode_prompts(["3>1#1:2-2:3,1-3:2="])
    assert task.parts(prompts, task.vocabulary.encode_answers(["3>2>1>2"])[:, :-1]) == []


@pytest.mark.parametrize("name", ["forward-addition", "forward-addition-padded"])
@pytest.mark.parametrize(("whole", "of_part"), [("035", "3"), ("35", "03"), ("0035", "03"), ("035", "003")])
def test_a_sum_with_other_zeros_before_it_agrees_with_nothing(name: str, whole: str, of_part: str) -> None:
    task = load_task(name)
    part = parts_of(task, "12+23=", whole)["all but the lowest digit"]
    assert not agrees(task, part, whole, of_part)


def malformed(answers: Tokens) -> dict[str, Tokens]:
    """Return answers that are no answers, made from true ones."""
    count = len(answers)
    rows, wide = np.arange(count), np.pad(answers, ((0, 0), (0, 3)))
    end = (answers == EOS).argmax(axis=1)
    endless, longer, shorter = wide.copy(), wide.copy(), wide.copy()
    endless[rows, end] = PAD
    longer[rows, end], longer[rows, end + 1], longer[rows, end + 2] = longer[rows, end - 1], longer[rows, end - 1], EOS
    shorter[rows, end], shorter[rows, end - 1] = PAD, EOS
    fixed = {"begin": [BOS], "end": [EOS], "nothing": [PAD], "padding first": [PAD, EOS], "endless": [SPECIAL] * 200}
    made = {kind: np.tile(np.array(row, dtype=np.int32), (count, 1)) for kind, row in fixed.items()}
    return {**made, "without end": endless, "two symbols more": longer, "a symbol less": shorter}


@pytest.mark.parametrize("name", TASKS)
def test_a_malformed_answer_agrees_with_nothing(name: str) -> None:
    task = load_task(name)
    prompts = task.sample(numpy_generator(0, "malformed"), 12 if name == "maze-nodes" else 3, 8)
    answers = load_oracle(task).solve(prompts)
    parts = task.parts(prompts, answers)
    assert parts
    for part in parts:
        whole, true = answers[part.rows], load_oracle(task).solve(part.prompts)
        for kind, wrong in malformed(whole).items():
            assert not part.agree(wrong, true).any(), kind
        for kind, wrong in malformed(true).items():
            assert not part.agree(whole, wrong).any(), kind
        nothing = np.zeros_like(whole)
        assert not part.agree(nothing, nothing).any()
