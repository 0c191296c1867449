"""The chat format: what the model reads, and the template's tokens after the instruction."""

import pytest

from abliterate.capture.chat import Chat
from abliterate.errors import MissingChatTemplate
from tests.toys import SUFFIX, byte_tokenizer


@pytest.fixture
def tokenizer():
    return byte_tokenizer()


def test_a_prompt_is_encoded_up_to_where_the_answer_begins(tokenizer):
    (ids,) = Chat(tokenizer).encode(["Why?"])
    assert tokenizer.decode(ids) == f"<|user|>Why?{SUFFIX}"


def test_a_system_prompt_comes_first(tokenizer):
    (ids,) = Chat(tokenizer, "Be kind.").encode(["Why?"])
    assert tokenizer.decode(ids) == f"<|system|>Be kind.<|end|>\n<|user|>Why?{SUFFIX}"


def test_the_suffix_is_what_the_template_puts_after_the_instruction(tokenizer):
    chat = Chat(tokenizer)
    assert tokenizer.decode(chat.suffix) == SUFFIX
    assert chat.positions == (-4, -3, -2, -1)
    assert Chat(tokenizer, "Be kind.").positions == chat.positions


def test_a_template_that_adds_nothing_leaves_the_last_position(tokenizer):
    tokenizer.chat_template = "{{ messages[0].content }}"
    assert Chat(tokenizer).suffix == ()
    assert Chat(tokenizer).positions == (-1,)


def test_only_the_template_writes_special_tokens(tokenizer):
    """A second beginning-of-text token would shift every position."""
    tokenizer.bos_token = "<|system|>"
    tokenizer.add_bos_token = True
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    (ids,) = Chat(tokenizer).encode(["Why?"])
    assert ids.count(tokenizer.bos_token_id) == 1


def test_a_template_without_a_system_role_says_what_to_do(tokenizer):
    tokenizer.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    assert Chat(tokenizer).encode(["Why?"])
    with pytest.raises(MissingChatTemplate, match=r"no system role.*--system-prompt"):
        Chat(tokenizer, "Be kind.").encode(["Why?"])


def test_a_template_with_a_syntax_error_says_so(tokenizer):
    tokenizer.chat_template = "{% for %}"
    with pytest.raises(MissingChatTemplate, match="cannot render"):
        Chat(tokenizer).encode(["Why?"])


def test_the_hash_follows_template_and_system_prompt(tokenizer):
    hashes = [Chat(tokenizer).hash, Chat(tokenizer, "").hash, Chat(tokenizer, "Be kind.").hash]
    tokenizer.chat_template += " "
    hashes.append(Chat(tokenizer).hash)
    assert len(set(hashes)) == 4
