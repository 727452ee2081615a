"""Paint the demo style picture, an evening sea under a turning sky, out of some fifteen thousand brush strokes.

The picture is the project's own and free to ship. It is made as a painter would make it: a warm ground, a
plan of the large shapes, then strokes from broad to fine that follow a flow. A stroke carries two paints and
streaks along its bristles, runs dry toward its end and leaves a relief, which is lit from the upper left.

    python tools/paint_demo_style.py fastgan/data/assets/demo_style.jpg
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates  # type: ignore[import-untyped]

Array = NDArray[Any]
WIDTH, HEIGHT = 768, 608
SCALE = 2  # the canvas is painted larger and reduced, which smooths the edges of the strokes
SEED, HORIZON = 73, 404.0
SKY, HILL, SEA, BANK, WARM = range(5)  # what is painted where, and the paints for warm light on it

# Paints from dark to light; a tone in [0, 1] picks a place on the ramp.
RAMPS = {
    SKY: ["0a1238", "12226a", "1b43a0", "2070b4", "3aa3b4", "8fd0bf", "f1ecca"],
    WARM: ["6e1a16", "bf2a18", "e45722", "ef962e", "f4c455", "fbe9b0", "fff6dc"],
    HILL: ["060a20", "0c1a44", "14355e", "1b5a68", "3f7d68", "96994e"],
    SEA: ["070f34", "0c2864", "10498a", "167a94", "4fb3a8", "b5dcc2", "f3eecb"],
    BANK: ["050a1c", "0a2030", "123f3c", "2f6238", "80862f", "c99f35", "ecd06a"],
}

# Whirls of the sky: x, y, reach, sense of turning, pull toward the middle.
WHIRLS = [(560.0, 176.0, 154.0, 1.0, 0.30), (92.0, 118.0, 107.0, -1.0, 0.30)]
WHIRLS += [(372.0, 74.0, 76.0, -1.0, 0.25), (716.0, 330.0, 72.0, -1.0, 0.25)]
# Lights of the sky, the sun first: x, y, radius of the disc.
LIGHTS = [(262.0, 268.0, 47.0), (690.0, 74.0, 23.0), (236.0, 58.0, 12.0), (52.0, 282.0, 14.0), (470.0, 40.0, 9.0)]


@dataclass
class Plan:
    """The plan of the painting, as maps: the region, how light, how warm, the brush's way, how fine."""

    region: Array
    tone: Array
    warm: Array
    flow_x: Array
    flow_y: Array
    detail: Array

    def lay(self, region: int, mask: Array, *maps: Array | float) -> None:
        """Put a region over what is there; ``maps`` are the other five fields, in their order."""
        self.region = np.where(mask, region, self.region)
        for name, value in zip(("tone", "warm", "flow_x", "flow_y", "detail"), maps, strict=True):
            setattr(self, name, np.where(mask, value, getattr(self, name)))

    def grown(self) -> Plan:
        """The plan at the canvas's size."""
        size = (WIDTH * SCALE, HEIGHT * SCALE)
        maps = (self.tone, self.warm, self.flow_x, self.flow_y, self.detail)
        pictures = [Image.fromarray(field.astype(np.float32)) for field in maps]
        tone, warm, u, v, detail = (np.asarray(p.resize(size, Image.Resampling.BILINEAR)) for p in pictures)
        speed = np.hypot(u, v) + 1e-6
        region = self.region.repeat(SCALE, 0).repeat(SCALE, 1)
        return Plan(region, np.clip(tone, 0, 1), np.clip(warm, 0, 1), u / speed, v / speed, detail)


class Brush(NamedTuple):
    """One pass of strokes: sizes in pixels of the finished picture."""

    region: int
    strokes: int
    width: tuple[float, float]
    length: tuple[float, float]
    tone_jitter: float
    tone_shift: float = 0.0
    load: float = 1.0  # how much paint: relief, and how late the stroke runs dry
    by_detail: bool = False


def noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float | tuple[float, float]) -> Array:
    """Smooth noise of mean 0 and standard deviation 1."""
    field = gaussian_filter(rng.standard_normal(shape).astype(np.float32), sigma, mode="wrap")
    return (field - field.mean()) / field.std()


