"""A bundle earns its place three times: golden tokens, a start, a confirmation."""

import os
import sys

import pytest
from update_store import changed_bundle, good_store, passes, put, wrong_golden

from merino_edge.errors import FormatError, MerinoError, ParityError, UnsupportedError, UsageError
from merino_edge.runtime.updates import durable, selftest, state, switch
from merino_edge.runtime.updates.selftest import run_self_test
from merino_edge.runtime.updates.store import SYSTEM_FOLDER, Store, default_folder


@pytest.fixture
def store(tmp_path, archives):
    """Version 1 is good in slot a, version 2 waits in slot b."""
    store = good_store(tmp_path / "store", archives["1"])
    put(store, archives["2"])
    return store


def fails(path):
    raise ParityError("token 3 is 4, it should be 5.")


def statuses(store):
    found = store.read_state()
    return {slot: known.status for slot, known in store.all_known(found).items()}


def test_activating_switches_and_puts_on_trial(store):
    done = switch.activate(store, passes)
    assert (done.active, done.status, done.left) == ("b", state.TRIAL, "a")
    assert os.path.realpath(store.current) == os.path.realpath(store.bundle("b"))
    assert statuses(store) == {"a": state.GOOD, "b": state.TRIAL}
    assert switch.activate(store, passes).did == "is active already"


def test_the_link_is_relative_so_that_a_store_may_be_mounted_elsewhere(store, tmp_path):
    os.rename(store.path, str(tmp_path / "elsewhere"))
    assert os.path.isfile(str(tmp_path / "elsewhere" / "current" / "manifest.json"))


def test_a_failed_self_test_switches_nothing_and_marks_the_slot(store):
    with pytest.raises(ParityError) as caught:
        switch.activate(store, fails)
    assert caught.value.exit_code == 5
    assert os.readlink(store.current) == "slots/a/bundle"
    assert statuses(store) == {"a": state.GOOD, "b": state.FAILED}
    with pytest.raises(UsageError, match="waits to be activated") as caught:
        switch.activate(store, passes)
    assert "--slot b" in caught.value.hint
    assert switch.activate(store, passes, "b").active == "b"


def test_a_slot_is_not_blamed_for_what_the_machine_lacks(store):
    def lacks(path):
        raise MerinoError("no memory")

    with pytest.raises(MerinoError):
        switch.activate(store, lacks)
    assert statuses(store)["b"] == state.INSTALLED


def test_a_damaged_slot_is_not_activated(store):
    path = os.path.join(store.bundle("b"), "weights.safetensors")
    with open(path, "r+b") as stream:
        stream.seek(-9, os.SEEK_END)
        stream.write(b"x")
    with pytest.raises(FormatError) as caught:
        switch.activate(store, passes)
    assert caught.value.exit_code == 8
    assert os.readlink(store.current) == "slots/a/bundle"


def test_three_starts_without_a_confirmation_go_back(store):
    switch.activate(store, passes)
    assert [switch.boot(store).starts for _ in range(3)] == [1, 2, 3]
    back = switch.boot(store)
    assert (back.active, back.left) == ("a", "b")
    assert "started 3 times" in store.known("b", store.read_state()).reason
    assert os.readlink(store.current) == "slots/a/bundle"
    assert switch.boot(store).did == "starts"  # and stays there


def test_a_confirmed_slot_starts_for_ever(store):
    switch.activate(store, passes, max_starts=1)
    switch.boot(store)
    assert switch.confirm(store).status == state.GOOD
    assert switch.confirm(store).did == "is not on trial"
    for _ in range(5):
        assert switch.boot(store).active == "b"


def test_the_first_bundle_of_all_has_nothing_to_go_back_to_and_starts_all_the_same(
    tmp_path, archives
):
    store = Store(str(tmp_path / "new"))
    put(store, archives["1"])
    switch.activate(store, passes, max_starts=1)
    switch.boot(store)
    done = switch.boot(store)
    assert done.active == "a"
    assert "no other slot to go back to" in done.did


def test_a_start_leaves_a_slot_whose_files_are_cut(store):
    switch.activate(store, passes)
    switch.confirm(store)
    os.truncate(os.path.join(store.bundle("b"), "decoder.onnx"), 7)
    assert switch.boot(store).active == "a"


def test_the_self_test_of_the_active_slot_goes_back_when_it_fails(store):
    switch.activate(store, passes)
    switch.confirm(store)
    assert switch.try_active(store, passes).did == "passed its self-test"
    with pytest.raises(ParityError) as caught:
        switch.try_active(store, fails)
    assert "slot b was left" in caught.value.note
    assert os.readlink(store.current) == "slots/a/bundle"


