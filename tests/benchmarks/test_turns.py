"""Alternatives take turns, and ratios are medians over them."""

from kerasdense.benchmarks import turns


def test_alternatives_take_turns_and_the_first_turns_do_not_count():
    calls = []
    alternatives = {name: lambda name=name: calls.append(name) for name in "ab"}
    seconds = turns.in_turns(alternatives, turns=3, warm_up=2)
    assert calls == ["a", "b"] * 5
    assert {name: len(times) for name, times in seconds.items()} == {"a": 3, "b": 3}


def test_the_ratio_is_the_median_over_the_turns():
    # 6 / 2, 4 / 4 and 1 / 2 times as fast
    seconds = {"a": [2, 4, 2], "b": [6, 4, 1]}
    assert turns.times_as_fast("a", "b", seconds) == 1


def test_medians_are_printed_in_milliseconds(capsys):
    assert turns.print_milliseconds({"a": [0.002, 0.009, 0.003]}) == {"a": 3}
    assert capsys.readouterr().out.split() == ["a", "3.0", "ms"]
