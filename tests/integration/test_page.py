"""The status page in a browser, on a daemon with real locks.

PGLOCKD_SCREENSHOTS=DIR keeps a picture of what each test saw at its end.
"""

import os
import re
import signal

import pytest

from browser import Browser
from conftest import need_tool
from lines import Lines, eventually

pytestmark = pytest.mark.xdist_group("browser")

HOSTILE = '<img src=x onerror="document.title=1"><b>bold</b></td><script>document.title=2</script>'


@pytest.fixture(scope="module")
def chromium():
    browser = Browser(need_tool("chromium", "chromium-browser"))
    yield browser
    browser.close()


@pytest.fixture
def page(chromium, daemon, request):
    """A function that opens the page of a daemon; the browser has nothing to complain about."""
    chromium.open("about:blank")  # what is shown still may have lost its daemon
    chromium.events.clear()
    chromium.size(1280, 900)
    chromium.prefer("light")

    def open_page(of=daemon, fragment=""):
        chromium.open(f"http://{of.http}/{fragment}")
        chromium.until("!!shown")
        return chromium
    yield open_page
    if directory := os.environ.get("PGLOCKD_SCREENSHOTS"):
        chromium.screenshot(os.path.join(directory, request.node.name + ".png"))
    assert chromium.complaints() == []


def table(browser, name):
    """What stands in a table: a list of {column: text}."""
    return browser.run(f"""(() => {{
        const table = document.getElementById("{name}").parentElement.querySelector("table");
        const titles = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
        return [...table.tBodies[0].rows].map((row) =>
            Object.fromEntries([...row.cells].map((cell, i) => [titles[i], cell.textContent])));
    }})()""")


def column(browser, name, title):
    return [row[title] for row in table(browser, name)]


def filter_by(browser, prefix):
    browser.run("document.activeElement.blur()")
    browser.press("/")
    assert browser.run("document.activeElement.id") == "prefix"
    browser.type(prefix)
    browser.until(f'shown.prefix === "{prefix}"')


# ---- what it shows ----

def test_locks_and_who_waits_for_whom(page, client, connect, resource):
    client.ask_ok(f'LOCK {resource}/a owner=ann note="refactor of it" ttl=9m')
    client.ask_ok(f"LOCK {resource}/b scope=tree owner=ben ttl=5m")
    for what, owner in (f"{resource}/a", "cyd"), (f"{resource}/a", "dan"), (f"{resource}/b/c", "eve"):
        connect(name=owner).send(f"LOCK {what} wait=inf")
    browser = page(fragment=f"#prefix={resource}")
    browser.until("shown.queue.length === 3")
    locks = {row["Resource"]: row for row in table(browser, "locks")}
    assert set(locks) == {f"{resource}/a", f"{resource}/b"}
    first = locks[f"{resource}/a"]
    assert (first["Holder"], first["Mode"], first["Note"]) == ("ann", "exclusive", "refactor of it")
    assert re.match(r"[78] m", first["Left"]) and first["Held"].endswith("s")
    assert locks[f"{resource}/b"]["Mode"] == "tree, exclusive"
    queue = {row["Who waits"]: row for row in table(browser, "queue")}
    assert {who: (row["Place"], row["For whom"]) for who, row in queue.items()} == {
        "cyd": ("1", "ann holds it"), "dan": ("2", "ann holds it; behind cyd"),
        "eve": ("1", f"ben holds it by {resource}/b (tree)")}


def test_it_follows_what_happens(page, client, resource):
    browser = page(fragment=f"#prefix={resource}")
    assert table(browser, "locks") == []
    assert "Nothing is locked here." in browser.run('document.getElementById("locks").parentElement.innerText')
    token = client.lock(resource)
    browser.until("shown.locks.length === 1")
    assert column(browser, "locks", "Resource") == [resource]
    client.ask_ok(f"UNLOCK {resource} token={token}")
    browser.until("shown.locks.length === 0")
    assert table(browser, "locks") == []


