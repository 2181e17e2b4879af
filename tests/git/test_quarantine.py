"""Hostile work is refused in quarantine, and nothing of it reaches the user's repository.

Each refusal has its control: git's own fetch would have taken the same objects.
"""

from __future__ import annotations

import hashlib

import pytest

from plandock.errors import HarvestRefused
from plandock.workspace.bundle import Limits
from tests.git.boxes import Box, take
from tests.git.worlds import World, untouched

FILE = "100644"


@pytest.fixture
def box(world):
    """A box on the world's only commit."""
    return Box(world)


def refused(world: World, box: Box, *, by_hand: bool = False, **options) -> str:
    """The reasons for which HEAD of the box is refused; the repository stays as it was."""
    if not by_hand:
        box.plain_fetch()
    answer = box.answer_by_hand() if by_hand else box.answer()
    objects = world.objects()
    with untouched(world.root), pytest.raises(HarvestRefused) as caught:
        take(world, box, answer, **options)
    assert world.objects() == objects
    assert world.git("for-each-ref", "refs/plandock") == ""
    assert not (world.folder / "run/quarantine/quarantine.git").exists()
    assert caught.value.exit_code == 23
    assert caught.value.reasons[0] in caught.value.message
    return "\n".join(caught.value.reasons)


def test_ordinary_work_passes(world, box):
    """Files, folders, inner links, odd but harmless names and executables are let in."""
    (box.root / "dir/link").symlink_to("../a.txt")
    (box.root / "loop").symlink_to("./dir/link")
    box.write("päth with \"quotes\" and 'more'.txt")
    box.write("tool", "#!/bin/sh\n").chmod(0o755)
    box.graft(("100644", b"latin-\xe9", box.blob("x")))
    box.git("reset", "-q", "--hard")
    head = box.commit({"new/deep/file": "x"})
    found = take(world, box, box.answer())
    assert (found.head, found.branch, found.commits) == (head, "feature/auto", 2)
    assert world.git("rev-parse", "feature/auto") == head
    assert found.flagged == ["tool"]


SPELLINGS = {
    "plain": b".git",
    "upper case": b".GIT",
    "mixed case": b".giT",
    "NTFS short name": b"git~1",
    "NTFS short name in capitals": b"GIT~1",
    "NTFS trailing dot": b".git.",
    "NTFS trailing space": b".git ",
    "NTFS stream": b".git::$INDEX_ALLOCATION",
    "HFS+ ignorable mark in the middle": ".g\u200cit".encode(),
    "HFS+ ignorable mark at the end": ".git\ufeff".encode(),
}


@pytest.mark.parametrize("name", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize("depth", [0, 2])
def test_a_git_folder_in_any_spelling_is_refused(world, box, name, depth):
    """A folder that some file system opens as .git would hold hooks and configuration."""
    tree = box.tree((FILE, "config", box.blob("[core]\n\tfsmonitor = evil\n")))
    tree = box.tree(("40000", name, tree))
    for _ in range(depth):
        tree = box.tree(("40000", "sub", tree))
    box.graft(("40000", "zone", tree))
    assert ".git" in refused(world, box)


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/etc", b"../../x"])
def test_names_that_are_paths_are_refused(world, box, name):
    """An entry named "..", "." or with a slash would be written elsewhere."""
    box.graft(("40000", "zone", box.tree((FILE, name, box.blob("x")))))
    # The empty one is the only one that git itself would not send.
    assert refused(world, box, by_hand=name == b"")


@pytest.mark.parametrize(
    "name",
    [b"a\\b", b"..\\x", b"a\nb", b"a\x1b[2Jb", b"\x7f", "c1\u009b2J".encode(), b"tab\there"],
)
def test_names_with_backslashes_or_control_characters_are_refused(world, box, name):
    """Such names are folders on Windows, or move the cursor of whoever lists them."""
    box.graft((FILE, name, box.blob("x")))
    why = refused(world, box)
    assert "a name holds a" in why
    # Spelled out, so that the reasons are safe to print.
    assert why.isprintable()


def test_a_name_longer_than_file_systems_take_is_refused(world, box):
    """A checkout of it would fail halfway."""
    box.graft((FILE, "x" * 256, box.blob("x")))
    assert "longer than file systems" in refused(world, box)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("evil", "/etc/passwd"),
        ("evil", "../outside"),
        ("dir/evil", "../../outside"),
        ("evil", "dir/../../outside"),
        ("dir/evil", "b.txt/../../x"),
        ("evil", ".git/hooks/post-checkout"),
        ("evil", "dir/../.GIT/config"),
        ("evil", "git~1/config"),
        ("evil", "C:/Windows"),
        ("evil", "..\\outside"),
        ("evil", "x" * 5000),
    ],
)
def test_links_out_of_the_tree_are_refused(world, box, path, target):
    """A tool that writes through such a link would write outside the repository or into .git."""
    link = ("120000", "evil", box.blob(target))
    box.graft(("40000", "dir", box.tree(link)) if "/" in path else link)
    assert "evil" in refused(world, box)


