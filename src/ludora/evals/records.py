"""What adapters did with questions, answer by answer and summed up. Needs no torch: reports read it, too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ludora.errors import InputError


@dataclass(frozen=True, slots=True)
class Record:
    """What one adapter did with one question.

    `said` is the answer as it was written (if it was asked for: `written`), `answer` what was read from it. `strict`
    and `flexible` say whether it is right, read in the form that was asked for or in any; `fuzzy` is a legacy measure.
    `parsed`: the form was there; `truncated`: the token budget ended it. `nll` is the loss in nats of the reference
    answer, summed over its `tokens`; infinite where the model's numbers are not finite. `option` is the letter that
    is likeliest, `option_nll` the loss of the right one among the options; "" and None without options.
    """

    id: str
    written: bool = False
    said: str = ""
    answer: str = ""
    strict: bool = False
    flexible: bool = False
    fuzzy: bool = False
    parsed: bool = False
    truncated: bool = False
    nll: float = 0.0
    tokens: int = 0
    f1: float | None = None
    option: str = ""
    option_right: bool | None = None
    option_nll: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; what is infinite becomes null."""
        return {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Record:
        """The inverse of `to_json`.

        Raises:
            InputError: it is no record.
        """
        try:
            made = cls(**{**data, "nll": math.inf if data["nll"] is None else float(data["nll"])})
            if made.option and made.option_nll is None:
                made = replace(made, option_nll=math.inf)
            return made
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"this is no record of an answer: {error}", "evaluate again") from None


@dataclass(frozen=True, slots=True)
class Totals:
    """Records of one adapter, summed up. Rates are None where nothing of the kind was asked for.

    `perplexity` is exp of the mean loss per answer token, over all questions' tokens together; `bits_per_token` the
    same loss in bits. `unparsed` is the share of written answers without the form that was asked for.
    """

    questions: int
    strict: float | None
    flexible: float | None
    fuzzy: float | None
    unparsed: float | None
    truncated: float | None
    perplexity: float
    bits_per_token: float
    f1: float | None = None
    options: float | None = None
    option_nll: float | None = None


def totals(records: Sequence[Record]) -> Totals:
    """Sum up the records of one adapter.

    Raises:
        ValueError: there are none.
    """
    n = len(records)
    if not n:
        raise ValueError("no records, no totals")
    tokens = sum(r.tokens for r in records)
    loss = math.fsum(r.nll for r in records) / tokens if tokens else math.nan
    written = all(r.written for r in records)

    def rate(flags: Iterable[bool]) -> float | None:
        return sum(flags) / n if written else None

    chosen = [r for r in records if r.option_right is not None and r.option_nll is not None]
    overlaps = [r.f1 for r in records if r.f1 is not None]
    return Totals(
        questions=n,
        strict=rate(r.strict for r in records),
        flexible=rate(r.flexible for r in records),
        fuzzy=rate(r.fuzzy for r in records),
        unparsed=rate(not r.parsed for r in records),
        truncated=rate(r.truncated for r in records),
        perplexity=math.exp(min(loss, 700.0)) if math.isfinite(loss) else math.inf,
        bits_per_token=loss / math.log(2),
        f1=math.fsum(overlaps) / len(overlaps) if overlaps else None,
        options=sum(bool(r.option_right) for r in chosen) / len(chosen) if chosen else None,
        option_nll=math.fsum(r.option_nll or 0.0 for r in chosen) / len(chosen) if chosen else None,
    )
