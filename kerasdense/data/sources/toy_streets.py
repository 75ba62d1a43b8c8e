"""Street scenes drawn from a seed, with exact label maps and boxes: data that is always there.

A pinhole camera looks along a street (x right, y up, z forward, meters). Everything is a polygon in
space, painted from far to near, into the picture and, with the same outline, into a map of object
numbers: labels, occlusion and boxes follow from that map. Both are drawn three times too large; the
picture is averaged down and the map is read at pixel centers, so that edges are smooth in one and
exact in the other.
"""

import dataclasses
import hashlib
import math
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageDraw, ImageFilter

from kerasdense.data import box_preparation, mask_preparation, preparation, reading

CLASSES = {
    "sky": (135, 190, 235),
    "building": (150, 90, 70),
    "road": (110, 100, 120),
    "pavement": (230, 190, 200),
    "tree": (60, 140, 60),
    "pole": (240, 200, 60),
    "car": (30, 80, 200),
    "pedestrian": (220, 30, 60),
}
SKY, BUILDING, ROAD, PAVEMENT, TREE, POLE, CAR, PEDESTRIAN = range(len(CLASSES))
BOX_CLASSES = ("car", "pedestrian")

HEIGHT, WIDTH = 192, 256
OVERSAMPLING = 2
SEED = 2017
SPLIT_SIZES = {"train": 320, "val": 80}
MIN_VISIBLE_PIXELS = 24  # an object that shows less has no box
NEAREST = 0.4  # m; what lies nearer is cut off
CIRCLE = [(math.cos(k * math.tau / 14), math.sin(k * math.tau / 14)) for k in range(14)]
FOG_DISTANCE = 120.0  # m at which 63 % of a color is haze


class ToyStreets(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """400 drawn street scenes, 192x256, 8 classes, and boxes of cars and pedestrians.

    The features of segmentation and of detection: besides image, mask and file_name, `boxes`
    float32 [N, 4] relative xyxy, `labels` int64 [N] (index into the metadata's `box_class_names`,
    with `box_palette`) and `difficult` bool [N], all False. A box is the extent of the object's
    visible pixels, its right and lower edges after the last pixel; objects that show fewer than
    MIN_VISIBLE_PIXELS have none, and N may be 0.
    """

    name = "toy_streets"
    VERSION = preparation.VERSION
    TRUTH = ("mask", "boxes")
    url_infos = None  # nothing is downloaded; TFDS 4.9.10's lookup needs importlib_resources
    CONFIGS = {"default": "320 train and 80 val scenes of 192x256"}

    @staticmethod
    def fingerprint():
        """Returns "PLACE8-FILES12" as for a source folder: a changed generator draws anew."""
        code = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        return f"embedded-{code[:12]}"

    def _info(self):
        info = preparation.dataset_info(
            self,
            CLASSES,
            CLASSES.values(),
            mask_preparation.mask_feature() | box_preparation.box_features(),
        )
        info.metadata["box_class_names"] = list(BOX_CLASSES)
        info.metadata["box_palette"] = [list(CLASSES[name]) for name in BOX_CLASSES]
        return info

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in SPLIT_SIZES}

    def _generate_examples(self, split):
        tally = mask_preparation.Tally(split, CLASSES)
        box_tally = box_preparation.Tally(split, list(BOX_CLASSES))
        for index in range(SPLIT_SIZES[split]):
            image, mask, boxes, labels = draw_scene(split, index)
            name = f"{split}_{index:03d}"
            tally.add(name, mask, mask)
            difficult = np.zeros(len(labels), bool)
            box_tally.add_image(labels, difficult)
            yield (
                name,
                {
                    "image": reading.png_bytes(Image.fromarray(image)),
                    "mask": reading.png_bytes(Image.fromarray(mask)),
                    "file_name": name,
                    "boxes": boxes,
                    "labels": labels,
                    "difficult": difficult,
                },
            )
        mask_preparation.record(self, tally)
        box_preparation.record(self, box_tally)


