"""Which metrics the report draws, and what it calls them."""

from __future__ import annotations

# Metric key(s), title, what it means, known bounds. Every other number that was logged follows in a folded part.
CURVES: tuple[tuple[tuple[str, ...], str, str, tuple[float, float] | None], ...] = (
    (("win_rate",), "Training games won", "share of the update's games", (0.0, 1.0)),
    (("nash_conv",), "NashConv", "0 = nobody can win anything from it", None),
    (("exploitability",), "Exploitability", "what a best response wins from it", None),
    (("evaluation_win_rate",), "Evaluation games won", "share, same deals each time", (0.0, 1.0)),
    (("evaluation_apples",), "Evaluation apples", "mean per game, same deals each time", None),
    (("evaluation_score",), "Evaluation score", "mean, same deals each time", (0.0, 1.0)),
    (("window_success",), "Won in the stage's window", "share; a stage ends at its threshold", (0.0, 1.0)),
    (("stage",), "Stage", "of the curriculum", None),
    (("replay_size",), "Failures kept", "tasks", None),
    (("replay_success",), "Replays won", "share of the failures dealt again", (0.0, 1.0)),
    (("return_spread",), "Spread of the returns", "within a game and seat; 0 teaches nothing", None),
    (("move_accuracy", "scored_accuracy"), "Expert's move found", "as it acts, by score", (0.0, 1.0)),
    (("accuracy",), "Expert's move likeliest", "share of the steps' examples", (0.0, 1.0)),
    (("parse_rate",), "Answers that can be read", "share, at the first attempt", (0.0, 1.0)),
    (("eval_perplexity",), "Perplexity", "of held-out answers", None),
    (("kl",), "KL to the reference", "nats per decision", None),
    (("kl_old",), "KL of an update", "nats per decision", None),
    (("entropy",), "Entropy", "nats; 0 = always sure", None),
    (("explained_variance",), "Explained variance", "by the critic; 1 = all", None),
    (("clip_fraction",), "Clip fraction", "share of decisions clipped", None),
    (("seconds_rollout", "seconds_update"), "Seconds per update", "playing, learning", None),
    (("loss_policy",), "Policy loss", "", None),
    (("loss_value",), "Value loss", "", None),
    (("grad_norm",), "Gradient norm", "before clipping", None),
    (("tokens_per_second",), "Tokens per second", "", None),
    (("examples_per_second",), "Examples per second", "", None),
    (("learning_rate",), "Learning rate", "", None),
)
# metrics of one game among several, drawn for each of them
WORDS = {
    "evaluation_win_rate": "Evaluation games won",
    "evaluation_score": "Evaluation score",
    "evaluation_apples": "Evaluation apples",
    "expected_value": "Expected value, exact",
    "nash_conv": "NashConv, exact",
}
PER_GAME = tuple(f"{name}/" for name in WORDS)
