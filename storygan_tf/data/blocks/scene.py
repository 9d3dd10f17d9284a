"""Frames of `blocks`, rendered by Mitsuba 3 (Jakob et al., https://mitsuba-renderer.org) without any noise.

Grain dominates SSIM, so nothing here is drawn at random: Mitsuba traces one ray through the centre of each point of a
fine, regular grid, finds what it meets, and lights it by one lamp with shadows. From the normals and places that it
reports, the light of the sky (soft, from above) and what metal mirrors of table and sky are added in closed form. The
average over the grid's points gives a pixel.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from storygan_tf.common.errors import DataError
from storygan_tf.data.blocks import clevr
from storygan_tf.data.blocks.clevr import SceneObject

WIDTH, HEIGHT = 128, 96
POINTS = 2
"""Rays along each side of a pixel."""

VERSION = 1
"""Grows with every change that changes a picture."""

_LAMP = (0.5, -9.5, 9.0)
_LAMP_POWER = 260.0
_SKY = 0.42
_TABLE = 0.42
_HORIZON = 0.45
_MIRROR = 0.7
"""The part of table and sky that metal mirrors; less than 1 makes its streaks stand out."""

_PANELS = ((250.0, 14.0, 0.9), (345.0, 30.0, 0.6))
"""Azimuth in degrees, narrowness, light."""


_PAINT = {
    "gray": (87, 87, 87),
    "red": (190, 30, 30),
    "blue": (42, 75, 215),
    "green": (29, 120, 20),
    "brown": (129, 74, 25),
    "purple": (140, 38, 200),
    "cyan": (41, 208, 208),
    "yellow": (255, 230, 45),
}
"""CLEVR's colours, sRGB."""


def render(items: Sequence[SceneObject]) -> Image.Image:
    """Returns the frame that shows `items`, 128x96 RGBA.

    Raises:
        DataError: where Mitsuba is not installed.
    """
    mitsuba = load_mitsuba()
    shapes = {name: shape for index, item in enumerate(items) for name, shape in _shapes(index, item)}
    # Optimized, it would join cubes of one surface into one shape without a name.
    scene = mitsuba.load_dict({**_studio(), **shapes}, optimize=False)
    layers = np.array(mitsuba.render(scene, spp=1))
    owners = _owners(scene, len(items))[layers[..., 6].astype(int)]
    light = _shade(layers, owners, items)
    return _to_image(light)


@functools.cache
def load_mitsuba() -> Any:
    """Returns the module `mitsuba`, set to the plain CPU variant and one thread, so that bytes repeat.

    Raises:
        DataError: where it is not installed.
    """
    try:
        mitsuba = importlib.import_module("mitsuba")
        drjit = importlib.import_module("drjit")
    except ImportError as error:
        raise DataError(
            f"rendering needs Mitsuba 3, which cannot be imported ({error}); install it with the extra "
            "`render`: pip install 'storygan[render]'."
        ) from error
    mitsuba.set_variant("scalar_rgb")
    drjit.set_thread_count(1)
    return mitsuba


def _studio() -> dict[str, Any]:
    """Returns everything but the objects: camera, table, lamp, and which layers to report."""
    mitsuba = load_mitsuba()
    film = {
        "type": "hdrfilm",
        "width": WIDTH * POINTS,
        "height": HEIGHT * POINTS,
        "rfilter": {"type": "box"},
        "pixel_format": "rgb",
        "component_format": "float32",
    }
    transform = mitsuba.ScalarTransform4f()
    return {
        "type": "scene",
        "integrator": {
            "type": "aov",
            "aovs": "normal:sh_normal,shape:shape_index,place:position",
            # The lamp is one point, so one sample of it is exact; nothing else shines.
            "lamp": {"type": "direct", "emitter_samples": 1, "bsdf_samples": 0},
        },
        "camera": {
            "type": "perspective",
            "fov": clevr.FIELD_OF_VIEW,
            "fov_axis": "x",
            "to_world": transform.look_at(origin=list(clevr.CAMERA), target=[0, 0, 0], up=[0, 0, 1]),
            "film": film,
            # One sample without jitter: each ray goes through the centre of its point.
            "sampler": {"type": "stratified", "sample_count": 1, "jitter": False},
        },
        "table": {
            "type": "rectangle",
            "to_world": transform.scale([80, 80, 1]),
            "bsdf": {"type": "diffuse", "reflectance": {"type": "rgb", "value": _TABLE}},
        },
        "lamp": {
            "type": "point",
            "position": list(_LAMP),
            "intensity": {"type": "rgb", "value": _LAMP_POWER},
        },
    }