def smooth(low: float, high: float, value: Array) -> Array:
    """Smoothstep from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def rgb(paint: str) -> Array:
    """The color of a paint, in [0, 1]."""
    return np.array([int(paint[i : i + 2], 16) / 255.0 for i in (0, 2, 4)], np.float32)


def ramp(name: int, tone: Array) -> Array:
    """Colors, in [0, 1], at the given tones of a ramp."""
    paints = np.array([rgb(paint) for paint in RAMPS[name]])
    at = tone * (len(paints) - 1)
    return np.stack([np.interp(at, np.arange(len(paints)), paint) for paint in paints.T], -1).astype(np.float32)


def equalise(field: Array) -> Array:
    """Spread values evenly over [0, 1], keeping their order."""
    order = np.searchsorted(np.sort(field.ravel()[::37]), field.ravel())
    return (order / order.max()).reshape(field.shape).astype(np.float32)


def drag(field: Array, flow_x: Array, flow_y: Array, length: float, step: float = 3.0) -> Array:
    """Smear a field along a flow, both ways: blotches become bands that run with the brush."""
    total, weight = field.copy(), 1.0
    for sign in (-1.0, 1.0):
        y, x = np.indices(field.shape).astype(np.float32)
        for i in range(int(length / step)):
            dx, dy = (map_coordinates(flow, [y, x], order=1, mode="nearest") for flow in (flow_x, flow_y))
            x, y = x + sign * step * dx, y + sign * step * dy
            fade = 1.0 - i * step / length
            total += fade * map_coordinates(field, [y, x], order=1, mode="nearest")
            weight += fade
    return total / weight


def sky_flow(x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Direction of the brush in the sky: a wind that rises and falls, taken up by whirls and by the lights."""
    angle = 0.35 * np.sin(x / 118.0 + y / 90.0 + 0.6) + 0.22 * noise(rng, (HEIGHT, WIDTH), 55.0)
    u, v = np.cos(angle), np.sin(angle)
    for cx, cy, reach, sense, pull in WHIRLS + [(cx, cy, 2.5 * radius, 1.0, 0.0) for cx, cy, radius in LIGHTS]:
        dx, dy = x - cx, y - cy
        r = np.hypot(dx, dy) + 1e-3
        part = np.exp(-((r / reach) ** 4))
        u = u * (1 - part) + part * (-sense * dy - pull * dx) / r
        v = v * (1 - part) + part * (sense * dx - pull * dy) / r
    size = np.hypot(u, v) + 1e-6
    return u / size, v / size


def ridge(x: Array, *points: tuple[float, float]) -> Array:
    """A smooth skyline through the given points."""
    return gaussian_filter(np.interp(x, *np.transpose(points)), (0, 10))


