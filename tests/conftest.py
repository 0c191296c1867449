"""Toys loaded once a session. No test may reach the network, so the hub is offline before anything imports it."""

import os
from collections.abc import Callable

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}

import hypothesis
import pytest
import torch

from abliterate.anatomy.load import Subject, load
from tests.toys import DENSE, toy

hypothesis.settings.register_profile("quick", max_examples=25, deadline=None)
hypothesis.settings.load_profile("quick")
torch.set_num_threads(1)  # threads cost more than they bring on matrices of 32 columns


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Subject]:
    """`toys(kind)` is that toy, built and loaded at its first use. Shared: tests must leave it as it was."""
    loaded: dict[str, Subject] = {}

    def get(kind: str) -> Subject:
        if kind not in loaded:
            loaded[kind] = load(toy(kind, tmp_path_factory.mktemp(kind)))
        return loaded[kind]

    return get


@pytest.fixture(params=DENSE)
def subject(request: pytest.FixtureRequest, toys: Callable[[str], Subject]) -> Subject:
    """Every dense architecture in turn."""
    return toys(request.param)


@pytest.fixture
def llama(toys: Callable[[str], Subject]) -> Subject:
    """The plainest of them, where the architecture does not matter."""
    return toys("llama")
