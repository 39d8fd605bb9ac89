"""One step of a GRU or an LSTM, known by what it computes: gates, their order and the activations that ONNX has by default."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

from beforehand.lower.match_terms import Atom, Key, Terms


@dataclasses.dataclass(frozen=True)
class Cell:
    """The weights of a cell, as arguments of the loop's body.

    Attributes:
        kind: "GRU" or "LSTM".
        kernel: What inputs are multiplied by.
        recurrent: What the state is multiplied by.
        biases: Argument and row (-1: it has none) of each bias.
        reset_after: Of a GRU, whether the reset gate comes after the product.
    """

    kind: str
    kernel: int
    recurrent: int
    biases: tuple[tuple[int, int], ...]
    reset_after: bool = False


@dataclasses.dataclass(frozen=True)
class _Gates:
    """The gates' pre-activations, compared with what they ought to be."""

    terms: Terms
    x: Key
    h: Key
    units: int

    def is_gate(self, atoms: tuple[Atom, ...] | None, place: int, kernels: tuple[Atom, ...]) -> bool:
        """Whether `atoms` are those summands, at the place of this gate."""
        start, stop = place * self.units, (place + 1) * self.units
        wanted = tuple(sorted(dataclasses.replace(atom, start=start, stop=stop) for atom in kernels))
        return atoms == wanted


def match_lstm(terms: Terms, new_h: Key, x: Key, h: Key, c: Key, units: int) -> tuple[Cell, Key] | None:
    """An LSTM whose output is `new_h`, and its new cell state."""
    for out, squashed in _match_both(terms, new_h, "Mul"):
        inner = terms.match(squashed, "Tanh")
        for forget, update in _match_both(terms, inner[0], "AddV2") if inner else ():
            for gate_f, old in _match_both(terms, forget, "Mul"):
                for gate_i, candidate in _match_both(terms, update, "Mul") if old == c else ():
                    gates = (
                        terms.match(gate_i, "Sigmoid"),
                        terms.match(gate_f, "Sigmoid"),
                        terms.match(candidate, "Tanh"),
                        terms.match(out, "Sigmoid"),
                    )
                    sums = [terms.sum_up(gate[0]) if gate else None for gate in gates]
                    cell = _check_gates(_Gates(terms, x, h, units), "LSTM", sums)
                    if cell and inner:
                        return cell, inner[0]
    return None


def match_gru(terms: Terms, new_h: Key, x: Key, h: Key, units: int) -> Cell | None:
    """A GRU whose output is `new_h`."""
    for kept, taken in _match_both(terms, new_h, "AddV2"):
        for gate_z, old in _match_both(terms, kept, "Mul"):
            for rest, candidate in _match_both(terms, taken, "Mul") if old == h else ():
                one = terms.match(rest, "Sub")
                if one and terms.read_constant(one[0]) == [1.0] and one[1] == gate_z:
                    cell = _match_candidate(_Gates(terms, x, h, units), gate_z, candidate)
                    if cell:
                        return cell
    return None


def _match_candidate(gates: _Gates, gate_z: Key, candidate: Key) -> Cell | None:
    terms = gates.terms
    inner, z = terms.match(candidate, "Tanh"), terms.match(gate_z, "Sigmoid")
    if not inner or not z:
        return None
    sum_z = terms.sum_up(z[0])
    for given, remembered in _match_both(terms, inner[0], "AddV2"):
        for gate_r, product in _match_both(terms, remembered, "Mul"):
            r = terms.match(gate_r, "Sigmoid")
            parts = terms.sum_up(given), terms.sum_up(product)
            if r and all(parts) and not any(atom.left == gates.x for atom in parts[1] or ()):
                cell = _check_gates(gates, "GRU", [sum_z, terms.sum_up(r[0])])
                if cell and _is_candidate(gates, cell, *parts):
                    return dataclasses.replace(cell, reset_after=True)
    return _match_reset_before(gates, sum_z, inner[0])


def _is_candidate(gates: _Gates, cell: Cell, given: tuple[Atom, ...] | None, product: tuple[Atom, ...] | None) -> bool:
    """Whether the reset gate goes over the second bias and the product with the state, and over nothing else."""
    biases = [Atom((), weight, row, 0, 0) for weight, row in cell.biases]
    if [row for _, row in cell.biases] not in ([], [0, 1]):
        return False
    kernels = (Atom(gates.x, cell.kernel, -1, 0, 0), *biases[:1])
    return gates.is_gate(given, 2, kernels) and gates.is_gate(
        product, 2, (Atom(gates.h, cell.recurrent, -1, 0, 0), *biases[1:])
    )


def _match_reset_before(gates: _Gates, sum_z: tuple[Atom, ...] | None, inner: Key) -> Cell | None:
    terms = gates.terms
    atoms = terms.sum_up(inner) or ()
    for atom in atoms:
        for gate_r, old in _match_both(terms, (atom.left[0], atom.left[1]), "Mul") if atom.left else ():
            r = terms.match(gate_r, "Sigmoid")
            cell = _check_gates(gates, "GRU", [sum_z, terms.sum_up(r[0])]) if r and old == gates.h else None
            if cell:
                biases = [Atom((), weight, row, 0, 0) for weight, row in cell.biases]
                kernels = (Atom(gates.x, cell.kernel, -1, 0, 0), Atom(atom.left, cell.recurrent, -1, 0, 0), *biases)
                if len(biases) < 2 and gates.is_gate(atoms, 2, kernels):
                    return cell
    return None


def _check_gates(gates: _Gates, kind: str, sums: list[tuple[Atom, ...] | None]) -> Cell | None:
    """The cell, if gate after gate is the sum of the same products, each at its own columns of the same weights."""
    first = sums[0] or ()
    kernel = [atom.weight for atom in first if atom.left == gates.x]
    recurrent = [atom.weight for atom in first if atom.left == gates.h]
    biases = [atom for atom in first if not atom.left]
    if len(kernel) != 1 or len(recurrent) != 1 or len(first) != 2 + len(biases) or len(biases) > 2:
        return None
    width = {"GRU": 3, "LSTM": 4}[kind] * gates.units
    if any(gates.terms.get_width(atom.weight) != width for atom in first):
        return None
    if any(not gates.is_gate(atoms, place, first) for place, atoms in enumerate(sums)):
        return None
    return Cell(kind, kernel[0], recurrent[0], tuple((atom.weight, atom.row) for atom in biases))


def _match_both(terms: Terms, key: Key, op: str) -> Iterator[tuple[Key, Key]]:
    """The two operands of an op that commutes, in both orders."""
    inputs = terms.match(key, op)
    if inputs:
        yield from itertools.permutations(inputs, 2)
