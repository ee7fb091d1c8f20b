"""Legal actions as a trie of tokens after the prompt.

The probability of an action is the product, along its path, of the softmax over the *allowed* next tokens
only: an exact distribution over the legal actions. Nodes with one child cost nothing; a node where one
action ends and another goes on (`Bid: 1`, `Bid: 10`) has an explicit END child, scored by the token that ends
an answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ludora.errors import InputError

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChoicePlan:
    """What must be computed to score a set of choices, whatever the prompt.

    Attributes:
        tokens: the trie's inner tokens, parents before children; all that has to be fed after the prompt.
        parents: per inner token the index of its parent in `tokens`, or -1 for the prompt's last token.
        reads: per branching node where its hidden state is read: -1 the prompt's last token, i inner token i.
        children: per branching node the token ids it chooses between.
        paths: per choice its (branching node, child index) pairs, from the root down.
    """

    tokens: Tokens
    parents: Tokens
    reads: Tokens
    children: tuple[Tokens, ...]
    paths: tuple[tuple[tuple[int, int], ...], ...]


@lru_cache(maxsize=4096)  # a plan for hundreds of actions is up to 100 kB
def plan_choices(choices: tuple[Tokens, ...], end: int) -> ChoicePlan:
    """The plan for the token paths of all legal actions.

    Args:
        choices: one path each; distinct and not empty.
        end: token that ends an answer; stands for END where one action begins another.

    Raises:
        InputError: no choice, an empty path, one that holds `end`, or two choices with the same tokens.
    """
    if not choices or not all(choices):
        raise InputError("an action without a text cannot be chosen", "use labels=letters")
    if len(set(choices)) != len(choices):
        raise InputError("two legal actions have the same tokens", "use labels=letters or labels=ids")
    if any(end in path for path in choices):
        raise InputError("an action's text holds the token that ends an answer", "use labels=letters or labels=ids")
    tokens: list[int] = []
    parents: list[int] = []
    reads: list[int] = []
    children: list[Tokens] = []
    paths: list[list[tuple[int, int]]] = [[] for _ in choices]
    # (members of this node, tokens consumed, inner token the node is read at); depth first
    stack: list[tuple[list[int], int, int]] = [(list(range(len(choices))), 0, -1)]
    while stack:
        members, depth, at = stack.pop()
        if len(members) == 1:
            continue
        groups: dict[int, list[int]] = {}
        for i in members:
            groups.setdefault(choices[i][depth] if depth < len(choices[i]) else end, []).append(i)
        if len(groups) > 1:
            node = len(reads)
            reads.append(at)
            children.append(tuple(groups))
            for child, group in enumerate(groups.values()):
                for i in group:
                    paths[i].append((node, child))
        for token, group in groups.items():
            if len(group) > 1:
                tokens.append(token)
                parents.append(at)
                stack.append((group, depth + 1, len(tokens) - 1))
    return ChoicePlan(tuple(tokens), tuple(parents), tuple(reads), tuple(children), tuple(map(tuple, paths)))
