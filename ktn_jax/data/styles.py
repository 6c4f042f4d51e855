"""How people hold arms and legs: a table of everyday poses and of sports.

One idea: a limb is given as a physiotherapist would, in degrees, or, for an arm, as the
place its wrist reaches for. Flexion brings a limb forward, abduction away from the body;
twist turns an arm inwards and a leg outwards. Odds are relative, by eye, for snapshots.
"""

from typing import NamedTuple


class Arm(NamedTuple):
    """Angles of one arm; all zero hangs straight down, palm to the thigh."""

    flexion: float
    abduction: float
    twist: float
    elbow: float


class Reach(NamedTuple):
    """Where a left wrist is, metres in the T pose's frame: x left, y up, z front."""

    x: float
    y: float
    z: float
    raised: float = 0.0  # how far the elbow swings up and out, degrees


class Leg(NamedTuple):
    """Angles of one leg; all zero stands straight."""

    flexion: float
    abduction: float
    twist: float
    knee: float


class Trunk(NamedTuple):
    """Degrees: forward, to the left, and the whole body's pitch and roll on the ground."""

    lean: float = 0.0
    twist: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0


class Style(NamedTuple):
    """One way to be; what is None is drawn from ARMS or LEGS."""

    odds: float
    left_arm: Arm | Reach | None
    right_arm: Arm | Reach | None
    legs: tuple[Leg, Leg] | None
    trunk: Trunk = Trunk()


DOWN = Arm(0, 12, 0, 15)
HIP, POCKET = Reach(0.21, 0.17, 0.02, 65), Reach(0.2, 0.03, 0.06)
LAP, BELLY = Reach(0.11, 0.15, 0.3), Reach(0.07, 0.14, 0.23)
CHEST, CHIN = Reach(0.1, 0.32, 0.26), Reach(0.09, 0.56, 0.18)
EAR, EYES = Reach(0.16, 0.66, 0.07, 20), Reach(0.1, 0.64, 0.21)
CROWN, NAPE = Reach(0.13, 0.86, 0.05, 50), Reach(0.17, 0.7, -0.06, 60)
BEHIND, STRAP = Reach(0.08, 0.08, -0.16), Reach(0.15, 0.42, 0.16)
CROSSED = Reach(0.0, 0.3, 0.24, 15)
BAR, HIGH = Reach(0.2, 0.28, 0.4), Reach(0.29, 0.9, 0.05)

