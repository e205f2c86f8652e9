"""What tests of the export share: the packaged network, and how PyTorch computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from export.graphs import networks, weights
from export.recipe import parse_weights


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Beside other workers, a network's threads mostly wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def facenet() -> nn.Module:
    """InceptionResnetV1 with the packaged weights, which no test changes."""
    network = networks.inception_resnet_v1()
    weights.load(parse_weights("casia-webface", download=False), network)
    return network
