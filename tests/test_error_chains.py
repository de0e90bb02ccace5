"""The chain of an error has every error that it refers to."""

from __future__ import annotations

import gc
import weakref

import pytest

from conntrack_aio.error_chains import chain_of, clear_frames, copy_to_raise, without_traceback


class Held:
    """An object that a stack frame refers to."""


class Equal(Exception):
    """An error that compares equal to any other."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = Exception.__hash__


def raised(held: Held, cause: BaseException | None = None) -> BaseException:
    """Return an error that was raised with a context and a cause, in frames that hold an object."""
    try:
        try:
            raise KeyError("context")
        except KeyError:
            raise ValueError("error") from (cause or TypeError("cause"))
    except ValueError as error:
        return error


def test_the_cause_and_the_context_belong_to_the_chain() -> None:
    error = raised(Held())
    assert [str(each) for each in chain_of(error)] == ["error", "cause", "'context'"]


def test_the_context_of_the_cause_belongs_to_the_chain() -> None:
    error = raised(Held(), cause=raised(Held()))
    assert len(chain_of(error)) == 5


def test_a_chain_may_have_a_cycle() -> None:
    error, other = ValueError(), KeyError()
    error.__cause__, other.__context__ = other, error
    assert chain_of(error) == [error, other]
    error.__cause__ = error
    assert chain_of(error) == [error]


def test_equal_errors_are_different_ones() -> None:
    error, cause = Equal(1), Equal(2)
    error.__cause__ = cause
    assert [id(each) for each in chain_of(error)] == [id(error), id(cause)]


@pytest.mark.parametrize("free", [clear_frames, without_traceback])
def test_the_objects_of_all_frames_are_freed(free: object) -> None:
    held = Held()
    reference = weakref.ref(held)
    error = raised(held)
    del held
    gc.collect()
    assert reference() is not None
    assert callable(free)
    free(error)
    gc.collect()
    assert reference() is None
    assert (error.__traceback__ is None) is (free is without_traceback)


def test_a_copy_has_the_cause_and_the_traceback() -> None:
    error = raised(Held())
    copied = copy_to_raise(error)
    assert copied is not error
    assert copied.__cause__ is error.__cause__
    assert copied.__traceback__ is error.__traceback__
