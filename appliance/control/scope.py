"""Who may see which contracts: the tenant filter, in one place.

Every list and lookup that answers a person takes a scope and joins its condition to the query; there is no
default, so that forgetting it is a type error. Holds no SQL but the conditions on contracts and on what hangs on
them: who asks for a space or an account outside of the scope finds nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Everything:
    """All contracts: the super-user, and the service itself."""


@dataclass(frozen=True, slots=True)
class OneSpace:
    """The contracts of one space: its admins and support technicians."""

    space_id: str


@dataclass(frozen=True, slots=True)
class OneContract:
    """One contract: its customer."""

    contract_id: str


Scope = Everything | OneSpace | OneContract

EVERYTHING = Everything()


@dataclass(frozen=True, slots=True)
class Condition:
    """SQL that holds for the contracts in a scope, and its parameters; `contract` must be in the query's FROM."""

    sql: str
    parameters: tuple[str, ...]


def condition(scope: Scope) -> Condition:
    """The scope as SQL over the table `contract`."""
    return over(scope, space="contract.space_id", contract="contract.id")


def over(scope: Scope, *, space: str, contract: str) -> Condition:
    """The scope as SQL over other columns that hold a space's and a contract's id; NULL there is outside of both."""
    match scope:
        case Everything():
            return Condition("1", ())
        case OneSpace(space_id):
            return Condition(f"{space} = ?", (space_id,))
        case OneContract(contract_id):
            return Condition(f"{contract} = ?", (contract_id,))


def over_space(scope: Scope) -> Condition:
    """The scope as SQL over the table `space`: a customer's is its contract's."""
    match scope:
        case Everything():
            return Condition("1", ())
        case OneSpace(space_id):
            return Condition("space.id = ?", (space_id,))
        case OneContract(contract_id):
            return Condition("space.id = (SELECT space_id FROM contract WHERE id = ?)", (contract_id,))


def covers(scope: Scope, *, space_id: str, contract_id: str) -> bool:
    """Whether a contract of a space lies in the scope."""
    match scope:
        case Everything():
            return True
        case OneSpace(own):
            return own == space_id
        case OneContract(own):
            return own == contract_id