def draw_scene(split, index):
    """Returns one scene of "train", "val" or "test" (not prepared), the same for each `index`.

    Returns:
        (image uint8 [192, 256, 3], mask uint8 [192, 256], boxes float32 [N, 4] relative xyxy,
        labels int64 [N] into BOX_CLASSES).
    """
    rng = np.random.default_rng([SEED, ("train", "val", "test").index(split), index])
    canvas = Canvas.random(rng)
    _draw_sky(canvas, rng)
    _draw_ground(canvas, rng)
    for _, draw, arguments in sorted(_things(canvas, rng), key=lambda thing: -thing[0]):
        draw(canvas, rng, *arguments)
    image = _photograph(canvas, rng)
    center = OVERSAMPLING // 2
    numbers = np.asarray(canvas.numbers)[center::OVERSAMPLING, center::OVERSAMPLING]  # [H, W]
    mask = np.array(canvas.class_of, np.uint8)[numbers]  # [H, W]
    boxes, labels = visible_boxes(numbers, canvas.class_of)
    return image, mask, boxes, labels


def visible_boxes(numbers, class_of):
    """Returns boxes and labels of the cars and pedestrians in a map of object numbers [H, W]."""
    boxes, labels = [], []
    height, width = numbers.shape
    for number in range(len(CLASSES), len(class_of)):
        rows, columns = np.nonzero(numbers == number)
        if len(rows) < MIN_VISIBLE_PIXELS:
            continue
        left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        boxes.append([left / width, top / height, right / width, bottom / height])
        labels.append(class_of[number] - CAR)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64)


# --- camera and paint --------------------------------------------------------------------------


@dataclasses.dataclass
class Canvas:
    """The picture, the map of object numbers, and the camera and light they are drawn with."""

    picture: Image.Image
    numbers: Image.Image  # 0..7: stuff of that class; above: one number a car or pedestrian
    class_of: list  # class index of each number
    horizon: float  # pixel row
    vanishing: float  # pixel column
    focal: float  # pixels
    eye: float  # m above the road
    light: list  # [3] factor on every color
    haze: tuple  # [3] color of the distance
    dusk: bool
    left_edge: float  # x of the road's edges, m
    right_edge: float

    def __post_init__(self):
        self.paint = ImageDraw.Draw(self.picture)
        self.paint_numbers = ImageDraw.Draw(self.numbers)

    @classmethod
    def random(cls, rng):
        size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
        mood = rng.choice(["sun", "sun", "overcast", "dusk"])
        light, haze = {
            "sun": ((1.06, 1.02, 0.95), (205, 220, 235)),
            "overcast": ((0.80, 0.82, 0.86), (190, 196, 202)),
            "dusk": ((0.72, 0.58, 0.58), (225, 160, 130)),
        }[mood]
        left_edge = -rng.uniform(2.2, 6.5)
        return cls(
            picture=Image.new("RGB", size),
            numbers=Image.new("L", size, SKY),
            class_of=list(range(len(CLASSES))),
            horizon=size[1] * rng.uniform(0.36, 0.52),
            vanishing=size[0] * rng.uniform(0.33, 0.67),
            focal=size[0] * rng.uniform(0.65, 0.95),
            eye=rng.uniform(1.4, 2.6),
            light=(np.array(light) * rng.uniform(0.85, 1.1)).tolist(),
            haze=haze,
            dusk=mood == "dusk",
            left_edge=left_edge,
            right_edge=left_edge + rng.uniform(7.0, 10.0),
        )

    def project(self, points):
        """Projects points [(x, y, z)] in meters to pixels."""
        pixels = []
        for x, y, z in points:
            scale = self.focal / max(z, NEAREST)  # pixels a meter
            pixels.append((self.vanishing + x * scale, self.horizon + (self.eye - y) * scale))
        return pixels

    def polygon(self, points, color, number):
        """Paints a polygon of points [(x, y, z)] in both maps; number None: the picture only."""
        outline = self.project(points)
        distance = sum(z for _, _, z in points) / len(points)
        self.paint.polygon(outline, fill=self.shade(color, distance))
        if number is not None:
            self.paint_numbers.polygon(outline, fill=number)

    def shade(self, color, distance):
        """Returns the (r, g, b) of a color in this light, seen through that much haze."""
        clear = math.exp(-max(distance, 0) / FOG_DISTANCE)
        return tuple(
            min(255, max(0, int(c * light * clear + haze * (1 - clear))))
            for c, light, haze in zip(np.asarray(color).tolist(), self.light, self.haze)
        )

    def shadow(self, points, strength=0.6):
        """Darkens a ground polygon of the picture, softly."""
        outline = np.array(self.project(points))  # [N, 2]
        margin = 2 * OVERSAMPLING
        low = np.maximum(np.floor(outline.min(0)) - margin, 0).astype(int)
        high = np.minimum(np.ceil(outline.max(0)) + margin, self.picture.size).astype(int)
        if (high <= low).any():
            return
        size = tuple((high - low).tolist())
        veil = Image.new("L", size, 0)
        shifted = list(map(tuple, (outline - low).tolist()))
        ImageDraw.Draw(veil).polygon(shifted, fill=int(255 * (1 - strength)))
        veil = veil.filter(ImageFilter.BoxBlur(OVERSAMPLING * 0.6))
        self.picture.paste((18, 18, 30), (*low.tolist(), *high.tolist()), veil)

    def new_number(self, class_index):
        self.class_of.append(class_index)
        return len(self.class_of) - 1


