"""The git hooks of contrib/git, in real repositories with a real daemon."""

import os
import subprocess
from pathlib import Path

import pytest

from conftest import PGLOCKCTL, ctl, need_programs, need_tool

HOOK = Path(os.environ["SRCDIR"]) / "contrib/git/pglockd-hook"
# Names that break scripts that split, expand or print what they read.
ODD = ["a b", "*", "$(touch hacked)", "-n", "new\nline", "quote\"'", "\u00e4/%41", os.fsdecode(b"\xff\xfe"),
       "ttl=1s"]


@pytest.fixture
def prefix(request):
    return "git/" + request.node.name.replace("[", "-").replace("]", "")


class Repository:
    """A repository with the hook; what git is told runs with the daemon's address set in it."""

    def __init__(self, path, daemon, *init):
        self.path, self.daemon = path, daemon
        self.environment = {key: value for key, value in os.environ.items()
                            if not key.startswith(("GIT_", "PGLOCK"))}
        self.environment.update(
            HOME=str(path), GIT_CONFIG_NOSYSTEM="1", GIT_AUTHOR_NAME="a", GIT_AUTHOR_EMAIL="a@b",
            GIT_COMMITTER_NAME="a", GIT_COMMITTER_EMAIL="a@b",
            PATH=f"{Path(PGLOCKCTL).parent}:{os.environ['PATH']}")
        path.mkdir()
        self.git("init", "-q", "-b", "main", *init)
        self.git("config", "pglockd.connect", daemon.address)

    def run(self, *command, **options):
        return subprocess.run(list(command), cwd=self.path, env=self.environment, text=True,
                              stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                              check=False, **options)

    def git(self, *arguments):
        done = self.run("git", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, *hooks):
        directory = self.path / self.git("rev-parse", "--git-path", "hooks").strip()
        directory.mkdir(exist_ok=True)
        for hook in hooks:
            (directory / hook).symlink_to(HOOK)

    def write(self, *names):
        for name in names:
            path = os.path.join(os.fsencode(self.path), os.fsencode(name))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "ab") as file:
                file.write(os.fsencode(name) + b"\n")
        self.git("add", "-A")

    def commit(self, *names):
        """Changes the files and commits them; the result of the commit."""
        self.write(*names)
        return self.run("git", "commit", "-q", "-m", "change")


@pytest.fixture
def repository(daemon, tmp_path, prefix):
    """With a first commit, in which .pglockd is."""
    need_programs()
    need_tool("git")
    one = Repository(tmp_path / "work", daemon)
    (one.path / ".pglockd").write_text(f"[pglockd]\nprefix = {prefix}\n")
    one.write("a", "b", "src/c")
    one.git("commit", "-q", "-m", "first")
    return one


@pytest.fixture
def server(repository, daemon, tmp_path):
    """A bare repository to which the other one has been pushed."""
    one = Repository(tmp_path / "server", daemon, "--bare")
    repository.git("remote", "add", "origin", str(one.path))
    repository.git("push", "-q", "-u", "origin", "main")
    return one


def hold(repository, *files, owner="agent-7"):
    done = ctl(repository.daemon.address, "lock", "--files", f"owner={owner}", "note=refactor", "ttl=10m", "--",
               *files, cwd=repository.path)
    assert done.returncode == 0, done.stderr


def is_refused(done, *names):
    assert done.returncode != 0, done.stdout
    assert "others hold the above" in done.stderr and "agent-7" in done.stderr
    assert "refactor" in done.stderr
    for name in names:
        assert name in done.stderr
    return True


# ---- pre-commit ----


def test_commit(repository, prefix):
    repository.install("pre-commit")
    hold(repository, "a")
    assert is_refused(repository.commit("a", "b"), f"{prefix}/a")
    repository.git("reset", "-q", "--hard")
    assert repository.commit("b", "new").returncode == 0
    # Beside the index nothing counts.
    (repository.path / "a").write_text("later\n")
    assert repository.run("git", "commit", "-q", "--allow-empty", "-m", "b").returncode == 0
    assert repository.run("git", "commit", "-q", "-a", "--no-verify", "-m", "a").returncode == 0


@pytest.mark.parametrize("change", [["rm", "-q", "a"], ["mv", "a", "elsewhere"],
                                    ["mv", "-f", "b", "a"]])
