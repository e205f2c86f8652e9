"""Which texts may name something."""

from __future__ import annotations

import unicodedata

import pytest

from service.domain.names import MAX_NAME_LENGTH, is_name

# Format characters of Arabic, Syriac, Kaithi and Egyptian that are drawn, and stay where they are.
_DRAWN = {
    *map(chr, (*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD)),
    *map(chr, range(0x13430, 0x13440)),
}


@pytest.mark.parametrize(
    "name",
    [
        "a",
        " spaces around ",
        "x" * MAX_NAME_LENGTH,
        "東" * MAX_NAME_LENGTH,
        "Zürich 東京 🙂",
        "नमस्ते",
        "עברית",
        "../../etc",
        'it\'s "quoted" \\ %00 {}',
        "\ufffd",  # what former releases made of text that was no UTF-8 can still be deleted
    ],
)
def test_words_of_any_script_are_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "text",
    ["", " ", "\u00a0\u3000", "x" * (MAX_NAME_LENGTH + 1)],
    ids=["empty", "blank", "blanks of other scripts", "long"],
)
def test_names_are_neither_blank_nor_long(text: str) -> None:
    assert not is_name(text)


def test_no_control_and_no_invisible_character_is_part_of_a_name() -> None:
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    forbidden = {c for c in map(chr, range(0x110000)) if unicodedata.category(c) in kinds} - _DRAWN
    assert not [hex(ord(each)) for each in forbidden if is_name(f"a{each}b")]


@pytest.mark.parametrize(
    "character",
    [
        "\x00",
        "\n",
        "\x7f",
        "\x9b",
        "\xad",
        "\u200b",
        "\u200d",
        "\u202e",
        "\u2066",
        "\u2028",
        "\ufeff",
        "\u3164",
        "\ufe0f",
        "\U000e0041",
        "\udce9",
    ],
    ids=ascii,
)
def test_what_nobody_sees_is_no_part_of_a_name(character: str) -> None:
    assert not is_name(f"a{character}b")
    assert not is_name(f"ab{character}")


def test_of_the_spellings_of_a_letter_one_is_taken() -> None:
    assert is_name("caf\u00e9")
    assert not is_name("cafe\u0301")
    assert not is_name("\u212bngstr\u00f6m")  # the sign of the unit, which is no letter of its own
