"""Build, print, draw and save the body graph: python -m ktn_jax.graph --out=graph.npz.

Without options it has all three relations: R rules, G GloVe's words and V as counted on
rendered people. A training run takes the file by --config.model.graph=graph.npz.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ktn_jax import files
from ktn_jax.errors import UserError, one_line_errors
from ktn_jax.graph import show
from ktn_jax.graph.genome import count_relationships
from ktn_jax.graph.matrices import RELATIONS, Graph, build_graph, normalise
from ktn_jax.graph.stored import shipped_visual, write_graph
from ktn_jax.graph.words import read_words

SOURCES = {"coco": "visual", "visual_genome": "visual", "glove": "words"}  # of relations


def build(flags: argparse.Namespace) -> tuple[Graph, list[str]]:
    """The graph of a command line, and the relations in it."""
    chosen = choose_relations(flags)
    for option, relation in SOURCES.items():
        if getattr(flags, option) and relation not in chosen:
            raise UserError(
                f"--{option.replace('_', '-')} is for the relation {relation!r}, which is "
                "off; switch it on or leave the file out"
            )
    graph = build_graph(
        rules="rules" in chosen,
        words="words" in chosen,
        split_pairs=not flags.paper_words,
        visual=_read_visual(flags) if "visual" in chosen else None,
        vectors=read_words(flags.glove) if flags.glove else None,
    )
    return graph, chosen


def choose_relations(flags: argparse.Namespace) -> list[str]:
    """Names of the relations that are on: --relations, less every --no-."""
    named = [name for name in flags.relations.split(",") if name]
    if unknown := set(named) - set(RELATIONS):
        raise UserError(
            f"unknown relation {sorted(unknown)[0]!r}; --relations takes some of "
            f"{','.join(RELATIONS)}"
        )
    chosen = [n for n in RELATIONS if n in named and not getattr(flags, f"no_{n}")]
    if not chosen:
        raise UserError(f"no relation is left; keep one of {', '.join(RELATIONS)}")
    return chosen


def _read_visual(flags: argparse.Namespace) -> Graph:
    if flags.coco and flags.visual_genome:
        raise UserError(
            "--coco and --visual-genome count different things; give one of them"
        )
    if flags.visual_genome:
        return normalise(count_relationships(flags.visual_genome))
    if not flags.coco:
        return shipped_visual()
    from ktn_jax.graph.sightings import count_people  # late: tfds takes seconds to import

    counts, people = count_people(flags.coco, progress=True)
    print(f"counted on {people} people")
    return normalise(counts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ktn_jax.graph", description=__doc__)
    every = ",".join(RELATIONS)
    parser.add_argument("--relations", default=every, help=f"some of {every} (all)")
    for name in RELATIONS:
        parser.add_argument(f"--no-{name}", action="store_true", help=f"without {name}")
    parser.add_argument(
        "--glove",
        type=Path,
        metavar="FILE",
        help="word vectors: GloVe's text form, or .csv with commas",
    )
    parser.add_argument(
        "--paper-words",
        action="store_true",
        help="the paper's phrases: charts of a limb get equal rows in R and G",
    )
    parser.add_argument(
        "--coco",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="count V on these DensePose-COCO json files",
    )
    parser.add_argument(
        "--visual-genome",
        type=Path,
        metavar="FILE",
        help="count V on Visual Genome's relationships.json",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.npz", help="save it")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw it")
    return parser


@one_line_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    flags = _parser().parse_args(arguments)
    graph, relations = build(flags)
    print(show.table(graph))
    if flags.out:
        write_graph(flags.out, graph, relations)
        print(f"wrote {flags.out} ({', '.join(relations)})")
    if flags.plot:
        title = f"Body graph A of {' + '.join(relations)}, in hundredths"
        with files.atomic(flags.plot) as file:
            show.draw(graph, title).save(file, format="png", optimize=True)
        print(f"drew {flags.plot}")


if __name__ == "__main__":
    sys.exit(main())