def test_a_folder_moved_up_is_judged_where_it_lands(world):
    """A link that was harmless two folders down leaves the tree when its folder is moved up."""
    world.write("x/y/z/f")
    (world.root / "x/y/z/up").symlink_to("../../../a.txt")
    world.commit()
    box = Box(world)
    box.graft(("40000", "z", box.git("rev-parse", "HEAD:x/y/z")))
    assert "leads out of the repository: z/up" in refused(world, box)


def test_links_that_the_user_has_already_are_not_judged_again(world):
    """The snapshot's own odd links stay: only what the box changes is looked at."""
    (world.root / "data").symlink_to("/srv/data")
    world.write("back\\slash")
    world.commit()
    box = Box(world)
    box.commit({"fine": "x"})
    assert take(world, box, box.answer()).commits == 1


def test_evil_in_the_middle_of_the_history_is_refused(world, box):
    """A later commit that removes it does not help: the objects would be in the repository."""
    start = box.git("rev-parse", "HEAD^{tree}")
    box.graft(("120000", "evil", box.blob("/etc/passwd")))
    box.adopt(start)
    assert "absolute: evil" in refused(world, box)


@pytest.mark.parametrize(
    "name", [".gitmodules", ".gitattributes", ".gitignore", ".mailmap", ".GitAttributes"]
)
def test_gits_own_files_as_links_are_refused(world, box, name):
    """Git would read its rules from wherever the link leads."""
    box.graft(("120000", name, box.blob("a.txt")))
    assert refused(world, box)


def test_a_link_and_a_folder_of_one_name_in_two_cases_are_refused(world, box):
    """CVE-2021-21300: where case is folded, the folder's files are written through the link."""
    inner = box.tree((FILE, "post-checkout", box.blob("evil")))
    box.graft(("120000", "A", box.blob("dir")), ("40000", "a", inner))
    assert "a link or submodule is one with A and a" in refused(world, box)


def test_files_of_one_name_in_two_cases_are_flagged(world, box):
    """Two plain files are harmless but one of them hides the other on macOS."""
    box.graft((FILE, "README", box.blob("1")), (FILE, "ReadMe", box.blob("2")))
    found = take(world, box, box.answer())
    assert {"README", "ReadMe"} <= set(found.flagged)
    assert any("one file on some systems" in x for x in found.notes)


def test_collisions_that_were_there_before_are_passed_over(world):
    """A user's tree with two such files can still be worked on."""
    world.commit("README", "ReadMe")
    box = Box(world)
    box.commit({"README": "changed"})
    assert take(world, box, box.answer()).flagged == []


def test_two_entries_of_the_same_name_are_refused(world, box):
    """Which of the two is meant depends on who reads."""
    box.adopt(box.tree((FILE, "x", box.blob("1")), (FILE, "x", box.blob("2"))))
    assert refused(world, box)


@pytest.mark.parametrize("mode", ["100666", "100777", "104755", "100664"])
def test_odd_modes_are_refused(world, box, mode):
    """Git knows five modes; another is made by hand."""
    box.graft((mode, "odd", box.blob("x")))
    assert "has the mode" in refused(world, box)


@pytest.mark.parametrize(
    "url",
    ["-u./payload", "ext::sh -c evil", "fd::7", "file:///etc", "/home/user/secret",
     "ssh://-oProxyCommand=evil/x", "user@-oProxyCommand=evil:x",
     "https://example.invalid/%0ahost=other"],
)  # fmt: skip
def test_dangerous_submodule_addresses_are_refused(world, box, url):
    """`git submodule update` would run them or read this machine."""
    text = f'[submodule "s"]\n\tpath = s\n\turl = {url}\n'
    box.graft((FILE, ".gitmodules", box.blob(text)))
    assert refused(world, box)