def test_commit_that_removes_or_replaces(repository, change):
    repository.install("pre-commit")
    hold(repository, "a")
    repository.git(*change)
    assert is_refused(repository.run("git", "commit", "-q", "-m", "gone"))


def test_own_locks_do_not_refuse(repository):
    repository.install("pre-commit")
    hold(repository, "a")
    repository.git("config", "pglockd.name", "agent-7")
    assert repository.commit("a").returncode == 0
    repository.git("config", "pglockd.name", "agent-8")
    assert is_refused(repository.commit("a"))
    repository.git("reset", "-q", "--hard")
    # Under pglockctl run, whatever the name.
    repository.write("b")
    done = repository.run(PGLOCKCTL, "--connect", repository.daemon.address, "run", "--owner", "job",
                          "--files", "b", "--", "git", "commit", "-q", "-m", "b")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ODD)
def test_odd_names(repository, name):
    repository.install("pre-commit")
    assert repository.commit(name).returncode == 0
    hold(repository, name)
    assert is_refused(repository.commit(name))
    assert not (repository.path / "hacked").exists()


def test_first_commit(daemon, tmp_path, prefix):
    need_tool("git")
    one = Repository(tmp_path / "new", daemon)
    one.install("pre-commit")
    (one.path / ".pglockd").write_text(f"[pglockd]\nprefix = {prefix}\n")
    hold(one, "a")
    assert is_refused(one.commit("a"))
    one.git("rm", "-q", "--cached", "a")
    assert one.run("git", "commit", "-q", "-m", "first").returncode == 0


def test_spellings_and_nested_roots(repository, prefix):
    repository.install("pre-commit")
    (repository.path / "sub").mkdir()
    (repository.path / "sub/.pglockd").write_text(
        f"[pglockd]\nprefix = {prefix}/sub\ncase = fold\n")
    assert repository.commit("sub/File").returncode == 0
    hold(repository, "sub/FILE")
    assert is_refused(repository.commit("sub/File"), f"{prefix}/sub/file")


def test_a_symlink_is_committed_as_itself(repository, prefix):
    """git changes the link; who locks by its name means what it points to."""
    repository.install("pre-commit")
    (repository.path / "link").symlink_to("a")
    hold(repository, "link")
    repository.git("add", "link")
    assert repository.run("git", "commit", "-q", "-m", "link").returncode == 0
    assert is_refused(repository.commit("link"), f"{prefix}/a")


def test_commit_from_a_directory_and_a_worktree(repository, tmp_path):
    repository.install("pre-commit")
    hold(repository, "src/c")
    repository.write("src/c")
    done = repository.run("git", "-C", "src", "commit", "-q", "-m", "c")
    assert is_refused(done)
    repository.git("reset", "-q", "--hard")
    repository.git("worktree", "add", "-q", str(tmp_path / "second"))
    (tmp_path / "second/src/c").write_text("other\n")
    done = repository.run("git", "-C", str(tmp_path / "second"), "commit", "-q", "-a", "-m", "c")
    assert is_refused(done)


def test_service_that_cannot_be_asked(repository):
    repository.install("pre-commit")
    repository.git("config", "pglockd.connect", "127.0.0.1:1")
    away = repository.commit("a")
    assert away.returncode != 0 and "pglockd.unreachable allow" in away.stderr
    repository.git("config", "pglockd.unreachable", "allow")
    allowed = repository.commit("a")
    assert allowed.returncode == 0 and "nothing was checked" in allowed.stderr


def test_bad_settings_refuse(repository):
    repository.install("pre-commit")
    (repository.path / ".pglockd").write_text("[pglockd]\ncolour = red\n")
    done = repository.commit("a")
    assert done.returncode != 0 and "colour" in done.stderr and "the check failed" in done.stderr


def test_hook_of_another_name(repository):
    done = repository.run(str(HOOK), "frobnicate")
    assert done.returncode == 1 and "no hook 'frobnicate'" in done.stderr
    repository.write("a")
    assert repository.run(str(HOOK), "pre-commit").returncode == 0


# ---- pre-push ----


def test_push(repository, server, prefix):
    repository.install("pre-push")
    assert repository.commit("a").returncode == 0
    hold(repository, "a", "b")
    assert is_refused(repository.run("git", "push", "-q"), f"{prefix}/a")
    repository.git("config", "pglockd.name", "agent-7")
    repository.git("push", "-q")
    repository.git("config", "--unset", "pglockd.name")
    assert repository.commit("src/c").returncode == 0
    repository.git("push", "-q")


