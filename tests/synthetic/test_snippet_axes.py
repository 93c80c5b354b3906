import torch

from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, generate


def test_every_tensor_of_a_snippet_says_which_axis_counts_its_frames_and_targets() -> None:
    config = SceneConfig(num_frames=3, height=16, width=24, colour_samples=1)
    snippet = generate([1, 2], config, targets=torch.tensor([[0, 2], [1, 0]]), visible=True)
    tensors = {name: value for name, value in vars(snippet).items() if isinstance(value, torch.Tensor)}
    tensors["target_valid"] = snippet.valid[:, None].expand(-1, 2, -1, -1, -1)
    assert tensors.keys() == Snippet.FRAME_AXES.keys() | Snippet.TARGET_AXES.keys()
    for axes, count in ((Snippet.FRAME_AXES, 3), (Snippet.TARGET_AXES, 2)):
        for name, axis in axes.items():
            assert tensors[name].shape[axis] == count, name
            assert tensors[name].dim() + axis == (
                1 if axes is Snippet.TARGET_AXES or name not in Snippet.TARGET_AXES else 2
            )