@pytest.mark.parametrize(
    "text",
    [
        '[submodule "../../x"]\n\tpath = s\n\turl = ../x.git\n',
        '[submodule "s"]\n\tpath = -s\n\turl = ../x.git\n',
        '[submodule "s"]\n\tpath = s\n\turl = ../x.git\n\tupdate = !evil\n',
        '[submodule "s"]\n\tpath = ../s\n\turl = ../x.git\n',
        "[submodule \n",
    ],
)
def test_dangerous_submodule_settings_are_refused(world, box, text):
    """A name that climbs, a path that is an option, a command, and what git cannot read."""
    box.graft((FILE, ".gitmodules", box.blob(text)))
    assert refused(world, box)


def test_an_ordinary_new_submodule_is_flagged(world, box):
    """It is let in, and the receipt says so."""
    text = '[submodule "s"]\n\tpath = s\n\turl = https://example.invalid/s.git\n'
    box.graft((FILE, ".gitmodules", box.blob(text)), ("160000", "s", "1" * 40))
    found = take(world, box, box.answer())
    assert {".gitmodules", "s"} <= set(found.flagged)


def test_an_address_that_the_user_has_already_may_stay(world):
    """A local address of the user's own is no reason to refuse a second, ordinary one."""
    old = '[submodule "mine"]\n\tpath = m\n\turl = /srv/mine.git\n'
    world.write(".gitmodules", old)
    world.commit()
    box = Box(world)
    new = '[submodule "s"]\n\tpath = s\n\turl = ../s.git\n'
    box.graft((FILE, ".gitmodules", box.blob(old + new)))
    assert take(world, box, box.answer()).flagged == [".gitmodules"]


@pytest.mark.parametrize("encoding", ["UTF-7", "ISO-2022-JP", "UTF-16", "x" * 100])
def test_commits_in_odd_encodings_are_refused(world, box, encoding):
    """A message in a stateful encoding shows otherwise than its bytes read."""
    raw = box.git("cat-file", "commit", "HEAD").encode()
    head, _, text = raw.partition(b"\n\n")
    made = head + b"\nencoding " + encoding.encode() + b"\n\n" + text + b"\n"
    box.git(
        "update-ref", "HEAD", box.git("hash-object", "-t", "commit", "-w", "--stdin", data=made)
    )
    assert "unusual encoding" in refused(world, box)


def test_a_signed_commit_in_latin_1_passes(world, box):
    """Signatures and old but plain encodings are ordinary."""
    raw = box.git("cat-file", "commit", box.commit({"x": "y"})).encode()
    head, _, text = raw.partition(b"\n\n")
    made = head + b"\nencoding ISO-8859-1\ngpgsig -----BEGIN\n x\n -----END\n\n" + text + b"\xe9\n"
    box.git(
        "update-ref", "HEAD", box.git("hash-object", "-t", "commit", "-w", "--stdin", data=made)
    )
    assert take(world, box, box.answer()).commits == 1


def test_a_commit_without_a_committer_is_refused(world, box):
    """Git's own fsck has its say about every new object."""
    tree = box.git("rev-parse", "HEAD^{tree}")
    raw = f"tree {tree}\nauthor A <a@b> 1 +0000\n\nx\n".encode()
    made = box.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", data=raw)
    box.git("update-ref", "HEAD", made)
    assert "missingCommitter" in refused(world, box)


def test_odd_objects_of_the_users_history_do_not_matter(world):
    """A bad commit that is there already does not keep new work from arriving."""
    tree = world.git("rev-parse", "HEAD^{tree}")
    raw = f"tree {tree}\nparent {world.head()}\nauthor A <a@b> 1 +0000\ncommitter  <> 1 +0000\n\nx"
    made = world.git(
        "hash-object", "-t", "commit", "-w", "--literally", "--stdin", data=raw.encode()
    )
    world.git("update-ref", "HEAD", made)
    box = Box(world)
    box.commit({"new": "x"})
    assert take(world, box, box.answer()).commits == 1