def _upright(x, z, left, right, bottom, top):
    """A rectangle that faces the camera: left, right relative to x; bottom, top above ground."""
    return [(x + left, bottom, z), (x + right, bottom, z), (x + right, top, z), (x + left, top, z)]


def _disc(x, y, z, radius):
    """A disc that faces the camera."""
    return [(x + radius * cosine, y + radius * sine, z) for cosine, sine in CIRCLE]


def _flat(left, right, near, far):
    """A rectangle on the ground."""
    return [(left, 0, near), (right, 0, near), (right, 0, far), (left, 0, far)]


def _vary(rng, color, amount=18):
    return np.clip(np.asarray(color) + rng.integers(-amount, amount + 1, 3), 5, 250)


# --- sky and ground ----------------------------------------------------------------------------


def _draw_sky(canvas, rng):
    width, height = canvas.picture.size
    top = {True: (70, 75, 130), False: (85, 140, 215)}[canvas.dusk]
    top = np.array(top) if canvas.light[0] > 0.95 or canvas.dusk else np.array((150, 160, 172))
    share = np.clip(np.arange(height) / canvas.horizon, 0, 1)[:, None]  # [h, 1]
    rows = _vary(rng, top, 14) * (1 - share) + np.array(canvas.haze) * share  # [h, 3]
    sky = np.broadcast_to(rows[:, None], (height, width, 3)).clip(0, 255).astype(np.uint8)
    canvas.picture.paste(Image.fromarray(np.ascontiguousarray(sky)))
    veil = Image.new("L", (width, height), 0)
    for _ in range(rng.integers(1, 6)):
        x, y = rng.uniform(0, width), rng.uniform(0, canvas.horizon * 0.8)
        scale = rng.uniform(0.5, 1.3) * width / 14
        for _ in range(7):
            dx, dy, r = rng.normal(0, 1.3) * scale, rng.normal(0, 0.22) * scale, scale
            r *= rng.uniform(0.4, 0.9)
            box = (x + dx - r, y + dy - r * 0.45, x + dx + r, y + dy + r * 0.45)
            ImageDraw.Draw(veil).ellipse(box, fill=int(rng.integers(120, 220)))
    veil = veil.filter(ImageFilter.GaussianBlur(OVERSAMPLING * 1.5))
    cloud = (250, 200, 180) if canvas.dusk else (245, 246, 248)
    canvas.picture.paste(Image.new("RGB", (width, height), cloud), mask=veil)


def _draw_ground(canvas, rng):
    near, far = 0.5, 400.0
    left, right = canvas.left_edge, canvas.right_edge
    slab = _vary(rng, (158, 150, 143), 14)
    canvas.polygon(_flat(-500, 500, near, far), slab, PAVEMENT)
    for side in (left, right):  # joints of the slabs
        outward = np.sign(side - (left + right) / 2)
        for z in np.arange(2.0, 30, 1.5):
            inner, outer = sorted((side, side + outward * 8))
            canvas.polygon(_flat(inner, outer, z, z + 0.06), slab * 0.82, None)
    asphalt = _vary(rng, (88, 88, 93), 14)
    for z_near, z_far in zip(np.geomspace(near, 200, 25)[:-1], np.geomspace(near, 200, 25)[1:]):
        patch = asphalt * rng.uniform(0.94, 1.05)  # bands: distance haze, and worn asphalt
        canvas.polygon(_flat(left, right, z_near, z_far + 0.01), patch, ROAD)
    middle = (left + right) / 2
    phase = rng.uniform(0, 6)
    for z in np.arange(1 + phase, 90, 6.0):
        canvas.polygon(_flat(middle - 0.09, middle + 0.09, z, z + 3), (225, 222, 210), ROAD)
    for edge in (left, right):
        inward = 0.25 * np.sign(middle - edge)
        inner, outer = sorted((edge + inward, edge + inward * 1.6))
        canvas.polygon(_flat(inner, outer, near, 120), (205, 203, 195), ROAD)
        kerb = sorted((edge, edge - inward * 0.8))
        canvas.polygon(_flat(*kerb, near, 200), slab * 1.15, PAVEMENT)
    if rng.random() < 0.3:  # zebra crossing
        z = rng.uniform(5, 16)
        for x in np.arange(left + 0.6, right - 0.6, 1.0):
            canvas.polygon(_flat(x, x + 0.5, z, z + 3), (228, 228, 222), ROAD)


