"""Files as resources: how they are named."""

import json
import os
import random
import subprocess

import pytest

from conftest import PGLOCKCTL, ctl, need_programs

NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def programs():
    need_programs()


def make_root(directory, prefix):
    (directory / "src").mkdir(parents=True)
    (directory / "src/a.c").write_text("a\n")
    (directory / ".pglockd").write_text(f"[pglockd]\nprefix = {prefix}\n")
    return directory


@pytest.fixture
def shop(tmp_path):
    """A root with the prefix "shop", with src/a.c in it."""
    return make_root(tmp_path / "shop", "shop")


def path(*arguments, cwd=None, stdin=b"", **environment):
    """pglockctl path; the result has bytes."""
    return subprocess.run([PGLOCKCTL, "path", *map(os.fsencode, arguments)], input=stdin, cwd=cwd,
                          env=dict(os.environ, **environment), capture_output=True, timeout=60,
                          check=False)


def named(*arguments, **options):
    done = path(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().splitlines()


def refused(*arguments, status=64, **options):
    done = path(*arguments, **options)
    assert done.returncode == status and done.stdout == b"", done
    return done.stderr.decode()


# ---- one file, many spellings ----


def test_spellings_of_a_file_are_one_resource(shop):
    (shop / "dir").symlink_to("src")
    (shop / "file.c").symlink_to(shop / "dir/a.c")
    (shop.parent / "outside").symlink_to(shop / "src")
    spellings = ["src/a.c", "./src//a.c", "src/./../src/a.c", "dir/a.c", "file.c", shop / "src/a.c",
                 f"/{shop}/src/a.c", "../shop/src/a.c", "../outside/a.c", "dir/../src/a.c"]
    assert named(*spellings, cwd=shop) == ["shop/src/a.c"] * len(spellings)
    assert named("a.c", "../dir/a.c", cwd=shop / "src") == ["shop/src/a.c"] * 2


def test_names_that_do_not_exist_yet(shop):
    (shop / "later").symlink_to("src/new/file")
    assert named("src/new/file", "later", "src/new/../new/file", "src/none/../new/file",
                 cwd=shop) == ["shop/src/new/file"] * 4
    assert named("src/a.c/beneath", cwd=shop) == ["shop/src/a.c/beneath"]


def test_dots_behind_a_symlink_are_the_targets(shop, tmp_path):
    (tmp_path / "far/away").mkdir(parents=True)
    (shop / "link").symlink_to(tmp_path / "far/away")
    (tmp_path / "far/.pglockd").write_text("[pglockd]\nprefix = far\n")
    assert named("link/../x", "link/x", cwd=shop) == ["far/x", "far/away/x"]


def test_lexical_follows_nothing(shop):
    (shop / "link").symlink_to("src")
    assert named("--lexical", "link", "link/../x/./y", "src", cwd=shop) == [
        "shop/link", "shop/x/y", "shop/src"]


@pytest.mark.parametrize("file, says", [
    ("loop/x", "Too many levels"), ("", "a file has a name"), ("x" * 256, "File name too long")])
def test_files_that_cannot_be_resolved(shop, file, says):
    (shop / "loop").symlink_to("pool")
    (shop / "pool").symlink_to("loop")
    assert says in refused(file, cwd=shop)


def test_directories_are_trees(shop):
    (shop / "link").symlink_to("src")
    done = path("--json", "src", "link", "later/", "later", "src/a.c", cwd=shop)
    assert [(name["file"], name["resource"], name["scope"])
            for name in map(json.loads, done.stdout.splitlines())] == [
        ("src", "shop/src", "tree"), ("link", "shop/src", "tree"), ("later/", "shop/later", "tree"),
        ("later", "shop/later", "node"), ("src/a.c", "shop/src/a.c", "node")]


# ---- the root ----


def test_nearest_root_counts(shop):
    make_root(shop / "sub", "shop/lib")
    assert named("sub/src/a.c", "sub", "sub/new", "x", ".", cwd=shop) == [
        "shop/lib/src/a.c", "shop/lib", "shop/lib/new", "shop/x", "shop"]
    # Only a regular file is one.
    (shop / "src/.pglockd").mkdir()
    assert named("src/a.c", cwd=shop) == ["shop/src/a.c"]


def test_without_a_root_paths_are_absolute(tmp_path):
    assert named("x", cwd=tmp_path) == [f"{tmp_path}/x"[1:]]
    assert named("x", "--prefix", "host/one", cwd=tmp_path) == [f"host/one{tmp_path}/x"]
    assert "the root itself" in refused("/")


def test_root_that_is_named(shop, tmp_path):
    assert named("--root", "src", "src/a.c", cwd=shop) == ["a.c"]
    assert named("--root", shop, shop / "src/a.c", cwd=tmp_path) == ["shop/src/a.c"]
    assert named("src/a.c", cwd=shop, PGLOCKCTL_ROOT=str(tmp_path)) == ["shop/src/a.c"]
    assert named("--root=/", "--prefix=all", "/etc/x", cwd=shop) == ["all/etc/x"]
    assert "not beneath the root" in refused("--root", "src", "other.c", cwd=shop)
    assert "not beneath the root" in refused("--root", "src", "--lexical", "src/../x", cwd=shop)
    assert "not a directory" in refused("--root", "src/a.c", "x", cwd=shop)
    assert "not a directory" in refused("x", cwd=shop, PGLOCKCTL_ROOT="none", status=78)


def test_the_stronger_setting_counts(shop):
    (shop / ".pglockd").write_text("[pglockd]\nprefix = shop\ncase = fold\n")
    assert named("A", cwd=shop) == ["shop/a"]
    assert named("A", cwd=shop, PGLOCKCTL_CASE="keep", PGLOCKCTL_PREFIX="env") == ["env/A"]
    assert named("A", "--case=fold", "--prefix=opt", cwd=shop, PGLOCKCTL_CASE="keep",
                 PGLOCKCTL_PREFIX="env") == ["opt/a"]
    assert named("A", cwd=shop, PGLOCKCTL_CASE="") == ["shop/a"]


@pytest.mark.parametrize("text, says", [
    ("prefix = shop\n", "section"), ("[pglockd]\n", "prefix is missing"),
    ("[pglockd]\nprefix = a//b\n", ":2: prefix: a resource must not have an empty"),
    ("[pglockd]\nprefix = shop\ncase = upper\n", ":3: case: it is keep or fold"),
    ("[pglockd]\nprefix = shop\nunicode = nfd\n", "unicode: it is keep or nfc"),
    ("[pglockd]\nprefix = shop\nroot = /\n", ":3: root: there is no such key")])
def test_bad_settings_in_the_file(shop, text, says):
    (shop / ".pglockd").write_text(text)
    assert says in refused("x", cwd=shop, status=78)


def test_bad_settings_elsewhere(shop):
    assert "keep or fold" in refused("x", "--case", "none", cwd=shop)
    assert "PGLOCKCTL_UNICODE=none" in refused("x", cwd=shop, PGLOCKCTL_UNICODE="none", status=78)


def test_a_settings_file_that_anybody_may_have_left(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can make files of two users")
    public = make_root(tmp_path / "public", "public")
    public.chmod(0o1777)
    assert named("x", cwd=public) == ["public/x"]
    os.chown(public, 1000, 1000)
    assert named("x", cwd=public) == ["public/x"]  # root's
    os.chown(public / ".pglockd", 1001, 1001)
    assert named("x", cwd=public) == [f"{public}/x"[1:]]
    public.chmod(0o755)
    assert named("x", cwd=public) == ["public/x"]


# ---- letters and bytes ----

DECOMPOSED, COMPOSED = "cafe\u0301", "caf\u00e9"


def test_unicode_normalisation(shop):
    assert named(DECOMPOSED, COMPOSED, cwd=shop) == [f"shop/{COMPOSED}"] * 2
    assert named("--unicode=keep", DECOMPOSED, COMPOSED, cwd=shop) == [
        f"shop/{DECOMPOSED}", f"shop/{COMPOSED}"]


@pytest.mark.parametrize("spellings", [
    ["README", "readme", "ReadMe"], ["STRASSE", "stra\u00dfe", "Stra\u1e9ee"],
    [DECOMPOSED, COMPOSED.upper(), "CAFE\u0301"], ["\u03a3\u03c3\u03c2", "\u03c3\u03c3\u03c3"],
    ["so\u00adft", "SOFT"], ["\u1fb3\u0301", "\u1fb4", "\u0391\u0301\u0345"]])
def test_folding_case(shop, spellings):
    assert len(set(named("--case=fold", *spellings, cwd=shop))) == 1
    assert len(set(named(*spellings, cwd=shop))) > 1


def test_folding_leaves_a_name(shop):
    """Nothing is shown of these: they must not become an empty segment, or one of dots."""
    odd = ["\u00ad", ".\u00ad", ".\u200b."]
    assert named("--case=fold", *odd, cwd=shop) == [f"shop/{name}" for name in odd]


def test_bytes_that_a_resource_cannot_hold(shop):
    rows = {b"100%": "100%25", b"a\nb": "a%0Ab", b"\x7f": "%7F", "\u0085".encode(): "%C2%85",
            b"\xff\xc3": "%FF%C3", b"\xc3\xa9\xff": "\u00e9%FF", b"a b=\"'\\": "a b=\"'\\",
            b"%41": "%2541"}
    assert named(*rows, cwd=shop) == [f"shop/{name}" for name in rows.values()]
    # What is no UTF-8 is not normalised either.
    assert named(b"E\xcc\x81\xff", "--case=fold", cwd=shop) == ["shop/E\u0301%FF"]


def random_name(source):
    alphabet = [b"%", b"/", b"\n", b"\x01", b"\xff", b"\xc3", b"\xa9", b"e", b"\xcc\x81", b" ",
                b"\xe2\x80\xae", b"2", b"F", b"\xf0\x9f\x94\x92"]
    name = b"".join(source.choices(alphabet, k=source.randint(1, 20)))
    segments = [part for part in name.split(b"/") if part]
    return b"/".join(segments) or b"x"


def test_names_can_be_turned_back(shop):
    source = random.Random(6)
    names = [random_name(source) for _ in range(2000)]
    there = path("--unicode=keep", "--files0-from=-", cwd=shop, stdin=b"\0".join(names) + b"\0")
    assert there.returncode == 0, there.stderr
    resources = there.stdout.decode().splitlines()
    assert len(resources) == len(names)
    back = path("--reverse", "-0", "--", *resources, cwd=shop)
    assert back.stdout.split(b"\0")[:-1] == [os.fsencode(shop) + b"/" + name for name in names]


def test_turning_back(shop, tmp_path):
    assert named("-r", "shop/a%25", "shop", cwd=shop / "src") == [f"{shop}/a%", str(shop)]
    assert named("-r", "etc/hosts", "--root=/") == ["/etc/hosts"]
    for other in "shopper/a", "other/a", "shop/a%", "shop/%41", "shop/%2F", "shop/a//b", "":
        assert "is not the resource" in refused("--reverse", other, cwd=shop)


def test_names_that_do_not_fit(shop):
    deep = "/".join("d" * 31)
    assert named(deep, cwd=shop) == [f"shop/{deep}"]
    assert "has 33 segments, and a resource has at most 32" in refused(f"{deep}/x", cwd=shop)
    long = f"{'x' * 250}/{'y' * 250}/{'z' * 5}"
    assert len(named(long, cwd=shop)[0]) == 512
    assert "has 513 bytes, and a resource has at most 512" in refused(f"{long}z", cwd=shop)
    assert "has 518 bytes" in refused(f"{long}%%", cwd=shop)  # as it is escaped


# ---- the command ----


def test_files_from_a_list(shop, tmp_path):
    (tmp_path / "list").write_bytes(b"b\0src/a.c\0")
    assert named("c", "--files0-from", tmp_path / "list", cwd=shop) == [
        "shop/c", "shop/b", "shop/src/a.c"]
    assert named("--files0-from=-", cwd=shop, stdin=b"no end") == ["shop/no end"]
    assert named("--files0-from=-", cwd=shop) == []
    assert "cannot open" in refused("--files0-from=none", cwd=shop)
    assert "a file has a name" in refused("--files0-from=-", cwd=shop, stdin=b"a\0\0")


def test_words_of_path_are_files_whatever_they_are(shop):
    assert named("a=b", "ttl=30s", "--", "--help", "-r", cwd=shop) == [
        "shop/a=b", "shop/ttl=30s", "shop/--help", "shop/-r"]


def test_nothing_is_printed_unless_all_can_be_named(shop):
    assert refused("a", "x" * 256, "b", cwd=shop)


@pytest.mark.parametrize("words", [
    ["path"], ["path", "-r", "--json", "a"], ["lock", "--prefix", "p", "a"],
    ["info", "--lexical", "a"], ["unlock", "--root", "/", "a", "token=1"], ["ls", "--files"],
    ["lock", "--files", "ttl=1s"], ["info", "--others"], ["info", "--others", "a//b"]])
def test_usage(words):
    done = ctl(NOWHERE, *words)
    assert done.returncode == 64 and done.stdout == "" and done.stderr
