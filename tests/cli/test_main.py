"""The program as a whole: its commands, their help, and what it makes of mistakes."""

import argparse
import ast
import configparser
import json
import os
import pkgutil
import re
import runpy
import shlex
import subprocess
import sys

import pytest
from conftest import REPOSITORY

from kerasdense import __version__, cli, recipes
from kerasdense.cli import fit, main, make_toy_streets

NAMES = [name for name, *_ in main.COMMANDS]
SHARED = {"main", "arguments", "start_up"}  # files of the program that are no commands
HEAVY = ("keras", "tensorflow", "tensorflow_datasets", "matplotlib", "keras_cv", "jax")
TEXTS = sorted(
    path
    for pattern in ("*.md", "*/*.md", "kerasdense/**/*.md", "kerasdense/**/*.py")
    for path in REPOSITORY.glob(pattern)
    if ".venv" not in path.parts and ".pytest_cache" not in path.parts
)
BUILDING_HELP = """
import json, sys
from kerasdense.cli.main import COMMANDS, parser_of

def format_help(parser):
    parser.format_help()
    for action in parser._actions:
        for nested in (action.choices or {}).values() if hasattr(action, "add_parser") else ():
            format_help(nested)

heavy = {}
for name, *_ in COMMANDS:
    format_help(parser_of(name))
    heavy[name] = sorted({module.split(".")[0] for module in sys.modules} & set(sys.argv[1:]))
print(json.dumps(heavy))
"""


