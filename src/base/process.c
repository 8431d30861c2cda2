#include "config.h"

#include "base/process.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * PR_SET_DUMPABLE and not only the limit on core files: that does not hold where the kernel hands
 * cores to a program. An execve() gives it back to children, a change of user takes it away: so it
 * is set either way.
 */
void process_harden(bool core_dumps)
{
    struct rlimit none = {0};

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
#ifdef PGLOCKD_SANITIZED
    core_dumps = true; /* the leak checker looks into the process as a debugger does */
#endif
    if (!core_dumps)
        setrlimit(RLIMIT_CORE, &none);
    prctl(PR_SET_DUMPABLE, core_dumps ? 1 : 0, 0, 0, 0);
}

static const struct passwd *find_user(const char *user, struct buf *err)
{
    const struct passwd *pw = getpwnam(user);

    if (pw == NULL)
        buf_printf(err, "there is no user %s: make one with useradd --system, or change user",
                   user);
    return pw;
}

bool process_become(const char *user, struct buf *err)
{
    const struct passwd *pw = find_user(user, err);

    if (pw == NULL)
        return false;
    if (geteuid() == pw->pw_uid)
        return true;
    if (geteuid() != 0) {
        buf_printf(err, "only root can become user %s: start pglockd as root or as that user",
                   user);
        return false;
    }
    if (initgroups(pw->pw_name, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 ||
        setuid(pw->pw_uid) != 0) {
        buf_printf(err, "cannot become user %s: %s", user, strerror(errno));
        return false;
    }
    if (pw->pw_uid == 0 || setuid(0) != 0)
        return true;
    buf_printf(err, "user %s could become root again", user);
    return false;
}

bool process_give_directory(const char *dir, const char *user, struct buf *err)
{
    const struct passwd *pw = find_user(user, err);

    if (pw == NULL)
        return false;
    if (geteuid() != 0 || mkdir(dir, 0700) != 0)
        return true; /* where that is a fault, whoever uses the directory will say so */
    if (chown(dir, pw->pw_uid, pw->pw_gid) == 0)
        return true;
    buf_printf(err, "cannot give directory %s to user %s: %s", dir, user, strerror(errno));
    return false;
}
