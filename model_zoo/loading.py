"""Loading of models by the text of their reference."""

from __future__ import annotations

from torch import nn

from model_zoo.references import parse


def load_model(model: str) -> nn.Module:
    """Load a model, frozen and in eval mode, that maps float32 [N, 3, H, W] in [0, 1] to logits [N, classes].

    For a registered model, the size and sha256 of the file are compared with the record before it is read, and the sha256 of the loaded
    weights afterwards.

    Parameters
    ----------
    model : str
        A registered id, the path of a record, or another reference that `model_zoo.references.parse` takes.

    Raises
    ------
    UnknownNameError
        If the registry does not contain the id.
    MissingDataError
        If only the outcomes of the model ship and its checkpoint is not on this machine.
    DamagedFileError
        If the checkpoint is not the file that the record names, or does not contain the weights that it names.
    UserError
        For user models, as `model_zoo.user_model` raises it.
    """
    return parse(model).load()
