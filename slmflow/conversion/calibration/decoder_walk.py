"""A decoder that runs layer by layer over all windows, with one layer's weights in memory.

transformers' own code prepares what the layers share, such as masks and rotary angles: the model
runs once with layers that only record their arguments.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.hooks import attach_align_device_hook
from accelerate.utils import set_module_tensor_to_device
from torch import nn

from slmflow.errors import UserError

Weights = Mapping[str, torch.Tensor]


class Layer:
    """One decoder layer while its weights are in memory.

    path: its name in the model; modules: all modules in it by their names in the model; linears:
    the Linear ones.
    """

    def __init__(self, path: str, module: nn.Module, recorder: "_Recorder") -> None:
        """Take the module, and the arguments that the model passes to it."""
        self.path = path
        self.modules = {f"{path}.{name}": child for name, child in module.named_modules() if name}
        self.linears = {
            name: child for name, child in self.modules.items() if isinstance(child, nn.Linear)
        }
        self._module, self._recorder = module, recorder

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the output for one window: float32 [1, tokens, size], from the same shape."""
        forward: Callable[..., torch.Tensor] = type(self._module).forward
        return forward(self._module, hidden, *self._recorder.arguments, **self._recorder.options)

    @contextmanager
    def hooked(self, register: Callable[[str, nn.Module], Any]) -> Iterator[None]:
        """Hook the layer's modules while the block runs.

        register: adds a hook to a module of that name and returns its handle, or None for none.
        """
        handles = [register(name, module) for name, module in self.modules.items()]
        try:
            yield
        finally:
            for handle in filter(None, handles):
                handle.remove()


class DecoderWalk:
    """The decoder of a causal language model over windows of equal length.

    embeddings: input of the first layer, float32 [windows, tokens, size].
    """

    def __init__(self, model: Any, weights: Weights, windows: Sequence[Sequence[int]]) -> None:
        """Compute the embeddings. model: that of a `ReferenceModel`, left unchanged.

        Raises UserError for a model whose layers cannot be found.
        """
        self._model = copy.deepcopy(model).requires_grad_(False)
        self._weights = weights
        self._windows = torch.tensor(windows)
        self._path, self._layers = _find_layers(self._model)
        self._recorders = [_Recorder() for _ in self._layers]
        _load_on_demand(self._model, self._layers, weights)
        for layer, recorder in zip(self._layers, self._recorders, strict=True):
            layer.forward = recorder.forward
        with torch.no_grad():
            self._run(self._windows)
            self.embeddings: torch.Tensor = self._recorders[0].hidden
            self._run(self._windows[:1])  # arguments for one window

    def __len__(self) -> int:
        """Return the number of layers."""
        return len(self._layers)

    @contextmanager
    def layer(self, index: int) -> Iterator[Layer]:
        """Yield a layer with its weights in memory."""
        path, module = f"{self._path}.{index}", self._layers[index]
        names = list(module.state_dict())
        for name in names:
            set_module_tensor_to_device(module, name, "cpu", self._weights[f"{path}.{name}"])
        try:
            yield Layer(path, module, self._recorders[index])
        finally:
            for name in names:
                set_module_tensor_to_device(module, name, "meta")

    def finish(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Continue one window from the last layer's output, float32 [1, tokens, size].

        Returns the input of the LM head [1, tokens, size], its output and the logits, both float32
        [1, tokens, vocabulary].
        """
        head: list[torch.Tensor] = []
        hook = self._model.get_output_embeddings().register_forward_hook(
            lambda _, inputs, output: head.extend((inputs[0], output))
        )
        self._recorders[-1].output = hidden
        try:
            logits: torch.Tensor = self._model(
                input_ids=self._windows[:1, : hidden.shape[1]], use_cache=False
            ).logits
        finally:
            self._recorders[-1].output = None
            hook.remove()
        return head[0], head[1], logits

    def embed(self, window: int, weight: torch.Tensor) -> torch.Tensor:
        """Return the first layer's input for one window, with another weight of the embedding.

        weight: float32 [vocabulary, size]; returns float32 [1, tokens, size].
        """
        with _replaced_weight(self._model.get_input_embeddings(), weight), torch.no_grad():
            self._run(self._windows[window][None])
        hidden: torch.Tensor = self._recorders[0].hidden
        return hidden

    def _run(self, windows: torch.Tensor) -> None:
        self._model.get_decoder()(input_ids=windows, use_cache=False)


class _Recorder:
    """Replaces a layer's code: keeps input and arguments, returns `output` or the input."""

    def __init__(self) -> None:
        self.hidden: Any = None
        self.output: torch.Tensor | None = None
        self.arguments: tuple[Any, ...] = ()
        self.options: dict[str, Any] = {}

    def forward(self, hidden: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        self.hidden, self.arguments, self.options = hidden, arguments, options
        return hidden if self.output is None else self.output


def _find_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """Return the name and the list of the decoder's layers."""
    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, module
    raise UserError(
        f"target.quantization.algorithm=gptq: {type(model).__name__} has no list of {count} "
        "layers. Choose algorithm=rtn or k_quant"
    )


def _load_on_demand(model: Any, layers: nn.ModuleList, weights: Weights) -> None:
    """Let each module outside the layers load its weights when it runs, and drop them after."""
    inside = {id(module) for module in layers.modules()}
    for name, module in model.named_modules():
        if id(module) not in inside and not list(module.children()):
            attach_align_device_hook(
                module,
                execution_device=torch.device("cpu"),
                offload=True,
                weights_map=weights,
                module_name=name,
            )


@contextmanager
def _replaced_weight(module: Any, weight: torch.Tensor) -> Iterator[None]:
    """Replace a module's weight, and the hook that would load its own."""
    kept = module.weight, module.forward
    module.weight = nn.Parameter(weight, requires_grad=False)
    module.forward = functools.partial(type(module).forward, module)
    try:
        yield
    finally:
        module.weight, module.forward = kept
