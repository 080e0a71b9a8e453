"""The replay window, case by case as specified (sptps 5.3)."""

from __future__ import annotations

import pytest

from gmesh.proto.sptps_flow import ReplayWindow, WindowState


def window(size: int, expected: int = 0) -> ReplayWindow:
    return ReplayWindow(WindowState(size, expected, 0, 0))


def take(window: ReplayWindow, *numbers: int) -> list[bool]:
    answers = []
    for number in numbers:
        answers.append(window.acceptable(number))
        if answers[-1]:
            window.accept(number)
    return answers


def test_in_order_once() -> None:
    assert take(window(16), 0, 1, 2, 2, 1, 0, 3) == [True, True, True, False, False, False, True]


def test_late_ones_are_taken_once() -> None:
    assert take(window(16), 5, 3, 4, 3, 0, 5, 1, 6) == [True, True, True, False, True, False, True, True]


def test_nothing_below_the_first_number_is_taken() -> None:
    assert take(window(16, expected=10), 9, 10, 8) == [False, True, False]


@pytest.mark.parametrize("size", [1, 4, 16, 32])
def test_the_window_is_that_wide(size: int) -> None:
    width = 8 * size
    reached = window(size)
    take(reached, width - 1 + 50)
    if size < 4:
        # No far-future packet is refused first: 1 // 4 is 0.
        assert reached.expected == width + 50
        return
    inside = window(size)
    # 0 .. width-2 are missing now; expected is width.
    assert take(inside, width - 1, 0, 0) == [True, True, False]
    assert take(inside, width, 0, 1, 2) == [True, False, True, True]
    assert take(inside, width + 4, 3, 4, 5) == [True, False, False, True]


def test_a_few_wild_numbers_are_refused_and_a_row_of_them_is_not() -> None:
    one = window(16, expected=5)
    far = 5 + 128
    assert take(one, far, far + 1, far + 2, far + 3) == [False] * 4
    assert one.expected == 5
    assert take(one, far + 4) == [True]
    assert one.expected == far + 5
    # All of the window counts as missing.
    assert take(one, far + 3, far + 4, far - 100, 5) == [True, False, True, False]


def test_any_good_number_ends_the_row() -> None:
    one = window(16)
    assert take(one, 500, 500, 500, 0, 500, 500, 500, 500, 500) == [False] * 3 + [True] + [False] * 4 + [True]


def test_just_inside_is_not_far() -> None:
    assert take(window(16), 127) == [True]
    assert take(window(16), 128) == [False]


def test_a_window_of_nothing_takes_everything() -> None:
    one = window(0)
    assert take(one, 5, 5, 2, 10**6, 0) == [True] * 5
    assert one.expected == 10**6 + 1


def test_state_survives() -> None:
    one = window(16)
    take(one, 3, 9, 7, 900)
    other = ReplayWindow(one.state())
    numbers = [0, 3, 9, 7, 900, 901, 902, 8, 10, 903]
    assert take(other, *numbers) == take(one, *numbers)
    assert other.state() == one.state()
