#include "pglockctl/top_screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* The alternate screen, and no cursor on it; and back. */
#define ENTER "\033[?1049h\033[?25l\033[H\033[2J"
#define LEAVE "\033[?25h\033[?1049l"
#define HOME "\033[H"
#define END_OF_LINE "\033[K\r\n"
#define REST_EMPTY "\033[J"

static struct {
    volatile sig_atomic_t entered;
    volatile sig_atomic_t resized;
    bool keys; /* standard input is a terminal, too */
    struct termios saved, raw;
    sigset_t waiting; /* the mask in which a signal ends a wait */
} screen;

bool screen_is_possible(void)
{
    const char *term = getenv("TERM");
    return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

/* --- entering and leaving; all of it may be called by a signal handler --- */

static bool write_all(const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done = write(STDOUT_FILENO, p, n);
        if (done < 0 && errno != EINTR)
            return false;
        if (done > 0) {
            p += done;
            n -= (size_t)done;
        }
    }
    return true;
}

static void take_terminal(void)
{
    if (screen.keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &screen.raw);
    write_all(ENTER, strlen(ENTER));
    screen.entered = 1;
}

void screen_leave(void)
{
    if (!screen.entered)
        return;
    screen.entered = 0;
    write_all(LEAVE, strlen(LEAVE));
    if (screen.keys)
        tcsetattr(STDIN_FILENO, TCSANOW, &screen.saved);
}

static void on_end(int signal)
{
    screen_leave();
    if (signal == SIGINT)
        _exit(0);
    raise(signal); /* its default comes when this returns, see SA_RESETHAND */
}

static void on_stop(int signal)
{
    int saved_errno = errno;
    (void)signal;
    screen_leave();
    raise(SIGSTOP);
    take_terminal();
    screen.resized = 1;
    errno = saved_errno;
}

static void on_resize(int signal)
{
    (void)signal;
    screen.resized = 1;
}

static void handle(int signal, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigfillset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

/* A change of size ends a wait, and nothing else. */
static void handle_signals(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    sigset_t resize;

    sigemptyset(&resize);
    sigaddset(&resize, SIGWINCH);
    sigprocmask(SIG_BLOCK, &resize, &screen.waiting);
    sigdelset(&screen.waiting, SIGWINCH);
    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
        handle(ends[i], on_end, (int)SA_RESETHAND);
    handle(SIGTSTP, on_stop, SA_RESTART);
    handle(SIGWINCH, on_resize, 0);
}

void screen_enter(void)
{
    screen.keys = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &screen.saved) == 0;
    screen.raw = screen.saved;
    screen.raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    screen.raw.c_cc[VMIN] = 1;
    screen.raw.c_cc[VTIME] = 0;
    handle_signals();
    take_terminal();
    atexit(screen_leave);
}

/* --- drawing --- */

void screen_size(size_t *rows, size_t *columns)
{
    struct winsize size;
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0;

    *rows = known ? size.ws_row : 24;
    *columns = known ? size.ws_col : 80;
}

bool screen_draw(struct str lines)
{
    struct buf out = {0};

    buf_puts(&out, HOME);
    for (size_t at = 0; at < lines.n;) {
        const char *end = memchr(lines.p + at, '\n', lines.n - at);
        size_t n = (end ? (size_t)(end - lines.p) : lines.n) - at;

        buf_put(&out, lines.p + at, n);
        at += n + 1;
        /* No newline behind the last line: on the last row it would scroll. */
        buf_puts(&out, at < lines.n ? END_OF_LINE : "\033[K");
    }
    buf_puts(&out, REST_EMPTY);
    bool written = write_all(out.data, out.len);
    buf_free(&out);
    return written;
}

/* --- waiting --- */

static enum screen_event read_key(void)
{
    char key;
    ssize_t n = read(STDIN_FILENO, &key, 1);

    return n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN) || key == 'q' || key == 'Q'
               ? SCREEN_QUIT
               : SCREEN_KEY;
}

enum screen_event screen_wait(int64_t ms)
{
    struct pollfd in = {.fd = screen.keys ? STDIN_FILENO : -1, .events = POLLIN};
    struct timespec timeout = {ms / 1000, ms % 1000 * 1000000};
    int n = screen.resized ? 0 : ppoll(&in, 1, &timeout, &screen.waiting);

    if (screen.resized || (n < 0 && errno == EINTR)) {
        screen.resized = 0;
        return SCREEN_RESIZED;
    }
    return n > 0 ? read_key() : SCREEN_TIME;
}