def _shapes(index: int, item: SceneObject) -> list[tuple[str, dict[str, Any]]]:
    """Returns the shapes of object `index`, by name."""
    transform = load_mitsuba().ScalarTransform4f()
    bsdf, r = _surface(item), item.radius
    body: dict[str, Any] = {"bsdf": bsdf}
    if item.shape == "cylinder":
        top = {"type": "disk", "to_world": transform.translate([item.x, item.y, 2 * r]).scale(r), "bsdf": bsdf}
        body |= {"type": "cylinder", "p0": [item.x, item.y, 0], "p1": [item.x, item.y, 2 * r], "radius": r}
        return [(f"body{index}", body), (f"top{index}", top)]
    stand = transform.translate([item.x, item.y, item.height])
    if item.shape == "sphere":
        body |= {"type": "sphere", "to_world": stand.scale(r)}
    else:
        # Always turned the same way: sentences say nothing of it.
        turned = stand.rotate([0, 0, 1], 20)
        body |= {"type": "cube", "to_world": turned.scale(r * clevr.CUBE_HALF_SIDE)}
    return [(f"body{index}", body)]


def _surface(item: SceneObject) -> dict[str, Any]:
    colour = _colour(item)
    if item.material == "rubber":
        return {"type": "diffuse", "reflectance": {"type": "rgb", "value": list(colour)}}
    return {
        "type": "principled",
        "base_color": {"type": "rgb", "value": list(colour)},
        "metallic": 1.0,
        "roughness": 0.25,
    }


def _colour(item: SceneObject) -> np.ndarray:
    """Returns an object's linear RGB; that of metal is lighter, as there is nothing white about it."""
    colour = _to_linear(np.array(_PAINT[item.colour]) / 255)
    return np.minimum(1.0, 1.25 * colour + 0.04) if item.material == "metal" else colour


def _owners(scene: Any, count: int) -> np.ndarray:
    """Returns, for each number that Mitsuba gives a shape, the object it belongs to; `count` is the table."""
    names = [shape.id() for shape in scene.shapes()]
    # Numbers start at 1; 0 is where a ray meets nothing.
    return np.array([count, *(count if name == "table" else int(name.lstrip("bodytp")) for name in names)])


def _shade(layers: np.ndarray, owners: np.ndarray, items: Sequence[SceneObject]) -> np.ndarray:
    """Returns linear RGB `[h, w, 3]`: the lamp's light, the sky's, and what metal mirrors."""
    lamp, normals, places = layers[..., :3], layers[..., 3:6], layers[..., 7:10]
    colours = np.array([*(_colour(item) for item in items), [_TABLE] * 3])[owners]
    metal = np.array([*(item.material == "metal" for item in items), False])[owners][..., None]
    sky = _SKY * (0.5 + 0.5 * normals[..., 2:])
    return lamp + np.where(metal, _mirrored(colours, normals, places), colours * sky)


def _mirrored(colours: np.ndarray, normals: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns what metal mirrors: the lit table below, the sky above (Schlick's Fresnel term)."""
    view = places - np.array(clevr.CAMERA)
    view /= np.linalg.norm(view, axis=-1, keepdims=True)
    cosine = np.clip(-(view * normals).sum(axis=-1, keepdims=True), 0, 1)
    way = view + 2 * cosine * normals
    reflectance = colours + (1 - colours) * (1 - cosine) ** 5
    surroundings = np.where(way[..., 2:] < 0, _table_light(places, way), _sky_light(way[..., 2:]))
    return reflectance * (_MIRROR * surroundings + _panel_light(way))


def _table_light(places: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Returns the light of the table where rays from `places` along `way` meet it."""
    down = np.maximum(-way[..., 2:], 1e-3)
    met = places + way * (places[..., 2:] / down)
    to_lamp = np.array(_LAMP) - met
    squared = (to_lamp**2).sum(axis=-1, keepdims=True)
    lamp = _LAMP_POWER * np.maximum(to_lamp[..., 2:], 0) / (squared**1.5 * np.pi)
    # Far away the table is as bright as the horizon.
    near = np.exp(-squared / 600)
    return near * _TABLE * (lamp + _SKY) + (1 - near) * _HORIZON


def _sky_light(upwards: np.ndarray) -> np.ndarray:
    """Returns the light of the sky by the sine of the height above the horizon: darker upwards."""
    return _HORIZON * (1 - 0.6 * upwards)


def _panel_light(way: np.ndarray) -> np.ndarray:
    """Returns the light of tall, narrow panels around the table: the streaks by which the eye knows metal."""
    length = np.maximum(np.linalg.norm(way[..., :2], axis=-1, keepdims=True), 1e-3)
    level = np.clip(1.3 * length - 0.1, 0, 1)
    light = np.zeros_like(length)
    for azimuth, narrowness, power in _PANELS:
        toward = np.array([np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))])
        light += power * level * np.exp(narrowness * ((way[..., :2] * toward).sum(axis=-1, keepdims=True) / length - 1))
    return light


def _to_image(light: np.ndarray) -> Image.Image:
    height, width = light.shape[0] // POINTS, light.shape[1] // POINTS
    clipped = np.clip(light, 0, 1).reshape(height, POINTS, width, POINTS, 3)
    grey = np.round(255 * _to_srgb(clipped.mean(axis=(1, 3)))).astype(np.uint8)
    return Image.fromarray(np.dstack([grey, np.full((height, width), 255, np.uint8)]), "RGBA")


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
