"""Rendering with MuJoCo: images of scenes, and the visible pixels of every object."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mdetr.errors import MissingDependencyError
from mdetr.synthetic_clevr.appearance import EDGES, Light
from mdetr.synthetic_clevr.meshes import Mesh, rounded_cube, rounded_cylinder
from mdetr.synthetic_clevr.scenes import COLORS, SIZES, Scene, SceneObject
from mdetr.synthetic_clevr.surroundings import GROUND_SIZE, SIZE, ground_pattern, reflections

MAX_LIGHTS = 3
SOFT_PASSES = 4  # images to average for soft shadows

MODEL = """
<mujoco>
  <statistic center="0 0 0" extent="1"/>
  <visual>
    <global offwidth="{width}" offheight="{height}"/>
    <quality shadowsize="2048" offsamples="4"/>
    <map znear="1" zfar="60" fogstart="14" fogend="30" shadowclip="24"/>
    <headlight specular=".05 .05 .05"/>
  </visual>
  <asset>
    <texture name="reflections" type="cube" builtin="flat" width="{reflections}" height="{reflections6}"/>
    <texture name="pattern" type="2d" builtin="flat" width="{pattern}" height="{pattern}"/>
    <material name="metal" texture="reflections"/>
    <material name="ground" texture="pattern" texuniform="true" texrepeat=".12 .12" specular="0"
      shininess="0" reflectance="0"/>
{meshes}
  </asset>
  <worldbody>
    <geom type="plane" size="200 200 1" material="ground"/>
{lights}
  </worldbody>
