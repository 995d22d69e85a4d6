"""Reports drawn anew from a run's folder, and what cannot be."""

import json

import numpy as np
import pytest
from reports import make_report_2

from tskd_tf.errors import InputError
from tskd_tf.report.tensorboard import markdown
from tskd_tf.report.words import headline
from tskd_tf.run.output_folder import load_wrong_images, redraw, save_wrong_images


def contents(folder):
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def write_report(path):
    """A report whose pictures are kept beside it; its text."""
    report, images = make_report_2()
    path.write_text(json.dumps(report))
    save_wrong_images(images, path.parent)
    return path.read_text()


def test_a_report_is_drawn_anew_and_stays_as_it_is(tmp_path):
    write_report(tmp_path / "report.json")
    before = contents(tmp_path)["report.json"]
    report, figures = redraw(tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert f"{100 * report['student']['accuracy']:.2f}" in page
    figure = tmp_path / "figures" / "accuracy_against_macs.png"
    assert figure.read_bytes() == figures["accuracy_against_macs"]
    assert headline(report)[:20] in markdown(report)
    assert contents(tmp_path)["report.json"] == before


DAMAGES = {
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "a list": lambda text: "[]",
    "no report": lambda text: "{}",
    "a version in words": lambda text: text.replace(
        '"schema_version": 2', '"schema_version": "two"'
    ),
    "no trials": lambda text: text.replace('"trials"', '"tries"'),
    "a text for a number": lambda text: text.replace('"rate": ', '"rate": "a", "b": '),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_report_is_one_line_and_nothing_is_touched(tmp_path, damage):
    path = tmp_path / "report.json"
    whole = write_report(path)
    redraw(tmp_path)
    path.write_text(damage(whole))
    before = contents(tmp_path)
    with pytest.raises(InputError, match="report.json") as caught:
        redraw(tmp_path)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before
    path.unlink()


def test_a_folder_without_a_report_or_none_is_told_so(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="report.json of a finished run") as caught:
            redraw(folder)
        assert "No such file" in str(caught.value)


def test_a_folder_that_cannot_be_written_to_is_not_said_to_lack_its_report(tmp_path):
    path = tmp_path / "report.json"
    write_report(path)
    (tmp_path / "figures").write_text("a file, where a folder must be")
    with pytest.raises(InputError, match="to be a folder to write to.*figures"):
        redraw(tmp_path)


@pytest.mark.parametrize("version", [1, 3])
def test_a_report_of_another_version_is_left_to_it(tmp_path, version):
    path = tmp_path / "report.json"
    path.write_text(json.dumps({"schema_version": version}))
    with pytest.raises(InputError, match=f"schema_version 2. .* version {version}; .*"):
        redraw(tmp_path)
    assert set(contents(tmp_path)) == {"report.json"}
    path.unlink()


@pytest.fixture
def pictures():
    return np.random.default_rng(1).integers(0, 256, (3, 8, 8, 1)).astype(np.uint8)


def test_pictures_are_kept_and_fit_their_report(tmp_path, pictures):
    report = {"wrong_images": [{}] * 3}
    save_wrong_images(pictures, tmp_path)
    np.testing.assert_array_equal(load_wrong_images(report, tmp_path), pictures)
    with pytest.raises(InputError, match="2 pictures.*uint8 of shape.*3, 8, 8, 1"):
        load_wrong_images({"wrong_images": [{}] * 2}, tmp_path)
    path = tmp_path / "search" / "wrong_images.npz"
    whole = path.read_bytes()
    middle = len(whole) // 2
    overwritten = whole[:middle] + bytes(9) + whole[middle + 9 :]
    for damage in (b"", whole[:100], b"not an archive", overwritten):
        path.write_bytes(damage)
        with pytest.raises(InputError, match="pictures of the report"):
            load_wrong_images(report, tmp_path)
    path.unlink()
    with pytest.raises(InputError, match="pictures of the report"):
        load_wrong_images(report, tmp_path)
