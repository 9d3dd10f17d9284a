"""`render`: draws frames of `blocks` with Mitsuba 3 (Jakob et al., https://mitsuba-renderer.org), without noise.

Noise would dominate SSIM, so nothing here is random. Mitsuba traces one ray through the centre of each point of a
regular grid that is finer than the pixels, finds the surface that it meets, and lights it by one lamp with shadows. It
also reports normals and positions, from which the soft light of the sky and the reflections of table and sky in metal
are computed in closed form. A pixel is the average of its grid points.
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
"""Number of grid points along each side of a pixel."""

VERSION = 1
"""Version of the pictures; increase it with every change that changes any pixel."""

_LAMP = (0.5, -9.5, 9.0)
_LAMP_POWER = 260.0
_SKY = 0.42
_TABLE = 0.42
_HORIZON = 0.45
_MIRROR = 0.7
"""Part of the light of table and sky that metal reflects; below 1, so that the reflected panels stand out."""

_PANELS = ((250.0, 14.0, 0.9), (345.0, 30.0, 0.6))
"""Panels of light that metal reflects: azimuth in degrees, narrowness, brightness."""


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
"""The colours of CLEVR, sRGB from 0 to 255."""


def render(items: Sequence[SceneObject]) -> Image.Image:
    """Returns a picture of `items` on the table, 128x96 RGBA.

    Raises:
        DataError: if Mitsuba is not installed.
    """
    mitsuba = load_mitsuba()
    shapes = {name: shape for index, item in enumerate(items) for name, shape in _shapes(index, item)}
    # With optimize=True, Mitsuba would merge cubes with the same surface into one shape without a name.
    scene = mitsuba.load_dict({**_studio(), **shapes}, optimize=False)
    layers = np.array(mitsuba.render(scene, spp=1))
    owners = _owners(scene, len(items))[layers[..., 6].astype(int)]
    light = _shade(layers, owners, items)
    return _to_image(light)


@functools.cache
def load_mitsuba() -> Any:
    """Returns the module `mitsuba`, set to its scalar CPU variant and one thread, so that frames are reproducible.

    Raises:
        DataError: if it is not installed.
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
    """Returns Mitsuba's description of the scene without objects: camera, table, lamp, and the layers to report."""
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
            # The lamp is a point and the only light, so one sample is exact.
            "lamp": {"type": "direct", "emitter_samples": 1, "bsdf_samples": 0},
        },
        "camera": {
            "type": "perspective",
            "fov": clevr.FIELD_OF_VIEW,
            "fov_axis": "x",
            "to_world": transform.look_at(origin=list(clevr.CAMERA), target=[0, 0, 0], up=[0, 0, 1]),
            "film": film,
            # One sample without jitter: each ray goes through the centre of its grid point.
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
    """Returns Mitsuba's shapes of object `index`, as (name, description)."""
    transform = load_mitsuba().ScalarTransform4f()
    bsdf, r = _surface(item), item.radius
    body: dict[str, Any] = {"bsdf": bsdf}
    if item.shape == "cylinder":
        top = {"type": "disk", "to_world": transform.translate([item.x, item.y, 2 * r]).scale(r), "bsdf": bsdf}
        body |= {"type": "cylinder", "p0": [item.x, item.y, 0], "p1": [item.x, item.y, 2 * r], "radius": r}
        return [(f"body{index}", body), (f"top{index}", top)]
    centre = transform.translate([item.x, item.y, item.height])
    if item.shape == "sphere":
        body |= {"type": "sphere", "to_world": centre.scale(r)}
    else:
        # Every cube is rotated by the same angle, because the sentences do not describe rotation.
        rotated = centre.rotate([0, 0, 1], 20)
        body |= {"type": "cube", "to_world": rotated.scale(r * clevr.CUBE_HALF_SIDE)}
    return [(f"body{index}", body)]


def _surface(item: SceneObject) -> dict[str, Any]:
    """Returns Mitsuba's description of an object's surface."""
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
    """Returns an object's linear RGB, float64 `[3]`; metal is lighter, because it reflects no white."""
    colour = _to_linear(np.array(_PAINT[item.colour]) / 255)
    return np.minimum(1.0, 1.25 * colour + 0.04) if item.material == "metal" else colour


def _owners(scene: Any, count: int) -> np.ndarray:
    """Returns the index of the object for each shape number of Mitsuba, int `[shapes + 1]`; `count` is the table."""
    names = [shape.id() for shape in scene.shapes()]
    # Shape numbers start at 1; 0 means that the ray met nothing.
    return np.array([count, *(count if name == "table" else int(name.lstrip("bodytp")) for name in names)])


def _shade(layers: np.ndarray, owners: np.ndarray, items: Sequence[SceneObject]) -> np.ndarray:
    """Returns the light of each grid point: that of the lamp and of the sky, and the reflections of metal.

    Args:
        layers: Mitsuba's output, float32 `[h, w, 10]`: lamp light (RGB), normal, shape number, position.
        owners: the index of the object at each point, int `[h, w]`; `len(items)` is the table.
        items: the objects.

    Returns:
        Linear RGB, float64 `[h, w, 3]`, not limited to [0, 1].
    """
    lamp, normals, positions = layers[..., :3], layers[..., 3:6], layers[..., 7:10]
    colours = np.array([*(_colour(item) for item in items), [_TABLE] * 3])[owners]
    metal = np.array([*(item.material == "metal" for item in items), False])[owners][..., None]
    sky = _SKY * (0.5 + 0.5 * normals[..., 2:])
    return lamp + np.where(metal, _reflection(colours, normals, positions), colours * sky)


def _reflection(colours: np.ndarray, normals: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Returns the light that metal reflects: the lit table below, the sky above (Schlick's Fresnel term).

    Args:
        colours: linear RGB of the surfaces, float64 `[h, w, 3]`.
        normals: float32 `[h, w, 3]`.
        positions: float32 `[h, w, 3]`.

    Returns:
        Linear RGB, float64 `[h, w, 3]`.
    """
    view = positions - np.array(clevr.CAMERA)
    view /= np.linalg.norm(view, axis=-1, keepdims=True)
    cosine = np.clip(-(view * normals).sum(axis=-1, keepdims=True), 0, 1)
    direction = view + 2 * cosine * normals
    reflectance = colours + (1 - colours) * (1 - cosine) ** 5
    below = direction[..., 2:] < 0
    surroundings = np.where(below, _table_light(positions, direction), _sky_light(direction[..., 2:]))
    return reflectance * (_MIRROR * surroundings + _panel_light(direction))


def _table_light(positions: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Returns the light of the table, `[h, w, 1]`, where rays from `positions` along `direction` meet it."""
    down = np.maximum(-direction[..., 2:], 1e-3)
    hits = positions + direction * (positions[..., 2:] / down)
    to_lamp = np.array(_LAMP) - hits
    squared = (to_lamp**2).sum(axis=-1, keepdims=True)
    lamp = _LAMP_POWER * np.maximum(to_lamp[..., 2:], 0) / (squared**1.5 * np.pi)
    # Far away, the table is as bright as the horizon.
    near = np.exp(-squared / 600)
    return near * _TABLE * (lamp + _SKY) + (1 - near) * _HORIZON


def _sky_light(upwards: np.ndarray) -> np.ndarray:
    """Returns the light of the sky, which is darker upwards, by the sine of the height above the horizon."""
    return _HORIZON * (1 - 0.6 * upwards)


def _panel_light(direction: np.ndarray) -> np.ndarray:
    """Returns the light, `[h, w, 1]`, of tall, narrow panels around the table, whose reflections make metal shine."""
    length = np.maximum(np.linalg.norm(direction[..., :2], axis=-1, keepdims=True), 1e-3)
    level = np.clip(1.3 * length - 0.1, 0, 1)
    light = np.zeros_like(length)
    for azimuth, narrowness, power in _PANELS:
        toward = np.array([np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))])
        aligned = (direction[..., :2] * toward).sum(axis=-1, keepdims=True) / length
        light += power * level * np.exp(narrowness * (aligned - 1))
    return light


def _to_image(light: np.ndarray) -> Image.Image:
    """Averages the grid points of each pixel, linear RGB `[h, w, 3]`, and returns the picture as RGBA."""
    height, width = light.shape[0] // POINTS, light.shape[1] // POINTS
    clipped = np.clip(light, 0, 1).reshape(height, POINTS, width, POINTS, 3)
    pixels = np.round(255 * _to_srgb(clipped.mean(axis=(1, 3)))).astype(np.uint8)
    return Image.fromarray(np.dstack([pixels, np.full((height, width), 255, np.uint8)]), "RGBA")


def _to_linear(srgb: np.ndarray) -> np.ndarray:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _to_srgb(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