def test_push_of_a_new_branch(repository, server):
    """It is compared with what the remote has, not with nothing."""
    repository.install("pre-push")
    hold(repository, "a")
    repository.git("checkout", "-q", "-b", "topic")
    assert repository.commit("b").returncode == 0
    repository.git("push", "-q", "origin", "topic")
    repository.git("checkout", "-q", "-b", "second")
    assert repository.commit("a").returncode == 0
    assert is_refused(repository.run("git", "push", "-q", "origin", "main", "second"))
    repository.git("push", "-q", "origin", "--delete", "topic")
    repository.git("tag", "mark")
    repository.git("push", "-q", "origin", "mark")


def test_push_over_what_is_not_known_here(repository, server, tmp_path):
    other = Repository(tmp_path / "other", repository.daemon)
    other.git("pull", "-q", str(server.path), "main")
    other.commit("b")
    other.git("push", "-q", str(server.path), "main")
    repository.install("pre-push")
    hold(repository, "a")
    assert repository.commit("a").returncode == 0
    assert is_refused(repository.run("git", "push", "-q", "--force"))


# ---- update ----


def test_update(repository, server, prefix):
    server.install("update")
    hold(repository, "a")
    assert repository.commit("a", "b").returncode == 0
    done = repository.run("git", "push", "-q")
    assert is_refused(done, f"{prefix}/a") and "remote:" in done.stderr
    assert server.git("log", "--format=%s", "main") == "first\n"
    repository.git("reset", "-q", "--hard", "HEAD^")
    assert repository.commit("b").returncode == 0
    repository.git("push", "-q")


def test_update_knows_who_pushes(repository, server):
    server.install("update")
    hold(repository, "a")
    server.git("config", "pglockd.name", "agent-7")  # would make everybody agent-7
    assert repository.commit("a").returncode == 0
    assert is_refused(repository.run("git", "push", "-q"))
    repository.environment["GL_USER"] = "agent-7"
    repository.git("push", "-q")


@pytest.mark.parametrize("name", ODD)
def test_update_with_odd_names(repository, server, name):
    server.install("update")
    hold(repository, name)
    assert repository.commit(name).returncode == 0
    assert is_refused(repository.run("git", "push", "-q"))


def test_update_is_not_decided_by_what_is_pushed(repository, server, prefix):
    """Other settings in the push would give its files names that nobody holds."""
    server.install("update")
    hold(repository, "a", ".pglockd")
    (repository.path / ".pglockd").write_text("[pglockd]\nprefix = other\n")
    assert repository.commit("a").returncode == 0
    assert is_refused(repository.run("git", "push", "-q"), f"{prefix}/a", f"{prefix}/.pglockd")


def test_update_with_nested_roots(repository, server, prefix):
    (repository.path / "sub").mkdir()
    (repository.path / "sub/.pglockd").write_text(f"[pglockd]\nprefix = {prefix}/deep\n")
    assert repository.commit("sub/x").returncode == 0
    repository.git("push", "-q")
    server.install("update")
    hold(repository, "sub/x")
    assert repository.commit("sub/x").returncode == 0
    assert is_refused(repository.run("git", "push", "-q"), f"{prefix}/deep/x")


def test_update_of_an_empty_repository(repository, daemon, tmp_path):
    empty = Repository(tmp_path / "empty", daemon, "--bare")
    empty.install("update")
    repository.git("push", "-q", str(empty.path), "main")
    assert repository.commit("b").returncode == 0
    repository.git("push", "-q", str(empty.path), "main")


def test_update_without_settings(repository, server):
    repository.git("rm", "-q", ".pglockd")
    repository.git("commit", "-q", "-m", "none")
    repository.git("push", "-q")
    server.install("update")
    assert repository.commit("a").returncode == 0
    done = repository.run("git", "push", "-q")
    assert done.returncode != 0 and "HEAD has no .pglockd" in done.stderr


def test_merge_brings_what_the_branch_changed(repository, server):
    """The push of a merge changes the branch by all that was merged."""
    server.install("update")
    repository.git("checkout", "-q", "-b", "topic")
    assert repository.commit("a").returncode == 0
    repository.git("push", "-q", "origin", "topic")
    hold(repository, "a")
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merge", "topic")
    assert is_refused(repository.run("git", "push", "-q"))
