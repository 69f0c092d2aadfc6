"""Bias gradients of BERT with the roundings of the CUDA kernels, each of which can be left out. rounding-study uses it.

Everything is f32, and is rounded to 16 bits wherever a kernel stores or multiplies 16 bits: tensors of an activation's or the
stream's type, and attention's probabilities and their gradient as operands of a product (kernels/attention*). Column sums are
taken before a gradient is rounded if the kernel that makes it does so. There is no dropout, and all sequences have the same
length, at most 128 tokens: for longer ones attention's backward has another kernel.
"""
from dataclasses import dataclass, field

import torch

# What is rounded, by the names used in `forward` and `backward`.
PLACES = {
    "hidden": "the residual stream: output of the embeddings and of each LayerNorm",
    "product": "what a LayerNorm adds to it: the products of attention-output and output",
    "dx": "the stream's gradient, after each LayerNorm's backward and each product that adds to it",
    "operand": "the stream again, as an operand of a product (no effect if it is stored in 16 bits)",
    "d_operand": "the stream's gradient, likewise",
    "qkv": "query, key and value",
    "probabilities": "attention's probabilities as an operand, forward and backward",
    "attended": "attention's output",
    "inner": "the activation's output",
    "slope": "its kept derivative",
    "x_hat": "a LayerNorm's kept normalised row",
    "d_inner": "the gradient before the activation",
    "d_attended": "of attention's output",
    "d_scores": "of attention's scores, as an operand",
    "d_qkv": "of query, key and value",
}
# What would stay f32 if a backend stored more bits. Products still read 16 bits.
VARIANTS = {
    "today": [],
    "f32 residual": ["hidden", "product"],
    "f32 dx": ["dx"],
    "both": ["hidden", "product", "dx"],
}
# The initial scale of the loss in f16. It is halved until no gradient overflows.
LOSS_SCALE = 65536.0
KEY_TILE = 64


class Rounding:
    """Rounds to `half` at every place except the exact ones. If `half` is None, nothing is rounded."""

    def __init__(self, half=None, exact=()):
        self.half, self.exact = half, frozenset(exact)
        assert self.exact <= set(PLACES), self.exact

    def __call__(self, place, x):
        return x if self.half is None or place in self.exact else x.to(self.half).to(x.dtype)


@dataclass
class Layer:
    qkv: torch.Tensor
    qkv_bias: torch.Tensor
    attention_output: torch.Tensor
    attention_output_bias: torch.Tensor
    attention_norm: torch.Tensor
    attention_norm_bias: torch.Tensor
    intermediate: torch.Tensor
    intermediate_bias: torch.Tensor
    output: torch.Tensor
    output_bias: torch.Tensor
    output_norm: torch.Tensor
    output_norm_bias: torch.Tensor


@dataclass
class Model:
    heads: int
    word: torch.Tensor
    position: torch.Tensor
    token_type: torch.Tensor
    norm: torch.Tensor
    norm_bias: torch.Tensor
    layers: list
    head: torch.Tensor
    head_bias: torch.Tensor
    # Applied to the first token; None means the mean of all tokens instead.
    pooler: torch.Tensor = None
    pooler_bias: torch.Tensor = None
    eps: float = 1e-12

    def with_matrices(self, change):
        """The model with each frozen matrix changed."""
        of_layer = lambda layer: Layer(**{n: change(t) if t.dim() == 2 else t for n, t in vars(layer).items()})
        pooler = None if self.pooler is None else change(self.pooler)
        tables = {n: change(getattr(self, n)) for n in ("word", "position", "token_type")}
        return Model(**{**vars(self), **tables, "pooler": pooler, "layers": [of_layer(l) for l in self.layers]})

    def converted(self, dtype):
        to = lambda t: t.to(dtype) if isinstance(t, torch.Tensor) else t
        layers = [Layer(**{n: to(t) for n, t in vars(l).items()}) for l in self.layers]
        return Model(**{**{n: to(t) for n, t in vars(self).items()}, "layers": layers})


@dataclass
class Pass:
    """What forward keeps for backward."""
    loss: torch.Tensor = None
    d_logits: torch.Tensor = None
    pooled: torch.Tensor = None
    vector: torch.Tensor = None
    blocks: list = field(default_factory=list)


def normalise(x, eps):
    centred = x - x.mean(-1, keepdim=True)
    rstd = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    return centred * rstd, rstd


def normalise_back(dy, x_hat, rstd, gain):
    g = dy * gain
    return rstd * (g - g.mean(-1, keepdim=True) - x_hat * (g * x_hat).mean(-1, keepdim=True))


