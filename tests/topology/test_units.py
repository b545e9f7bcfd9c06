"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.topology.units import parse_size, show_size

STEPS = [2**10, 2**20, 2**30, 2**40]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4 GiB", 4 * 2**30),
        ("512MiB", 512 * 2**20),
        ("10G", 10 * 2**30),
        ("10 gb", 10 * 2**30),
        ("1.5 GiB", 3 * 2**29),
        ("7", 7),
        (" 2 KiB ", 2048),
        (4096, 4096),
    ],
)
def test_a_size_is_read_in_binary_steps(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "4 XiB", "-1 GiB", "4 GiB of RAM", "0x10", "1,5 GiB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it like '4 GiB'"):
        parse_size(text)


@pytest.mark.parametrize("value", [True, 1.5, None, [1]])
def test_a_value_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="'4 GiB'"):
        parse_size(value)


def test_a_fraction_of_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="whole number of bytes"):
        parse_size("0.3 KiB")


@given(st.integers(min_value=1, max_value=1023), st.sampled_from(STEPS))
def test_whole_sizes_survive_being_shown_and_read(count: int, step: int) -> None:
    assert parse_size(show_size(count * step)) == count * step


@given(st.integers(min_value=1, max_value=1023), st.sampled_from(STEPS))
def test_a_shown_size_is_written_in_its_largest_whole_unit(count: int, step: int) -> None:
    assert show_size(count * step).split()[0] == str(count)


@given(st.integers(min_value=0, max_value=2**50))
def test_a_plain_number_is_bytes(size: int) -> None:
    assert parse_size(size) == size
    assert parse_size(str(size)) == size


@given(st.integers(min_value=1, max_value=2**45))
def test_every_size_can_be_shown(size: int) -> None:
    number, unit = show_size(size).split()
    assert float(number) > 0
    assert unit in ("B", "KiB", "MiB", "GiB", "TiB")
