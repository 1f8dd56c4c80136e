"""A message says what, where, what was found, what is allowed and what to type next."""

from __future__ import annotations

from ssl_jets.errors import DataError, SslJetsError, UsageError, nearest


def test_a_message_has_a_line_for_each_thing_known() -> None:
    error = SslJetsError("it failed", where="file.root", found=3, allowed=range(10), hint="try that")
    assert str(error).splitlines() == [
        "it failed",
        "  where:   file.root",
        "  found:   3",
        "  allowed: 0, 1, 2, 3, 4, 5, 6, 7 and 2 more",
        "  try:     try that",
    ]
    assert str(SslJetsError("it failed")) == "it failed"


def test_wrong_usage_exits_with_2_and_failure_with_1() -> None:
    assert (UsageError.exit_code, DataError.exit_code, SslJetsError.exit_code) == (2, 1, 1)


def test_nearest_names_come_first_and_none_is_lost() -> None:
    names = ["energy", "deta", "Batch_Size", "pt"]
    assert nearest("batchsize", names)[0] == "Batch_Size"
    assert sorted(nearest("x", names)) == sorted(names)
