"""What a user names -> files, and names of outputs that never collide or leave."""

import os

import pytest

from ktn_jax import inputs
from ktn_jax.errors import UserError

ENDINGS = ("_iuv.png", ".json")


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(*given, endings=ENDINGS, out=None):
    return [one.name for one in inputs.find_inputs(given, endings, out=out)]


def test_folders_give_their_pictures_sorted_with_their_relative_paths(tmp_path):
    make(tmp_path, "b.jpg", "a.PNG", "notes.txt", "deep/er/10.webp", "deep/er/9.tiff")
    # a folder's own files come before those below it, each sorted as text
    assert names(tmp_path) == ["a", "b", "deep/er/10", "deep/er/9"]


def test_the_output_folder_is_no_input(tmp_path):
    make(tmp_path, "a.jpg", "out/a_overlay.png", "out/x/b.png")
    assert names(tmp_path, out=tmp_path / "out") == ["a"]


def test_globs_are_relative_to_what_stands_before_the_first_wildcard(tmp_path):
    make(tmp_path, "x/1.jpg", "x/y/2.jpg", "z.jpg")
    assert names(f"{tmp_path}/x/**/*.jpg") == ["1", "y/2"]
    with pytest.raises(UserError, match="no file fits"):
        names(f"{tmp_path}/*.gif")


def test_a_file_whose_name_looks_like_a_glob_is_a_file(tmp_path):
    make(tmp_path, "a[1].jpg", "a1.jpg")
    assert names(tmp_path / "a[1].jpg") == ["a[1]"]


def test_lists_are_relative_to_the_folder_all_lie_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "p/1.jpg", "p/q/1.jpg", "p/r/../2.jpg")
    (tmp_path / "list.txt").write_text("p/1.jpg\n\np/q/1.jpg\np/r/../2.jpg\n")
    assert names("@list.txt") == ["1", "q/1", "2"]


def test_two_inputs_of_one_name_get_longer_names(tmp_path):
    make(tmp_path, "a.jpg", "a.png", "k/a.jpg", "l/a.jpg", "l/a.jpeg")
    assert names(tmp_path / "a.jpg", tmp_path / "a.png") == ["a", "a.png"]
    twice = names(tmp_path / "k" / "a.jpg", tmp_path / "l" / "a.jpg")
    assert twice == ["a", "a.jpg"]
    assert len(set(names(tmp_path / "k", tmp_path / "l", tmp_path / "a.jpg"))) == 4


def test_a_name_that_ends_as_another_s_output_does_not_overwrite_it(tmp_path):
    make(tmp_path, "a.jpg", "a_masks.jpg")
    endings = ("_masks.json", ".json")
    # a writes a_masks.json; a_masks would write a_masks.json too
    assert names(tmp_path, endings=endings) == ["a", "a_masks.jpg"]


def test_the_same_file_given_twice_is_read_once_under_its_first_name(tmp_path):
    make(tmp_path, "k/a.jpg")
    assert names(tmp_path, tmp_path / "k" / "a.jpg") == ["k/a"]
    assert names(tmp_path / "k" / "a.jpg", tmp_path) == ["a"]


def test_names_differ_also_where_case_does_not_count(tmp_path):
    make(tmp_path, "A.jpg", "a.png")
    assert names(tmp_path) == ["A", "a.png"]


def test_no_name_leads_out_of_the_output_folder(tmp_path, monkeypatch):
    inside = tmp_path / "in"
    make(inside, "x.jpg")
    make(tmp_path, "y.jpg")
    monkeypatch.chdir(inside)
    (inside / "list").write_text("../y.jpg\n../in/x.jpg\n")
    given = ("../y.jpg", "../in/../in", "@list", "../*.jpg")
    for name in names(*given) + names("@list"):
        assert not name.startswith("/") and ".." not in name.split("/"), name


def test_links_to_folders_are_not_followed_links_to_files_are(tmp_path):
    make(tmp_path, "in/a.jpg", "else/b.jpg")
    os.symlink(tmp_path / "else", tmp_path / "in" / "loop")
    os.symlink(tmp_path / "else" / "b.jpg", tmp_path / "in" / "c.jpg")
    assert names(tmp_path / "in") == ["a", "c"]


@pytest.mark.parametrize("given", ["nowhere.jpg", "@nowhere.txt"])
def test_what_is_not_there_is_one_clear_line(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="nowhere"):
        names(given)


def test_an_empty_folder_is_said_to_be_empty(tmp_path):
    with pytest.raises(UserError, match="no picture among"):
        names(tmp_path)


@pytest.mark.parametrize("text", ["1", "4/4", "-1/4", "a/b", "0/0"])
def test_impossible_shards_are_refused(text):
    with pytest.raises(UserError, match="--shard="):
        inputs.parse_shard(text)


def test_shards_are_counted_from_nought():
    assert inputs.parse_shard("3/4") == (3, 4)
