"""The base class of policies, which checks a subclass when it is defined."""

from collections.abc import Collection
from typing import Any, ClassVar, get_args

from growmas.errors import PolicyError
from growmas.manager.situation import Moment, Situation
from growmas.structure import Plan

_EXAMPLE = """
    class {name}(gm.Policy):
        moments = ("end",)  # or "begin", "step", or several

        def propose(self, situation):
            return gm.Plan()"""


class Policy:
    """Base class of policies, which decide when to grow or prune, and what.

    To write your own, subclass it. A subclass sets `moments` and overrides `propose`; one that
    does not is refused when it is defined. A base class for several policies is declared with
    `abstract=True` and is exempt:

        >>> import growmas as gm
        >>> class PruneOldest(gm.Policy):
        ...     moments = ("end",)
        ...     def propose(self, situation):
        ...         oldest = {
        ...             group.name: [group.unit_ids[i] for i in situation.old(group, 3)[:1]]
        ...             for group in situation.shrinkable(self.protected)
        ...         }
        ...         return gm.Plan(prune=oldest, reason="PruneOldest: older than 3 tasks")
        >>> class Base(gm.Policy, abstract=True):
        ...     '''Settings that several policies share.'''

    Attributes:
        moments: When the policy is asked: a tuple of "begin", "end" and "step".
        reconstruct: True if what the policy removes is reconstructed from the manager's
            statistics.
        protected: Names of the groups that it leaves alone.
        reads_importance: False if it never reads `situation.mas`; with `protect="old"` importance
            is measured only for policies that do.
    """

    reads_importance: ClassVar[bool] = True
    moments: ClassVar[tuple[Moment, ...]] = ()
    reconstruct: bool = False
    protected: tuple[str, ...] = ()

    _abstract: ClassVar[bool] = True

    def __init_subclass__(cls, *, abstract: bool | None = None, **options: Any) -> None:
        """Refuse a subclass that would never be asked, or that could not answer.

        Args:
            abstract: True for a base class that is not a policy yet.
            options: Passed on to other base classes.

        Raises:
            PolicyError: `moments` or `propose` is missing or wrong.
        """
        super().__init_subclass__(**options)
        if abstract is None:  # dataclass(slots=True) makes a class anew, from its dictionary
            abstract = bool(cls.__dict__.get("_abstract", False))
        cls._abstract = abstract
        problems = [] if abstract else [*_moment_problems(cls.moments), *_propose_problems(cls)]
        if problems:
            raise PolicyError(
                f"the policy {cls.__name__} cannot be used: {'; '.join(problems)}. Write"
                f"{_EXAMPLE.format(name=cls.__name__)}\n"
                f"or class {cls.__name__}(..., abstract=True) for a base of other policies"
            )

    def propose(self, situation: Situation) -> Plan:
        """Return what to do now, an empty plan for nothing; leave everything bit-identical.

        Args:
            situation: The network, its history and the data at hand.

        Raises:
            PolicyError: The policy is abstract.
        """
        raise PolicyError(f"{type(self).__name__} has no propose(situation) -> Plan: write it")

    def named(self) -> tuple[str, ...]:
        """Return the groups that the policy names; a manager refuses those that do not exist."""
        return tuple(self.protected)


def check_complete(policy: Policy) -> None:
    """Refuse an instance of an abstract policy, which has nothing to propose.

    Raises:
        PolicyError: Names the class.
    """
    if type(policy)._abstract:
        raise PolicyError(
            f"{type(policy).__name__} is the abstract base of policies: use a subclass with "
            "moments and propose(situation) -> Plan"
        )


def _moment_problems(moments: object) -> list[str]:
    """Return the problems of a class's `moments`."""
    known = get_args(Moment)
    expected = f"expected a tuple of {', '.join(map(repr, known))}"
    if isinstance(moments, str):
        hint = f"; write moments = ({moments!r},)" if moments in known else ""
        return [f"moments={moments!r}: {expected}{hint}"]
    if not isinstance(moments, Collection) or not all(isinstance(m, str) for m in moments):
        return [f"moments={moments!r:.80}: {expected}"]
    if not moments:
        return [f"it sets no moments, so that it would never be asked: {expected}"]
    unknown = [moment for moment in moments if moment not in known]
    return [f"moments={moments!r}: {', '.join(map(repr, unknown))} unknown, {expected}"] * bool(
        unknown
    )


def _propose_problems(cls: type[Policy]) -> list[str]:
    """Return the problems of a class's `propose`."""
    if cls.propose is Policy.propose:
        return ["it has no method propose(self, situation) -> Plan"]
    return [] if callable(cls.propose) else [f"propose={cls.propose!r:.80}: expected a method"]
