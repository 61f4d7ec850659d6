"""Files that change in every way people and machines change files."""

from __future__ import annotations

import os
from pathlib import Path

from edge.lifecycle.watch import WatchedFile


def changes(file: WatchedFile) -> bool:
    """Whether two looks notice a change, and the third does not notice it again."""
    first = file.look()
    second = file.look()
    assert not file.look()
    return first or second


def test_a_change_is_noticed_once_when_it_has_settled(tmp_path: Path) -> None:
    path = tmp_path / "routes"
    path.write_text("one")
    file = WatchedFile(str(path))
    assert changes(file)
    path.write_text("one and more")
    assert not file.look()  # somebody may still be writing
    path.write_text("one and more than that")
    assert not file.look()
    assert file.look()
    assert not file.look()


def test_a_file_that_is_replaced(tmp_path: Path) -> None:
    path, new = tmp_path / "routes", tmp_path / "new"
    path.write_text("one")
    file = WatchedFile(str(path))
    assert changes(file)
    new.write_text("two")
    status = path.stat()
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.rename(path)  # same size, same time
    assert changes(file)


def test_a_link_that_points_elsewhere(tmp_path: Path) -> None:
    for name in ("v1", "v2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "routes").write_text(name)
    (tmp_path / "data").symlink_to("v1")
    (tmp_path / "routes").symlink_to("data/routes")
    file = WatchedFile(str(tmp_path / "routes"))
    assert changes(file)
    (tmp_path / "next").symlink_to("v2")
    (tmp_path / "next").rename(tmp_path / "data")
    assert changes(file)


def test_a_file_that_is_gone_and_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "routes"
    path.write_text("one")
    file = WatchedFile(str(path))
    assert changes(file)
    assert file.trouble == ""
    path.unlink()
    assert changes(file)
    assert file.trouble == "No such file or directory"
    path.write_text("one")
    assert changes(file)
    assert file.trouble == ""