</mujoco>
"""
_LIGHT = '<light type="directional" castshadow="true" pos="0 0 8" dir="0 0 -1"/>'
_MESH = '<mesh name="{}" vertex="{}" normal="{}" face="{}"/>'


@dataclass(frozen=True)
class Rendering:
    """An image of a scene.

    Attributes:
        picture: (height, width, 3) uint8.
        labels: (height, width) int16, index of the object that is visible in each pixel, or -1.
    """

    picture: np.ndarray
    labels: np.ndarray


def visible_boxes(labels: np.ndarray, num_objects: int) -> list[tuple[int, int, int, int] | None]:
    """Smallest boxes around the visible pixels of each object.

    Args:
        labels: (height, width), index of the object in each pixel, or -1.
        num_objects: Number of objects.

    Returns:
        x0, y0, x1, y1 of each object, ends exclusive; None for those that are not visible.
    """
    return [_box(labels == index) for index in range(num_objects)]


def visible_pixels(labels: np.ndarray, num_objects: int) -> np.ndarray:
    """Numbers of visible pixels of each object.

    Args:
        labels: (height, width), index of the object in each pixel, or -1.
        num_objects: Number of objects.

    Returns:
        (num_objects,) counts.
    """
    return np.bincount(labels[labels >= 0], minlength=num_objects)[:num_objects]


def _box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


class Renderer:
    """Renders scenes off-screen, at one size.

    Owns an OpenGL context, which does not survive a fork: create one renderer per process.

    Args:
        width: Width of the images, in pixels.
        height: Height of the images, in pixels.

    Raises:
        MissingDependencyError: MuJoCo or an off-screen OpenGL (EGL or OSMesa) is missing.
    """

    def __init__(self, width: int, height: int) -> None:
        self.mujoco, self._gl = _open_gl(width, height)
        mujoco = self.mujoco
        self.width, self.height = width, height

        # Compile the meshes, textures and lights once
        self._model = mujoco.MjModel.from_xml_string(_model_xml(width, height))
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)

        # Prepare drawing into a buffer
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._viewport = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(self._model, maxgeom=100)
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()

    def close(self) -> None:
        """Free the OpenGL context."""
        self._gl.make_current()  # MuJoCo frees from the current context
        self._context.free()
        self._gl.free()

    def labels(self, scene: Scene) -> np.ndarray:
        """Render only the labels of a scene.

        Args:
            scene: The scene.

        Returns:
            (height, width) int16, index of the object that is visible in each pixel, or -1.
        """
        # Draw every object in a color that encodes its index
        self._set_up(scene)
        flags, kinds = self._scene.flags, self.mujoco.mjtRndFlag
        flags[kinds.mjRND_SEGMENT], flags[kinds.mjRND_IDCOLOR] = True, True
        pixels = self._draw().astype(np.int32)
        flags[kinds.mjRND_SEGMENT], flags[kinds.mjRND_IDCOLOR] = False, False

        # Decode it; 0 is nothing, 1 the ground
        code = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
        return np.where(code >= 2, code - 2, -1).astype(np.int16)

    def render(self, scene: Scene) -> Rendering:
        """Render the image and the labels of a scene.

        Args:
            scene: The scene.

        Returns:
            Image and labels.
        """
        labels = self.labels(scene)
        return Rendering(self.picture(scene), labels)

    def picture(self, scene: Scene) -> np.ndarray:
        """Render only the image of a scene.

        Args:
            scene: The scene.

        Returns:
            (height, width, 3) uint8.
        """
        appearance = scene.appearance
        self._gl.make_current()
        self._set_textures(scene)
        self._set_haze(scene)

        # Average images with lights from several directions, for soft shadows
        passes = SOFT_PASSES if any(light.softness for light in appearance.lights) else 1
        total = np.zeros((self.height, self.width, 3), dtype=np.float32)
        for number in range(passes):
            self._set_up(scene, turn=(number + 0.5) / passes if passes > 1 else None)
            self._set_flags(shadow=True)
            total += self._draw()

        # Apply exposure and noise
        picture = total / passes * np.array(appearance.exposure, dtype=np.float32)
        grain = np.random.default_rng(appearance.surroundings).normal(0, 1, picture.shape)
        return np.clip(picture + appearance.grain * grain + 0.5, 0, 255).astype(np.uint8)

    def _set_haze(self, scene: Scene) -> None:
        """Set the color of the haze, and draw one pixel: MuJoCo applies it only to the next image."""
        self._context.fogRGBA[:] = (*scene.appearance.haze, 1)
        self._set_up(scene)
        self._set_flags(shadow=False)
        self.mujoco.mjr_render(self.mujoco.MjrRect(0, 0, 1, 1), self._scene, self._context)

    def _set_flags(self, shadow: bool) -> None:
        flags, kinds = self._scene.flags, self.mujoco.mjtRndFlag
        flags[kinds.mjRND_SHADOW], flags[kinds.mjRND_FOG] = shadow, True
        flags[kinds.mjRND_HAZE], flags[kinds.mjRND_SKYBOX] = False, False

    def _draw(self) -> np.ndarray:
        pixels = np.empty((self.height, self.width, 3), dtype=np.uint8)
        self.mujoco.mjr_render(self._viewport, self._scene, self._context)
        self.mujoco.mjr_readPixels(pixels, None, self._viewport, self._context)
        return pixels[::-1]

    def _set_textures(self, scene: Scene) -> None:
        """Generate the reflections in metal and the ground's pattern, and upload them to OpenGL."""
        colors = tuple(thing.color for thing in scene.objects)
        textures = {
            "reflections": reflections(scene.appearance, scene.camera, colors),
            "pattern": ground_pattern(scene.appearance),
        }
        for name, texture in textures.items():
            number = self._model.texture(name).id
            start = self._model.tex_adr[number]
            self._model.tex_data[start : start + texture.size] = texture.reshape(-1)
            self.mujoco.mjr_uploadTexture(self._model, self._context, number)

    def _set_up(self, scene: Scene, turn: float | None = None) -> None:
        """Fill MuJoCo's scene directly, since compiling a model for each image would take far longer.

        Args:
            scene: Scene to draw.
            turn: Direction of soft lights around their center, 0 to 1; None for the center.
        """
        self._gl.make_current()  # in case another renderer's context is
        mujoco, model = self.mujoco, self._model
        camera, appearance = self._camera, scene.appearance

        # Camera
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = (0, 0, scene.camera.height)
        camera.distance = scene.camera.distance
        camera.azimuth, camera.elevation = scene.camera.azimuth, scene.camera.elevation
        model.vis.global_.fovy = scene.camera.field_of_view

        # Lights
        model.vis.headlight.ambient[:] = appearance.ambient
        model.vis.headlight.diffuse[:] = appearance.headlight
        model.light_active[:] = False
        for number, light in enumerate(appearance.lights):
            direction = _spread(light, turn)
            model.light_active[number], model.light_castshadow[number] = True, light.casts_shadow
            model.light_pos[number], model.light_dir[number] = 9 * direction, -direction
            model.light_diffuse[number], model.light_specular[number] = light.color, max(light.color)

        # Ground and objects
        mujoco.mj_forward(model, self._data)
        mujoco.mjv_updateScene(
            model, self._data, self._option, None, camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        ground = self._scene.geoms[0]
        ground.segid = 0
        ground.rgba[:] = (*appearance.ground, 1)
        for index, thing in enumerate(scene.objects):
            self._add(thing, index, appearance.edges)

    def _add(self, thing: SceneObject, index: int, edges: int) -> None:
        """Add an object to MuJoCo's scene."""
        mujoco, kinds = self.mujoco, self.mujoco.mjtGeom
        geom = self._scene.geoms[self._scene.ngeom]

        # Position and rotation; MuJoCo moves and rotates meshes to their main axes, which is undone here
        cos, sin = math.cos(thing.rotation), math.sin(thing.rotation)
        rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        position = np.array(thing.position)
        is_mesh = thing.shape != "sphere"
        if is_mesh:
            mesh = self._model.mesh(f"{thing.shape}-{thing.size}-{edges}").id
            mesh_rotation = np.empty(9)
            mujoco.mju_quat2Mat(mesh_rotation, self._model.mesh_quat[mesh])
            position = position + rotation @ self._model.mesh_pos[mesh]
            rotation = rotation @ mesh_rotation.reshape(3, 3)

        # Shape and color
        mujoco.mjv_initGeom(
            geom,
            kinds.mjGEOM_MESH if is_mesh else kinds.mjGEOM_ELLIPSOID,
            np.full(3, thing.radius),
            position,
            rotation.reshape(-1),
            np.array([*COLORS[thing.color], 255], dtype=np.float32) / 255,
        )
        if is_mesh:
            geom.dataid = 2 * mesh  # odd numbers are convex hulls
        geom.category = mujoco.mjtCatBit.mjCAT_DYNAMIC
        geom.objtype, geom.objid, geom.segid = mujoco.mjtObj.mjOBJ_UNKNOWN, -1, index + 1

        # Material
        metal = thing.material == "metal"
        if metal:
            geom.matid = self._model.material("metal").id
            geom.texid = self._model.texture("reflections").id
        geom.specular, geom.shininess = (1.0, 0.35) if metal else (0.0, 0.0)
        geom.emission = 0.5 if metal else 0.15
        self._scene.ngeom += 1


def _model_xml(width: int, height: int) -> str:
    """MuJoCo's description of all meshes, textures and lights; objects are added for each scene."""
    meshes = []
    for edges, (radius, girth) in enumerate(EDGES):
        for size, half in SIZES.items():
            side = half / math.sqrt(2)
            meshes.append(_mesh(f"cube-{size}-{edges}", rounded_cube(side, radius * side)))
            cylinder = rounded_cylinder(half, girth * half, radius * half)
            meshes.append(_mesh(f"cylinder-{size}-{edges}", cylinder))
    return MODEL.format(
        width=width,
        height=height,
        reflections=SIZE,
        reflections6=6 * SIZE,
        pattern=GROUND_SIZE,
        meshes="\n".join(meshes),
        lights="\n".join([_LIGHT] * MAX_LIGHTS),
    )


def _mesh(name: str, mesh: Mesh) -> str:
    vertices = " ".join(f"{value:.6f}" for value in mesh.vertices.reshape(-1))
    normals = " ".join(f"{value:.6f}" for value in mesh.normals.reshape(-1))
    return _MESH.format(name, vertices, normals, " ".join(map(str, mesh.faces.reshape(-1))))


def _spread(light: Light, turn: float | None) -> np.ndarray:
    """Direction of a light: `turn`, from 0 to 1, goes around the center of a soft one, None is the center."""
    center = np.array(light.direction)
    if turn is None or not light.softness:
        return center
    across = np.cross(center, (1.0, 0.0, 0.0))
    across /= np.linalg.norm(across)
    along = np.cross(center, across)
    angle = 2 * math.pi * turn
    direction = center + light.softness * (math.cos(angle) * across + math.sin(angle) * along)
    return direction / np.linalg.norm(direction)


def _open_gl(width: int, height: int) -> tuple[Any, Any]:
    """Import MuJoCo, with the first off-screen OpenGL that works or the one in MUJOCO_GL."""
    choices = [os.environ["MUJOCO_GL"]] if "MUJOCO_GL" in os.environ else ["egl", "osmesa"]
    if os.uname().sysname == "Darwin":
        choices = ["cgl"]
    try:
        import mujoco
    except ImportError as error:
        raise MissingDependencyError(
            "Rendering scenes needs the package mujoco; install it with `pip install 'mdetr[clevr]'`."
        ) from error

    # Open the first that works
    failures = []
    for choice in choices:
        try:
            gl = _gl_context(choice, width, height)
            gl.make_current()
        except Exception as error:  # each library fails in its own way
            failures.append(f"{choice}: {error}")
        else:
            return mujoco, gl
    raise MissingDependencyError(
        f"Expected an off-screen OpenGL to render scenes, got none that works ({'; '.join(failures)}); "
        "install EGL or OSMesa (on Debian and Ubuntu: apt install libegl1 libgl1-mesa-dri, or libosmesa6), "
        "and set MUJOCO_GL to egl or osmesa."
    )


def _gl_context(choice: str, width: int, height: int) -> Any:
    if choice == "egl":
        from mujoco.egl import GLContext
    elif choice == "osmesa":
        from mujoco.osmesa import GLContext
    elif choice == "cgl":
        from mujoco.cgl import GLContext
    else:
        raise ValueError("expected egl or osmesa in MUJOCO_GL")
    return GLContext(width, height)
