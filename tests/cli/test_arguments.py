"""What the sub-commands share: types of arguments, and help that shows defaults."""

import argparse

import pytest

from kerasdense.cli import arguments


@pytest.mark.parametrize(
    "kind, text, value",
    [
        (arguments.size, "320x480", (320, 480)),
        (arguments.size, "320X480", (320, 480)),
        (arguments.sizes, "448x1024,512x512", ((448, 1024), (512, 512))),
        (arguments.some_of(("a", "b", "c")), "c,a", ("c", "a")),
        (arguments.positive(int), "3", 3),
        (arguments.positive(float), "1e-3", 0.001),
        (arguments.numbers, "0.75,1,1.25", (0.75, 1.0, 1.25)),
        (arguments.integers, "16,8", (16, 8)),
        (arguments.integers, "-1", (-1,)),
        (arguments.counts, "1,8", (1, 8)),
        (arguments.weights, "imagenet", "imagenet"),
        (arguments.weights, "none", None),
        (arguments.weights, "file.h5", "file.h5"),
        (arguments.model_option, "output_stride=8", ("output_stride", 8)),
        (arguments.model_option, "skips=8", ("skips", (8,))),
        (arguments.model_option, "pyramid=8,4", ("pyramid", (8, 4))),
        (arguments.model_option, "layers=2,2", ("layers", (2, 2))),
        (arguments.model_option, "skips=16,8", ("skips", (16, 8))),
        (arguments.model_option, "blocks=1,1,1,1", ("blocks", (1, 1, 1, 1))),
        (arguments.model_option, "auxiliary=true", ("auxiliary", True)),
        (arguments.model_option, "auxiliary=false", ("auxiliary", False)),
        (arguments.model_option, "width=0.5", ("width", 0.5)),
        (arguments.model_option, "scales=coco", ("scales", "coco")),
    ],
)
def test_what_is_understood(kind, text, value):
    found = kind(text)
    assert found == value and type(found) is type(value)


def test_sizes_are_written_as_they_are_read():
    assert arguments.size_text(arguments.size("64x96")) == "64x96"


@pytest.mark.parametrize(
    "kind, text, words",
    [
        (arguments.size, "320", "expected HxW such as 320x480, received '320'"),
        (arguments.size, "axb", "expected HxW"),
        (arguments.size, "0x480", "expected positive sides, received '0x480'"),
        (arguments.sizes, "64x64,", "expected HxW such as 320x480, received ''"),
        (arguments.some_of(("a", "b")), "a,d,e", "expected some of a,b, received 'd,e'"),
        (arguments.positive(int), "0", "expected a number above 0, received '0'"),
        (arguments.positive(int), "1.5", "invalid int value: '1.5'"),
        (arguments.positive(float), "-0.5", "expected a number above 0, received '-0.5'"),
        (arguments.positive(float), "nan", "expected a number above 0, received 'nan'"),
        (arguments.numbers, "1,0", "expected a number above 0, received '0'"),
        (arguments.numbers, "1,x", "expected numbers such as 0.75,1, received '1,x'"),
        (arguments.integers, "16,8.5", "expected whole numbers such as 16,8, received '16,8.5'"),
        (arguments.counts, "1,0", "expected numbers above 0, received '1,0'"),
        (arguments.model_option, "width", "expected e.g. output_stride=8, received 'width'"),
        (arguments.model_option, "=8", "expected e.g. output_stride=8"),
        (arguments.model_option, "width=", "expected e.g. output_stride=8"),
    ],
)
def test_what_is_not(kind, text, words, capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--option", type=kind)
    with pytest.raises(SystemExit) as exit_of:
        parser.parse_args([f"--option={text}"])
    assert exit_of.value.code == 2
    assert f"argument --option: {words}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings, shown",
    [
        ({"default": 5, "type": int}, "(default: 5)"),
        ({"default": 1e-3, "type": float}, "(default: 0.001)"),
        ({"default": "val"}, "(default: val)"),
        ({"default": (448, 1024), "type": arguments.size}, "(default: 448x1024)"),
        ({"default": ((64, 80), (77, 65)), "type": arguments.sizes}, "(default: 64x80,77x65)"),
        ({"default": (0.5, 2.0), "type": arguments.numbers}, "(default: 0.5,2)"),
        ({"default": (6, 12), "type": arguments.integers}, "(default: 6,12)"),
        ({"default": (1, 2), "type": int, "nargs": 2}, "(default: 1 2)"),
        ({"action": "store_true"}, "(default: off)"),
        ({"action": argparse.BooleanOptionalAction, "default": True}, "(default: on)"),
    ],
)
def test_help_shows_the_default(settings, shown):
    parser = argparse.ArgumentParser(formatter_class=arguments.Formatter)
    parser.add_argument("--option", help="99 % of it", **settings)
    text = " ".join(parser.format_help().split())
    assert f"99 % of it {shown}" in text
    # What is shown can be given.
    if "type" in settings and "nargs" not in settings:
        given = shown.removeprefix("(default: ").removesuffix(")")
        assert parser.parse_args(["--option", given]).option == settings["default"]


def test_help_shows_no_default_that_is_not():
    parser = argparse.ArgumentParser(formatter_class=arguments.Formatter)
    parser.add_argument("--steps", help="99 % (default: one pass)")
    parser.add_argument("files", nargs="*", default=(), help="all of them")
    parser.add_argument("--version", action="version", version="1")
    text = parser.format_help()
    assert text.count("default: ") == 1 and "99 % (default: one pass)" in text


def test_descriptions_keep_their_lines():
    parser = argparse.ArgumentParser(
        description="Fits.\n\n    kerasdense fit\n", formatter_class=arguments.Formatter
    )
    assert "Fits.\n\n    kerasdense fit\n" in parser.format_help()


def test_the_flags_of_data_and_runs():
    parser = argparse.ArgumentParser(formatter_class=arguments.Formatter)
    arguments.add_run(parser)
    arguments.add_dataset(parser, required=False)
    arguments.add_xla(parser)
    found = parser.parse_args(["--run", "runs/camvid"])
    assert str(found.run) == "runs/camvid" and found.xla == "auto"
    assert found.dataset is found.source is found.prepared_dir is found.mask_values is None
    assert " ".join(parser.format_help().split()).count("(default: the run's own)") == 4
    assert parser.parse_args(["--run", "x", "--mask-values", "0,255"]).mask_values == (0, 255)


@pytest.mark.parametrize(
    "text, index",
    [("car", 0), ("Car", 0), ("TRAFFIC light", 1), ("van", 2), ("VAN", 3), ("3", 3), ("7", 4)],
)
def test_a_class_is_found_by_its_name_in_whatever_case_or_its_index(text, index):
    assert arguments.class_index(text, ["car", "traffic light", "van", "VAN", "7"]) == index


@pytest.mark.parametrize(
    "text, words",
    [
        (
            "cra",
            "There is no class 'cra': is it car\\? Expected an index from 0 to 3 or one",
        ),
        ("Trafic Light", "is it traffic light\\?"),
        ("Van", "is it van or VAN\\?"),  # the case decides
        ("zebra", "There is no class 'zebra'\\. Expected an index"),
        ("4", "There is no class '4'\\."),
        ("-1", "There is no class '-1'\\."),
    ],
)
def test_a_class_that_is_not_there_is_told_beside_those_of_like_names(text, words):
    with pytest.raises(ValueError, match=words):
        arguments.class_index(text, ["car", "traffic light", "van", "VAN"])
