"""The benchmark of memory that is kept, on runs that were not made."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import ablation, pages
from ktn_jax.errors import UserError

FAKE = """
import json, os, pathlib, sys
flags = dict(a[2:].split("=", 1) for a in sys.argv[1:])
kept = os.environ["GLIBC_TUNABLES"] != ""
folder = pathlib.Path(flags["workdir"])
folder.mkdir()
speeds = [1, 30, 36, 33] if kept else [1, 20, 22, 40]
lines = (json.dumps({"images_per_second": s}) for s in speeds)
(folder / "metrics.jsonl").write_text("\\n".join(lines))
"""


def test_runs_take_turns_and_the_first_stretch_does_not_count(
    tmp_path, monkeypatch, capsys
):
    asked = "assert flags['config.seed'] == '3' and flags['config.data.root'] == 'where'\n"
    (tmp_path / "train.py").write_text(FAKE + asked)
    monkeypatch.setattr(ablation, "REPOSITORY", tmp_path)
    pages.main(["--root=where", "--rounds=2", "--", "--config.seed=3"])
    *runs, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert [run["images_per_second"] for run in runs] == [22, 33, 22, 33]
    assert [bool(run["setting"]) for run in runs] == [False, True, False, True]
    assert last == {"plain": 22, "kept": 33, "ratio": 1.5}


def test_a_run_that_fails_is_told(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text("raise SystemExit('no such data set')")
    monkeypatch.setattr(ablation, "REPOSITORY", tmp_path)
    with pytest.raises(SystemExit, match="no such data set"):
        pages.train([], tmp_path / "run", {})


def test_a_run_too_short_is_told(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(FAKE.replace("[1, 20, 22, 40]", "[1]"))
    monkeypatch.setattr(ablation, "REPOSITORY", tmp_path)
    with pytest.raises(UserError, match="more --steps"):
        pages.train([], tmp_path / "run", {"GLIBC_TUNABLES": ""})


def test_the_demo_runs_with_what_was_measured():
    makefile = Path(pages.__file__).parents[1] / "Makefile"
    said = subprocess.run(
        ["make", "-n", "-f", makefile, "demo"], capture_output=True, text=True, check=True
    )
    assert f"GLIBC_TUNABLES={pages.SETTING} " in said.stdout


def test_glibc_knows_the_setting():
    """Its loader lists what it took over from the environment."""
    loader = next(Path("/lib64").glob("ld-linux-*.so.2"), None)
    if loader is None:
        pytest.skip("no glibc where it is looked for")
    said = subprocess.run(
        [loader, "--list-tunables"], capture_output=True, text=True,
        env={"GLIBC_TUNABLES": pages.SETTING},
    )  # fmt: skip
    if said.returncode or "hugetlb" not in said.stdout:
        pytest.skip("a glibc before 2.35")
    for name, value in (part.split("=") for part in pages.SETTING.split(":")):
        assert f"{name}: {int(value):#x}" in said.stdout