def compose(rng: np.random.Generator) -> Plan:
    """Lay out the picture at its finished size, then enlarge the maps to the canvas."""
    shape = (HEIGHT, WIDTH)
    y, x = np.indices(shape).astype(np.float32)

    # Sky: bands of tone that run with the wind and wind up in the whirls.
    u, v = sky_flow(x, y, rng)
    bands = equalise(drag(noise(rng, shape, 9.0), u, v, 190.0))
    tone, detail = 0.05 + 0.64 * bands**1.5, 0.35 + 0.4 * bands
    low = smooth(215.0, 385.0, y + 30.0 * (bands - 0.5) - 40.0 * np.exp(-(((x - LIGHTS[0][0]) / 240.0) ** 2)) + 20.0)
    warm = 0.88 * low * smooth(0.25, 0.6, bands) + 0.10 * smooth(0.70, 0.95, bands) * smooth(60.0, 260.0, y)
    tone = tone * (1 - 0.8 * low) + 0.8 * low * (0.18 + 0.58 * bands)
    for cx, cy, reach, _, _ in WHIRLS:
        core = np.exp(-(((x - cx) ** 2 + (y - cy) ** 2) / (0.75 * reach) ** 2))
        tone = tone + 0.20 * core * (2.0 * smooth(0.35, 0.7, bands) - 0.8)
    for cx, cy, radius in LIGHTS:
        r = (np.hypot(x - cx, y - cy) + 1.5 * noise(rng, shape, 7.0)) / radius
        ring = 0.5 + 0.5 * np.cos((r - 1.0) * 2.0 * np.pi / (0.62 if radius > 30 else 0.8))
        glow = np.exp(-((np.maximum(r - 1.0, 0.0) / 1.25) ** 2))
        tone = tone * (1 - 0.9 * glow) + 0.9 * glow * (0.50 + 0.32 * ring)
        warm = np.maximum(warm * (1 - glow), glow * (0.25 + 0.75 * ring))
        disc = smooth(1.12, 0.98, r)
        heart = 0.95 - 0.78 * smooth(0.22, 1.0, r) if radius > 30 or radius == 14.0 else 0.98 - 0.3 * r
        tone, warm = tone * (1 - disc) + disc * heart, np.maximum(warm, disc)
        detail = np.maximum(detail, 1.1 * np.exp(-((r / 2.2) ** 2)))
    plan = Plan(np.full(shape, SKY), tone, warm, u, v, detail)

    # Hills: a far chain left of the sun, a near headland on the right that falls toward the water.
    far = ridge(x, (0, 352), (60, 338), (128, 362), (210, 388), (270, 400), (420, 404), (768, 404))
    near = ridge(x, (0, 420), (400, 408), (450, 396), (520, 372), (585, 352), (640, 362), (700, 338), (768, 316))
    for line, shade in ((far, 0.52), (near, 0.30)):
        inside = (y > line) & (y < HORIZON + 8)
        depth = (y - line) / 40.0
        slope = np.gradient(line, axis=1) * np.exp(-depth) + 0.35 * np.sin(x / 26.0 + depth * 2.0)
        light = shade + 0.17 * noise(rng, shape, (4.5, 18.0)) + 0.12 * np.sin(depth * 9.0 + x / 60.0)
        plan.lay(HILL, inside, light + 0.25 * np.exp(-depth * 3.0), 0.015, 1.0, slope, 0.6)

    # Sea: swells that grow toward us, and the sun's path broken by them.
    near_us = np.clip((y - HORIZON) / (HEIGHT - HORIZON), 0.0, 1.0)
    phase = x / (16.0 + 66.0 * near_us) + 15.4 * np.sqrt(near_us + 0.02) + 0.7 * noise(rng, shape, (14.0, 40.0))
    slope = np.arctan((0.18 + 0.42 * near_us) * np.cos(phase))
    u, v = np.cos(slope), np.sin(slope)
    swell = equalise(drag(noise(rng, shape, (3.5, 12.0)), u, v, 70.0) + 0.25 * np.sin(phase))
    path = np.exp(-(((x - LIGHTS[0][0] - 10.0 * np.sin(y / 13.0)) / (34.0 + 50.0 * near_us)) ** 2))
    glint = path * smooth(0.22, 0.46, swell)
    ripple = 0.05 + 0.62 * swell**1.6 + 0.12 * (1 - near_us) * swell
    ripple = ripple * (1 - glint) + glint * (0.20 + 0.62 * smooth(0.42, 0.98, swell) * (0.75 + 0.25 * path))
    detail = 0.45 + 0.5 * path + 0.3 * (1 - near_us)
    plan.lay(SEA, y > HORIZON, ripple, 0.95 * glint + 0.05 * (swell > 0.9), u, v, detail)

    # Bank: dark grass in the corners of the foreground.
    edge = ridge(x, (0, 508), (70, 526), (170, 566), (300, 590), (430, 596), (560, 580), (670, 548), (768, 516))
    lean = 0.5 * np.sin(x / 46.0) + 0.3 * noise(rng, shape, 24.0) + 0.25
    light = 0.30 + 0.17 * noise(rng, shape, (14.0, 4.0))
    plan.lay(BANK, y > edge + 4.0 * np.sin(x / 17.0), light, 0.06, lean, -1.0, 0.8)
    return plan.grown()