def test_sessions_limits_and_daemons(page, daemon, client, policy, resource):
    opened = client.ask_ok("SESSION OPEN owner=seth ttl=1m")
    client.ask_ok(f"LOCK {resource} session={opened['session']}")
    policy("page-limit", pattern=resource, quota=20, per="1 min")
    client.ask_ok(f"RATE {resource} policy=page-limit cost=5")
    browser = page(fragment=f"#prefix={resource}")
    browser.until("shown.rate_limits.length === 1")
    (limit,) = table(browser, "rate_limits")
    assert (limit["Key"], limit["Policy"], limit["Limit"]) == (resource, "page-limit", "20 per 1 m")
    session = {row["Session"]: row for row in table(browser, "sessions")}[opened["session"]]
    assert (session["Owner"], session["Locks"]) == ("seth", "1")
    roles = {row["Number"]: (row["Role"], row["State"]) for row in table(browser, "instances")}
    role, state = roles[str(daemon.instance())]  # others of the tests' daemons may be the janitor
    assert role in ("janitor, this page", "this page") and state == "connected"
    assert column(browser, "locks", "Holder") == [f"session {opened['session']}"]


def test_plots(page, make_daemon):
    one = make_daemon()
    with Lines(one.line) as client:
        for n in range(3):
            client.lock(f"plot/{n}", "ttl=10m")
        browser = page(one)
        browser.until("shown.trend.held.length > 1 && shown.trend.held.at(-1) === 3")
        labels = browser.run('[...document.querySelectorAll("svg[role=img]")].map((s) => s.ariaLabel)')
        lines = browser.run('[...document.querySelectorAll("svg path.one")].map((p) => p.getAttribute("d"))')
    assert len(labels) == 3 and labels[2].startswith("Held locks") and labels[2].endswith("now 3")
    assert all(line.startswith("M") for line in lines)


def test_markup_stays_text(page, client, connect, resource):
    quoted = HOSTILE.replace('"', '\\"')
    assert client.ask_ok(f'LOCK "{resource}/{quoted}" owner="{quoted}" note="{quoted}"')
    connect().send(f'LOCK "{resource}/{quoted}" wait=inf owner="{quoted}"')
    browser = page(fragment=f"#prefix={resource}")
    browser.until("shown.queue.length === 1")
    (lock,) = table(browser, "locks")
    assert (lock["Resource"], lock["Holder"], lock["Note"]) == (f"{resource}/{HOSTILE}", HOSTILE, HOSTILE)
    assert column(browser, "queue", "Who waits") == [HOSTILE]
    assert browser.run('document.querySelectorAll("main img, main b, main script").length') == 0
    assert browser.run("document.title").endswith("pglockd")


def test_what_turns_text_around_is_spelled_out(page, client, resource):
    client.ask_ok(f'LOCK {resource} note="a\u202eb\u200bc"')
    browser = page(fragment=f"#prefix={resource}")
    browser.until("shown.locks.length === 1")
    assert column(browser, "locks", "Note") == [r"a\u{202e}b\u{200b}c"]


def test_the_browser_would_not_run_what_got_in(page):
    """Behind the escaping stands the policy: a script and a style that were injected do nothing."""
    browser = page()
    browser.run("""(() => {
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        const div = document.createElement("div");
        div.innerHTML = '<img src="nowhere" onerror="window.ran = true">';
        document.body.append(div);
    })()""")
    eventually(lambda: (browser.run("0"), len(browser.complaints()) >= 2)[1])
    assert browser.run("window.ran") is None
    browser.events.clear()


# ---- what one can do with it ----

def test_the_filter(page, client, resource):
    for name in "a", "a/b", "ab":
        client.lock(f"{resource}/{name}")
    browser = page()
    filter_by(browser, f"{resource}/a")
    assert column(browser, "locks", "Resource") == [f"{resource}/a", f"{resource}/a/b"]
    assert browser.run("location.hash") == f"#prefix={resource}/a"
    browser.type("//x")
    browser.until("!document.getElementById('notice').hidden")
    assert "empty segment" in browser.run("document.getElementById('notice').textContent")
    assert browser.run("document.getElementById('prefix').ariaInvalid") == "true"
    browser.press("Escape")
    browser.until("shown.prefix === null && document.getElementById('notice').hidden")
    assert browser.run("location.hash") == ""
    browser.events.clear()  # it logs the refused prefix, as it logs every 400


