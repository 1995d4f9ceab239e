"""Make the golden file of timm's MLP-Mixer, and check both directions: timm's file here, our file in timm.

Run from the repository's root with a Python that has torch, timm and safetensors (none of them is needed by the tests):

    python tests/golden/make_timm_mixer.py

timm_mixer.safetensors holds random weights, multiples of 1/128; timm_mixer_expected.npz images, multiples of 1/32, and what
timm computes with them.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors
import torch
from make_timm import make_torchvision_importable

make_torchvision_importable()
import safetensors.torch  # noqa: E402
import timm  # noqa: E402
from timm.models.mlp_mixer import MlpMixer  # noqa: E402

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))
import minivit as mv  # noqa: E402

SIZES = {"num_classes": 5, "img_size": 12, "in_chans": 3, "patch_size": 4, "num_blocks": 2, "embed_dim": 16}

torch.manual_seed(0)
model = MlpMixer(**SIZES, mlp_ratio=(0.5, 1.25)).eval()
generator = torch.Generator().manual_seed(1)
with torch.no_grad():
    for name, p in model.named_parameters():
        std = p[0].numel() ** -0.5 if p.ndim > 1 else 0.3
        values = ("norm" in name and name.endswith("weight")) + std * torch.randn(p.shape, generator=generator)
        p.copy_((values * 128).round() / 128)
    images = torch.randint(-32, 33, (2, 3, 12, 12), generator=generator).float() / 32
    final = []
    model.norm.register_forward_hook(lambda module, inputs, output: final.append(output))
    logits = model(images)

versions = {m.__name__: m.__version__ for m in (torch, timm, safetensors, np)}
state = {name: p.contiguous() for name, p in model.state_dict().items()}
safetensors.torch.save_file(state, HERE / "timm_mixer.safetensors", {"versions": json.dumps(versions)})
expected = {"images": images.permute(0, 2, 3, 1).numpy(), "logits": logits.numpy(), "final": final[0].numpy()}
np.savez_compressed(HERE / "timm_mixer_expected.npz", **expected)

ours = mv.create(
    "mixer_b16_224", image_size=12, patch_size=4, num_classes=5, dim=16, depth=2, tokens_mlp_dim=8, channels_mlp_dim=20
)
for p in ours.parameters():
    p.data += 0.1 * np.random.default_rng(p.size).standard_normal(p.shape, np.float32)
with tempfile.TemporaryDirectory() as folder, torch.no_grad():
    mv.save(ours.eval(), Path(folder) / "ours.safetensors")
    model.load_state_dict(safetensors.torch.load_file(Path(folder) / "ours.safetensors"), strict=True)
    difference = np.abs(model(images).numpy() - ours(expected["images"]).numpy()).max()
print(f"our file in timm, strict: the logits differ by {difference:.1e}")
assert difference < 1e-5
