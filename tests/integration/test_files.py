"""Files as resources: how they are named, locking by file, and what others hold of them."""

import json
import os
import random
import subprocess

import pytest

from conftest import PGLOCKCTL, ctl, need_programs
from fake_daemon import FakeDaemon
from lines import SECONDS, Lines, eventually

NOWHERE = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def programs():
    need_programs()


@pytest.fixture
def fake():
    with FakeDaemon() as one:
        yield one


def make_root(directory, prefix):
    (directory / "src").mkdir(parents=True)
    (directory / "src/a.c").write_text("a\n")
    (directory / ".pglockd").write_text(f"[pglockd]\nprefix = {prefix}\n")
    return directory


@pytest.fixture
def shop(tmp_path):
    """A root with the prefix "shop", with src/a.c in it."""
    return make_root(tmp_path / "shop", "shop")


@pytest.fixture
def prefix(request):
    """A prefix of this test alone, for those that share a daemon."""
    return "files/" + request.node.name.replace("[", "-").replace("]", "")


@pytest.fixture
def root(tmp_path, prefix):
    return make_root(tmp_path / "root", prefix)


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


# ---- locking ----


def test_lock_by_file(daemon, root, prefix):
    (root / "link").symlink_to("src")
    token = ctl(daemon.address, "lock", "--files", "src/a.c", "ttl=1m", cwd=root).stdout.strip()
    assert int(token) > 0
    busy = ctl(daemon.address, "lock", "--files", "link/a.c", cwd=root)
    assert busy.returncode == 75 and f"{prefix}/src/a.c" in busy.stderr
    shown = ctl(daemon.address, "info", "--files", "a.c", cwd=root / "src").stdout
    assert shown.startswith(f"{prefix}/src/a.c\n")
    for command in "check", "renew", "unlock":
        done = ctl(daemon.address, command, "--files", root / "link/a.c", f"token={token}")
        assert done.returncode == 0, (command, done.stderr)
    assert "free" in ctl(daemon.address, "info", f"{prefix}/src/a.c").stdout


def test_files_that_look_like_words(daemon, root, prefix):
    token = ctl(daemon.address, "lock", "--files", "--", "ttl=1s", cwd=root).stdout.strip()
    assert f'{prefix}/ttl=1s' in ctl(daemon.address, "ls", f"prefix={prefix}").stdout
    assert ctl(daemon.address, "unlock", "--files", f"token={token}", "./ttl=1s",
               cwd=root).returncode == 0


def held_beneath(daemon, prefix):
    with Lines(daemon.line) as client:
        return sorted(lock["resource"] for lock in client.ask_ok(f"LIST prefix={prefix}")["locks"])


def test_several_files_or_none(daemon, root, prefix):
    done = ctl(daemon.address, "lock", "--files", "b", "src/a.c", "./b", cwd=root)
    assert done.returncode == 0, done.stderr
    locks = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [name for _, name in locks] == [f"{prefix}/b", f"{prefix}/src/a.c"]
    busy = ctl(daemon.address, "lock", "--files", "a", "b", "c", cwd=root)
    assert busy.returncode == 75 and f"{prefix}/b" in busy.stderr and busy.stdout == ""
    assert held_beneath(daemon, prefix) == [f"{prefix}/b", f"{prefix}/src/a.c"]
    for token, name in locks:
        assert ctl(daemon.address, "unlock", name, f"token={token}").returncode == 0


def locked(fake):
    """Arguments and keys of the LOCKs that were asked for, without the id."""
    return [(args, {key: value for key, value in keys.items() if key != "id"})
            for verb, args, keys in fake.requests if verb == "LOCK"]


def test_a_set_is_one_request(fake, shop):
    for name in "b", "docs", "src/sub":
        (shop / name).mkdir()
    done = ctl(fake.address, "lock", "--files", "z", "docs", "a", "b", "ttl=1m", "src/sub/x", "src",
               "src/a.c", "./a", cwd=shop)
    assert done.returncode == 0, done.stderr
    assert locked(fake) == [(["shop/a", "shop/z"], {
        "ttl": "1m", "exclusive-tree": ["shop/b", "shop/docs", "shop/src"]})]
    assert [line.split()[1] for line in done.stdout.splitlines()] == [
        "shop/a", "shop/z", "shop/b", "shop/docs", "shop/src"]