def gelu(x):
    cdf = 0.5 * (1 + torch.erf(x * 0.5 ** 0.5))
    return x * cdf, cdf + x * torch.exp(-0.5 * x * x) * (0.5 / torch.pi) ** 0.5


def split(x, heads):
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def join(x):
    return x.transpose(1, 2).flatten(2)


def columns(x):
    return x.flatten(0, -2).sum(0)


def attention(q, k, v, rounding):
    """Attention's output, and the logarithm of the softmax's denominator. Keys are processed in tiles, relative to the largest score
    so far."""
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    tiles = scores.split(KEY_TILE, -1)
    largest = torch.cat([t.amax(-1, keepdim=True) for t in tiles], -1).cummax(-1).values.split(1, -1)
    most, out, total = largest[-1], 0.0, 0.0
    for tile, of_tile, values in zip(tiles, largest, v.split(KEY_TILE, -2)):
        p, shrink = torch.exp(tile - of_tile), torch.exp(of_tile - most)
        out = out + shrink * (rounding("probabilities", p) @ values)
        total = total + shrink * p.sum(-1, keepdim=True)
    return out / total, most + torch.log(total)


def attention_back(q, k, v, lse, d_out, rounding):
    scale = q.shape[-1] ** -0.5
    p = torch.exp(q @ k.transpose(-1, -2) * scale - lse)
    dp = d_out @ v.transpose(-1, -2)
    ds = rounding("d_scores", p * (dp - (p * dp).sum(-1, keepdim=True)))
    dv = rounding("probabilities", p).transpose(-1, -2) @ d_out
    return ds @ k * scale, ds.transpose(-1, -2) @ q * scale, dv


# One query per sequence has its own kernels (kernels/first_token.cu), which keep the probabilities in f32.
NOTHING = Rounding()


def block_forward(model, layer, x, r, first):
    kept = {}
    hidden = x.shape[-1]
    rows = x[:, :1] if first else x
    q = r("qkv", r("operand", rows) @ layer.qkv[:hidden].T + layer.qkv_bias[:hidden])
    k, v = r("qkv", r("operand", x) @ layer.qkv[hidden:].T + layer.qkv_bias[hidden:]).split(hidden, -1)
    q, k, v = (split(t, model.heads) for t in (q, k, v))
    out, lse = attention(q, k, v, NOTHING if first else r)
    attended = r("attended", join(out))
    kept.update(q=q, k=k, v=v, lse=lse)

    branch = r("product", attended @ layer.attention_output.T + layer.attention_output_bias)
    x_hat, kept["rstd1"] = normalise(rows + branch, model.eps)
    kept["x_hat1"] = r("x_hat", x_hat)
    h = r("hidden", x_hat * layer.attention_norm + layer.attention_norm_bias)

    inner, slope = gelu(r("operand", h) @ layer.intermediate.T + layer.intermediate_bias)
    kept["slope"] = r("slope", slope)
    branch = r("product", r("inner", inner) @ layer.output.T + layer.output_bias)
    x_hat, kept["rstd2"] = normalise(h + branch, model.eps)
    kept["x_hat2"] = r("x_hat", x_hat)
    return r("hidden", x_hat * layer.output_norm + layer.output_norm_bias), kept


def forward(model, ids, labels, r):
    made = Pass()
    x = model.word[ids] + model.position[: ids.shape[1]] + model.token_type[0]
    x = r("hidden", normalise(x, model.eps)[0] * model.norm + model.norm_bias)
    for number, layer in enumerate(model.layers):
        first = model.pooler is not None and number == len(model.layers) - 1
        x, kept = block_forward(model, layer, x, r, first)
        made.blocks.append(kept)
    # The head is f32.
    made.pooled = x.mean(1) if model.pooler is None else x[:, 0]
    made.vector = made.pooled
    if model.pooler is not None:
        made.vector = torch.tanh(made.pooled @ model.pooler.T + model.pooler_bias)
    logits = made.vector @ model.head.T + model.head_bias
    made.loss = torch.nn.functional.cross_entropy(logits, labels)
    made.d_logits = (logits.softmax(-1) - torch.nn.functional.one_hot(labels, logits.shape[-1])) / len(labels)
    return made


