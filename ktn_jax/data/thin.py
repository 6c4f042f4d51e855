"""Thinner copies of the body's mesh, for rendering: same points, fewer faces.

    python -m ktn_jax.data.thin --out=ktn_jax/assets/thin.npz

One idea: an edge is collapsed onto one of its ends, so every corner of what is left is a
corner of the body's own mesh, with its vertex, chart and (U, V); a face never changes its
chart, and seams stay seams. Hands, feet and face lose most: they are the densest.
"""

import argparse
import collections
import heapq
from pathlib import Path

import numpy as np

from ktn_jax.body import cut_charts, load_body, t_pose

# level -> (longest edge to collapse, farthest a dropped vertex may lie off), metres
LEVELS = {"near": (0.022, 0.0015), "far": (0.045, 0.005)}
_TURN = 0.6  # cosine: how far a face may turn in a collapse


def thin_faces(longest: float, off: float) -> np.ndarray:
    """Corners of the faces left: indices into the body's 3 f corners. [g, 3] i64."""
    work = _Mesh(longest, off)
    while work.queue:
        _, kept, dropped = heapq.heappop(work.queue)
        work.collapse(kept, dropped)
    return np.array([work.faces[face] for face in sorted(work.faces)])


class _Mesh:
    """A mesh under collapse; faces are triples of the body's corner indices."""

    def __init__(self, longest: float, off: float) -> None:
        charts = cut_charts()
        self.place = t_pose().vertices
        self.vertex = load_body().faces.ravel()
        uv = charts.uv.reshape(-1, 2).round(6)
        self.sheet = [  # corners of one vertex on one side of all seams agree in this
            (int(charts.chart[corner // 3]), *pair)
            for corner, pair in enumerate(uv.tolist())
        ]
        self.longest, self.off = longest, off
        corners = np.arange(len(self.vertex)).reshape(-1, 3)
        self.faces = dict(enumerate(corners.tolist()))
        self.around = collections.defaultdict(set)  # vertex -> its faces
        for face, triple in self.faces.items():
            for corner in triple:
                self.around[self.vertex[corner]].add(face)
        self.queue: list[tuple[float, int, int]] = []
        for vertex in list(self.around):
            self.push(vertex)

    def neighbours(self, vertex: int) -> set[int]:
        """Vertices that share a face."""
        corners = (c for face in self.around[vertex] for c in self.faces[face])
        return {int(self.vertex[c]) for c in corners} - {vertex}

    def push(self, vertex: int) -> None:
        """Queues the collapses of a vertex onto its neighbours, shortest first."""
        for other in self.neighbours(vertex):
            length = float(np.linalg.norm(self.place[vertex] - self.place[other]))
            if length < self.longest:
                heapq.heappush(self.queue, (length, other, vertex))

    def collapse(self, kept: int, dropped: int) -> None:
        """Moves one vertex onto another, where surface and seams allow it."""
        both = self.around[kept] & self.around[dropped]
        common = self.neighbours(kept) & self.neighbours(dropped)
        if len(both) != 2 or len(common) != 2:
            return
        onto = {}  # sheet of the dropped vertex -> the kept one's corner on it
        for face in both:
            triple = self.faces[face]
            at = {self.vertex[c]: c for c in triple}
            onto[self.sheet[at[dropped]]] = at[kept]
        moved = {}
        for face in self.around[dropped] - both:
            triple = self.faces[face]
            (old,) = (c for c in triple if self.vertex[c] == dropped)
            if self.sheet[old] not in onto:
                return
            moved[face] = [onto[self.sheet[c]] if c == old else c for c in triple]
        if not self.keeps_shape(moved, dropped):
            return
        for face in both:
            for corner in self.faces.pop(face):
                self.around[self.vertex[corner]].discard(face)
        self.faces |= moved
        self.around[kept] |= set(moved)
        del self.around[dropped]
        self.push(kept)

    def keeps_shape(self, moved: dict[int, list[int]], dropped: int) -> bool:
        """Whether no face turns far, and one of them passes by the dropped vertex."""
        faces = list(moved)
        after = self.place[self.vertex[np.array([moved[f] for f in faces])]]
        before = self.place[self.vertex[np.array([self.faces[f] for f in faces])]]
        new, old = (np.cross(t[:, 1] - t[:, 0], t[:, 2] - t[:, 0]) for t in (after, before))
        size = np.linalg.norm(new, axis=1)
        if size.min() < 1e-9:
            return False
        turn = (new * old).sum(1) / (size * np.linalg.norm(old, axis=1).clip(1e-12))
        away = np.abs(((self.place[dropped] - after[:, 0]) * new).sum(1)) / size
        return bool(turn.min() > _TURN and away.max() < self.off)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    levels = {name: thin_faces(*rule) for name, rule in LEVELS.items()}
    out = parser.parse_args().out
    np.savez_compressed(out, **{n: v.astype(np.uint32) for n, v in levels.items()})
    print(", ".join(f"{name}: {len(faces)} faces" for name, faces in levels.items()))


if __name__ == "__main__":
    main()
