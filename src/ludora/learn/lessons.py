"""Recorded turns and conversations become what is learnt: the very prompt that the player would face, and the answer
that it should give there, with a loss on the answer alone.

    loss = choices    Choice: the action among the legal ones, as `choose` chooses
    loss = tokens     Text: after "Move:" the label and the token that ends an answer
    reasoning         Text: the reasoning, "Move:", the label, the end
    conversations     Text: the assistant's words and the end

Prompt and answer are tokenised each on its own and joined, as they are when the model answers: no length of a prompt is
ever found by tokenising it again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from ludora.data.batches import Choice, Item, several, single, width
from ludora.data.examples import Record, read_examples
from ludora.data.foreign import declared
from ludora.data.lines import SHOWN, BadLine, Unreadable, complaint, ranges
from ludora.data.trajectories import ExpertTurn
from ludora.errors import BadLines, InputError
from ludora.fields import listed
from ludora.models.chat import Tokens, parse_action
from ludora.models.policy import Text
from ludora.players.model import STEM, ModelPlayer, ask, labels_of, news
from ludora.rng import generator
from ludora.settings import SFTConfig
from ludora.types import Message, Turn


@dataclass(frozen=True, slots=True)
class Lesson:
    """What is learnt in one place, and the turn there: None in a game that is one text, and in a conversation unless
    its last answer names a `move`.
    """

    item: Item
    turn: Turn | None = None
    index: int = -1  # of the expert's move among the legal ones
    move: str = ""  # that a conversation ends with


@dataclass(slots=True)
class Lessons:
    """All lessons, cut into those learnt and those held out; `opening_turns` are held-out turns with no history, where
    moves can be compared.
    """

    learnt: list[Lesson] = field(default_factory=list)
    held_out: list[Lesson] = field(default_factory=list)
    opening_turns: list[Lesson] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    task: str = ""  # the one that most games were played on
    notes: list[str] = field(default_factory=list)  # what the user should be warned of


def prepare(config: SFTConfig, player: ModelPlayer) -> Lessons:
    """Read the files of a config, and make lessons of them as `player` would be asked.

    Raises:
        InputError: a file or line cannot be used (unless bad lines are skipped), or there is nothing to learn.
    """
    teacher = _Teacher(config, player)
    readings = [read_examples(listed(data)) for data in (config.data, config.eval_data) if data]
    train, held_out = (found.items for found in readings) if config.eval_data else _split(readings[0].items, config)
    found = Lessons(bad=[line for reading in readings for line in reading.bad])
    found.learnt, train = teacher.lessons(train, found.bad)
    found.held_out, held_out = teacher.lessons(held_out, found.bad)
    found.bad.sort()
    if found.bad and config.bad_lines == "refuse":
        lines = sum(len(reading.items) + len(reading.bad) for reading in readings)
        raise BadLines(complaint(found.bad, lines), "mend or delete these lines, or set bad_lines=skip")
    found.notes = [f"{line.place} is skipped: {line.why}" for line in found.bad[:SHOWN]]
    if len(found.bad) > SHOWN:
        found.notes += [f"of {path} these lines are skipped: {numbers}" for path, numbers in ranges(found.bad).items()]
    if not found.learnt or (config.evaluate_every and not found.held_out):
        what = "measure on" if found.learnt else "learn from"
        raise InputError(f"the data holds nothing to {what}", "more lines, another eval_share, or evaluate_every=0")
    found.opening_turns = teacher.opening_turns(held_out, found.held_out)
    names = Counter(record.task for record in train if record.task)
    found.task = names.most_common(1)[0][0] if names else ""
    _check_options(config, [*train, *held_out], found)
    return found


def _split(records: Sequence[Record], config: SFTConfig) -> tuple[Sequence[Record], Sequence[Record]]:
    """The lines cut in two; all turns of a game are on the same side."""
    places = list(range(len(records)))
    generator("held out", config.seed).shuffle(places)
    count = round(len(places) * config.eval_share)
    if config.eval_share and len(places) > 1:
        count = min(max(count, 1), len(places) - 1)
    chosen = set(places[:count])
    learnt, held_out = ([r for i, r in enumerate(records) if (i in chosen) == side] for side in (False, True))
    return learnt, held_out


def _check_options(config: SFTConfig, records: Sequence[Record], found: Lessons) -> None:
    """Refuse options that concern a kind of data that there is none of; note answers that would be cut off."""
    conversations, games = (any(r.messages for r in records), any(r.turns for r in records))
    if not games and (config.answer != "move" or config.history):
        key = "history" if config.history else "answer"
        raise InputError(f"{key} has no effect: the data holds no games", f"leave {key} out")
    if not conversations and config.assistant != "last":
        raise InputError("assistant has no effect: the data holds no conversations", "leave assistant out")
    if config.evaluate_every:
        _check_answers(config, found)
    if config.act == "say" and not config.history:
        alone = [lesson for lesson in found.learnt if lesson.turn and not (lesson.move and config.assistant == "all")]
        texts = [lesson.item for lesson in alone if isinstance(lesson.item, Text)]
        longest = max((len(text.targets) for text in texts), default=0)
        if longest > config.max_new_tokens:
            cut = f"max_new_tokens = {config.max_new_tokens} cuts off what is learnt"
            found.notes.append(f"answers have up to {longest} tokens: {cut}")


def _check_answers(config: SFTConfig, found: Lessons) -> None:
    """Say where the moves of held-out answers are not measured.

    Raises:
        InputError: they were asked for, and cannot be.
    """
    if config.act == "choose":
        if any(lesson.move for lesson in found.held_out):
            found.notes.append("the moves of held-out conversations are measured with act = say only")
    elif config.evaluate_answers and not found.opening_turns:
        why = "no held-out example names a move to compare with"
        if config.evaluate_answers != type(config).model_fields["evaluate_answers"].default:
            raise InputError(f"evaluate_answers has no effect: {why}", "leave evaluate_answers out, or set it to 0")
        found.notes.append(f"answers are not measured: {why}")


class _Teacher:
    """Makes lessons of records, for one player."""

    def __init__(self, config: SFTConfig, player: ModelPlayer) -> None:
        self.config, self.player, self.chat = config, player, player.chat
        self.end = player.policy.end
        self.context = player.policy.engine.context

    def lessons(self, records: Sequence[Record], bad: list[BadLine]) -> tuple[list[Lesson], list[Record]]:
        """The lessons of all records, in order, and the records that they are of; what cannot be taught joins `bad`."""
        made: list[Lesson] = []
        good: list[Record] = []
        for record in records:
            try:
                lessons = self._lessons(record)
                for lesson in lessons:
                    self._check_length(lesson.item)
            except InputError as error:
                bad.append(BadLine(record.place, error.message))
            else:
                made += lessons
                good.append(record)
        return made, good

    def opening_turns(self, records: Sequence[Record], made: Sequence[Lesson]) -> list[Lesson]:
        """Turns that can be put to the player as they stand and whose moves can be compared: all of them, or with a
        history the first of each game.
        """
        turns = [lesson for lesson in made if lesson.turn]
        if self.config.history:
            turns += [self._lesson(*self._turns(record)[0]) for record in records if record.turns]
        return [lesson for lesson in turns if lesson.move or (lesson.turn and lesson.turn.legal)]

    def _check_length(self, item: Item) -> None:
        length = width(item) + (item.query.prefix if isinstance(item, Choice) else item.row.prefix)
        if self.context is not None and length > self.context:
            raise InputError(f"it has {length} tokens, and the model takes {self.context} at most")

    def _lessons(self, record: Record) -> list[Lesson]:
        if record.messages:
            *others, last = self._conversation(record.messages)
            return [*map(Lesson, others), self._ending(last, record.messages)]
        if self.config.history and record.turns:
            return [Lesson(self._game(record))]
        turns = self._turns(record)
        if self.config.loss == "choices":  # where there is no choice, there is nothing to learn
            turns = [(turn, expert) for turn, expert in turns if turn.legal is None or len(turn.legal) > 1]
        return [self._lesson(turn, expert) for turn, expert in turns]

    # ---- games -----------------------------------------------------------------------------------------------------

    def _turns(self, record: Record) -> list[tuple[Turn, ExpertTurn]]:
        return [(Turn(record.seat, expert.messages, expert.legal), expert) for expert in record.turns]

    def _lesson(self, turn: Turn, expert: ExpertTurn) -> Lesson:
        index = -1 if turn.legal is None else turn.legal.index(expert.move)
        if self.config.loss == "choices" and turn.legal is not None:
            return Lesson(Choice(self.player.query(turn), index), turn, index)
        prefix = len(self.chat.prefix(turn.messages))
        stem = self.player.stem(turn)
        prompt = self.chat.opening(ask(turn.messages, turn.legal, self.config.labels, self.config.reasoning), stem)
        return Lesson(single(prompt, prefix, self._answer(expert), self.end), turn, index)

    def _answer(self, expert: ExpertTurn) -> Tokens:
        """The tokens of an expert's answer, without the one that ends it, as the continuation of the turn's stem."""
        reasoning = expert.reasoning.strip() if self.config.reasoning else ""
        if expert.legal is None:  # what a player says before </think> is not part of its move
            return self.chat.answer(f"<think>\n{reasoning}\n</think>\n\n{expert.move}" if reasoning else expert.move)
        index = expert.legal.index(expert.move)
        labels = labels_of(expert.legal, self.config.labels)
        if not self.config.reasoning:
            return self.chat.label_tokens([labels[index]], STEM)[0]
        text = f"{reasoning}\n{STEM} {labels[index]}" if reasoning else f"{STEM} {labels[index]}"
        if parse_action(text, expert.legal, labels) != index:
            raise InputError(f"with its reasoning, the move {expert.move!r} is not read back as itself")
        return self.chat.answer(text)

    def _game(self, record: Record) -> Text:
        """A whole game as the one conversation that a player with a history has."""
        rounds = []
        for number, (turn, expert) in enumerate(self._turns(record)):
            messages = ask(turn.messages, turn.legal, self.config.labels, self.config.reasoning)
            stem = self.player.stem(turn)
            if number:
                heard = self.chat.following(news(messages), stem, plain=not self.config.reasoning)
            else:
                heard = self.chat.opening(messages, stem)
            rounds.append((heard, self._answer(expert)))
        return several(rounds, len(self.chat.prefix(record.turns[0].messages)), self.end)

    # ---- conversations ---------------------------------------------------------------------------------------------

    def _conversation(self, messages: tuple[Message, ...]) -> list[Text]:
        """The last answer, or all of them: in one row where the chat template never rewrites what was said.

        What the assistant says before anybody asked is heard, but not learnt.
        """
        asked = next(i for i, message in enumerate(messages) if message.role == "user")
        answers = [i for i, message in enumerate(messages) if message.role == "assistant" and i > asked]
        if self.config.assistant == "last" or not self.chat.append_only:
            chosen = answers[-1:] if self.config.assistant == "last" else answers
            return [self._last_answer(messages[: i + 1]) for i in chosen]
        prefix = len(self.chat.prefix(messages[: answers[0]]))
        rounds = []
        start = 0
        for i in answers:
            heard = messages[start:i]
            tokens = self.chat.following(heard) if start else self.chat.opening(heard)
            rounds.append((tokens, self.chat.answer(messages[i].content)))
            start = i + 1
        return [several(rounds, prefix, self.end)]

    def _ending(self, item: Item, messages: tuple[Message, ...]) -> Lesson:
        """The lesson of a conversation's last answer."""
        try:
            move = declared(messages[-1].content)[1]
        except Unreadable:
            return Lesson(item)
        return Lesson(item, Turn(0, messages[:-1], None), move=move)

    def _last_answer(self, messages: tuple[Message, ...]) -> Text:
        prompt, answer = messages[:-1], self.chat.answer(messages[-1].content)
        return single(self.chat.opening(prompt), len(self.chat.prefix(prompt)), answer, self.end)
