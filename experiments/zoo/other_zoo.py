"""Small networks of other libraries, with random weights; nothing is downloaded.

A name is `library/model`. Each builder returns the model and the shapes of its inputs, or a
function that makes the inputs from a generator.
"""

import os
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, Any]


def example(name: str) -> tuple[nn.Module, Any, Any]:
    """Build a model, inputs to analyse it on and others to compare it on."""
    model, wanted = BUILDERS[name]()
    return model, inputs(wanted, seed=1), inputs(wanted, seed=2)


def inputs(wanted: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    if callable(wanted):
        return wanted(generator)
    return tuple(torch.randn(shape, generator=generator) for shape in wanted)


def image(size: int = 64, *, channels: int = 3, dims: int = 2) -> list[tuple[int, ...]]:
    return [(2, channels) + (size,) * dims]


def torchvision(path: str, size: int = 64, dims: int = 2, **options: Any) -> Callable[[], Made]:
    def made() -> Made:
        import torchvision.models as models

        build: Any = models
        for part in path.split("."):
            build = getattr(build, part)
        if "weights_backbone" in options or path.startswith("segmentation"):
            options.setdefault("weights_backbone", None)
        return build(weights=None, **options), image(size, dims=dims)

    return made


def vision_transformer() -> Made:
    from torchvision.models import VisionTransformer

    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 4}
    return VisionTransformer(**sizes, hidden_dim=32, mlp_dim=48, num_classes=5), image(32)


def swin_v2() -> Made:
    from torchvision.models.swin_transformer import (
        PatchMergingV2,
        SwinTransformer,
        SwinTransformerBlockV2,
    )

    model = SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [4, 4], num_classes=5,
        block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2,
    )  # fmt: skip
    return model, image(64)


def raft() -> Made:
    from torchvision.models.optical_flow import raft_small

    model = raft_small(weights=None)
    return model, [(1, 3, 128, 128), (1, 3, 128, 128)]


def segmentation(kind: str, encoder: str = "resnet18", **options: Any) -> Callable[[], Made]:
    def made() -> Made:
        import segmentation_models_pytorch as smp

        model = getattr(smp, kind)(encoder, encoder_weights=None, classes=2, **options)
        return model, image(128 if kind == "PAN" else 64)

    return made


BLOCKS = {"block_out_channels": (16, 32), "layers_per_block": 1, "norm_num_groups": 4}
UNET = {
    **BLOCKS,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
}
TRANSFORMER = {
    "num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2, "in_channels": 4,
}  # fmt: skip


def diffusion(kind: str, wanted: Any, **options: Any) -> Callable[[], Made]:
    def made() -> Made:
        import diffusers

        return getattr(diffusers, kind)(**options), wanted

    return made


def unet_inputs(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "sample": torch.randn(2, 3, 16, 16, generator=generator),
        "timestep": torch.randint(0, 100, (2,), generator=generator),
    }


def conditioned_inputs(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "sample": torch.randn(2, 4, 16, 16, generator=generator),
        "timestep": torch.randint(0, 100, (2,), generator=generator),
        "encoder_hidden_states": torch.randn(2, 5, 12, generator=generator),
    }


def dit_inputs(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "hidden_states": torch.randn(2, 4, 8, 8, generator=generator),
        "timestep": torch.randint(0, 100, (2,), generator=generator),
        "class_labels": torch.randint(0, 10, (2,), generator=generator),
    }


