"""Which folders are sequences of MOT, and which of their frames are meant."""

import pytest

from kerasdense.data.mot_sequences import Frames, read_info, sequence_folders

PARTS = ("seqinfo.ini", "gt/gt.txt")


def test_the_last_frames_are_a_rounded_share_of_all():
    # 0.2 x 71 = 14.2, x 179 = 35.8, x 2 = 0.4
    for length, first in ((71, 58), (179, 144), (5, 5), (2, 3)):
        assert Frames("last", 0.2).of(length) == range(first, length + 1)
    assert Frames("last", 1.0).of(7) == Frames().of(7) == range(1, 8)
    assert (
        str(Frames("last", 0.2)) == "the last 20 % of the frames" and str(Frames()) == "the frames"
    )


@pytest.mark.parametrize("share", [0.1, 0.2, 0.25, 0.5, 0.7])
def test_first_frames_are_those_that_the_last_ones_leave(share):
    for length in range(1, 200):
        first, last = Frames("first", 1 - share).of(length), Frames("last", share).of(length)
        assert [*first, *last] == [*range(1, length + 1)]


def test_a_folder_of_sequences_its_parent_or_one(tmp_path, monkeypatch):
    for name in ("B", "A", ".cache"):
        (tmp_path / "train" / name / "gt").mkdir(parents=True)
        (tmp_path / "train" / name / "gt" / "gt.txt").touch()
    both = [tmp_path / "train" / "A", tmp_path / "train" / "B"]
    assert sequence_folders(tmp_path, PARTS) == both
    assert sequence_folders(tmp_path / "train", PARTS) == both
    assert sequence_folders(both[0], PARTS) == both[:1]
    monkeypatch.chdir(both[1])
    assert sequence_folders(both[1].relative_to(both[1]), PARTS) == both[1:]  # "."
    (tmp_path / "empty").mkdir()
    assert sequence_folders(tmp_path / "empty", PARTS) == []


def test_seqinfo(tmp_path):
    path = tmp_path / "seqinfo.ini"
    path.write_text("[Sequence]\nname=S%\nseqLength=71\nimWidth=640\nimHeight=480\nimExt=.jpg\n")
    info = read_info(path)
    assert (info.length, info.suffix, info.size) == (71, ".jpg", (480, 640))
    path.write_text("[Sequence]\nseqLength=71\nimExt=.jpg\n")
    assert read_info(path).size is None
    path.write_text("[Sequence]\nimExt=.jpg\n")
    with pytest.raises(ValueError, match="expected seqLength, at least 1; received None"):
        read_info(path)
