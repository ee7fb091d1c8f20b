"""Chat messages to tokens, and answers back to actions.

A prompt is the model's own chat template with the generation prompt, then the answer stem ("Move:"), tokenised as one
text. Where the tokenizer has no template, this plain layout is used, after the tokenizer's own first token if any:

    RULES

    ### User
    STATE

    ### Assistant
    ANSWER
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from ludora.errors import InputError
from ludora.types import Message

Tokens = tuple[int, ...]

# Tokens that end an answer in some family, taken where the tokenizer has them.
_ENDS = ("<|im_end|>", "<end_of_turn>", "<|eot_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "</s>")
_ANSWER = "zqanswerzq"  # stands for an answer, to find where the template goes on after it
# How a user's message may begin: a prefix must be safe from merging with any of these.
_BEGINNINGS = ("a", "The", "B7", "9", " x", "\n", "\n\n", "  ", "'s", "(", "-", ":", "#", "\u00e9", "\u4e2d")
_PLAIN = "plain"
_THINKING = "<think>\nwell\n</think>\n\nplain"


class ChatFormat:
    """How one tokenizer's model reads messages. Equal messages are rendered and tokenised once.

    Attributes:
        tokenizer: the model's own.
        append_only: earlier turns are rendered the same for ever, reasoning included, so a history can grow by
            appending tokens. A template that strips `<think>` from earlier turns is not.
        append_only_plain: the same for answers without reasoning.
        stop_ids: tokens that end an answer; the template's own comes first.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._templated = bool(tokenizer.chat_template)
        self._lead = () if self._templated else self._own_start()
        self._takes_system = self._renders([Message("system", "zqrules"), Message("user", "hi")], "zqrules")
        self._takes_repeats = self._renders([Message("user", "hi"), Message("user", "zqagain")], "zqagain")
        self._space = self._find_space()
        # on the instance, so that a format that is thrown away takes its caches along; 8192 prompts are about 80 MB
        self._opening = lru_cache(maxsize=8192)(self._make_opening)
        self._following = lru_cache(maxsize=8192)(self._make_following)
        self._system_prefix = lru_cache(maxsize=256)(self._make_prefix)
        self._label = lru_cache(maxsize=65536)(self._make_label)
        self.append_only_plain = self._appends(_PLAIN)
        self.append_only = self.append_only_plain and self._appends(_THINKING)
        self.stop_ids = self._find_stops()

    # ---- prompts ---------------------------------------------------------------------------------------------------

    def opening(self, messages: Sequence[Message], stem: str = "") -> Tokens:
        """The prompt: the chat, the generation prompt, and the answer's stem (without a space at its end).

        Raises:
            InputError: the template refuses these roles, or the stem ends with a space.
        """
        return self._opening(tuple(messages), stem)

    def prefix(self, messages: Sequence[Message]) -> Tokens:
        """The leading tokens of `opening(messages)` that the system message (the rules) alone decides.

        The same for every state under the same rules, so that they are computed once; () without a system message.
        """
        if not messages or messages[0].role != "system":
            return ()
        tokens, exact = self._system_prefix(messages[0].content)
        if not exact or len(messages) < 2 or messages[1].role != "user":
            tokens = _common(tokens, self.opening(messages))
        return tokens

    def following(
        self, messages: Sequence[Message], stem: str = "", *, plain: bool = False, retry: bool = False
    ) -> Tokens:
        """What comes after a sampled answer (without the token that ended it): its end, the new messages, the stem.

        `opening(a) + answer + following(b)` is the prompt of the next turn, and its tokens are never rewritten.

        Args:
            messages: what the user says next.
            stem: of the next answer, as in `opening`.
            plain: no answer of this history holds reasoning.
            retry: the same turn is asked again, so there is no earlier turn to rewrite.

        Raises:
            InputError: the template rewrites earlier turns.
        """
        if not (self.append_only or retry or (plain and self.append_only_plain)):
            raise InputError(
                "this model's chat template rewrites earlier turns, so no history can be kept",
                "leave the history out: then every prompt holds the whole state",
            )
        return self._following(tuple(messages), stem)

    def label_tokens(self, labels: Sequence[str], stem: str) -> tuple[Tokens, ...]:
        """The tokens of each label as the continuation of the stem: a space and the label (no space without a stem).

        Raises:
            InputError: a label is empty, the tokenizer cannot spell it, or two labels are the same tokens.
        """
        paths = tuple(self._label(label, stem) for label in labels)
        if len(set(paths)) != len(paths):
            twice = next(label for label, path in zip(labels, paths, strict=True) if paths.count(path) > 1)
            raise InputError(f"two actions have the same tokens, {twice!r} is one of them", "use letters as labels")
        return paths

    def answer(self, text: str) -> Tokens:
        """The tokens of an answer as they stand behind `opening` without a stem, the token that ends it left out.

        Raises:
            InputError: the answer has no tokens.
        """
        tokens = self._continue("\n", self._space + text.strip())
        if not text.strip() or not tokens:
            raise InputError("an answer is empty", "an answer is text")
        return tokens

    # ---- how they are made -----------------------------------------------------------------------------------------

    def _make_opening(self, messages: tuple[Message, ...], stem: str) -> Tokens:
        if stem != stem.rstrip():
            raise InputError(f"the answer stem {stem!r} ends with a space", "labels carry the space")
        if not messages or messages[-1].role == "assistant":
            raise InputError("there is no message to answer", _ROLES)
        return self._lead + self._encode(self._render(messages) + (self._space + stem if stem else ""))

    def _make_following(self, messages: tuple[Message, ...], stem: str) -> Tokens:
        return self._continue("a", self._tail(messages) + (self._space + stem if stem else ""))

    def _make_prefix(self, system: str) -> tuple[Tokens, bool]:
        """The prefix for one system text, and whether it holds for every user message without looking."""
        rules = Message("system", system)
        tokens = self.opening([rules, Message("user", _BEGINNINGS[0])])
        for text in _BEGINNINGS[1:]:
            tokens = _common(tokens, self.opening([rules, Message("user", text)]))
        # What stands before a special token is tokenised without looking past it.
        walls = {i for i, token in self.tokenizer.added_tokens_decoder.items() if not token.single_word}
        wall = max((i + 1 for i, token in enumerate(tokens) if token in walls), default=0)
        if wall and len(tokens) - wall <= 8:
            return tokens[:wall], True
        return tokens[:-2], False

    def _make_label(self, label: str, stem: str) -> Tokens:
        label = label.strip()
        if not label:
            raise InputError("an action without a text cannot be a label", "use letters as labels")
        path = self._continue(stem or "\n", f" {label}" if stem else self._space + label)
        if str(self.tokenizer.decode(list(path), clean_up_tokenization_spaces=False)).strip() != label:
            raise InputError(f"this model's tokenizer cannot spell {label!r}", "use letters as labels")
        return path

    def _continue(self, before: str, text: str) -> Tokens:
        """Tokens of `text` as they are after `before`; on its own where the two merge across the border."""
        head, whole = self._encode(before), self._encode(before + text)
        return whole[len(head) :] if whole[: len(head)] == head else self._encode(text)

    def _encode(self, text: str) -> Tokens:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def _own_start(self) -> Tokens:
        """What the tokenizer itself puts before a text, the beginning-of-text token of some."""
        bare, full = self._encode("a"), tuple(self.tokenizer.encode("a"))
        return next((full[:i] for i in range(len(full)) if full[i : i + len(bare)] == bare), ())

    # ---- rendering -------------------------------------------------------------------------------------------------

    def _render(self, messages: Sequence[Message]) -> str:
        """The chat as text, up to where the answer begins."""
        chat = self._adapted(messages)
        if not self._templated:
            blocks = [m.content if m.role == "system" else f"### {m.role.title()}\n{m.content}" for m in chat]
            return "\n\n".join([*blocks, "### Assistant\n"])
        try:
            return self._apply(chat)
        except TemplateError as error:
            raise InputError(f"this model's chat template refuses the messages: {error}", _ROLES) from None

    def _apply(self, chat: Sequence[Message]) -> str:
        render: Any = self.tokenizer.apply_chat_template
        raw = [{"role": m.role, "content": m.content} for m in chat]
        return str(render(raw, tokenize=False, add_generation_prompt=True))

    def _adapted(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as the template can take them.

        Rules go into the first user message where there is no system role (gemma), and neighbours of one role become
        one message where roles must alternate.
        """
        chat: list[Message] = []
        for message in messages:
            folded = message.role == "system" and not self._takes_system
            role = "user" if folded else message.role
            joins = bool(chat) and chat[-1].role == role and (not self._takes_repeats or not self._takes_system)
            if joins and role == "user":
                chat[-1] = Message(role, f"{chat[-1].content}\n\n{message.content}")
            else:
                chat.append(Message(role, message.content))
        return chat

    def _renders(self, messages: Sequence[Message], part: str) -> bool:
        """Whether the template takes these messages, and shows this part of them."""
        if not self._templated:
            return True
        try:
            return part in self._apply(messages)
        except TemplateError:
            return False

    def _tail(self, messages: Sequence[Message]) -> str:
        """What the template writes after an answer that these messages follow."""
        return self._render([Message("user", "hi"), Message("assistant", _ANSWER), *messages]).rpartition(_ANSWER)[2]

    def _find_space(self) -> str:
        """The white space that the template puts before an answer, with which the model then begins (mistral)."""
        user = Message("user", "hi")
        head, whole = self._render([user]), self._render([user, Message("assistant", _ANSWER), user])
        between = whole[len(head) : whole.find(_ANSWER)] if whole.startswith(head) else ""
        return between if between.isspace() else ""

    def _appends(self, answer: str) -> bool:
        """Whether two turns with this answer render to what appending gives."""
        chat: list[Message] = [Message("system", "rules"), Message("user", "one")]
        text = self._render(chat)
        for user in ("two", "three"):
            text += self._space + answer + self._tail([Message("user", user)])
            chat += [Message("assistant", answer), Message("user", user)]
            if self._render(chat) != text:
                return False
        return True

    def _find_stops(self) -> Tokens:
        tokenizer = self.tokenizer
        special = tokenizer.added_tokens_decoder
        closing = self._continue("a", self._tail([Message("user", "hi")]))[:1]
        stops = [token for token in closing if token in special]
        stops += [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        names = {token.content: i for i, token in special.items()}
        stops += [names[end] for end in _ENDS if end in names]
        return tuple(dict.fromkeys(stops))


_ROLES = "after the rules, user and assistant messages must take turns, and the last one is the user's"


def _common(one: Tokens, other: Tokens) -> Tokens:
    """The longest common prefix."""
    shorter = min(len(one), len(other))
    return one[: next((i for i in range(shorter) if one[i] != other[i]), shorter)]


# ---- reading answers -----------------------------------------------------------------------------------------------


def strip_thinking(text: str) -> str:
    """The answer without its reasoning: `<think>...</think>`, one left open, or one that the prompt had opened."""
    text = re.sub(r"<think>.*?</think>", "", text, flags=re.DOTALL | re.IGNORECASE)
    text = re.split(r"</think>", text, flags=re.IGNORECASE)[-1]
    return re.split(r"<think>", text, flags=re.IGNORECASE)[0].strip()


_SAID = re.compile(r"\b(?:move|action|answer)\s*[:=]", re.IGNORECASE)
_WRAPPING = " \t\n*_`'\"([{<"


def parse_action(text: str, legal: Sequence[str], labels: Sequence[str] = ()) -> int | None:
    """Which legal action an answer names, as an index into `legal`; None if it names none.

    Reasoning is dropped first. A declaration (`Move: X`, also `Action:`, `Answer:`) counts before all else: the last
    one decides, and if it names nothing legal neither does the answer. Otherwise the last action named anywhere counts.
    Actions are named by their label or their text, as whole words, in upper or lower case; the longest that fits at a
    place is meant (`Bid: 10`, not `Bid: 1`). In running text a single letter must be written as it is: "a" is a word.
    """
    text = strip_thinking(text)
    names: dict[str, int] = {}  # a label wins over an action of the same text: labels are what was asked for
    for index, name in [*enumerate(labels), *enumerate(legal)]:
        names.setdefault(name.strip(), index)
    names.pop("", None)
    if not names:
        return None
    words = tuple(names)
    pattern = _pattern(words)
    said = list(_SAID.finditer(text))
    if said:
        match = _declared(text, said[-1], pattern)
    else:
        match = pattern.fullmatch(text) or pattern.fullmatch(text.strip(_WRAPPING + ")]}>.,;:!?"))
        for found in pattern.finditer(text) if match is None else ():
            word = found[0]
            if len(word) > 1 or not word.isalpha() or word in names:
                match = found
    # the group that matched, not the text: upper and lower case differ in more ways than one
    return None if match is None or match.lastindex is None else names[_longest_first(words)[match.lastindex - 1]]


def _declared(text: str, said: re.Match[str], pattern: re.Pattern[str]) -> re.Match[str] | None:
    """The action that `Move: X` names, or one whose own text begins like a declaration (`Action: 3`)."""
    own = pattern.match(text, said.start())
    if own and own.end() > said.end():
        return own
    for at in range(said.end(), len(text) + 1):  # over spaces, quotes and asterisks; "(1, 2)" is a name itself
        if match := pattern.match(text, at):
            return match
        if at == len(text) or text[at] not in _WRAPPING:
            break
    return own


@lru_cache(maxsize=1024)
def _pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the names as a whole word, the longest first, each in a group of its own."""
    return re.compile("|".join(rf"({_word(name)})" for name in _longest_first(names)), re.IGNORECASE)


def _longest_first(names: tuple[str, ...]) -> list[str]:
    return sorted(names, key=len, reverse=True)


def _word(name: str) -> str:
    """A name with word borders where it begins or ends with a letter, a digit or an underscore."""
    before = r"(?<!\w)" if re.match(r"\w", name[0]) else ""
    after = r"(?!\w)" if re.match(r"\w", name[-1]) else ""
    return before + re.escape(name) + after