@pytest.mark.parametrize("files, arguments, keys", [
    (["src"], ["shop/src"], {"scope": "tree", "mode": "shared"}),
    (["src", "docs/"], ["shop/docs", "shop/src"], {"scope": "tree", "mode": "shared"}),
    (["src", "a"], ["shop/a"], {"mode": "shared", "shared-tree": ["shop/src"]})])
def test_shared_sets(fake, shop, files, arguments, keys):
    assert ctl(fake.address, "lock", "--files", "mode=shared", *files, cwd=shop).returncode == 0
    assert ctl(fake.address, "run", "-s", "--files", *files, "--ttl", "30s", "--", "true",
               cwd=shop).returncode == 0
    assert locked(fake) == [(arguments, keys),
                            (arguments, dict(keys, ttl="30000ms", wait="inf"))]


def test_quotes_in_the_name_of_a_directory(fake, shop):
    (shop / 'say "hi"').mkdir()
    assert ctl(fake.address, "lock", "--files", 'say "hi"', "a", cwd=shop).returncode == 0
    assert locked(fake) == [(["shop/a"], {"exclusive-tree": ['shop/say "hi"']})]


# ---- run ----


def test_run_by_file(daemon, root, prefix):
    done = ctl(daemon.address, "run", "--files", "src/a.c", "src/./a.c", "b", "--", "sh", "-c",
               'echo "$PGLOCK_TOKENS"', cwd=root)
    assert done.returncode == 0, done.stderr
    tokens = json.loads(done.stdout)
    assert sorted(tokens) == [f"{prefix}/b", f"{prefix}/src/a.c"]
    assert all(isinstance(token, int) for token in tokens.values())
    assert held_beneath(daemon, prefix) == []


def test_run_with_several_resources(daemon, prefix):
    names = [f"{prefix}/b", f"{prefix}/a"]
    script = 'echo "$PGLOCK_RESOURCE $PGLOCK_TOKEN $PGLOCK_TOKENS"'
    done = ctl(daemon.address, "run", *names, "--", "sh", "-c", script)
    first, token, tokens = done.stdout.split(" ", 2)
    assert list(json.loads(tokens)) == names
    assert first == names[0] and json.loads(tokens)[first] == int(token)


def test_run_tree(fake, shop):
    assert ctl(fake.address, "run", "--tree", "a", "b", "--", "true").returncode == 0
    assert ctl(fake.address, "run", "--tree", "--files", "c/d", "c", "--", "true",
               cwd=shop).returncode == 0
    assert [(args, keys["scope"]) for args, keys in locked(fake)] == [
        (["a", "b"], "tree"), (["shop/c"], "tree")]


@pytest.fixture
def start():
    started = []

    def run(address, *arguments, stdin=subprocess.DEVNULL):
        started.append(subprocess.Popen([PGLOCKCTL, "--connect", address, "run", *arguments],
                                        stdin=stdin, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, start_new_session=True))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()
        for stream in process.stdout, process.stderr:
            stream.close()


def test_one_lost_lock_ends_the_command(fake, start):
    process = start(fake.address, "--ttl", "6s", "a", "b", "c", "--", "sh", "-c",
                    "echo up; exec sleep 600")
    assert process.stdout.readline() == "up\n"
    fake.forced.add(fake.find("b", fake.token - 1).token)
    assert process.wait(SECONDS) == 76
    assert "the lock on b no longer holds: it was lost (forced)" in process.stderr.read()
    assert not fake.holders("a") and not fake.holders("c")


def test_all_locks_are_renewed(fake, start):
    process = start(fake.address, "--ttl", "6s", "a", "b", "--", "sh", "-c", "echo up; exec cat",
                    stdin=subprocess.PIPE)
    assert process.stdout.readline() == "up\n"
    first = {name: fake.holders(name)[0].expires for name in "ab"}
    eventually(lambda: all(fake.holders(name)[0].expires > first[name] for name in "ab"))
    process.stdin.close()
    assert process.wait(SECONDS) == 0


