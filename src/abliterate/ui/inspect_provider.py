"""A model provider for Inspect, so that its suites run on an edited model before anything is written.

    inspect eval SUITE --model abliterate/MODEL -M direction=direction.safetensors -M strength=1.0

A baked model needs no provider: it is an ordinary checkpoint (`--model hf/DIRECTORY`). Inspect finds this module by
its entry point; nothing else imports it. Answers are greedy, whatever temperature a suite asks for, as everywhere here.
"""

import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio.to_thread
from inspect_ai.model import (
    ChatMessage,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo

from abliterate.anatomy.load import load
from abliterate.capture.forward import Completion, complete
from abliterate.directions.direction import Direction
from abliterate.edits.edit import Ablate
from abliterate.edits.hooks import check_fits, edited
from abliterate.errors import UserError

__all__ = ["EditedModel", "abliterate"]

LENGTH = 512  # tokens of an answer where the suite does not say


class Misuse(UserError):
    """The suite asks for what this provider cannot do."""


class EditedModel(ModelAPI):
    """A local model, edited by hooks where a direction is given.

    Args:
        model_name: a directory or hub id.
        base_url: unused.
        api_key: unused.
        config: Inspect's.
        direction: a direction.safetensors; None leaves the model as it is.
        strength: share of the component to remove.
        device: auto, cpu, cuda, mps.

    Raises:
        UserError: the model cannot be loaded, or the direction is another model's.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - as Inspect declares it
        direction: str | None = None,
        strength: float = 1.0,
        device: str = "auto",
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.subject = load(model_name, device=device)
        self.edit = None if direction is None else Ablate(Direction.load(Path(direction)), float(strength))
        if self.edit is not None:
            check_fits(self.subject, self.edit)
        self._one_at_a_time = threading.Lock()  # hooks are set on the one model

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        """Answer a conversation.

        Raises:
            Misuse: the suite hands over tools.
        """
        if tools:
            raise Misuse("this provider calls no tools", "choose a suite without tools, or bake the model and use hf/")
        chat = [{"role": message.role, "content": message.text} for message in input]
        ids = self._encode(chat)
        found = await anyio.to_thread.run_sync(self._answer, ids, config.max_tokens or LENGTH)
        output = ModelOutput.from_content(
            self.model_name, found.text, stop_reason="stop" if found.finished else "max_tokens"
        )
        output.usage = ModelUsage(
            input_tokens=len(ids), output_tokens=len(found.ids), total_tokens=len(ids) + len(found.ids)
        )
        return output

    def max_connections(self) -> int:
        """One conversation at a time."""
        return 1

    def _encode(self, chat: list[dict[str, Any]]) -> list[int]:
        tokenizer = self.subject.tokenizer
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _answer(self, ids: list[int], length: int) -> Completion:
        with self._one_at_a_time, nullcontext() if self.edit is None else edited(self.subject, self.edit):
            return complete(self.subject, [ids], max_new_tokens=length)[0]


@modelapi(name="abliterate")
def abliterate() -> type[ModelAPI]:
    """The provider, as Inspect registers it."""
    return EditedModel