ARMS = {  # style -> odds, the left and the right arm
    "down": (5, DOWN, DOWN),
    "swing": (3, Arm(28, 10, 5, 30), Arm(-25, 10, 5, 20)),
    "hips": (1.2, HIP, HIP),
    "hip": (1, HIP, DOWN),
    "pockets": (1.5, POCKET, POCKET),
    "pocket": (1, POCKET, DOWN),
    "crossed": (1.2, CROSSED, Reach(0.0, 0.34, 0.29, 15)),
    "clasped": (1.2, Reach(0.04, 0.06, 0.22), Reach(0.05, 0.07, 0.25)),
    "behind": (0.7, BEHIND, BEHIND),
    "hold": (2, CHEST, CHEST),
    "hold one": (1.5, CHEST, DOWN),
    "belly": (1, BELLY, BELLY),
    "lap": (0.8, LAP, LAP),
    "chin": (0.8, CHIN, BELLY),
    "hair": (0.5, CROWN, DOWN),
    "nape": (0.4, NAPE, NAPE),
    "strap": (0.7, STRAP, DOWN),
    "up": (0.7, Arm(10, 150, -10, 25), Arm(10, 150, -10, 25)),
    "cheer": (0.6, HIGH, HIGH),
    "wave": (1.2, Arm(5, 85, -85, 85), DOWN),
    "point": (0.6, Arm(70, 30, 0, 8), DOWN),
    "ahead": (0.7, Arm(75, 12, 0, 20), Arm(75, 12, 0, 20)),
    "wide": (0.7, Arm(0, 80, 0, 15), Arm(0, 80, 0, 15)),
    "reach": (0.8, Arm(120, 30, 0, 15), Arm(10, 20, 0, 30)),
    "hug": (0.8, Arm(15, 65, 10, 40), DOWN),
    "carry": (0.8, Arm(5, 14, 5, 70), DOWN),
    "work": (1, Reach(0.14, 0.2, 0.36), Reach(0.14, 0.2, 0.36)),
    "anywhere": (1.5, None, None),
}
STRAIGHT = Leg(0, 4, 5, 3)
LEGS = {  # style -> odds, the left and the right leg, the trunk
    "stand": (5, STRAIGHT, STRAIGHT, Trunk()),
    "rest": (3, Leg(-2, 6, 4, 0), Leg(12, 3, 15, 22), Trunk()),
    "astride": (2, Leg(5, 16, 10, 6), Leg(5, 16, 10, 6), Trunk()),
    "crossed": (0.4, Leg(8, -7, 5, 8), Leg(-4, -7, 5, 4), Trunk()),
    "walk": (4, Leg(25, 2, 4, 10), Leg(-18, 2, 4, 22), Trunk(4)),
    "stride": (1, Leg(35, 2, 4, 8), Leg(-22, 2, 4, 35), Trunk(6)),
    "step": (0.8, Leg(60, 4, 5, 70), Leg(-5, 3, 5, 8), Trunk(8)),
    "sit": (3, Leg(85, 8, 5, 85), Leg(85, 8, 5, 85), Trunk(2)),
    "sit wide": (1, Leg(80, 25, 12, 85), Leg(80, 25, 12, 80), Trunk(10)),
    "sit long": (0.7, Leg(80, 6, 5, 35), Leg(82, 6, 5, 50), Trunk(-8)),
    "legs over": (0.6, Leg(95, -6, 0, 75), Leg(85, 4, 5, 90), Trunk(0)),
    "ground": (0.7, Leg(88, 12, 10, 15), Leg(100, 12, 10, 90), Trunk(5)),
    "hug knees": (0.4, Leg(125, 6, 0, 125), Leg(122, 6, 0, 120), Trunk(20)),
    "tailor": (0.8, Leg(95, 42, 50, 130), Leg(95, 42, 50, 125), Trunk(10)),
    "kneel": (0.5, Leg(5, 8, 0, 105), Leg(5, 8, 0, 105), Trunk(5)),
    "heels": (0.4, Leg(60, 10, 5, 145), Leg(60, 10, 5, 145), Trunk(8)),
    "one knee": (0.6, Leg(85, 10, 5, 90), Leg(-2, 6, 0, 95), Trunk(10)),
    "squat": (0.8, Leg(115, 18, 12, 130), Leg(112, 18, 12, 128), Trunk(30)),
    "half squat": (0.7, Leg(55, 16, 10, 70), Leg(55, 16, 10, 70), Trunk(30)),
    "bend": (0.6, Leg(20, 8, 5, 15), Leg(20, 8, 5, 15), Trunk(60)),
    "lunge": (0.5, Leg(70, 8, 5, 75), Leg(-25, 4, 5, 30), Trunk(8)),
    "lean": (0.6, Leg(20, 6, 5, 5), Leg(20, 6, 5, 5), Trunk(-8)),
}
SEATED = (Leg(85, 8, 5, 85), Leg(85, 8, 5, 85))
RUN = Arm(40, 15, 10, 95)
STYLES = {  # what arms, legs and trunk do together
    "everyday": Style(26, None, None, None),
    "phone": Style(1.2, EAR, DOWN, None),
    "photo": Style(1, EYES, EYES, None),
    "screen": Style(1.6, Reach(0.08, 0.3, 0.3), Reach(0.08, 0.28, 0.27), None),
    "selfie": Style(0.5, Reach(0.25, 0.66, 0.36), DOWN, None),
    "laptop": Style(0.8, Reach(0.12, 0.2, 0.32), Reach(0.12, 0.2, 0.32), SEATED),
    "eat": Style(1.2, Reach(0.08, 0.53, 0.22), Reach(0.12, 0.2, 0.28), None),
    "drink": Style(0.8, Reach(0.1, 0.42, 0.26), DOWN, None),
    "umbrella": Style(0.4, Reach(0.12, 0.42, 0.22), DOWN, None),
    "bag": Style(1.2, DOWN, None, None),
    "box": Style(0.6, Reach(0.16, 0.25, 0.3), Reach(0.16, 0.25, 0.3), None),
    "run": Style(2, RUN, Arm(-50, 18, 5, 90), (Leg(-15, 2, 0, 75), Leg(60, 2, 0, 70)),
                 Trunk(12)),
    "sprint": Style(0.6, Arm(60, 15, 10, 90), Arm(-55, 20, 5, 95),
                    (Leg(-28, 2, 0, 40), Leg(85, 2, 0, 105)), Trunk(18)),
    "jump": Style(0.8, Arm(60, 110, 0, 25), Arm(40, 120, 0, 30),
                  (Leg(50, 12, 5, 85), Leg(30, 10, 5, 70)), Trunk(5)),
    "star": Style(0.4, Arm(0, 125, 0, 10), Arm(0, 125, 0, 10),
                  (Leg(0, 35, 10, 8), Leg(0, 35, 10, 8))),
    "leap": Style(0.4, Arm(30, 100, 0, 20), Arm(-20, 80, 0, 20),
                  (Leg(85, 10, 5, 15), Leg(-30, 10, 5, 25)), Trunk(5)),
    "tennis": Style(1.6, Reach(0.22, 0.42, 0.36), Arm(10, 75, -30, 45),
                    (Leg(40, 22, 15, 45), Leg(25, 20, 15, 40)), Trunk(18, -25)),
    "serve": Style(0.8, Arm(20, 160, 0, 10), Arm(-10, 105, -70, 110),
                   (Leg(12, 10, 10, 15), Leg(-10, 10, 10, 25)), Trunk(-8, -15)),
    "backhand": Style(0.6, Reach(-0.02, 0.3, 0.36), Reach(0.08, 0.3, 0.38),
                      (Leg(45, 14, 10, 50), Leg(20, 18, 10, 40)), Trunk(18, 35)),
    "bat": Style(1.4, Reach(-0.08, 0.5, 0.24, 30), Reach(0.2, 0.55, 0.18, 35),
                 (Leg(30, 22, 10, 35), Leg(32, 22, 10, 38)), Trunk(18, -20)),
    "swing bat": Style(0.8, Reach(0.02, 0.36, 0.4), Reach(0.1, 0.36, 0.38),
                       (Leg(20, 28, 10, 12), Leg(15, 24, 5, 45)), Trunk(10, 30)),
    "pitch": Style(1, Arm(70, 35, 0, 40), Arm(-10, 100, -60, 95),
                   (Leg(65, 15, 5, 50), Leg(-20, 12, 10, 30)), Trunk(12, -20)),
    "catch": Style(0.8, Reach(0.16, 0.3, 0.4), Reach(0.12, 0.15, 0.3),
                   (Leg(112, 25, 15, 128), Leg(112, 25, 15, 128)), Trunk(25)),
    "golf": Style(0.5, Reach(0.0, -0.02, 0.38), Reach(0.06, -0.02, 0.37),
                  (Leg(25, 14, 8, 18), Leg(25, 14, 8, 18)), Trunk(30)),
    "throw": Style(1, Arm(50, 40, 10, 40), Arm(20, 95, -60, 95),
                   (Leg(25, 8, 5, 15), Leg(-22, 8, 5, 30)), Trunk(5, -15)),
    "frisbee": Style(0.6, Arm(30, 60, 0, 30), Reach(-0.05, 0.35, 0.3, 20),
                     (Leg(30, 18, 10, 35), Leg(35, 15, 5, 40)), Trunk(20, 30)),
    "kick": Style(1, Arm(30, 60, 0, 25), Arm(-30, 40, 0, 30),
                  (Leg(-5, 6, 8, 20), Leg(60, 4, 0, 25)), Trunk(-5)),
    "ready": Style(0.8, Arm(35, 25, 0, 60), Arm(35, 25, 0, 60),
                   (Leg(45, 20, 10, 60), Leg(45, 20, 10, 60)), Trunk(30)),
    "ski": Style(2, Arm(38, 25, 0, 65), Arm(38, 25, 0, 65),
                 (Leg(50, 6, 0, 62), Leg(50, 6, 0, 62)), Trunk(30)),
    "ski poles": Style(1, Arm(15, 28, 0, 50), Arm(35, 25, 0, 60),
                       (Leg(15, 6, 3, 20), Leg(10, 6, 3, 15)), Trunk(12)),
    "snowboard": Style(1.4, Arm(15, 70, 0, 25), Arm(0, 65, 0, 30),
                       (Leg(55, 25, 5, 65), Leg(50, 25, 5, 65)), Trunk(28, 25)),
    "skateboard": Style(1.4, Arm(10, 65, 0, 30), Arm(5, 70, 0, 30),
                        (Leg(45, 20, 5, 55), Leg(40, 20, 5, 55)), Trunk(20, 20)),
    "surf": Style(1.4, Arm(30, 75, 0, 25), Arm(0, 80, 0, 30),
                  (Leg(75, 20, 5, 80), Leg(60, 22, 0, 85)), Trunk(35, 25)),
    "surf low": Style(0.5, Arm(40, 50, 0, 40), Arm(0, 70, 0, 40),
                      (Leg(105, 22, 5, 115), Leg(80, 25, -5, 110)), Trunk(40, 20)),
    "cycle": Style(1.8, BAR, BAR, (Leg(85, 4, 2, 85), Leg(45, 4, 2, 45)), Trunk(30)),
    "motorbike": Style(1, BAR, BAR, (Leg(75, 14, 8, 85), Leg(75, 14, 8, 85)), Trunk(12)),
    "ride": Style(0.8, BELLY, BELLY, (Leg(55, 30, 12, 65), Leg(55, 30, 12, 65))),
    "kite": Style(0.4, Reach(0.12, 0.8, 0.22), Reach(0.12, 0.75, 0.25),
                  (STRAIGHT, Leg(5, 10, 5, 10)), Trunk(-10)),
    "dance": Style(0.6, Arm(40, 110, 0, 40), Arm(20, 40, 0, 70),
                   (Leg(30, 15, 15, 45), Leg(0, 8, 10, 8)), Trunk(0, 15)),
    "on back": Style(0.8, None, None, (Leg(15, 10, 10, 20), Leg(30, 10, 10, 50)),
                     Trunk(0, 0, -82)),
    "on belly": Style(0.6, Arm(60, 110, 0, 60), Arm(60, 110, 0, 60),
                      (Leg(-5, 8, 5, 10), Leg(-5, 8, 5, 10)), Trunk(-12, 0, 85)),
    "on side": Style(0.6, Reach(0.15, 0.5, 0.28), Arm(20, 10, 0, 30),
                     (Leg(50, 4, 0, 70), Leg(40, 4, 0, 60)), Trunk(10, 0, 0, 85)),
    "crawl": Style(0.5, Arm(85, 8, 0, 8), Arm(85, 8, 0, 8),
                   (Leg(85, 6, 0, 90), Leg(85, 6, 0, 90)), Trunk(0, 0, 85)),
    "paddle": Style(0.3, Arm(120, 30, 0, 40), Arm(70, 30, 0, 20),
                    (Leg(-8, 5, 5, 8), Leg(-8, 5, 5, 8)), Trunk(-20, 0, 85)),
}  # fmt: skip
ARM_NOISE, LEG_NOISE, REACH_NOISE = Arm(14, 9, 16, 15), Leg(7, 4, 5, 8), 0.035
ARM_LIMITS = (Arm(-55, 4, -95, 0), Arm(165, 170, 75, 145))
LEG_LIMITS = (Leg(-32, -10, -20, 0), Leg(130, 48, 55, 148))