# --- what stands in the street -----------------------------------------------------------------


def _things(canvas, rng):
    """Yields (distance, draw function, arguments) of everything that stands in the street."""
    left, right = canvas.left_edge, canvas.right_edge
    middle = (left + right) / 2
    for _ in range(rng.integers(5, 11)):  # the skyline
        yield 200.0, _draw_block, (rng.uniform(-130, 130), 190.0)
    for side in (-1, 1):
        edge = left if side < 0 else right
        front = edge + side * rng.uniform(2.5, 4.5)  # the line of the house fronts
        z = rng.uniform(1, 9)
        while z < 110:
            length = rng.uniform(7, 16)
            if rng.random() < 0.82:
                yield z + 0.5 * length + 3, _draw_house, (front, side, z, z + length)
            z += length + (rng.uniform(2, 7) if rng.random() < 0.3 else 0)
        if rng.random() < 0.75:
            for z in np.arange(rng.uniform(4, 9), 60, rng.uniform(7, 14)):
                z = z + rng.uniform(-1, 1)
                yield z, _draw_tree, (edge + side * rng.uniform(0.9, 1.6), z)
        for z in np.arange(rng.uniform(3, 9), 26, rng.uniform(7, 14)):
            yield z, _draw_pole, (edge + side * rng.uniform(0.35, 0.7), z, -side)
        if rng.random() < 0.6:  # parked cars
            for z in np.arange(rng.uniform(4, 14), 50, rng.uniform(5.4, 11)):
                if rng.random() < 0.7:
                    yield z, _draw_car, (edge - side * 1.25, z, 0 if side > 0 else np.pi)
        for _ in range(rng.integers(1, 6)):
            z = rng.uniform(2.8, 7) if rng.random() < 0.6 else rng.uniform(5, 15)
            yield z, _draw_pedestrian, (edge + side * rng.uniform(0.3, 2.2), z)
    for _ in range(rng.integers(0, 4)):  # moving cars, ours and oncoming
        z = rng.uniform(6, 18) if rng.random() < 0.5 else rng.uniform(10, 50)
        ours = rng.random() < 0.5
        x = middle + (1 if ours else -1) * (right - left) / 4.4
        yield z, _draw_car, (x + rng.uniform(-0.3, 0.3), z, 0 if ours else np.pi)
    if rng.random() < 0.15:  # a car that crosses
        z = rng.uniform(9, 25)
        yield z, _draw_car, (rng.uniform(left + 2, right - 2), z, rng.choice([-1, 1]) * np.pi / 2)
    for _ in range(rng.choice([0, 0, 1, 2])):  # pedestrians who cross
        z = rng.uniform(3.5, 12)
        yield z, _draw_pedestrian, (rng.uniform(left, right), z)


def _draw_block(canvas, rng, x, z):
    width, top = rng.uniform(10, 30), rng.uniform(6, 40)
    color = _vary(rng, (140, 135, 135), 20)
    canvas.polygon(_upright(x, z, -width / 2, width / 2, -0.5, top), color, BUILDING)


HOUSE_COLORS = (
    (178, 96, 76), (196, 166, 128), (205, 200, 190), (142, 128, 122), (168, 140, 100),
    (150, 166, 176), (214, 186, 150), (120, 88, 78),
)  # fmt: skip


