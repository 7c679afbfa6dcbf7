"""How large is the loss of the best guess without memory."""

import math

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