def pixart_inputs(generator: torch.Generator) -> dict[str, Any]:
    return {
        "hidden_states": torch.randn(2, 4, 8, 8, generator=generator),
        "encoder_hidden_states": torch.randn(2, 5, 12, generator=generator),
        "timestep": torch.randint(0, 100, (2,), generator=generator),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


def sd3_inputs(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "hidden_states": torch.randn(2, 4, 8, 8, generator=generator),
        "encoder_hidden_states": torch.randn(2, 5, 12, generator=generator),
        "pooled_projections": torch.randn(2, 20, generator=generator),
        "timestep": torch.randint(0, 100, (2,), generator=generator),
    }


def flux_inputs(generator: torch.Generator) -> dict[str, Tensor]:
    return {
        "hidden_states": torch.randn(2, 16, 4, generator=generator),
        "encoder_hidden_states": torch.randn(2, 5, 12, generator=generator),
        "pooled_projections": torch.randn(2, 20, generator=generator),
        "timestep": torch.rand(2, generator=generator),
        "img_ids": torch.arange(48.0).reshape(16, 3).remainder(4),
        "txt_ids": torch.zeros(5, 3),
    }


def medical(kind: str, wanted: Any, **options: Any) -> Callable[[], Made]:
    def made() -> Made:
        import monai.networks.nets as nets

        return getattr(nets, kind)(**options), wanted

    return made


def medical_diffusion_inputs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    noise = torch.randn(2, 1, 16, 16, generator=generator)
    return noise, torch.randint(0, 100, (2,), generator=generator)


def graph(kind: str, **options: Any) -> Callable[[], Made]:
    def made() -> Made:
        import torch_geometric.nn as geometric

        if kind == "PNA":
            options.update(aggregators=["mean", "max"], scalers=["identity"], deg=torch.ones(4))
        return getattr(geometric, kind)(8, 16, 2, out_channels=3, **options), graph_inputs

    return made


def graph_inputs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return (
        torch.randn(12, 8, generator=generator),
        torch.randint(0, 12, (2, 30), generator=generator),
    )


def schnet() -> Made:
    from torch_geometric.nn import SchNet

    class Distances(nn.Module):
        """SchNet on a fixed graph: the search for neighbours needs a compiled extension."""

        def __init__(self) -> None:
            super().__init__()
            edges = torch.tensor([[a, b] for a in range(6) for b in range(6) if a != b]).T

            def close(positions: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
                start, end = edges
                return edges, (positions[start] - positions[end]).norm(dim=-1)

            self.net = SchNet(16, 16, 2, 10, interaction_graph=close)

        def forward(self, atoms: Tensor, positions: Tensor) -> Tensor:
            return self.net(atoms, positions)

    def made(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        atoms = torch.randint(1, 9, (6,), generator=generator)
        return atoms, torch.randn(6, 3, generator=generator)

    return Distances(), made


def adapted(kind: str, method: str) -> Callable[[], Made]:
    """A tiny transformer with adapters of peft."""

    def made() -> Made:
        import peft
        import transformer_zoo

        wrapped, found, others = transformer_zoo.example(kind)
        config = {
            "lora": lambda: peft.LoraConfig(r=4, target_modules="all-linear"),
            "dora": lambda: peft.LoraConfig(r=4, target_modules="all-linear", use_dora=True),
            "ia3": lambda: peft.IA3Config(
                target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
            ),
        }[method]()
        wrapped.model = peft.get_peft_model(wrapped.model, config)
        both = iter((found, others))
        return wrapped.eval(), lambda generator: next(both)

    return made


def yolo(name: str, size: int = 64) -> Callable[[], Made]:
    def made() -> Made:
        os.environ.setdefault("YOLO_CONFIG_DIR", tempfile.mkdtemp())
        from ultralytics.nn import tasks

        kind = {"-cls": tasks.ClassificationModel, "-seg": tasks.SegmentationModel}
        build = kind.get(name[-4:], tasks.DetectionModel)
        return build(f"{name}.yaml", verbose=False), image(size)

    return made


BUILDERS: dict[str, Callable[[], Made]] = {
    "torchvision/alexnet": torchvision("alexnet", 96),
    "torchvision/squeezenet1_1": torchvision("squeezenet1_1"),
    "torchvision/googlenet": torchvision("googlenet", 96, aux_logits=False, init_weights=False),
    "torchvision/shufflenet_v2_x0_5": torchvision("shufflenet_v2_x0_5"),
    "torchvision/mobilenet_v3_small": torchvision("mobilenet_v3_small"),
    "torchvision/mnasnet0_5": torchvision("mnasnet0_5"),
    "torchvision/vit": vision_transformer,
    "torchvision/swin_v2": swin_v2,
    "torchvision/lraspp_mobilenet_v3_large": torchvision(
        "segmentation.lraspp_mobilenet_v3_large", num_classes=3
    ),
    "torchvision/deeplabv3_mobilenet_v3_large": torchvision(
        "segmentation.deeplabv3_mobilenet_v3_large", num_classes=3
    ),
    "torchvision/fcn_resnet50": torchvision("segmentation.fcn_resnet50", num_classes=3),
    "torchvision/r3d_18": torchvision("video.r3d_18", 16, dims=3),
    "torchvision/r2plus1d_18": torchvision("video.r2plus1d_18", 16, dims=3),
    "torchvision/raft_small": raft,
    "smp/Unet": segmentation("Unet"),
    "smp/Unet-mobilenet_v2": segmentation("Unet", "mobilenet_v2"),
    "smp/UnetPlusPlus": segmentation("UnetPlusPlus"),
    "smp/FPN": segmentation("FPN"),
    "smp/PSPNet": segmentation("PSPNet"),
    "smp/Linknet": segmentation("Linknet"),
    "smp/MAnet": segmentation("MAnet"),
    "smp/PAN": segmentation("PAN"),
    "smp/DeepLabV3Plus": segmentation("DeepLabV3Plus"),
    "smp/UPerNet": segmentation("UPerNet"),
    "smp/Segformer": segmentation("Segformer"),
    "diffusers/UNet2DModel": diffusion("UNet2DModel", unet_inputs, sample_size=16, **UNET),
    "diffusers/UNet2DConditionModel": diffusion(
        "UNet2DConditionModel", conditioned_inputs, sample_size=16, **BLOCKS,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=12, attention_head_dim=4,
    ),
    "diffusers/AutoencoderKL": diffusion(
        "AutoencoderKL", image(32), block_out_channels=(16, 32), norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ),
    "diffusers/AutoencoderTiny": diffusion(
        "AutoencoderTiny", image(32),
        encoder_block_out_channels=(16, 16), decoder_block_out_channels=(16, 16),
        num_encoder_blocks=(1, 2), num_decoder_blocks=(1, 2),
    ),
    "diffusers/DiTTransformer2DModel": diffusion(
        "DiTTransformer2DModel", dit_inputs, **TRANSFORMER, sample_size=8, patch_size=2,
        num_embeds_ada_norm=10,
    ),
    "diffusers/PixArtTransformer2DModel": diffusion(
        "PixArtTransformer2DModel", pixart_inputs, **TRANSFORMER, sample_size=8, patch_size=2,
        cross_attention_dim=16, caption_channels=12,
    ),
    "diffusers/SD3Transformer2DModel": diffusion(
        "SD3Transformer2DModel", sd3_inputs, **TRANSFORMER, sample_size=8, patch_size=2,
        joint_attention_dim=12, caption_projection_dim=16, pooled_projection_dim=20,
        out_channels=4,
    ),
    "diffusers/FluxTransformer2DModel": diffusion(
        "FluxTransformer2DModel", flux_inputs, **TRANSFORMER, patch_size=1,
        num_single_layers=1, joint_attention_dim=12, pooled_projection_dim=20,
        axes_dims_rope=(2, 2, 4),
    ),
    "monai/UNet": medical(
        "UNet", image(32, channels=1), spatial_dims=2, in_channels=1, out_channels=2,
        channels=(8, 16, 32), strides=(2, 2), num_res_units=2,
    ),
    "monai/BasicUNet": medical(
        "BasicUNet", image(32, channels=1, dims=3), features=(8, 8, 16, 16, 32, 8)
    ),
    "monai/SegResNet": medical("SegResNet", image(32, channels=1, dims=3)),
    "monai/DynUNet": medical(
        "DynUNet", image(32, channels=1), spatial_dims=2, in_channels=1, out_channels=2,
        kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2],
        filters=[8, 16, 32],
    ),
    "monai/AttentionUnet": medical(
        "AttentionUnet", image(32, channels=1), spatial_dims=2, in_channels=1, out_channels=2,
        channels=(8, 16, 32), strides=(2, 2),
    ),
    "monai/VNet": medical("VNet", image(32, channels=1), spatial_dims=2),
    "monai/HighResNet": medical(
        "HighResNet", image(16, channels=1), spatial_dims=2, in_channels=1, out_channels=2
    ),
    "monai/UNETR": medical(
        "UNETR", image(32, channels=1), in_channels=1, out_channels=2, img_size=(32, 32),
        feature_size=8, hidden_size=32, mlp_dim=48, num_heads=4, spatial_dims=2,
    ),
    "monai/SwinUNETR": medical(
        "SwinUNETR", image(64, channels=1), in_channels=1, out_channels=2, feature_size=12,
        spatial_dims=2, depths=(1, 1, 1, 1), num_heads=(2, 2, 2, 2),
    ),
    "monai/MedNeXt": medical(
        "MedNeXt", image(32, channels=1), spatial_dims=2, in_channels=1, out_channels=2,
        init_filters=8,
    ),
    "monai/DiffusionModelUNet": medical(
        "DiffusionModelUNet", medical_diffusion_inputs, spatial_dims=2, in_channels=1,
        out_channels=1, channels=(8, 16), attention_levels=(False, True), norm_num_groups=4,
        num_res_blocks=1, num_head_channels=8,
    ),
    "torch_geometric/GCN": graph("GCN"),
    "torch_geometric/GraphSAGE": graph("GraphSAGE"),
    "torch_geometric/GIN": graph("GIN"),
    "torch_geometric/GAT": graph("GAT", heads=4),
    "torch_geometric/GATv2": graph("GAT", heads=4, v2=True),
    "torch_geometric/PNA": graph("PNA"),
    "torch_geometric/EdgeCNN": graph("EdgeCNN"),
    "torch_geometric/SchNet": schnet,
    "peft/gpt2-lora": adapted("gpt2", "lora"),
    "peft/bert-lora": adapted("bert", "lora"),
    "peft/llama-lora": adapted("llama", "lora"),
    "peft/llama-dora": adapted("llama", "dora"),
    "peft/llama-ia3": adapted("llama", "ia3"),
    "ultralytics/yolov5n": yolo("yolov5n"),
    "ultralytics/yolov8n": yolo("yolov8n"),
    "ultralytics/yolov8n-seg": yolo("yolov8n-seg"),
    "ultralytics/yolov8n-cls": yolo("yolov8n-cls"),
    "ultralytics/yolov9t": yolo("yolov9t"),
    "ultralytics/yolov10n": yolo("yolov10n"),
    "ultralytics/yolo11n": yolo("yolo11n"),
    "ultralytics/yolo12n": yolo("yolo12n"),
}  # fmt: skip