def test_a_tree_that_would_unpack_to_millions_of_files_is_refused(world, box):
    """Eleven objects that stand for ten thousand million files are counted, not listed."""
    tree = box.tree((FILE, "f", box.blob("x")))
    for _ in range(10):
        tree = box.tree(*[("40000", f"d{i}", tree) for i in range(10)])
    box.graft(("40000", "bomb", tree))
    assert "would unpack to 100000000" in refused(world, box)


def test_very_deep_folders_are_refused(world, box):
    """No path that deep can be opened."""
    tree = box.tree((FILE, "f", box.blob("x")))
    for _ in range(300):
        tree = box.tree(("40000", "d", tree))
    box.graft(("40000", "deep", tree))
    assert "deep" in refused(world, box)


def test_a_large_file_is_refused_before_git_unpacks_it(world, box):
    """A few kilobytes that claim to be megabytes never become megabytes in git's memory."""
    box.commit({"zeros": b"\0" * (2 << 20)})
    limits = Limits(object_bytes=1 << 20)
    assert "a file of 2097152 bytes" in refused(world, box, limits=limits)


def test_a_delta_that_unpacks_to_a_large_file_is_refused(world):
    """The size that a delta makes counts, not the delta's own."""
    world.write("large", b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256)) * 256)
    world.commit()
    box = Box(world)
    with (box.root / "large").open("ab") as file:
        file.write(b"one line more")
    box.commit()
    answer = box.answer()
    assert len(answer) < 100_000
    assert "a file of" in refused(world, box, limits=Limits(object_bytes=1 << 20))


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(objects=5), "objects, more than 5"),
        (Limits(commits=2), "more than 2 commits"),
        (Limits(bundle_bytes=500), "larger than 500 bytes"),
        (Limits(inflated_bytes=100), "unpacks to more than"),
        (Limits(changes=3), "more than 3 changed files"),
        (Limits(paths=2), "would unpack to"),
    ],
)
def test_each_limit_holds(world, box, limits, why):
    """More than a limit allows is refused, and the same work passes without it."""
    for i in range(4):
        box.commit({f"f{i}": f"{i}" * 100})
    assert why in refused(world, box, limits=limits)
    assert take(world, box, box.answer()).commits == 4


def test_missing_objects_are_refused(world, box):
    """Work whose files did not come along cannot be used."""
    gone = box.blob("x")
    box.graft((FILE, "gone", gone))
    objects = world.objects()
    with pytest.raises(HarvestRefused):
        take(world, box, box.answer_by_hand(less=(gone,)))
    assert world.objects() == objects
    assert take(world, box, box.answer()).commits == 1


@pytest.mark.parametrize("kind", ["tree", "blob", "tag"])
def test_a_head_that_is_no_commit_is_refused(world, box, kind):
    """A tree, a file or a tag in a commit's place is not followed."""
    head = box.commit({"x": "y"})
    box.git("tag", "-a", "-m", "t", "t")
    oid = box.git("rev-parse", {"tree": "HEAD^{tree}", "blob": "HEAD:x", "tag": "t"}[kind])
    real = box.answer_by_hand().partition(b"\n")[2]
    bundle = real.replace(head.encode(), oid.encode(), 1)
    with untouched(world.root), pytest.raises(HarvestRefused, match=f"{oid} is no commit"):
        take(world, box, box.wrap(bundle, head=oid))
    assert take(world, box, box.wrap(real)).head == head


def test_every_reason_is_told(world, box):
    """The message holds the first ones, the error all of them."""
    for i in range(5):
        box.graft(("120000", f"evil{i}", box.blob(f"/etc/{i}")))
    box.plain_fetch()
    with pytest.raises(HarvestRefused) as caught:
        take(world, box, box.answer())
    assert len(caught.value.reasons) == 5
    assert "and 2 more" in caught.value.message


def test_a_name_with_direction_marks_is_flagged(world, box):
    """A name that reads otherwise than it is comes in, with a word about it."""
    box.graft((FILE, "exe.\u202etxt.sh".encode(), box.blob("x")))
    found = take(world, box, box.answer())
    assert any("direction marks" in x for x in found.notes)
    assert "\u202e" not in "".join(found.flagged + found.notes)