def _draw_house(canvas, rng, front, side, near, far):
    """A house along the street: its front (x = front) and the wall that faces the camera."""
    floors = rng.integers(2, 7)
    story = rng.uniform(2.8, 3.4)
    top = floors * story + 0.6
    depth = 14 * side
    color = _vary(rng, HOUSE_COLORS[rng.integers(len(HOUSE_COLORS))], 16)
    near = max(near, NEAREST)
    wall = [(front, 0, near), (front + depth, 0, near), (front + depth, top, near)]
    canvas.polygon([*wall, (front, top, near)], color * 0.72, BUILDING)
    sunny = 1.0 if side * (canvas.vanishing - canvas.picture.width / 2) < 0 else 0.86

    def on_front(z0, z1, y0, y1, paint):
        points = [(front, y0, z0), (front, y0, z1), (front, y1, z1), (front, y1, z0)]
        canvas.polygon(points, np.asarray(paint) * sunny, BUILDING)

    on_front(near, far, 0, top, color)
    on_front(near, far, top - 0.5, top, color * 0.8)  # cornice
    if near > 60:  # windows would be smaller than a pixel
        return
    shop = _vary(rng, rng.choice([(70, 90, 110), (110, 60, 60), (60, 90, 70), (90, 85, 80)]))
    on_front(near + 0.3, far - 0.3, 0.1, story * 0.85, shop)
    count = max(2, int((far - near) / rng.uniform(1.8, 2.8)))
    step = (far - near) / count
    glass = np.array((70, 85, 105))
    for column in range(count):
        z = near + column * step
        on_front(z + step * 0.15, z + step * 0.85, 0.5, story * 0.7, _vary(rng, glass, 22))
        for floor in range(1, floors):
            lit = canvas.dusk and rng.random() < 0.4
            paint = np.array((330, 260, 150)) if lit else _vary(rng, glass, 22)
            bottom = floor * story + 0.8
            on_front(z + step * 0.25, z + step * 0.75, bottom, bottom + story * 0.5, paint)


def _draw_tree(canvas, rng, x, z):
    size = rng.uniform(0.8, 1.35)
    trunk = 2.2 * size
    canvas.shadow(_disc_on_ground(x, z, 1.3 * size, 0.5 * size), 0.65)
    bark = _vary(rng, (92, 72, 56), 12)
    canvas.polygon(_upright(x, z, -0.14 * size, 0.14 * size, 0, trunk + 1), bark, TREE)
    green = _vary(rng, (70, 118, 56), 22)
    blobs = rng.normal(0, 1, (11, 2)) * (0.62 * size, 0.6 * size)
    radii = rng.uniform(0.45, 0.85, len(blobs)) * size
    center = trunk + 1.2 * size
    for (dx, dy), radius in zip(blobs, radii):
        disc = _disc(x + dx, center + dy, z, radius)
        canvas.polygon(disc, green * rng.uniform(0.62, 0.85), TREE)
    for (dx, dy), radius in zip(blobs, radii):  # sunlit tops, inside the crown's outline
        disc = _disc(x + dx - 0.1 * radius, center + dy + 0.25 * radius, z, radius * 0.6)
        canvas.polygon(disc, green * rng.uniform(0.95, 1.3), TREE)


def _disc_on_ground(x, z, across, along):
    return [(x + across * cosine, 0, z + along * sine) for cosine, sine in CIRCLE]


def _draw_pole(canvas, rng, x, z, inward):
    gray = _vary(rng, (105, 108, 112), 22)
    kind = rng.choice(["lamp", "round", "triangle", "board", "lights"])
    top = {"lamp": 5.5, "lights": 3.4}.get(kind, 2.7)
    canvas.polygon(_upright(x, z, -0.12, 0.12, 0, top), gray, POLE)
    if kind == "lamp":
        arm = sorted((0, inward * 1.5))
        canvas.polygon(_upright(x, z, *arm, top - 0.2, top), gray, POLE)
        head = sorted((inward * 0.9, inward * 1.8))
        glow = (380, 340, 220) if canvas.dusk else (215, 215, 205)
        canvas.polygon(_upright(x, z, *head, top - 0.42, top - 0.08), glow, POLE)
    elif kind == "lights":
        canvas.polygon(_upright(x, z, -0.36, 0.36, top - 1.7, top), (38, 40, 42), POLE)
        active = rng.integers(3)
        for lamp, color in enumerate([(300, 60, 40), (300, 210, 40), (60, 260, 110)]):
            paint = color if lamp == active else (60, 58, 56)
            canvas.polygon(_disc(x, top - 0.3 - 0.55 * lamp, z, 0.2), paint, POLE)
    elif kind == "round":
        canvas.polygon(_disc(x, top, z, 0.66), (205, 40, 40), POLE)
        canvas.polygon(_disc(x, top, z, 0.44), (240, 240, 238), POLE)
    elif kind == "triangle":
        canvas.polygon([(x - 0.8, top - 0.4, z), (x + 0.8, top - 0.4, z), (x, top + 1.0, z)],
                       (210, 45, 40), POLE)  # fmt: skip
        canvas.polygon([(x - 0.44, top - 0.2, z), (x + 0.44, top - 0.2, z), (x, top + 0.55, z)],
                       (245, 240, 225), POLE)  # fmt: skip
    else:
        canvas.polygon(_upright(x, z, -0.8, 0.8, top - 0.8, top + 0.4), (45, 85, 165), POLE)
        canvas.polygon(_upright(x, z, -0.5, 0.5, top - 0.35, top - 0.05), (235, 238, 242), POLE)


