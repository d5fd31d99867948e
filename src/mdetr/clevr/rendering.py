"""Rendering with MuJoCo: a scene in, its picture and every object's visible pixels out."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdetr.clevr.scenes import COLORS, SIZES, Scene, SceneObject
from mdetr.errors import MissingDependencyError

BACKGROUND = (0.62, 0.63, 0.64)

WORLD = """
<mujoco>
  <statistic center="0 0 0" extent="1"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality shadowsize="1024" offsamples="4"/>
    <map znear="1" zfar="60" fogstart="14" fogend="30" shadowclip="8"/>
    <rgba fog="{fog} 1" haze="{fog} 1"/>
    <headlight ambient=".33 .33 .33" diffuse=".16 .16 .16" specular=".05 .05 .05"/>
  </visual>
  <asset>
    <texture type="skybox" builtin="flat" rgb1="{fog}" rgb2="{fog}" width="16" height="96"/>
    <texture name="sheen" type="cube" builtin="gradient" rgb1="1 1 1" rgb2=".5 .5 .5" width="64"
      height="384"/>
    <material name="metal" texture="sheen"/>
    <material name="ground" rgba=".72 .73 .74 1" specular="0" shininess="0" reflectance="0"/>
  </asset>
  <worldbody>
    <geom type="plane" size="200 200 1" material="ground"/>
    <light directional="true" castshadow="true" pos="0 0 8" dir="0 0 -1" diffuse=".62 .62 .6"
      specular="1 1 1"/>
    <light directional="true" castshadow="false" pos="0 0 8" dir="0 0 -1" diffuse=".2 .2 .22"
      specular=".6 .6 .6"/>
  </worldbody>
</mujoco>
"""


@dataclass(frozen=True)
class Rendering:
    """picture: (height, width, 3) uint8. labels: (height, width) int16, the object seen there, or -1."""

    picture: np.ndarray
    labels: np.ndarray


def visible_boxes(labels: np.ndarray, num_objects: int) -> list[tuple[int, int, int, int] | None]:
    """The smallest box around each object's visible pixels, x0, y0, x1, y1 with ends exclusive, or None."""
    return [_box(labels == index) for index in range(num_objects)]


def visible_pixels(labels: np.ndarray, num_objects: int) -> np.ndarray:
    """How many pixels of each object are seen, (num_objects,)."""
    return np.bincount(labels[labels >= 0], minlength=num_objects)[:num_objects]