def test_frozen_daemon_ends_the_command_under_several(fake, start):
    process = start(fake.address, "--ttl", "6s", "a", "b", "--", "sh", "-c",
                    "echo up; exec sleep 600")
    assert process.stdout.readline() == "up\n"
    fake.silent = True
    assert process.wait(SECONDS) == 76
    assert "could not be renewed in time" in process.stderr.read()


def test_guard_releases_all_locks(fake, start):
    process = start(fake.address, "--ttl", "6s", "a", "b", "--", "sh", "-c", "echo up; exec sleep 60")
    assert process.stdout.readline() == "up\n"
    process.kill()
    eventually(lambda: fake.count("UNLOCK") == 2, what="the guard has released both")
    eventually(lambda: not fake.holders("a") and not fake.holders("b"))


def test_tree_over_files(daemon, root):
    """A directory keeps out who locks a file in it, and the other way round."""
    held = ctl(daemon.address, "run", "--files", "src", "--", PGLOCKCTL, "lock", "--files",
               "src/a.c", cwd=root)
    assert held.returncode == 75, held.stderr
    other = ctl(daemon.address, "run", "--files", "src/a.c", "new", "--", PGLOCKCTL, "lock",
                "--files", "src/", "other", cwd=root)
    assert other.returncode == 75, other.stderr


def test_locks_of_one_request_end_together(daemon, root, prefix):
    done = ctl(daemon.address, "lock", "--files", "a", "src", "b", "id=job-6", cwd=root)
    assert done.returncode == 0, done.stderr
    assert held_beneath(daemon, prefix) == [f"{prefix}/{name}" for name in ("a", "b", "src")]
    assert ctl(daemon.address, "renew", "id=job-6", "ttl=1m").returncode == 0
    assert ctl(daemon.address, "unlock", "id=job-6").returncode == 0
    assert held_beneath(daemon, prefix) == []


# ---- what others hold ----


def test_others(daemon, root, prefix):
    def others(*words, **more):
        return ctl(daemon.address, "info", "--others", *words, cwd=root, **more)

    assert others("--files", "src/a.c").returncode == 0
    assert others("--files", "src/a.c").stdout == ""
    ctl(daemon.address, "lock", "--files", "src/a.c", "note=refactor", "ttl=10m", "--name", "agent-7", cwd=root)
    assert others("--files", "src/a.c", "--name", "agent-7").returncode == 0
    seen = others("--files", "other", "src/a.c", "x" * 250)
    assert seen.returncode == 75
    assert [line.split()[:2] for line in seen.stdout.splitlines()[1:]] == [
        [f"{prefix}/src/a.c", "agent-7"]]
    assert "refactor" in seen.stdout
    assert others("-E", "3", f"{prefix}/src/a.c").returncode == 3
    assert others("--files", "src/a", "src/a.cc", "src/a.c/x").returncode == 0
    assert others("--files", "src").returncode == others("--files", ".").returncode == 75
    assert others(f"{prefix}/src").returncode == 0  # a resource is not all that is beneath it
    assert json.loads(others("--json", "--files", "src/a.c").stdout.splitlines()[0])["resources"]


def test_shared_locks_of_two(daemon, root):
    for name in "one", "two":
        ctl(daemon.address, "lock", "--files", "a", "mode=shared", "--name", name, cwd=root)
    seen = ctl(daemon.address, "info", "--others", "--files", "a", "--name", "one", cwd=root)
    assert seen.returncode == 75
    assert [line.split()[1] for line in seen.stdout.splitlines()[1:]] == ["two"]


@pytest.mark.parametrize("mode, status", [([], 0), (["-s"], 75)])
def test_the_token_of_an_exclusive_lock_makes_it_ours(daemon, root, mode, status):
    """Whatever name it was taken under; a shared lock could be somebody else's as well."""
    done = ctl(daemon.address, "run", *mode, "--owner", "job", "--files", "a", "b", "--", PGLOCKCTL,
               "info", "--others", "--files", "a", cwd=root)
    assert done.returncode == status, done.stderr


