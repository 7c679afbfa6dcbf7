"""How large is the loss of the best guess without memory."""

import math

import numpy as np

from jaxrnn._border import require_at


def guessing(classes: int) -> float:
    """Cross entropy of a guess among equally likely classes, ln(classes) nats: ln 4 for temporal order, ln 2 for parity.

    ValueError where there is no class.

    >>> from jaxrnn import theory
    >>> round(theory.guessing(4), 4)
    1.3863
    """
    require_at("classes", classes, 1, None, "how many answers there are")
    return math.log(classes)


def copy_baseline(lag: int, symbols: int = 8, items: int = 10) -> float:
    """Cross entropy per step of the copy task without memory: items · ln(symbols) / (lag + 2 items) nats.

    ValueError where a number is below 1. Source: Arjovsky, Shah, Bengio 2016, section 4.1 (10 ln 8 / (T + 20)).

    >>> from jaxrnn import theory
    >>> round(theory.copy_baseline(100), 4)
    0.1733
    """
    for name, value in (("lag", lag), ("items", items)):
        require_at(name, value, 1, None, "a number of steps")
    return items * guessing(symbols) / (lag + 2 * items)


def adding_baseline(weight: float = 1.0) -> float:
    """Mean squared error of the best constant in the adding task, weight²/6: of weight · (u + v), u and v uniform on [0, 1).

    1/6 for the sum (Le, Jaitly, Hinton 2015), 1/24 for the mean, weight ½ (Pascanu, Mikolov, Bengio 2013).

    >>> from jaxrnn import theory
    >>> round(theory.adding_baseline(), 4), round(theory.adding_baseline(0.5), 4)
    (0.1667, 0.0417)
    """
    return weight**2 / 6


def blank_asks(lag: int, items: int = 10) -> np.ndarray:
    """Probability (T,) that a blank seen at a step t = 0 … T − 1 of the variable copy task asks for a symbol, T = lag + 2 items.

    The delay L is uniform on [1, lag], the signal stands at t = items + L − 1, and the answers follow at
    [items + L, 2 items + L). Of the lags with a blank at t the share with an answer there; 0 where t has no blank.

    ValueError where a number is below 1. Source: derived here.

    >>> from jaxrnn import theory
    >>> theory.blank_asks(3, items=2).round(2).tolist()
    [0.0, 0.0, 0.0, 0.5, 1.0, 0.67, 0.33]
    """
    asks, blank = _asking(lag, items)
    return np.divide(asks, blank, out=np.zeros(len(asks)), where=blank > 0)


def variable_copy_baseline(lag: int, symbols: int = 8, items: int = 10) -> float:
    """Cross entropy per step of the variable copy task without memory, nats: above ``copy_baseline``, as the question's time is unknown too.

    (1/T) Σ_t P(blank at t) [h(p_t) + p_t ln(symbols)] with p_t of ``blank_asks`` and h(p) = −p ln p − (1 − p) ln(1 − p).

    ValueError where a number is below 1. Source: derived here; the task: Henaff, Szlam, LeCun 2016.

    >>> from jaxrnn import theory
    >>> round(theory.variable_copy_baseline(100), 4), round(theory.copy_baseline(100), 4)
    (0.4476, 0.1733)
    """
    _, blank = _asking(lag, items)
    p = blank_asks(lag, items)
    entropy = -sum(q * np.log(q, out=np.zeros(len(q)), where=q > 0) for q in (p, 1 - p))
    return float(np.mean(blank / lag * (entropy + p * guessing(symbols))))


def _asking(lag: int, items: int) -> tuple[np.ndarray, np.ndarray]:
    """At each step, of how many delays it is an answer's, and of how many it is blank."""
    for name, value in (("lag", lag), ("items", items)):
        require_at(name, value, 1, None, "a number of steps")
    t = np.arange(lag + 2 * items)
    asks = np.maximum(0, np.minimum(lag, t - items) - np.maximum(1, t - 2 * items + 1) + 1)
    signal = (items <= t) & (t < items + lag)  # of one delay each
    return asks, np.where(t < items, 0, lag - signal)


def modular_answers(length: int, modulus: int = 5) -> np.ndarray:
    """Probabilities (3, m, m): of each answer (last axis) of the modular arithmetic task, given the last operator (+, −, ×) and number.

    The expression is (sum of finished terms) + (term): + and − finish the term and open another, × multiplies it. Its
    distribution over the m² states is followed exactly from step to step, numbers and operators being uniform, the first
    operator +. Costs T m² · 3m.

    Args:
        length: T ≥ 1, how many numbers.
        modulus: m ≥ 2.

    Raises:
        ValueError: a number out of range.

    Source: derived here; the task: Delétang et al. 2023.

    >>> from jaxrnn import theory
    >>> theory.modular_answers(1, 2)[0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    >>> theory.modular_answers(2, 2).tolist()
    [[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]], [[1.0, 0.0], [0.5, 0.5]]]
    """
    require_at("length", length, 1, None, "how many numbers")
    require_at("modulus", modulus, 2, None, "how many numbers there are")
    m = modulus
    done, term, n = np.meshgrid(*[np.arange(m)] * 3, indexing="ij")  # the state before, and the number that comes
    after = [((done + term) % m, n), ((done + term) % m, -n % m), (done, term * n % m)]
    at = np.zeros((m, m))
    at[0, 0] = 1
    for t in range(length):
        given = np.zeros((3, m, m, m))  # operator, number, state
        for operator in range(3):
            np.add.at(given[operator], (n, *after[operator]), at[done, term])
        at = given[0].mean(0) if t == 0 else given.mean((0, 1))
    answers = np.zeros((3, m, m))
    total = (done + term) % m
    for answer in range(m):
        answers[..., answer] = (given * (total[..., 0] == answer)).sum((2, 3))
    return answers