CAR_COLORS = (
    (190, 36, 36), (32, 66, 150), (224, 224, 220), (44, 46, 52), (150, 154, 160), (226, 180, 40),
    (40, 110, 84), (120, 40, 60), (96, 140, 190), (205, 110, 50),
)  # fmt: skip


def _draw_car(canvas, rng, x, z, heading):
    """A car whose nearest point lies about z; heading 0 drives away, pi comes towards us."""
    number = canvas.new_number(CAR)
    color = _vary(rng, CAR_COLORS[rng.integers(len(CAR_COLORS))], 14)
    half_length, half_width = rng.uniform(1.9, 2.3), rng.uniform(0.84, 0.95)
    waist, roof = rng.uniform(0.85, 0.98), rng.uniform(1.38, 1.75)
    floor = 0.24
    sine, cosine = np.sin(heading), np.cos(heading)
    depth = half_length * abs(cosine) + half_width * abs(sine)

    def place(points):  # (along, across, up) of the car to (x, y, z)
        return [
            (x + u * sine + v * cosine, y, z + depth + u * cosine - v * sine) for u, v, y in points
        ]

    shadow = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    canvas.shadow(
        place([(u * (half_length + 0.2), v * (half_width + 0.25), 0) for u, v in shadow]), 0.3
    )
    glass, tire, sill = np.array((52, 62, 74)), (24, 24, 26), 0.08
    L, W = half_length, half_width
    inner = W * 0.78

    def side(v):
        inset = np.sign(v) * inner
        body = [(-L, v, floor), (L, v, floor), (L, v, waist - sill), (-L, v, waist)]
        wheels = []
        for u in (-0.62 * L, 0.62 * L):
            for radius, paint in ((0.34, tire), (0.19, (135, 137, 140))):
                ring = [(u + radius * cos, v, 0.34 + radius * sin) for cos, sin in CIRCLE]
                wheels.append((ring, paint))
        cabin = [(-L * 0.86, v, waist), (L * 0.42, v, waist), (L * 0.12, inset, roof),
                 (-L * 0.62, inset, roof)]  # fmt: skip
        pane = [(-L * 0.74, v, waist + 0.06), (L * 0.3, v, waist + 0.06),
                (L * 0.07, inset, roof - 0.1), (-L * 0.56, inset, roof - 0.1)]  # fmt: skip
        return [(body, color * 0.82), *wheels], [(cabin, color * 0.86), (pane, glass)]

    def end(u, lamp):
        body = [(u, -W, floor), (u, W, floor), (u, W, waist), (u, -W, waist)]
        parts = [(body, color)]
        parts.append(([(u, -W * 0.9, floor), (u, W * 0.9, floor), (u, W * 0.9, 0.42),
                       (u, -W * 0.9, 0.42)], color * 0.55))  # fmt: skip
        for v in (-W * 0.8, W * 0.8):
            d = W * 0.17
            parts.append(([(u, v - d, 0.6), (u, v + d, 0.6), (u, v + d, 0.78), (u, v - d, 0.78)],
                          lamp))  # fmt: skip
            parts.append(([(u, v - d, 0), (u, v + d, 0), (u, v + d, floor), (u, v - d, floor)],
                          tire))  # fmt: skip
        parts.append(([(u, -0.26, 0.46), (u, 0.26, 0.46), (u, 0.26, 0.58), (u, -0.26, 0.58)],
                      (230, 228, 215)))  # fmt: skip
        foot, head = (-L * 0.86, -L * 0.62) if u < 0 else (L * 0.42, L * 0.12)
        cabin = [(foot, -W, waist), (foot, W, waist), (head, inner, roof), (head, -inner, roof)]
        pane = [(foot, -W * 0.86, waist + 0.07), (foot, W * 0.86, waist + 0.07),
                (head, inner * 0.9, roof - 0.08), (head, -inner * 0.9, roof - 0.08)]  # fmt: skip
        return parts, [(cabin, color * 0.92), (pane, glass * 1.1)]

    walls = [side(-W), side(W), end(-L, (215, 30, 30)), end(L, (300, 290, 240))]
    deck = [([(-L, -W, waist), (L, -W, waist), (L, W, waist), (-L, W, waist)], color * 1.08)]
    top = [([(-L * 0.62, -inner, roof), (L * 0.12, -inner, roof), (L * 0.12, inner, roof),
             (-L * 0.62, inner, roof)], color * 1.15)]  # fmt: skip

    def distance(parts):
        return -np.linalg.norm(np.mean(place(parts[0][0]), axis=0) - (0, canvas.eye, 0))

    bodies = sorted((wall[0] for wall in walls), key=distance)
    cabins = sorted([*(wall[1] for wall in walls), top], key=distance)
    for parts in [*bodies, deck, *cabins]:
        for points, paint in parts:
            canvas.polygon(place(points), paint, number)


