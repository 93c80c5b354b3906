"""Builds a scene in Blender (4.2 or newer): the camera of a reconstructed video, and its points from a file.

    blender --python THIS_FILE -- points.glb        (or points.usdc, made with the same --scale; any of its axes)

Without a file after ``--`` it makes the camera alone. Blender's units are the export's, z is up, and the frames are
those of the source video, so that the video itself can lie behind the camera or in the sequencer.
"""

import json
import sys
from itertools import pairwise
from statistics import median
from typing import Any

import bpy
import mathutils

SCENE: dict[str, Any] = json.loads("{}")


def build(scene: Any, data: dict[str, Any], files: list[str]) -> None:
    """Sets rate, range and picture size of ``scene``, imports ``files``, adds the camera."""
    clear_start(scene)
    rate = data["frames_per_second"]
    scene.render.fps = max(1, round(rate))
    scene.render.fps_base = scene.render.fps / rate
    for file in files:
        import_points(scene, file, data)
    camera = add_camera(scene, data)
    numbers = [entry["number"] for entry in data["cameras"]]
    scene.frame_start, scene.frame_end = int(numbers[0]), int(-(-numbers[-1] // 1))
    scene.frame_set(scene.frame_start)
    scene.render.resolution_x, scene.render.resolution_y = data["video_width"], data["video_height"]
    scene.render.resolution_percentage = 100
    pixel = data["film_width_mm"] / data["video_width"]
    # One shape of pixels for all frames: Blender's lens has none of its own.
    tall = median(entry["film_height_mm"] for entry in data["cameras"]) / data["video_height"] / pixel
    # Blender wants both factors to be at least 1.
    scene.render.pixel_aspect_x, scene.render.pixel_aspect_y = max(1.0, 1 / tall), max(1.0, tall)
    scene.camera = camera
    # The colours are the video's; Blender's film-like view transform would grey them.
    scene.view_settings.view_transform = "Standard"


def clear_start(scene: Any) -> None:
    """Takes away what Blender starts with, where nothing else is there: its cube would stand around the camera, and
    hide what is more than a metre away. Scenes that were opened from a file stay as they are.
    """
    if not bpy.data.filepath and {thing.name for thing in scene.objects} == {"Cube", "Light", "Camera"}:
        for thing in list(scene.objects):
            bpy.data.objects.remove(thing)


def add_camera(scene: Any, data: dict[str, Any]) -> Any:
    """A camera with keys at the video's frames: place, turn, focal length and shift of the lens."""
    lens = bpy.data.cameras.new("vdpm camera")
    camera = bpy.data.objects.new("vdpm camera", lens)
    scene.collection.objects.link(camera)
    camera.rotation_mode = "QUATERNION"
    lens.sensor_fit, lens.sensor_width = "HORIZONTAL", data["film_width_mm"]
    before = None
    for entry in data["cameras"]:
        place, turn, _ = mathutils.Matrix(entry["c2w"]).decompose()
        if before is not None:
            turn.make_compatible(before)
        before = turn
        camera.location, camera.rotation_quaternion = place, turn
        lens.lens = entry["focal_mm"]
        # In widths of the film, for x and y alike.
        lens.shift_x = entry["film_shift_right_mm"] / data["film_width_mm"]
        lens.shift_y = entry["film_shift_up_mm"] / data["film_width_mm"]
        for owner, name in (
            (camera, "location"),
            (camera, "rotation_quaternion"),
            (lens, "lens"),
            (lens, "shift_x"),
            (lens, "shift_y"),
        ):
            owner.keyframe_insert(name, frame=entry["number"])
    return camera


def import_points(scene: Any, file: str, data: dict[str, Any]) -> None:
    """The points of a .glb or USD file, made so large and coloured that they show in the viewport and in a picture."""
    before = set(scene.objects)
    stretch = 1.0
    if file.lower().endswith((".glb", ".gltf")):
        stretch = import_gltf(scene, file)
    else:
        bpy.ops.wm.usd_import(filepath=file, import_cameras=False, set_frame_range=False)
    for thing in [thing for thing in scene.objects if thing not in before]:
        if thing.type == "CAMERA":
            bpy.data.objects.remove(thing)  # the one with lens and shift is made from the path
        elif thing.type == "MESH":
            if thing.data.shape_keys is not None:
                place_keys(thing.data.shape_keys, data["cameras"][0]["number"], stretch)
            show_vertices(thing, thing.data["point_width"] / 2)
        elif thing.type in ("POINTCLOUD", "CURVES"):
            thing.data.materials.clear()
            thing.data.materials.append(glowing("displayColor"))
            thing.hide_render = thing.type == "CURVES"  # tracks are for the eye at work


def import_gltf(scene: Any, file: str) -> float:
    """Imports a glTF file; returns by what the frames of its keys must be multiplied for the scene's rate.

    Blender's rate is fps / fps_base, but its importer counts fps * fps_base frames a second. So it works at fps alone.
    """
    base, scene.render.fps_base = scene.render.fps_base, 1.0
    bpy.ops.import_scene.gltf(filepath=file)
    scene.render.fps_base = base
    return 1 / base


def place_keys(keys: Any, number: float, stretch: float) -> None:
    """Moves the animation so that its first key lies at frame ``number``, and the others ``stretch`` times as far from
    it as they did.
    """
    curves = every_curve(keys.animation_data.action)
    first = min(curve.keyframe_points[0].co.x for curve in curves)
    for curve in curves:
        for key in curve.keyframe_points:
            for point in (key.co, key.handle_left, key.handle_right):
                point.x = number + stretch * (point.x - first)


def every_curve(action: Any) -> list[Any]:
    """All curves of an action; since Blender 4.4 they lie in layers."""
    if hasattr(action, "layers"):
        return [
            c for layer in action.layers for strip in layer.strips for bag in strip.channelbags for c in bag.fcurves
        ]
    return list(action.fcurves)


def glowing(attribute: str) -> Any:
    """A material that shows the colours in ``attribute`` as they are, without lights."""
    material = bpy.data.materials.new("vdpm points")
    if bpy.app.version < (5, 0):
        material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    nodes.clear()
    colour, glow = nodes.new("ShaderNodeAttribute"), nodes.new("ShaderNodeEmission")
    colour.attribute_name = attribute
    links.new(colour.outputs["Color"], glow.inputs["Color"])
    links.new(glow.outputs["Emission"], nodes.new("ShaderNodeOutputMaterial").inputs["Surface"])
    return material


def show_vertices(thing: Any, radius: float) -> None:
    """Vertices as points of ``radius`` in their own colours, by geometry nodes."""
    colors = thing.data.color_attributes
    material = glowing(colors[0].name if len(colors) else "")
    tree = bpy.data.node_groups.new("vdpm points", "GeometryNodeTree")
    tree.interface.new_socket("Geometry", in_out="INPUT", socket_type="NodeSocketGeometry")
    tree.interface.new_socket("Geometry", in_out="OUTPUT", socket_type="NodeSocketGeometry")
    chain = [tree.nodes.new(kind) for kind in ("NodeGroupInput", "GeometryNodeMeshToPoints", "GeometryNodeSetMaterial")]
    chain.append(tree.nodes.new("NodeGroupOutput"))
    chain[1].inputs["Radius"].default_value = radius
    chain[2].inputs["Material"].default_value = material
    for a, b in pairwise(chain):
        tree.links.new(a.outputs[0], b.inputs[0])
    thing.modifiers.new("vdpm points", "NODES").node_group = tree


if SCENE:
    arguments = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    build(bpy.context.scene, SCENE, arguments)