def _box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Renderer:
    """Draws scenes of one size off-screen. It owns an OpenGL context: make one per process.

    Args:
        width, height: of the pictures, in pixels.

    Raises:
        MissingDependencyError: MuJoCo or an off-screen OpenGL (EGL or OSMesa) is missing.
    """

    def __init__(self, width: int, height: int) -> None:
        self.mujoco, self._gl = _open_gl(width, height)
        mujoco = self.mujoco
        self.width, self.height = width, height
        fog = " ".join(map(str, BACKGROUND))
        self._model = mujoco.MjModel.from_xml_string(WORLD.format(width=width, height=height, fog=fog))
        self._metal, self._sheen = self._model.material("metal").id, self._model.texture("sheen").id
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(self._model, maxgeom=100)
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._context.free()
        self._gl.free()

    def labels(self, scene: Scene) -> np.ndarray:
        """Draw only which object each pixel shows: (height, width) int16, -1 where there is none."""
        self._set_up(scene)
        flags, kinds = self._scene.flags, self.mujoco.mjtRndFlag
        flags[kinds.mjRND_SEGMENT], flags[kinds.mjRND_IDCOLOR] = True, True
        pixels = self._draw().astype(np.int32)
        flags[kinds.mjRND_SEGMENT], flags[kinds.mjRND_IDCOLOR] = False, False
        identity = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
        return np.where(identity >= 2, identity - 2, -1).astype(np.int16)  # 0 nothing, 1 the ground

    def render(self, scene: Scene) -> Rendering:
        """Draw the picture and the labels of a scene."""
        labels = self.labels(scene)
        return Rendering(self.picture(scene), labels)

    def picture(self, scene: Scene) -> np.ndarray:
        """Draw only the picture: (height, width, 3) uint8."""
        self._set_up(scene)
        flags, kinds = self._scene.flags, self.mujoco.mjtRndFlag
        flags[kinds.mjRND_SHADOW], flags[kinds.mjRND_HAZE] = True, True
        flags[kinds.mjRND_FOG], flags[kinds.mjRND_SKYBOX] = True, True
        return self._draw()

    def _draw(self) -> np.ndarray:
        pixels = np.empty((self.height, self.width, 3), dtype=np.uint8)
        self.mujoco.mjr_render(self._viewport, self._scene, self._context)
        self.mujoco.mjr_readPixels(pixels, None, self._viewport, self._context)
        return pixels[::-1]

    def _set_up(self, scene: Scene) -> None:
        """Fill MuJoCo's scene directly: recompiling a model for each picture would take far longer."""
        mujoco = self.mujoco
        camera = self._camera
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = (0, 0, scene.camera.height)
        camera.distance = scene.camera.distance
        camera.azimuth, camera.elevation = scene.camera.azimuth, scene.camera.elevation
        self._model.vis.global_.fovy = scene.camera.field_of_view
        light = np.array(scene.light)
        self._model.light_pos[0], self._model.light_dir[0] = 9 * light, -light
        self._model.light_dir[1] = light * (1, 1, 0) - (0, 0, 0.8)
        mujoco.mj_forward(self._model, self._data)
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        self._scene.geoms[0].segid = 0
        for index, thing in enumerate(scene.objects):
            self._add(thing, index)

    def _add(self, thing: SceneObject, index: int) -> None:
        mujoco, kinds = self.mujoco, self.mujoco.mjtGeom
        geom = self._scene.geoms[self._scene.ngeom]
        radius, full = thing.radius, SIZES[thing.size]
        shape, size = {
            "cube": (kinds.mjGEOM_BOX, (radius, radius, radius)),
            "sphere": (kinds.mjGEOM_ELLIPSOID, (radius, radius, radius)),
            "cylinder": (kinds.mjGEOM_CYLINDER, (full * 0.88, full * 0.88, radius)),
        }[thing.shape]
        turn = math.radians(thing.rotation)
        rotation = (math.cos(turn), -math.sin(turn), 0, math.sin(turn), math.cos(turn), 0, 0, 0, 1)
        color = np.array([*COLORS[thing.color], 255], dtype=np.float32) / 255
        metal = thing.material == "metal"
        mujoco.mjv_initGeom(
            geom,
            shape,
            np.array(size, dtype=float),
            np.array(thing.position),
            np.array(rotation, dtype=float),
            color,
        )
        geom.category = mujoco.mjtCatBit.mjCAT_DYNAMIC
        geom.objtype, geom.objid, geom.segid = mujoco.mjtObj.mjOBJ_UNKNOWN, -1, index + 1
        if metal:
            # Light above, dark below, as if it reflected the sky.
            geom.matid, geom.texid = self._metal, self._sheen
        geom.specular, geom.shininess = (1.0, 0.22) if metal else (0.0, 0.0)
        geom.emission = 0.0 if metal else 0.2
        self._scene.ngeom += 1


def _open_gl(width: int, height: int) -> tuple[Any, Any]:
    """Import MuJoCo with the first off-screen OpenGL that works; MUJOCO_GL, where set, decides."""
    choices = [os.environ["MUJOCO_GL"]] if "MUJOCO_GL" in os.environ else ["egl", "osmesa"]
    if os.uname().sysname == "Darwin":
        choices = ["cgl"]
    failures = []
    try:
        import mujoco
    except ImportError as error:
        raise MissingDependencyError(
            "Drawing scenes needs MuJoCo, which is not installed: pip install 'mdetr[clevr]'."
        ) from error
    for choice in choices:
        try:
            gl = _gl_context(choice, width, height)
            gl.make_current()
        except Exception as error:  # each library fails in its own way
            failures.append(f"{choice}: {error}")
        else:
            return mujoco, gl
    raise MissingDependencyError(
        "Drawing scenes needs an off-screen OpenGL, and none works here "
        f"({'; '.join(failures)}): install EGL or OSMesa (on Debian and Ubuntu: apt install libegl1 "
        "libgl1-mesa-dri, or libosmesa6), and set MUJOCO_GL to egl or osmesa."
    )


def _gl_context(choice: str, width: int, height: int) -> Any:
    if choice == "egl":
        from mujoco.egl import GLContext
    elif choice == "osmesa":
        from mujoco.osmesa import GLContext
    elif choice == "cgl":
        from mujoco.cgl import GLContext
    else:
        raise ValueError("MUJOCO_GL is not one of egl, osmesa")
    return GLContext(width, height)
