"""What the summary counts, against closed forms, and what the configs say of themselves."""

import importlib
import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from ktn_jax.errors import EXIT_USER_ERROR
from ktn_jax.models import summary
from ktn_jax.models.layers import ConvNormRelu, Depthwise, recomputed

README = Path("README.md")
CONFIGS = [*sorted(path.stem for path in Path("configs").glob("ktn_*.py")), "photographs"]


class Small(nn.Module):
    """3x3 stride 2, depthwise 5x5, grouped 3x3, 1x1."""

    @nn.compact
    def __call__(self, x):
        x = recomputed(ConvNormRelu, True)(8, strides=2, name="first")(x)
        x = Depthwise(5, name="depthwise")(x)
        x = nn.Conv(8, (3, 3), feature_group_count=2, use_bias=False, name="grouped")(x)
        return nn.Dense(5, name="last")(x)


def test_multiply_adds_of_a_small_network_by_hand():
    image = jax.ShapeDtypeStruct((1, 12, 20, 3), jnp.float32)
    variables = jax.eval_shape(Small().init, jax.random.key(0), image)
    cells = 6 * 10  # after the stride
    expected = cells * (9 * 3 * 8 + 25 * 8 + 9 * 4 * 8 + 8 * 5)
    assert summary.multiply_adds(Small(), variables, image) == expected


@pytest.fixture(scope="module")
def rows():
    return {
        name: summary.summarise(summary.load_model(Path(f"configs/{name}.py")))
        for name in CONFIGS
    }


def test_backbones_cost_what_their_papers_say(rows):
    """Multiply-adds at 512 px are (512 / 224)^2 of those at 224."""
    scale = 2 * (512 / 224) ** 2
    for name, giga, millions in (
        ("ktn_r50", 4.09, 23.51),  # torchvision: 4.09 G, 25.56 M with 2.05 M of fc
        ("ktn_r101", 7.80, 42.50),  # 7.80 G, 44.55 M
        ("ktn_lite0", 0.364, 2.96),  # 0.407 G, 4.65 M, less the classifier's
    ):
        assert rows[name]["gflop"][512]["backbone"] == pytest.approx(scale * giga, rel=0.01)
        parameters = rows[name]["parameters"]["backbone"]
        assert parameters / 1e6 == pytest.approx(millions, abs=0.005)


def test_folding_removes_the_knowledge_transfer_from_what_is_counted(rows):
    # L1: 3 x 2304 to 2304, L2: 2304 to 2304, three graphs; less the plain chart kernel
    transfer = 4 * 2304**2 + 2 * 2304 + 25 * (17 + 15 + 6) - 2304 * 25
    for name in ("ktn_r50", "ktn_hrnet_w48"):
        counts = rows[name]["parameters"]
        assert counts["total"] - counts["inference"] == transfer


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_s_docstring_has_the_numbers_of_the_summary(name, rows):
    text = " ".join(importlib.import_module(f"configs.{name}").__doc__.split())
    said = re.search(
        r"(\S+) M parameters, (\S+) M at inference; GFLOP an image: (\S+) at 512 px, "
        r"(\S+) at 800\.",
        text,
    ).groups()
    counts, gflop = rows[name]["parameters"], rows[name]["gflop"]
    assert said == (
        f"{counts['total'] / 1e6:.2f}",
        f"{counts['inference'] / 1e6:.2f}",
        f"{gflop[512]['total']:.1f}",
        f"{gflop[800]['total']:.1f}",
    )


def test_the_readme_s_table_is_the_summary(rows):
    said = {
        match[1]: match[0].split("|")[3:7]
        for match in re.finditer(r"^\| `(\w+)`[^|]*\|.*$", README.read_text(), re.M)
        if match[1] in rows and match[0].count("|") == 7
    }
    assert said.keys() == rows.keys()
    for name, row in rows.items():
        counts, gflop = row["parameters"], row["gflop"]
        numbers = (counts["total"] / 1e6, counts["inference"] / 1e6)
        numbers += (gflop[512]["total"], gflop[800]["total"])
        for number, text in zip(numbers, said[name], strict=True):
            digits = len(text.strip().partition(".")[2])
            assert text.strip() == f"{number:.{digits}f}", name


def test_the_command_prints_a_table_or_json(capsys):
    assert summary.main(["configs/tiny.py"]) == 0
    head, rule, row = capsys.readouterr().out.splitlines()
    assert len(head) == len(rule) == len(row) and row.startswith("| tiny   | small    |")
    assert summary.main(["configs/tiny.py", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (
        written["tiny"]["gflop"]["800"]["total"] > written["tiny"]["gflop"]["512"]["total"]
    )


def test_a_config_that_is_not_there_is_one_line(capsys):
    assert summary.main(["configs/none.py"]) == EXIT_USER_ERROR
    assert "configs/none.py not found" in capsys.readouterr().err
