"""The same architectures in PyTorch, with random weights: times do not depend on their values."""

from typing import Any

import torch
from gpu_models import LENGTH, MODELS, VOCABULARY, Arrays

DTYPES = {"FP16": torch.float16, "BF16": torch.bfloat16, "FP32": torch.float32}


class TextEncoder(torch.nn.Module):
    """BERT-base, of ids and a mask."""

    def __init__(self) -> None:
        super().__init__()
        import transformers  # noqa: PLC0415 (seconds)

        config = transformers.BertConfig(vocab_size=VOCABULARY, attn_implementation="sdpa")
        self.model = transformers.BertModel(config)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        found = self.model(input_ids=input_ids, attention_mask=attention_mask)
        return found.last_hidden_state, found.pooler_output


class Classifier(torch.nn.Module):
    """A model of torchvision; Keras's of convolutions end in a softmax."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import torchvision  # noqa: PLC0415 (seconds)

        makers = {"vit": "vit_b_16"}
        self.model = getattr(torchvision.models, makers.get(name, name))(weights=None)
        self.ends_in_softmax = name != "vit"
        if name == "resnet50":
            stride_first(self.model)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.model(image)
        return (logits.softmax(-1) if self.ends_in_softmax else logits,)


def stride_first(model: torch.nn.Module) -> None:
    """Stride in the first convolution of a block, as in Keras's ResNet50 and in the paper; torchvision has it in the second."""
    for module in model.modules():
        if type(module).__name__ == "Bottleneck":
            module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride


def make_module(name: str, precision: str, layout: str, device: str = "cuda") -> torch.nn.Module:
    """The model, ready to answer."""
    # Its fast path is an operation that torch.compile cannot look into.
    torch.backends.mha.set_fastpath_enabled(value=False)
    torch.manual_seed(0)
    module = TextEncoder() if MODELS[name].is_text else Classifier(name)
    module = module.eval().requires_grad_(requires_grad=False).to(device, DTYPES[precision])
    return module.to(memory_format=torch.channels_last) if layout == "channels_last" else module


def arrange_inputs(arrays: Arrays, layout: str) -> list[torch.Tensor]:
    """The inputs of ours as tensors of the host: images as torch orders their dimensions, in memory as `layout` says."""
    tensors = [torch.from_numpy(array) for array in arrays.values()]
    tensors = [tensor.permute(0, 3, 1, 2) if tensor.ndim == 4 else tensor for tensor in tensors]
    return tensors if layout == "channels_last" else [tensor.contiguous() for tensor in tensors]


def convert_inputs(tensors: list[torch.Tensor], precision: str, device: str = "cuda") -> list[torch.Tensor]:
    """On the device, in the precision of the module; whole numbers stay."""
    dtype = DTYPES[precision]
    return [tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype) for tensor in tensors]


def compile_module(module: torch.nn.Module) -> Any:
    """torch.compile as it is at its fastest by itself: kernels tried against each other, replayed as a CUDA graph."""
    return torch.compile(module, mode="max-autotune", dynamic=False)


assert LENGTH <= 512, "BertConfig has 512 places"
