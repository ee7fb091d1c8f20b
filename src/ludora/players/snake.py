"""Players of Snake that need no model: experts that search for a way, and rules of thumb that look one cell ahead.

Every move comes with a short reasoning (`Move.reasoning`). It says only what the player has worked out, so that it can
be imitated together with the move. An answer is a function of the position alone.

| player        | how it moves                                                                                 |
|---------------|----------------------------------------------------------------------------------------------|
| `bfs`         | a shortest way to the apple around the body as it lies now; where there is none, any free move |
| `bfs-safe`    | a shortest way after which the tail can still be reached; else it stays near its tail          |
| `astar`       | A* by steps + Manhattan distance, where the body makes room as it moves on; avoids dead ends   |
| `dfs`         | the first way to the apple that depth-first search finds, trying the nearer sides first        |
| `hamiltonian` | along a cycle through all cells, with shortcuts; on odd boards, which have none, as `bfs-safe`  |
| `greedy`      | the free move nearest to the apple: a rule of thumb on what `text=features` tells              |
| `greedy:trap` | the same without traps where it can: on what `text=features+trap` tells                        |

With `(noise=0.15)` any of them plays a random free move that often, and its own move is recorded as the label.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from heapq import heappop, heappush

from ludora.envs.snake_game import BIT, FREE, MOVES, Position, board_of, is_trap, shortest_way, tail_distance
from ludora.envs.snake_texts import offset
from ludora.errors import InputError, nearest
from ludora.players.base import Player, check_plays
from ludora.players.bots import legal_of, one_hot, read_options
from ludora.rng import stream, uniform
from ludora.types import Move, Spec, Turn

PLAYERS: Mapping[str, str] = {
    "bfs": "snake: a shortest way to the apple",
    "bfs-safe": "snake: a shortest way to the apple that leaves a way to the tail",
    "astar": "snake: A* through the room that the moving body makes",
    "dfs": "snake: the first way to the apple that depth-first search finds",
    "hamiltonian": "snake: along a cycle through all cells, with shortcuts; even boards",
    "greedy": "snake: the free move nearest to the apple; greedy:trap avoids traps",
}
Choice = tuple[int, str]  # a move and why


def build(spec: Spec) -> Player:
    """A player of this room from its PLAYER string.

    Raises:
        InputError: it has no such variant or option, or there is no such player.
    """
    name = f"{spec.name}:{spec.variant}" if spec.variant else spec.name
    if name not in EXPERTS:
        raise InputError(f"no player of snake is called {name!r}", nearest(name, EXPERTS))
    noise = read_options(spec, {"noise": float}).get("noise")
    if noise is None:
        return SnakePlayer(name, EXPERTS[name])
    if not 0 < noise <= 1:
        raise InputError(f"player {spec}: noise is above 0 and at most 1, not {noise:g}", f"{name}(noise=0.15)")
    return Noisy(str(spec), SnakePlayer(name, EXPERTS[name]), noise)


def position_of(turn: Turn, player: str) -> Position:
    """The position behind a turn.

    Raises:
        InputError: the turn is not one of Snake.
    """
    if not isinstance(turn.state, Position):
        raise _snake_only(player)
    return turn.state


def _snake_only(player: str) -> InputError:
    return InputError(f"player {player} plays snake only", "choose random, a search player, a model or a human")


class SnakePlayer:
    """One of `EXPERTS` as a player."""

    def __init__(self, name: str, choose: Callable[[Position], Choice]) -> None:
        self.name = name
        self._choose = choose

    def check(self, spec: Spec) -> None:
        """Refuse every game but Snake.

        Raises:
            InputError: it is another one.
        """
        if spec.name != "snake":
            raise _snake_only(self.name)

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        moves = []
        for turn in turns:
            move, why = self._choose(position_of(turn, self.name))
            legal = legal_of(turn, self.name)
            moves.append(Move(MOVES[move], index=legal.index(MOVES[move]), reasoning=why))
        return moves

    def probabilities(self, turns: Sequence[Turn]) -> list[list[float]]:
        choices = [self._choose(position_of(turn, self.name))[0] for turn in turns]
        return [one_hot(turn, MOVES[m], self.name) for turn, m in zip(turns, choices, strict=True)]


class Noisy:
    """An expert that errs: with probability `noise` a free move at random is played, and the expert's is the label.

    Positions that the expert alone would never reach get into the data that way, with the right answer beside them.
    """

    def __init__(self, name: str, expert: Player, noise: float) -> None:
        self.name = name
        self._expert, self._noise = expert, noise

    def check(self, spec: Spec) -> None:
        """As the expert's."""
        check_plays(self._expert, spec)

    def act(self, turns: Sequence[Turn]) -> list[Move]:
        return [self._err(turn, move) for turn, move in zip(turns, self._expert.act(turns), strict=True)]

    def _err(self, turn: Turn, move: Move) -> Move:
        seed = stream("noise", turn.seed)
        free = position_of(turn, self.name).free_moves()
        if uniform(seed) >= self._noise or not free:
            return move
        text = MOVES[free[int(uniform(seed, 1) * len(free))]]
        if text == move.text:
            return move
        index = legal_of(turn, self.name).index(text)
        return Move(text, index=index, reasoning=move.reasoning, label=move.text)


