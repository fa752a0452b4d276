"""Networks made by a Python function of the user, `FILE.py:FUNCTION`, with or without a file of weights.

The function runs with all rights of the user who names it; a file of weights is read as data and never unpickled.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch.nn.parameter import is_lazy

from model_zoo.adapters.user_modules import UserModules
from model_zoo.adapters.user_weights import fill_user_network
from model_zoo.errors import UsageError, UserError
from model_zoo.object_hash import object_sha256
from model_zoo.surroundings import isolated_torch, libraries_restored
from model_zoo.user_code import user_code


@dataclass(frozen=True)
class Made:
    """Network that a user's function made.

    Attributes
    ----------
    network : nn.Module
        Frozen network in eval mode.
    modules : UserModules
        Modules that the file imports from the user's folders.
    reached : str
        Hash of the name of the function and of everything that can be reached from it and from the network: attributes, nested containers,
        tensors, functions and their closures.
    """

    network: nn.Module
    modules: UserModules
    reached: str

    @property
    def code(self) -> str:
        """Hash of `reached` and of all files of the user that have been imported so far."""
        return hashlib.sha256(f"{self.modules.sha256()} {self.reached}".encode()).hexdigest()


def make(path: Path, function: str, checkpoint: Path | None = None) -> Made:
    """Call a function without arguments that returns a network, and load the weights of `checkpoint` into it.

    The file and its imports from the user's folders are executed anew on every call. torch's generator is seeded before the function is
    called, so that weights drawn at random are the same on every call.

    Raises
    ------
    UsageError
        If the file or the function does not exist.
    UserError
        If the function fails, returns something else than a network with initialised tensors, or replaces functions of torch or of this
        package.
    DamagedFileError
        If the file of weights cannot be read, or does not contain exactly the network's tensors.
    """
    if not path.is_file():
        raise UsageError(f"no file {path}")
    modules = UserModules(path)
    with libraries_restored(), modules.active(), user_code(f"{path}:{function} failed"), isolated_torch():
        maker = getattr(modules.load(), function, None)
        if not callable(maker):
            raise UsageError(f"{path} has no function {function!r}")
        network = maker()
        if not isinstance(network, nn.Module):
            raise UserError(f"{path}:{function} returns {type(network).__name__}, not a torch module")
        if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
            raise UserError(f"{path}:{function} returns a network of layers without a shape (lazy): call it on images before returning it")
        if checkpoint is not None:
            fill_user_network(network, checkpoint)
        network.eval()
        for parameter in network.parameters():
            # TorchScript's modules refuse `requires_grad_`.
            parameter.requires_grad_(False)
        content_sha256 = object_sha256([function, maker, network], modules.names, modules.file.parent)
    return Made(network, modules, content_sha256)
