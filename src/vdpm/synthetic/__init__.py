"""Our own 4D scenes: from a seed to a clip with exact ground truth for every pixel at every time."""

from vdpm.synthetic.config import HELD_OUT_START, SceneConfig
from vdpm.synthetic.generator import SceneGenerator, generate, held_out_seeds, training_seeds

__all__ = ["HELD_OUT_START", "SceneConfig", "SceneGenerator", "generate", "held_out_seeds", "training_seeds"]