def test_a_token_that_was_lost_makes_nothing_ours(daemon, root, prefix):
    stale = ctl(daemon.address, "lock", f"{prefix}/a").stdout.strip()
    ctl(daemon.address, "unlock", f"{prefix}/a", f"token={stale}")
    ctl(daemon.address, "lock", f"{prefix}/a", "owner=other")
    done = subprocess.run([PGLOCKCTL, "info", "--others", "--files", "a"], cwd=root, check=False,
                          env=dict(os.environ, PGLOCKCTL_CONNECT=daemon.address,
                                   PGLOCK_TOKENS=json.dumps({f"{prefix}/a": int(stale)})),
                          capture_output=True, timeout=60)
    assert done.returncode == 75, done.stderr


def test_name_from_the_environment(daemon, root):
    environment = dict(os.environ, PGLOCKCTL_CONNECT=daemon.address, PGLOCKCTL_NAME="agent-9")

    def run(*words):
        return subprocess.run([PGLOCKCTL, *words], env=environment, cwd=root, check=False,
                              capture_output=True, text=True, timeout=60)

    assert run("lock", "--files", "a").returncode == 0
    assert "agent-9" in run("info", "--files", "a").stdout
    assert run("info", "--others", "--files", "a").returncode == 0
    assert run("info", "--others", "--files", "a", "--name", "x").returncode == 75


def test_trees_above(fake, shop):
    ctl(fake.address, "lock", "--files", "src/", "owner=other", cwd=shop)
    ctl(fake.address, "lock", "shop", "owner=another")  # not with what is beneath it
    seen = ctl(fake.address, "info", "--others", "--files", "src/deep/x", "y", cwd=shop)
    assert seen.returncode == 75
    assert [line.split()[:4] for line in seen.stdout.splitlines()[1:]] == [
        ["shop/src", "other", "exclusive", "tree"]]
    # What is too long for a resource is held by nobody, but by trees.
    deep = "/".join("d" * 40)
    assert ctl(fake.address, "info", "--others", "--files", deep, cwd=shop).returncode == 0
    assert ctl(fake.address, "info", "--others", "--files", f"src/{deep}",
               cwd=shop).returncode == 75


def test_a_tree_of_others_is_shown_once(daemon, root, prefix):
    ctl(daemon.address, "lock", "--files", "src/", "owner=other", cwd=root)
    seen = ctl(daemon.address, "info", "--others", "--files", "src/a.c", "src/b/c", "src", "y",
               cwd=root)
    assert seen.returncode == 75
    assert [line.split()[:4] for line in seen.stdout.splitlines()[1:]] == [
        [f"{prefix}/src", "other", "exclusive", "tree"]]
    done = ctl(daemon.address, "run", "--owner", "job", "--files", "x/", "--", PGLOCKCTL, "info",
               "--others", "--files", "x/a", "x/b", cwd=root)
    assert done.returncode == 0, done.stdout


def test_others_of_many_files(daemon, root, prefix):
    files = "".join(f"d{n % 7}/f{n}\0" for n in range(1000))
    ctl(daemon.address, "lock", f"{prefix}/d5/f999", "owner=other")
    ctl(daemon.address, "lock", f"{prefix}/d0/f0", "owner=other")
    seen = ctl(daemon.address, "info", "--others", "--files0-from=-", cwd=root, input=files)
    assert seen.returncode == 75
    assert sorted(line.split()[0] for line in seen.stdout.splitlines()[1:]) == [
        f"{prefix}/d0/f0", f"{prefix}/d5/f999"]


def test_others_that_cannot_be_asked(shop):
    assert ctl(NOWHERE, "info", "--others", "--files", "a", cwd=shop).returncode == 69
    assert ctl(NOWHERE, "info", "--others", "--files0-from=-", cwd=shop, input="").returncode == 0