# ---- what they say -------------------------------------------------------------------------------------------------


def _facts(p: Position) -> str:
    """Where the apple is and which sides are closed."""
    (x, y), (apple_x, apple_y) = p.board.xy(p.head), p.board.xy(p.apple)
    sides = [f"{MOVES[m]} ({side})" for m in range(4) if (side := p.look(m)) != FREE]
    return f"The apple is {offset(apple_x - x, apple_y - y)}. Blocked: {', '.join(sides) or 'nothing'}."


def _steps(n: int) -> str:
    return f"{n} step{'s' if n > 1 else ''}"


def _lost(p: Position) -> Choice:
    """No move is free: run on, since turning back would only waste ten moves."""
    move = next(m for m in range(4) if not p.is_back(m))
    return move, f"{_facts(p)} No move is free, so the game is lost."


# A search that takes the body as a wall that stays finds some ways: the body moves on, so better ones may open.
_SHORTEST = "Around the body as it lies, the shortest way to it"
_NO_WAY = "Around the body as it lies, no way leads to it"
_ROOM = "Around the body as it lies, the way"


# ---- bfs -----------------------------------------------------------------------------------------------------------


def bfs(p: Position) -> Choice:
    """The whole body is an obstacle, the tail too."""
    moves = p.free_moves()
    if not moves:
        return _lost(p)
    free = p.board.cells & ~p.mask
    way = shortest_way(p, free, [m for m in moves if BIT[p.board.around[p.head][m]] & free], p.apple)
    if way:
        return way[0], f"{_facts(p)} {_SHORTEST} takes {_steps(len(way))} and begins {MOVES[way[0]]}."
    return moves[0], f"{_facts(p)} {_NO_WAY}, and {MOVES[moves[0]]} is free."


def bfs_safe(p: Position) -> Choice:
    """Never shut in while that can be avoided."""
    moves = p.free_moves()
    if not moves:
        return _lost(p)
    way = shortest_way(p, p.open, moves, p.apple)
    if way and _safe_after(p, way):
        text = f"takes {_steps(len(way))}, begins {MOVES[way[0]]}, and the tail stays in reach."
        return way[0], f"{_facts(p)} {_SHORTEST} {text}"
    return _near_tail(p, moves, f"{_SHORTEST} would cut off the tail" if way else _NO_WAY)


def _safe_after(p: Position, way: Sequence[int]) -> bool:
    """Whether the tail can be reached once the apple at the end of the way is eaten."""
    body = list(p.body)
    for move in way:
        body.append(p.board.around[body[-1]][move])
    body = body[len(way) - 1 :]  # the tail followed, but for the step that eats
    if len(body) == p.size**2:
        return True
    mask = 0
    for cell in body:
        mask |= BIT[cell]
    return tail_distance(p.board, body, mask) > 0