def test_sorting_by_keyboard(page, client, resource):
    for name, owner in ("a", "zoe"), ("b", "ann"), ("c", "mia"):
        client.ask_ok(f"LOCK {resource}/{name} owner={owner}")
    browser = page(fragment=f"#prefix={resource}")
    browser.until("shown.locks.length === 3")
    browser.run("document.querySelectorAll('#locks ~ .scroll th button')[1].focus()")
    browser.press("Enter", "\r")
    assert column(browser, "locks", "Holder") == ["ann", "mia", "zoe"]
    browser.press("Enter", "\r")
    assert column(browser, "locks", "Holder") == ["zoe", "mia", "ann"]
    assert browser.run("document.activeElement.parentElement.ariaSort") == "descending"


def test_pause(page, client, resource):
    browser = page(fragment=f"#prefix={resource}")
    browser.press("p", "p")
    assert browser.run("document.getElementById('state').textContent") == "paused"
    assert browser.run("document.getElementById('pause').ariaPressed") == "true"
    browser.until("request === null")  # one that was on its way may still be answered
    client.lock(resource)
    browser.until("request === null")
    assert table(browser, "locks") == []
    browser.press("p", "p")
    browser.until("shown.locks.length === 1")


# ---- how it looks ----

def shades(browser):
    """Brightness of the ground and of the text, 0 to 255."""
    return browser.run("""((s) => [s.backgroundColor, s.color].map((c) =>
        c.match(/\\d+/g).slice(0, 3).reduce((sum, n) => sum + Number(n), 0) / 3))(getComputedStyle(document.body))""")


def test_light_and_dark(page, client, resource):
    client.lock(resource)
    browser = page()
    ground, text = shades(browser)
    assert ground > 200 and text < 80
    browser.prefer("dark")
    ground, text = shades(browser)
    assert ground < 60 and text > 180


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_small_screen(page, client, connect, resource, width):
    client.ask_ok(f'LOCK {resource}/{"long-name/" * 12}end note="{"word " * 40}" ttl=5m')
    client.ask_ok(f'LOCK {resource}/{"x" * 300} owner={"y" * 200}')
    connect().send(f'LOCK {resource}/{"x" * 300} wait=inf')
    browser = page(fragment=f"#prefix={resource}")
    browser.size(width, 844, phone=True)
    browser.until("shown.queue.length === 1")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("""[...document.querySelectorAll("main *")].every((e) =>
        e.closest("svg, .hidden, thead") || e.getBoundingClientRect().right <= innerWidth + 1
        || e.closest(".scroll").scrollWidth > 0)""")
    # Cards or a table: to a screen reader it is a table.
    assert browser.run('[...document.querySelectorAll("table")].every((t) => t.getAttribute("role") === "table"'
                       ' && document.getElementById(t.getAttribute("aria-labelledby")))')


# ---- when something is wrong ----

def test_what_is_old_is_called_old(page, make_daemon):
    one = make_daemon("--request-timeout", "300ms")
    with Lines(one.line) as client:
        # So little patience may be too little on a busy machine.
        eventually(lambda: client.ask("LOCK kept/in/sight mode=shared id=kept ttl=10m").status == "OK")
        browser = page(one)
        browser.until("shown.locks.length === 1")
        one.signal_postgres(signal.SIGSTOP)
        try:
            browser.until("document.body.classList.contains('stale')")
            notice = browser.run("document.getElementById('notice').textContent")
            assert "PostgreSQL" in notice and notice.endswith(" old.")
        finally:
            one.signal_postgres(signal.SIGCONT)
        browser.until("!document.body.classList.contains('stale')")
        assert column(browser, "locks", "Resource") == ["kept/in/sight"]
    one.stop()
    browser.until("document.getElementById('state').textContent === 'no daemon'")
    assert column(browser, "locks", "Resource") == ["kept/in/sight"]
    assert browser.run("document.getElementById('notice').textContent").endswith(" old.")
    browser.events.clear()  # it logs what could not be fetched
