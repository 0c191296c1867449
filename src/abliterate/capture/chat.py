"""From a prompt to the token ids the model reads, through the tokenizer's own chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from abliterate.errors import MissingChatTemplate
from abliterate.files import digest

# Instructions that share no ending: what their renderings share at the end is the template's, not theirs.
PROBES = ("Name a colour.", "Why is the sky blue?", "tell me a story", "2 + 2 =")


@dataclass(frozen=True)
class Chat:
    """A tokenizer's chat template with an optional system prompt.

    Attributes:
        tokenizer: with a chat template.
        system_prompt: put before the user's message; None leaves the template's own default.
    """

    tokenizer: PreTrainedTokenizerBase
    system_prompt: str | None = None

    def encode(self, prompts: Sequence[str]) -> list[list[int]]:
        """Token ids of each prompt as one user turn, up to where the assistant's answer begins.

        Raises:
            MissingChatTemplate: the template cannot render such a chat.
        """
        system = [] if self.system_prompt is None else [{"role": "system", "content": self.system_prompt}]
        chats = [[*system, {"role": "user", "content": prompt}] for prompt in prompts]
        try:
            texts = [
                self.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats
            ]
        except TemplateError as error:
            raise MissingChatTemplate(
                f"the chat template cannot render a conversation ({error})",
                "leave out --system-prompt if the model has no system role, or pass another --chat-template",
            ) from error
        # The template writes its own special tokens; a second BOS would shift every position.
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids

    @cached_property
    def suffix(self) -> tuple[int, ...]:
        """The template's tokens after the instruction, the positions where a direction is sought (methods.md 1)."""
        return _common_suffix(self.encode(PROBES))

    @property
    def positions(self) -> tuple[int, ...]:
        """Those positions counted from the end: (-n, ..., -1); (-1,) for a template that adds nothing."""
        return tuple(range(-max(len(self.suffix), 1), 0))

    @property
    def hash(self) -> str:
        """SHA-256 of the template and the system prompt."""
        return digest([self.tokenizer.chat_template, self.system_prompt])


def _common_suffix(sequences: Sequence[Sequence[int]]) -> tuple[int, ...]:
    first = sequences[0]
    length = 0
    while length < min(map(len, sequences)) and all(s[-1 - length] == first[-1 - length] for s in sequences):
        length += 1
    return tuple(first[len(first) - length :])