def _draw_pedestrian(canvas, rng, x, z):
    number = canvas.new_number(PEDESTRIAN)
    size = rng.uniform(1.5, 1.95) / 1.8
    coat = _vary(rng, rng.choice([(180, 50, 50), (50, 80, 150), (60, 120, 80), (225, 190, 60),
                                  (60, 60, 66), (200, 200, 200), (140, 80, 140)]), 20)  # fmt: skip
    trousers = _vary(rng, rng.choice([(44, 50, 74), (64, 58, 52), (92, 96, 104)]), 12)
    skin = _vary(rng, rng.choice([(226, 184, 154), (170, 120, 86), (104, 70, 50)]), 8)
    stride = rng.uniform(-0.26, 0.26)
    canvas.shadow(_disc_on_ground(x, z, 0.42, 0.2), 0.5)

    def part(points, paint):
        canvas.polygon([(x + u * size, y * size, z) for u, y in points], paint, number)

    for foot in (-stride, stride):
        part([(foot - 0.1, 0), (foot + 0.12, 0), (0.1, 0.9), (-0.12, 0.9)], trousers)
    part([(-0.2, 0.82), (0.2, 0.82), (0.24, 1.46), (-0.24, 1.46)], coat)
    for hand, shoulder in ((-0.28 - stride * 0.4, -0.22), (0.28 - stride * 0.4, 0.22)):
        part([(hand - 0.06, 0.85), (hand + 0.06, 0.85), (shoulder + 0.07, 1.45),
              (shoulder - 0.07, 1.45)], coat * 0.85)  # fmt: skip
    part([(0.13 * cosine, 1.63 + 0.16 * sine) for cosine, sine in CIRCLE], skin)
    hair = np.linspace(0, np.pi, 8)
    part([(0.135 * np.cos(a), 1.66 + 0.14 * np.sin(a)) for a in hair], skin * 0.35)


# --- the camera's share ------------------------------------------------------------------------


def _photograph(canvas, rng):
    """Averages the picture down and adds grain, vignette, exposure: uint8 [H, W, 3]."""
    picture = np.asarray(canvas.picture, np.float32)
    blocks = picture.reshape(HEIGHT, OVERSAMPLING, WIDTH, OVERSAMPLING, 3)
    image = blocks.mean((1, 3))  # [H, W, 3]
    coarse = rng.normal(0, 1, (HEIGHT // 4, WIDTH // 4)).repeat(4, 0).repeat(4, 1)[..., None]
    image = image * (1 + 0.02 * coarse)  # blotches of dirt and light
    rows, columns = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    image = image * (1 - 0.16 * (rows**2 + columns**2) / 2)[..., None]
    image = (image - 128) * rng.uniform(0.85, 1.12) + 128 + rng.uniform(-14, 14)
    image = image + rng.normal(0, rng.uniform(2, 6), image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