def _near_tail(p: Position, moves: Sequence[int], why: str) -> Choice:
    """The move after which the way to the tail is longest, which leaves the most time; any free move without one."""
    best, longest = moves[0], 0
    for move in moves:
        after = p.moved(move)
        steps = 1 if len(after.body) == p.size**2 else tail_distance(p.board, after.body, after.mask)
        if steps > longest:
            best, longest = move, steps
    if longest:
        return best, f"{_facts(p)} {why}, so wait: after {MOVES[best]} a way of {_steps(longest)} leads to the tail."
    return best, f"{_facts(p)} {why}, and no way to the tail was found; {MOVES[best]} is free."


# ---- A* ------------------------------------------------------------------------------------------------------------


def astar(p: Position) -> Choice:
    """A cell of the body is passable from the step on at which the snake has left it."""
    moves = p.free_moves()
    if not moves:
        return _lost(p)
    way = _astar_way(p, moves)
    if not way:
        return _near_tail(p, moves, "No way to it was found")
    begins = f"A way of {_steps(len(way))} begins {MOVES[way[0]]}"
    if not is_trap(p, way[0]):
        return way[0], f"{_facts(p)} {begins}; after this step the tail is in reach."
    room = _room(p, way[0])
    if room >= len(p.body):
        return way[0], f"{_facts(p)} {begins}, with {room} cells of room there."
    return _near_tail(p, moves, f"{_ROOM} {MOVES[way[0]]} has room for {room} cells of {len(p.body)}")


def _astar_way(p: Position, first: Sequence[int]) -> list[int]:
    """The moves to the apple; [] if no way is found."""
    board = p.board
    leaves = {cell: step for step, cell in enumerate(p.body, start=1)}  # after so many steps the cell is free
    apple_x, apple_y = board.xy(p.apple)
    came: dict[int, tuple[int, int]] = {p.head: (0, -1)}  # cell -> the cell before it and the move made there
    queue = [(0, 0, p.head)]  # estimate, minus steps (the deeper of equals first), cell
    while queue:
        _, minus, cell = heappop(queue)
        if cell == p.apple:
            way = []
            while (step := came[cell])[1] >= 0:
                way.append(step[1])
                cell = step[0]
            return way[::-1]
        done = 1 - minus
        for move in first if cell == p.head else range(4):
            there = board.around[cell][move]
            if there not in came and BIT[there] & board.cells and leaves.get(there, 0) <= done:
                came[there] = (cell, move)
                x, y = board.xy(there)
                heappush(queue, (done + abs(x - apple_x) + abs(y - apple_y), -done, there))
    return []


def _room(p: Position, move: int) -> int:
    """Cells that can be reached after a move, the head's and the tail's among them."""
    after = p.moved(move)
    width, free = p.board.width, p.board.cells & ~after.mask | BIT[after.tail]
    found = ring = BIT[after.head]
    while ring:
        ring = (ring << 1 | ring >> 1 | ring << width | ring >> width) & free & ~found
        found |= ring
    return found.bit_count()


# ---- depth first ---------------------------------------------------------------------------------------------------


def dfs(p: Position) -> Choice:
    """Not the shortest way, but the first that is found."""
    moves = p.free_moves()
    if not moves:
        return _lost(p)
    way = _deep_way(p, moves)
    if way:
        return way[0], f"{_facts(p)} A way of {_steps(len(way))} to it begins {MOVES[way[0]]}."
    return moves[0], f"{_facts(p)} {_NO_WAY}, and {MOVES[moves[0]]} is free."


