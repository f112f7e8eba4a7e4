"""The adapters of a model folder, each a file that the runtime loads beside the graph."""

from pathlib import Path
from typing import Any

FOLDER, SUFFIX = "adapters", ".onnx_adapter"


class LoadedAdapters:
    """The adapters of a folder by name; their matrices stay in memory.

    names: of all adapters, in alphabetical order.
    """

    def __init__(self, folder: Path, model: Any) -> None:
        """Load all adapters of the folder of a model, an `og.Model`."""
        files = sorted((folder / FOLDER).glob(f"*{SUFFIX}"))
        self.names = tuple(file.name.removesuffix(SUFFIX) for file in files)
        self._adapters: Any = None
        if files:
            # Imported here: whoever has a model has set the environment that the runtime reads.
            import onnxruntime_genai as og

            self._adapters = og.Adapters(model)
            for name, file in zip(self.names, files, strict=True):
                self._adapters.load(str(file), name)

    def activate(self, name: str | None, generator: Any) -> Any:
        """Let a generator that has read nothing use an adapter; None is the base model."""
        if name is not None:
            generator.set_active_adapter(self._adapters, name)
        return generator