class Canvas:
    """Color and relief of the paint, and the brush that lays it down."""

    def __init__(self, plan: Plan, rng: np.random.Generator) -> None:
        self.plan, self.rng = plan, rng
        self.height, self.width = plan.region.shape
        self.color = rgb("6b381f") + 0.03 * noise(rng, (self.height, self.width), 3.0)[..., None]
        self.relief = np.zeros((self.height, self.width), np.float32)
        # Long streaks to cut each stroke's bristles from: fine hairs, and broad ones for the mixing of paints.
        self.hair = 0.7 * noise(rng, (1600, 700), (40.0, 1.5)) + 0.7 * noise(rng, (1600, 700), (90.0, 3.4))
        self.blend = noise(rng, (1600, 700), (110.0, 5.0))

    def nearest(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Whole-pixel places; what lies off the canvas takes the nearest edge, so strokes run over it."""
        return np.clip(x, 0, self.width - 1).astype(int), np.clip(y, 0, self.height - 1).astype(int)

    def trace(self, x: Array, y: Array, steps: Array, step: float) -> list[Array]:
        """Spines of strokes centered on the seeds; a stroke stops where its region does."""
        plan, halves, seed = self.plan, [], np.stack([x, y], -1)
        home = plan.region[y.astype(int), x.astype(int)]
        stray = 0.10 * self.rng.standard_normal(len(x))
        cos, sin = np.cos(stray), np.sin(stray)
        for sign in (-1.0, 1.0):
            px, py = x.copy(), y.copy()
            alive, reach, points = np.ones(len(x), bool), np.zeros(len(x), np.int64), []
            for i in range(int(steps.max() / 2) + 1):
                ix, iy = self.nearest(px, py)
                u, v = plan.flow_x[iy, ix], plan.flow_y[iy, ix]
                px = px + sign * step * (cos * u - sin * v)
                py = py + sign * step * (sin * u + cos * v)
                ix, iy = self.nearest(px, py)
                alive &= (i < steps / 2) & (plan.region[iy, ix] == home)
                reach += alive
                points.append(np.stack([px, py], -1))
            halves.append((np.stack(points), reach))
        (back, n_back), (ahead, n_ahead) = halves
        ends = zip(n_back, n_ahead, strict=True)
        return [np.concatenate([back[:b, i][::-1], seed[i : i + 1], ahead[:a, i]]) for i, (b, a) in enumerate(ends)]

    def stroke(self, spine: Array, width: float, first: Array, second: Array, load: float) -> None:
        """Lay one stroke along a spine (points one step apart, canvas pixels) in two paints."""
        if len(spine) < 4:
            return
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(spine, axis=0).T))])
        # Samples lie closer than a pixel, so that none is missed; the streaks' sheet bounds their number.
        n, k = int(np.clip(along[-1] / 0.75, 6, 1500)), max(int(width / 0.75), 5)
        s = np.linspace(0.0, along[-1], n)
        px, py = np.interp(s, along, spine[:, 0]), np.interp(s, along, spine[:, 1])
        turn = np.arctan2(np.gradient(py), np.gradient(px))[:, None]
        t = (s / along[-1]).astype(np.float32)[:, None]
        across = np.linspace(-1.0, 1.0, k, dtype=np.float32)[None, :]
        half = 0.5 * width * np.minimum(np.sqrt(np.minimum(t / 0.12, 1.0)), 1.0 - 0.75 * smooth(0.45, 1.0, t))
        ix = (px[:, None] - np.sin(turn) * half * across).round().astype(int)
        iy = (py[:, None] + np.cos(turn) * half * across).round().astype(int)
        row, col = self.rng.integers(0, 1600 - n), self.rng.integers(0, 700 - k)
        hair, blend = (sheet[row : row + n, col : col + k] for sheet in (self.hair, self.blend))
        # The paint runs out hair by hair; the rim of the stroke is ragged too.
        dry = smooth(-0.25, 0.25, 1.15 + 0.55 * load - 1.25 * t - 0.34 * (1.0 - hair) * (0.35 + t))
        alpha = 0.97 * dry * smooth(0.0, 1.0, (1.0 - np.abs(across)) * half / 1.3 + 0.25 * hair)
        ok = (ix >= 0) & (iy >= 0) & (ix < self.width) & (iy < self.height) & (alpha > 0.02)
        ix, iy, alpha = ix[ok], iy[ok], alpha[ok]
        mix = smooth(-0.9, 0.9, blend)[ok][:, None]
        paint = (first * (1.0 - mix) + second * mix) * (1.0 + 0.15 * hair[ok])[:, None]
        wall = np.exp(-(((np.abs(across) - 0.82) / 0.16) ** 2)) + 0.7 * np.exp(-(((t - 0.97) / 0.04) ** 2))
        body = (0.7 + 0.42 * hair + 0.6 * wall)[ok] * load * min(1.0, 0.35 + width / 30.0)
        self.color[iy, ix] += (paint - self.color[iy, ix]) * alpha[:, None]
        self.relief[iy, ix] = self.relief[iy, ix] * (1.0 - 0.75 * alpha) + body * alpha

    def paints(self, brush: Brush, x: Array, y: Array) -> Array:
        """Two colors for each stroke, picked from the plan and then varied."""
        rng, n, both = self.rng, len(x), []
        at = y.astype(int), x.astype(int)
        tone = self.plan.tone[at] + brush.tone_shift + brush.tone_jitter * rng.standard_normal(n)
        warm = rng.random(n) < self.plan.warm[at]
        for shift in (0.0, 0.09):
            level = np.clip(tone + shift * rng.standard_normal(n), 0.0, 1.0).astype(np.float32)
            color = np.where(warm[:, None], ramp(WARM, level), ramp(brush.region, level))
            both.append(color + 0.03 * rng.standard_normal((n, 3)))
        return np.clip(np.stack(both, 1), 0.0, 1.0).astype(np.float32)

    def layer(self, brush: Brush) -> None:
        """Cover a region with one pass of strokes, in random order."""
        rng, plan = self.rng, self.plan
        pick = rng.choice(np.flatnonzero(plan.region == brush.region), brush.strokes)
        if brush.by_detail:
            pick = pick[rng.random(brush.strokes) < plan.detail.ravel()[pick]]
        y, x = (pick // self.width).astype(np.float32), (pick % self.width).astype(np.float32)
        # Round things need short strokes: the closer to a light's middle, the shorter.
        room = np.full(len(x), 1e9)
        for cx, cy, radius in LIGHTS if brush.region == SKY else []:
            room = np.minimum(room, 0.9 * np.hypot(x / SCALE - cx, y / SCALE - cy) + 0.35 * radius)
        width = np.minimum(rng.uniform(*brush.width, len(x)), 0.55 * room) * SCALE
        length = np.minimum(rng.uniform(*brush.length, len(x)), 1.7 * room) * SCALE
        paints = self.paints(brush, x, y)
        for i, spine in enumerate(self.trace(x, y, length / 3.0, 3.0)):
            self.stroke(spine, float(width[i]), paints[i, 0], paints[i, 1], brush.load)

    def line(self, points: list[tuple[float, float]], width: float, color: str, load: float = 1.0) -> None:
        """One deliberate stroke through points given in pixels of the finished picture."""
        path = np.array(points, np.float32) * SCALE
        at = np.linspace(0, len(path) - 1, 24)
        spine = np.stack([np.interp(at, np.arange(len(path)), axis) for axis in path.T], -1)
        spine = gaussian_filter(spine, (1.5, 0), mode="nearest") + 0.4 * self.rng.standard_normal(2)
        other = np.clip(rgb(color) * self.rng.uniform(0.8, 1.2), 0, 1)
        self.stroke(spine, width * SCALE, rgb(color), other, load)

    def finish(self) -> Image.Image:
        """Light the relief from the upper left and reduce to the finished size."""
        gy, gx = np.gradient(gaussian_filter(self.relief, 0.8))
        slope = np.clip(2.1 * (0.6 * gx + 0.8 * gy), -0.5, 0.6)
        shine = 0.55 * np.clip(slope, 0.0, None) ** 1.5
        lit = np.clip(self.color * (1.0 + 0.75 * slope)[..., None] + shine[..., None], 0.0, 1.0)
        gray = lit.mean(-1, keepdims=True)
        lit = np.clip(gray + 1.10 * (lit - gray), 0.0, 1.0)
        picture = Image.fromarray((lit * 255.0 + 0.5).astype(np.uint8))
        box = (8, 8, self.width - 8, self.height - 8)  # the outermost paint is thin
        return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box)


def accents(canvas: Canvas) -> None:
    """The parts that are drawn rather than filled: contours, the boat, the grass and its flowers."""
    rng, region = canvas.rng, canvas.plan.region
    top = np.argmax(region[::SCALE, ::SCALE] == HILL, axis=0).astype(float)
    for start in np.arange(-10.0, WIDTH, 26.0):
        xs = np.clip(start + np.linspace(0, rng.uniform(24, 48), 6), 0, WIDTH - 1)
        points = [(x, top[int(x)] + 1.0) for x in xs if top[int(x)] > 0]
        if len(points) > 3:
            canvas.line(points, rng.uniform(3.6, 5.4), "070c28", 1.2)

    # The boat: its shadow, two sails filled by the wind, the hull, and broken reflections.
    bx, by = 508.0, 470.0
    for _ in range(26):
        x, y = bx + rng.normal(0, 13), by + rng.uniform(6, 46)
        color = str(rng.choice(["081033", "0c2864", "bf2a18", "ef962e", "f4c455"], p=[0.4, 0.15, 0.2, 0.15, 0.1]))
        canvas.line([(x - 9, y), (x, y + 1.5), (x + 9, y)], 3.2, color)
    for i in range(9):
        points = [(bx + 2 + 3.8 * i, by - 9 + i / 4), (bx + 3 + 2.8 * i, by - 42 + i / 2), (bx + 1 + i / 8, by - 74)]
        canvas.line(points, 6.0, RAMPS[WARM][1 + i // 3], 1.8)
    for i in range(5):
        points = [(bx - 5 - 5.5 * i, by - 9), (bx - 6 - 3.3 * i, by - 32), (bx - 3, by - 64)]
        canvas.line(points, 5.5, RAMPS[WARM][5 - i % 2], 1.8)
    canvas.line([(bx - 1, by - 78), (bx - 1, by - 40), (bx, by - 4)], 2.4, "0a0f26")
    for dy, color in ((4.5, "0a0f26"), (1.0, "8c2318"), (-2.0, "f4c455")):
        ends = (bx - 33 + dy, by - 7 + dy), (bx + 38 - dy, by - 9 + dy)
        canvas.line([ends[0], (bx - 12, by + dy), (bx + 14, by + dy), ends[1]], 3.0 + 0.6 * dy, color, 1.6)

    # Grass, then flowers on some of its blades.
    edge = np.argmax(region[::SCALE, ::SCALE] == BANK, axis=0).astype(float)
    tips: list[tuple[float, float]] = []
    greens = ["0a2030", "123f3c", "2f6238", "80862f", "c99f35", "ecd06a", "1b6f78"]
    reds = ["d8301c", "ee5a26", "a81d18", "f6b23c", "fbe9b0"]
    for _ in range(420):
        x, tall = rng.uniform(0, WIDTH - 1), rng.uniform(18, 52)
        y, lean = edge[int(x)] + rng.uniform(-2, 50), rng.normal(0.25, 0.3) + 0.3 * np.sin(x / 46.0)
        tips.append((x + lean * tall * 1.3, y - tall))
        color = str(rng.choice(greens, p=[0.16, 0.22, 0.22, 0.14, 0.12, 0.06, 0.08]))
        canvas.line([(x, y), (x + 0.35 * lean * tall, y - 0.55 * tall), tips[-1]], rng.uniform(2.2, 4.5), color, 1.1)
    for k in rng.choice(len(tips), 95, replace=False):
        x, y = tips[k]
        for _ in range(3):
            angle, size = rng.uniform(0, 6.28), rng.uniform(3.5, 6.5)
            dx, dy = size * np.cos(angle), 0.7 * size * np.sin(angle)
            color = str(rng.choice(reds, p=[0.42, 0.25, 0.15, 0.1, 0.08]))
            canvas.line([(x - dx, y - dy), (x, y), (x + dx, y + dy)], rng.uniform(5, 8), color, 1.6)


def main() -> None:
    """Paint the whole picture and save it."""
    parser = argparse.ArgumentParser(description="Paint the demo style picture.")
    parser.add_argument("out", help="where the JPEG goes")
    out = parser.parse_args().out
    rng = np.random.default_rng(SEED)
    canvas = Canvas(compose(rng), rng)
    for brush in (
        Brush(SKY, 1500, (18, 28), (80, 150), 0.06),
        Brush(SKY, 2600, (13, 20), (60, 110), 0.11),
        Brush(SKY, 1700, (9, 15), (45, 95), 0.14),
        Brush(SKY, 3000, (5, 8), (34, 75), 0.15, tone_shift=0.03, by_detail=True),
        Brush(SKY, 1600, (3, 5), (24, 60), 0.15, tone_shift=0.10, load=1.3, by_detail=True),
        Brush(HILL, 350, (9, 14), (40, 70), 0.08),
        Brush(HILL, 500, (5, 9), (22, 55), 0.14),
        Brush(SEA, 700, (14, 22), (60, 120), 0.06),
        Brush(SEA, 1000, (9, 15), (45, 95), 0.11),
        Brush(SEA, 1800, (5, 8), (28, 65), 0.14, by_detail=True),
        Brush(SEA, 900, (3, 4.5), (20, 50), 0.14, tone_shift=0.08, load=1.3, by_detail=True),
        Brush(BANK, 350, (8, 14), (40, 70), 0.10),
        Brush(BANK, 700, (3, 6), (30, 60), 0.15),
    ):
        canvas.layer(brush)
    accents(canvas)
    canvas.finish().save(out, quality=90, optimize=True)


if __name__ == "__main__":
    main()