def _deep_way(p: Position, first: Sequence[int]) -> list[int]:
    """Depth-first search around the body as it lies now, the side nearest to the apple first; [] without a way."""
    board = p.board
    apple_x, apple_y = board.xy(p.apple)

    def distance(cell: int) -> int:
        x, y = board.xy(cell)
        return abs(x - apple_x) + abs(y - apple_y)

    left = board.cells & ~p.mask  # cells not yet tried
    way: list[int] = []
    stack = [iter(sorted(first, key=lambda m: distance(board.around[p.head][m])))]
    cells = [p.head]
    while stack:
        move = next(stack[-1], None)
        if move is None:
            stack.pop()
            cells.pop()
            if way:
                way.pop()
            continue
        there = board.around[cells[-1]][move]
        if not BIT[there] & left:
            continue
        left ^= BIT[there]
        way.append(move)
        if there == p.apple:
            return way
        cells.append(there)
        stack.append(iter(sorted(range(4), key=lambda m, c=there: distance(board.around[c][m]))))  # type: ignore[misc]
    return []


# ---- the cycle -----------------------------------------------------------------------------------------------------


@cache
def cycle_of(size: int) -> tuple[int, ...]:
    """For an even board, the place of every cell on a cycle through all of them; cells off the board have -1.

    Along the bottom row to the right, then back and forth through the columns above it, right to left.
    """
    if size % 2:
        raise ValueError(f"a board of {size} x {size} cells, an odd number, has no cycle through all of them")
    path = [(x, 0) for x in range(size)]
    for x in reversed(range(size)):
        ys = range(1, size)
        path += [(x, y) for y in (ys if (size - 1 - x) % 2 == 0 else reversed(ys))]
    board = board_of(size)
    place = [-1] * len(board.around)
    for number, (x, y) in enumerate(path):
        place[board.cell(x, y)] = number
    return tuple(place)


def hamiltonian(p: Position) -> Choice:
    """While the body lies along the cycle in order, every free cell ahead of the tail may be jumped to."""
    moves = p.free_moves()
    if not moves:
        return _lost(p)
    if p.size % 2:
        return bfs_safe(p)
    place, total = cycle_of(p.size), p.size**2
    head, around = place[p.head], p.board.around[p.head]
    # sums to the cells between tail and head if the body lies along the cycle, and to more than one round if not
    span = sum((place[b] - place[a]) % total for a, b in zip(p.body, p.body[1:], strict=False))
    jumps = {(place[around[move]] - head) % total: move for move in moves}
    if span >= total or 1 not in jumps:
        return bfs_safe(p)  # brought here by moves that were not its own
    apple = (place[p.apple] - head) % total
    # not onto the tail or past it; nor to the cell behind, from where the cycle would go straight back
    limit = min(total - span, total - 1)
    jump = max(n for n in jumps if n == 1 or (n <= apple and n < limit))
    way = f"On a cycle through all cells the apple is {_steps(apple)} ahead"
    end = "a shortcut" if jump > 1 else "no shortcut is open"
    return jumps[jump], f"{_facts(p)} {way}; {MOVES[jumps[jump]]} goes {jump} of them, {end}."


# ---- rules of thumb ------------------------------------------------------------------------------------------------


def greedy(p: Position) -> Choice:
    """What `text=features` tells is enough for this."""
    return _nearest(p, p.free_moves(), FREE)


def greedy_trap(p: Position) -> Choice:
    """What `text=features+trap` tells is enough for this."""
    moves = p.free_moves()
    safe = [m for m in moves if not is_trap(p, m)]
    return _nearest(p, safe or moves, "untrapped" if safe else FREE)


def _nearest(p: Position, moves: Sequence[int], kind: str) -> Choice:
    if not moves:
        return _lost(p)
    board = p.board
    apple_x, apple_y = board.xy(p.apple)

    def distance(move: int) -> int:
        x, y = board.xy(board.around[p.head][move])
        return abs(x - apple_x) + abs(y - apple_y)

    best = min(moves, key=distance)
    return best, f"{_facts(p)} Of the {kind} moves none leads nearer to it than {MOVES[best]}."


EXPERTS: Mapping[str, Callable[[Position], Choice]] = {
    "bfs": bfs,
    "bfs-safe": bfs_safe,
    "astar": astar,
    "dfs": dfs,
    "hamiltonian": hamiltonian,
    "greedy": greedy,
    "greedy:trap": greedy_trap,
}