def test_rolling_back_by_hand_is_done_once(store):
    switch.activate(store, passes)
    assert switch.rollback(store).active == "a"
    assert switch.rollback(store).did == "is active; slot b was left"
    assert statuses(store) == {"a": state.GOOD, "b": state.FAILED}


def test_there_is_no_going_back_to_what_was_never_good(store):
    with pytest.raises(UsageError, match="slot b is installed, so there is nothing to go back to"):
        switch.rollback(store)


def test_what_is_known_of_a_slot_is_forgotten_with_its_archive(store, archives):
    with pytest.raises(ParityError):
        switch.activate(store, fails)
    put(store, archives["3"])
    assert statuses(store)["b"] == state.INSTALLED


def test_an_empty_store_says_what_to_do(tmp_path):
    store = Store(str(tmp_path / "none"))
    for act in (switch.boot, switch.confirm, switch.rollback):
        with pytest.raises(UsageError, match="no slot is active"):
            act(store)
    with pytest.raises(UsageError, match="waits to be activated"):
        switch.activate(store, passes)


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b'{"schema": "merino-edge.slots/1", "active": "c"}', b"\xff"]
)
def test_a_lost_state_is_read_from_the_link(store, content):
    switch.activate(store, passes)
    path = os.path.join(store.path, "state.json")
    if content is None:
        os.unlink(path)
    else:
        with open(path, "wb") as stream:
            stream.write(content)
    assert switch.boot(store).active == "b"
    assert statuses(store)["b"] == state.GOOD


def test_a_lost_link_is_made_again(store):
    os.unlink(store.current)
    switch.boot(store)
    assert os.readlink(store.current) == "slots/a/bundle"


def test_a_folder_in_place_of_the_link_is_never_replaced(store):
    os.unlink(store.current)
    os.mkdir(store.current)
    with pytest.raises(UsageError, match="is not the link of a store"):
        switch.boot(store)


def test_a_full_disk_does_not_keep_a_device_from_starting(store, monkeypatch):
    switch.activate(store, passes)

    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write_file", full)
    done = switch.boot(store)
    assert done.active == "b"
    assert "uncounted" in done.did


def test_the_store_is_where_the_variable_says_or_where_one_may_write(monkeypatch):
    assert default_folder({"MERINO_EDGE_STORE": "/x"}) == "/x"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert default_folder({"XDG_DATA_HOME": "/d"}) == "/d/merino-edge"
    monkeypatch.setattr(os, "access", lambda path, mode: True)
    assert default_folder({}) == SYSTEM_FOLDER


class TestSelfTest:
    """In a child process, so that whatever it does is an answer."""

    def test_golden_tokens_that_agree_are_counted(self, store):
        assert run_self_test(store.bundle("a"), "reference", quiet=True).n_tokens > 30

    def test_wrong_tokens_fail(self, tmp_path):
        folder = changed_bundle(tmp_path / "b", golden=wrong_golden())
        with pytest.raises(ParityError, match="self-test failed: token 3 of golden prompt"):
            run_self_test(folder, "reference", quiet=True)

    def test_a_bundle_without_golden_prompts_cannot_be_trusted(self, tmp_path):
        folder = changed_bundle(tmp_path / "b", golden=[])
        with pytest.raises(UnsupportedError, match="no golden prompts"):
            run_self_test(folder, "reference", quiet=True)

    def test_golden_prompts_that_no_model_can_take_have_failed(self, tmp_path):
        golden = [{"prompt": "x", "input_ids": [10**9], "output_ids": [1], "unclear": []}]
        folder = changed_bundle(tmp_path / "b", golden=golden)
        with pytest.raises(ParityError, match="outside the vocabulary"):
            run_self_test(folder, "reference", quiet=True)

    @pytest.mark.parametrize(
        ("code", "ending"), [("os.abort()", "signal 6"), ("raise ValueError", "exit code 1")]
    )
    def test_a_child_that_dies_has_failed(self, store, monkeypatch, code, ending):
        command = [sys.executable, "-c", "import os; " + code]
        monkeypatch.setattr(selftest, "_command", lambda *words: command)
        with pytest.raises(ParityError, match="did not end well: " + ending):
            run_self_test(store.bundle("a"), quiet=True)

    def test_what_takes_too_long_has_failed(self, store):
        with pytest.raises(ParityError, match=r"longer than 0 s"):
            run_self_test(store.bundle("a"), "reference", timeout_s=0.01, quiet=True)

    def test_code_that_lies_where_one_stands_is_not_run(self, store, tmp_path, monkeypatch):
        (tmp_path / "merino_edge").mkdir()
        (tmp_path / "merino_edge" / "__init__.py").write_text("raise SystemExit(3)")
        monkeypatch.chdir(tmp_path)
        assert run_self_test(store.bundle("a"), "reference", quiet=True).n_tokens