def all_parsers(parser):
    """The parser, and those of its sub-commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for nested in action.choices.values():
                yield from all_parsers(nested)


PARSERS = [parser for name in NAMES for parser in all_parsers(main.parser_of(name))]


def commands_in(path):
    """The commands that a text (of a module its docstring) shows: indented, one line each."""
    text = path.read_text()
    text = ast.get_docstring(ast.parse(text), clean=False) or "" if path.suffix == ".py" else text
    joined = re.sub(r"\\\n\s*", "", text)  # a backslash continues a line
    return re.findall(r"^ {4,}(kerasdense .*)$", joined, re.MULTILINE)


def test_every_file_is_a_command_and_every_command_a_file():
    files = {module.name for module in pkgutil.iter_modules(cli.__path__)} - SHARED
    assert sorted(file for _, file, _ in main.COMMANDS) == sorted(files)
    assert len(set(NAMES)) == len(NAMES)


def test_the_installed_program_is_this_one():
    setup = configparser.ConfigParser()
    setup.read(REPOSITORY / "setup.cfg")
    entry = setup["options.entry_points"]["console_scripts"].strip()
    assert entry == "kerasdense = kerasdense.cli.main:main" and callable(main.main)


def test_help_lists_all_commands(kerasdense):
    status, out, _ = kerasdense("--help")
    assert status == 0
    for name, _, text in main.COMMANDS:
        assert re.search(rf"^  {name} +{re.escape(text)}$", out, re.MULTILINE)
    status, out, _ = kerasdense("--version")
    assert status == 0 and out == f"kerasdense {__version__}\n"


def test_no_or_an_unknown_command(kerasdense):
    for arguments in ((), ("fitt", "--run", "x"), ("evaluate.py",)):
        status, out, err = kerasdense(*arguments)
        assert status == 2 and not out and "COMMAND" in err and "Traceback" not in err
    assert "'fitt'" in kerasdense("fitt")[2] and "evaluate-detections" in kerasdense("fitt")[2]


def test_help_needs_nothing_heavy():
    """So it is quick, and it is there where an installation is broken."""
    result = subprocess.run(
        [sys.executable, "-c", BUILDING_HELP, *HEAVY],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == dict.fromkeys(NAMES, [])


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_help_tells_every_option_and_its_default(parser):
    chosen_among = {
        action
        for group in parser._mutually_exclusive_groups
        if group.required
        for action in group._group_actions
    }
    text = " ".join(parser.format_help().split())
    for action in parser._actions:
        name = "/".join(action.option_strings) or action.dest
        if isinstance(action, argparse._SubParsersAction):
            assert all(choice.help for choice in action._choices_actions), name
            continue
        assert action.help, f"{name} has no help"
        expanded = parser._get_formatter()._expand_help(action)
        assert " ".join(expanded.split()).replace("- ", "-") in text.replace("- ", "-"), name
        told = isinstance(action, (argparse._HelpAction, argparse._VersionAction))
        if action.option_strings and not (told or action.required or action in chosen_among):
            assert expanded.count("default: ") == 1, f"{name} and its default: {expanded}"


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_help_opens_with_a_sentence(parser):
    first, *_ = parser.description.strip().splitlines()
    assert first[0].isupper() and first[-1] in ".?", first


@pytest.mark.parametrize("name", NAMES)
def test_help_shows_the_command(name):
    (module,) = (file for command, file, _ in main.COMMANDS if command == name)
    assert commands_in(REPOSITORY / "kerasdense" / "cli" / f"{module}.py")
    assert f"    kerasdense {name} " in main.parser_of(name).format_help()


def test_the_commands_in_texts_are_such():
    commands = {
        (path.relative_to(REPOSITORY), command) for path in TEXTS for command in commands_in(path)
    }
    assert len(commands) > 2 * len(NAMES)
    wrong = []
    for path, command in sorted(commands):
        # What may be left out stands in brackets; $variant is of a loop of the shell.
        plain = re.sub(r"[][]", "", command).replace("$variant", "32x")
        _, name, *arguments = shlex.split(plain, comments=True)
        try:
            main.parser_of(name).parse_args(arguments)
        except (SystemExit, StopIteration) as error:
            if not {"--help", "-h"} & {*arguments}:
                wrong.append(f"{path}: {command}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("name", [path.stem for path in REPOSITORY.glob("scripts/*.py")])
def test_a_script_hands_over_to_its_recipe(name, monkeypatch, capsys):
    path = REPOSITORY / "scripts" / f"{name}.py"
    network = name.removeprefix("fit_")
    assert network in recipes.names() and os.access(path, os.X_OK)
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as exit_of:
        runpy.run_path(str(path), run_name="__main__")
    assert not exit_of.value.code
    out = capsys.readouterr().out
    assert out.startswith(f"usage: kerasdense fit {network} ")
    assert recipes.module(network).__doc__.strip() in out
    assert f"kerasdense fit {network}" in path.read_text()


@pytest.mark.parametrize(
    "raised, status, told",
    [
        (ValueError("Expected 3,\n  received 4."), 2, "error: Expected 3, received 4.\n"),
        (FileNotFoundError("There is no file x."), 2, "error: There is no file x.\n"),
        (ImportError("needs tf2onnx"), 2, "error: needs tf2onnx\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_mistakes_are_one_line(raised, status, told, kerasdense, monkeypatch, tmp_path):
    def fails(arguments):
        raise raised

    monkeypatch.setattr(make_toy_streets, "run", fails)
    assert kerasdense("make-toy-streets", "--output", tmp_path) == (status, "", told)


@pytest.mark.parametrize("below", [".", "below", "a/b"])
def test_a_file_is_no_place_for_results(kerasdense, tmp_path, below):
    file = tmp_path / "file"
    file.touch()
    status, _, err = kerasdense("make-toy-streets", "--output", file / below)
    words = "expected a folder, or a name for a new one, but"
    assert (
        status == 2 and err.startswith("error: ") and err.endswith(f"{words} {file} is a file.\n")
    )
    assert "Errno" not in err


def test_a_fault_of_ours_is_not_hidden(monkeypatch, tmp_path):
    monkeypatch.setattr(make_toy_streets, "run", lambda arguments: {}["missing"])
    with pytest.raises(KeyError, match="missing"):
        main.main(["make-toy-streets", "--output", tmp_path])


def test_verbose_stands_anywhere_and_is_no_argument_of_a_command(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(main, "quiet_tensorflow", lambda: asked.append("quiet"))
    monkeypatch.setattr(fit, "run", lambda arguments: asked.append(vars(arguments)))
    flags = ["fcn", "--dataset", "toy_streets", "--workdir", tmp_path]
    for line in (["fit", *flags], ["fit", *flags, "--verbose"], ["fit", "--verbose", *flags]):
        with pytest.raises(SystemExit):
            main.main(line)
    assert [each for each in asked if each == "quiet"] == ["quiet"] and asked[0] == "quiet"
    recorded = [each for each in asked if each != "quiet"]
    # Else a run could be resumed with the same flag alone.
    assert len(recorded) == 3 and not any("verbose" in each for each in recorded)


def test_the_status_is_that_of_the_command(kerasdense, monkeypatch, tmp_path):
    for returned, status in ((None, 0), (0, 0), (1, 1)):
        monkeypatch.setattr(make_toy_streets, "run", lambda arguments: returned)
        assert kerasdense("make-toy-streets", "--output", tmp_path) == (status, "", "")