def block_back(model, layer, kept, dy, r, grads, first):
    grads["output-layernorm"] = columns(dy)
    dz = normalise_back(dy, kept["x_hat2"], kept["rstd2"], layer.output_norm)
    grads["output"] = columns(dz)
    dz = r("dx", dz)
    d_inner = r("d_operand", dz) @ layer.output * kept["slope"]
    grads["intermediate"] = columns(d_inner)
    dh = r("dx", r("d_inner", d_inner) @ layer.intermediate + dz)

    grads["attention-layernorm"] = columns(dh)
    dz = normalise_back(dh, kept["x_hat1"], kept["rstd1"], layer.attention_norm)
    grads["attention-output"] = columns(dz)
    dz = r("dx", dz)
    d_out = split(r("d_attended", r("d_operand", dz) @ layer.attention_output), model.heads)
    dq, dk, dv = (join(t) for t in attention_back(
        kept["q"], kept["k"], kept["v"], kept["lse"], d_out, NOTHING if first else r))
    grads["query"], grads["value"] = columns(dq), columns(dv)
    dq, dk, dv = (r("d_qkv", t) for t in (dq, dk, dv))
    hidden = dy.shape[-1]
    if not first:
        return r("dx", torch.cat([dq, dk, dv], -1) @ layer.qkv + dz)
    of_first = r("dx", dq @ layer.qkv[:hidden] + dz)
    dx = r("dx", torch.cat([dk, dv], -1) @ layer.qkv[hidden:])
    return torch.cat([r("dx", dx[:, :1] + of_first), dx[:, 1:]], 1)


def backward(model, made, length, r, scale=1.0):
    """Gradients of all biases by (component, layer or None)."""
    grads = {("head", None): columns(made.d_logits)}
    d = made.d_logits @ model.head
    if model.pooler is not None:
        d = d * (1 - made.vector.square())
        grads["pooler", None] = columns(d)
        d = d @ model.pooler
    d = d[:, None] * scale
    dy = r("dx", d if model.pooler is not None else (d / length).expand(-1, length, -1))
    for number in reversed(range(len(model.layers))):
        first = model.pooler is not None and number == len(model.layers) - 1
        of_block = {}
        dy = block_back(model, model.layers[number], made.blocks[number], dy, r, of_block, first)
        grads.update({(name, number): grad / scale for name, grad in of_block.items()})
    grads["embeddings-layernorm", None] = columns(dy) / scale
    return grads


@torch.no_grad()
def gradients(model, ids, labels, rounding):
    """Bias gradients, and a scale of the loss with which none overflows."""
    made = forward(model, ids, labels, rounding)
    scale = LOSS_SCALE if rounding.half == torch.float16 else 1.0
    while True:
        grads = backward(model, made, ids.shape[1], rounding, scale)
        if all(g.isfinite().all() for g in grads.values()):
            return grads, scale
        assert scale > 1, "not finite"
        scale /= 2


def check_by_autograd():
    """Checks the backward above against PyTorch's, in f64 and without rounding, with both poolings."""
    generator = torch.Generator().manual_seed(5)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.3
    h, inner, vocabulary = 16, 32, 30

    def layer():
        return Layer(draw(3 * h, h), draw(3 * h), draw(h, h), draw(h), 1 + draw(h), draw(h), draw(inner, h),
                     draw(inner), draw(h, inner), draw(h), 1 + draw(h), draw(h))

    for pooler in (None, draw(h, h)):
        model = Model(2, draw(vocabulary, h), draw(80, h), draw(2, h), 1 + draw(h), draw(h), [layer(), layer()],
                      draw(2, h), draw(2), pooler, None if pooler is None else draw(h))
        names = ["attention_output", "attention_norm", "intermediate", "output", "output_norm"]
        biases = {("head", None): model.head_bias, ("embeddings-layernorm", None): model.norm_bias}
        if pooler is not None:
            biases["pooler", None] = model.pooler_bias
        for n, l in enumerate(model.layers):
            biases["qkv", n] = l.qkv_bias
            biases.update({(name.replace("norm", "layernorm").replace("_", "-"), n): getattr(l, name + "_bias")
                           for name in names})
        ids = torch.randint(vocabulary, (3, 70), generator=generator)
        labels = torch.tensor([0, 1, 1])
        for bias in biases.values():
            bias.requires_grad_()
        forward(model, ids, labels, NOTHING).loss.backward()
        ours, _ = gradients(model, ids, labels, NOTHING)
        for (name, n), bias in biases.items():
            if name == "qkv":
                want = bias.grad.split(h)
                pairs = [(ours["query", n], want[0]), (ours["value", n], want[2])]
            else:
                pairs = [(ours[name, n], bias.grad)]
            for a, b in pairs:
                assert (a - b).norm() < 1e-10 * b.norm() + 1e-14, (name, n, (a - b).norm() / b.norm())
