"""What a row of a paper is: its data, the commands that make it, and what was published."""

import dataclasses
import json
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Data:
    """A dataset on disk.

    Attributes:
        name: its placeholder in the commands, and the flag that names its folder.
        title, address: what it is, and where one gets it.
        folder: where it is looked for unless told otherwise.
        layout: of `make-toy-streets`, which draws a small one.
    """

    name: str
    title: str
    address: str
    folder: str
    layout: str


@dataclasses.dataclass(frozen=True)
class Need:
    """Files and folders of a dataset that a row reads: paths below its folder, with a word each."""

    data: Data
    parts: dict

    def missing(self, folder):
        """Those that are not there, a list of paths."""
        return [part for part in self.parts if not (Path(folder) / part).exists()]


@dataclasses.dataclass(frozen=True)
class Step:
    """A command of the program, without the program's name.

    Placeholders in braces: the `Data` by name, `runs` (a folder for run folders, which rows that
    fit the same network share) and `results` (a folder of the row's own).

    Attributes:
        command: at the scale of the paper.
        small: what is added to try the chain on drawn data; later flags win.
        output: a file below `results` that keeps the standard output; "" for none.
    """

    command: str
    small: str = ""
    output: str = ""

    def arguments(self, places, is_small=False):
        """The command as a list of arguments; `places`: {placeholder: text}."""
        words = [*self.command.split(), *(self.small.split() if is_small else ())]
        return [word.format_map(places) for word in words]

    @property
    def fits(self):
        """Whether it is a fit, so takes the flags of one."""
        return self.command.split()[0] == "fit"


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number of a row.

    `published`: as a share of 1; None where the paper gives none; `file`, `key`: where ours stands,
    a JSON file below `results` and an entry of it.
    """

    title: str
    published: float | None
    file: str
    key: str

    def ours(self, results):
        """Ours, as a share of 1; None until it was measured."""
        path = Path(results) / self.file
        return json.loads(path.read_text()).get(self.key) if path.is_file() else None


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table of a paper, or a figure of one.

    Attributes:
        title: what it shows, a line.
        paper: where it was published.
        needs: of data.
        steps: that make it, in order.
        figures: its numbers.
        note: how ours differs from the paper's, and what is not known of it; "" for nothing.
        pictures: files below `results` to look at.
    """

    title: str
    paper: str
    needs: tuple
    steps: tuple
    figures: tuple = ()
    note: str = ""
    pictures: tuple = ()
