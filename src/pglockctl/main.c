#include "config.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pglockctl/ctl.h"
#include "pglockctl/path_files.h"

static const struct command *const commands[] = {
    &command_lock, &command_unlock,  &command_renew, &command_check,   &command_info,
    &command_ls,   &command_tree,    &command_watch, &command_path,    &command_stats,
    &command_top,  &command_run,     &command_rate,  &command_session, &command_force,
    &command_key,  &command_migrate, &command_bench,
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static struct ctl ctl = {.busy_status = CTL_BUSY, .tls = PGLOCKD_TLS_OPTIONS_INIT};

static const struct opt common_options[] = {
    {.name = "connect",
     .kind = OPT_STRING,
     .into = &ctl.connect,
     .value = "ADDRESSES",
     .help = "tcp://HOST:PORT, tls://HOST:PORT or unix:PATH, several parted by commas"},
    {.name = "json", .kind = OPT_FLAG, .into = &ctl.json, .help = "print the daemon's JSON"},
    {.letter = 'E',
     .name = "busy-status",
     .kind = OPT_NUMBER,
     .into = &ctl.busy_status,
     .value = "N",
     .max = 255,
     .help = "exit status for busy, timed out or limited (default 75)"},
    {.name = "name",
     .kind = OPT_STRING,
     .into = &ctl.name,
     .value = "NAME",
     .help = "shown to others as the owner (default USER@HOST)"},
    {.name = "key-file",
     .kind = OPT_STRING,
     .into = &ctl.key_file,
     .value = "PATH",
     .help = "the key to show to the daemon is its first line"},
    {.name = "tls-ca",
     .kind = OPT_STRING,
     .into = &ctl.tls.ca_file,
     .value = "PATH",
     .help = "CAs whose certificates a daemon may show (default: the system's)"},
    {.name = "tls-cert",
     .kind = OPT_STRING,
     .into = &ctl.tls.cert_file,
     .value = "PATH",
     .help = "the certificate to show to the daemon"},
    {.name = "tls-key",
     .kind = OPT_STRING,
     .into = &ctl.tls.key_file,
     .value = "PATH",
     .help = "its private key (default: in the same file)"},
    {.name = "tls-name",
     .kind = OPT_STRING,
     .into = &ctl.tls.server_name,
     .value = "NAME",
     .help = "whom a daemon's certificate must be for (default: the host)"},
    {.letter = 'h', .name = "help", .kind = OPT_FLAG, .into = &ctl.help, .help = "this text"},
};
enum { COMMON_OPTIONS = sizeof(common_options) / sizeof(common_options[0]) };

static const struct opt main_options[] = {
    {.letter = 'V',
     .name = "version",
     .kind = OPT_FLAG,
     .into = &ctl.version,
     .help = "print the version"},
};

static const char exit_help[] =
    "\nExit status: 0 done; 64 bad request; 69 service unreachable; 75 busy, timed out or\n"
    "limited; 76 lost; 77 denied; 78 configuration.\n";

static int print_help(void)
{
    struct buf out = {0};

    buf_puts(&out, "usage: pglockctl [OPTION]... COMMAND [ARGUMENT]...\n\nCommands:\n");
    for (size_t i = 0; i < COMMANDS; i++)
        buf_printf(&out, "  %-10s%s\n", commands[i]->name, commands[i]->summary);
    buf_puts(&out, "\nOptions (before or after the command):\n");
    opt_put_help(&out, common_options, COMMON_OPTIONS);
    opt_put_help(&out, main_options, 1);
    buf_puts(&out,
             "\nPGLOCKCTL_CONNECT is used where --connect is not given; without both the\n"
             "address is 127.0.0.1:7432. PGLOCKCTL_NAME stands for --name, PGLOCKCTL_KEY_FILE\n"
             "for --key-file, PGLOCKCTL_TLS_CA, _CERT, _KEY and _NAME for the options --tls-….\n"
             "pglockctl COMMAND --help tells more.\n");
    buf_puts(&out, exit_help);
    fputs(buf_cstr(&out), stdout);
    buf_free(&out);
    return CTL_OK;
}

/* The options by which a command takes files. path knows nothing else, and needs no --files. */
static const struct opt *file_options(const struct command *command, size_t *n)
{
    size_t first = command->files == FILES_ALWAYS;

    *n = command->files == FILES_NONE ? 0 : PATH_OPTIONS - first;
    return path_options + first;
}

static int print_command_help(const struct command *command)
{
    struct buf out = {0};
    size_t n;
    const struct opt *files = file_options(command, &n);

    buf_printf(&out, "usage: pglockctl %s [OPTION]... %s\n\n%s.\n", command->name,
               command->synopsis, command->summary);
    if (command->details)
        buf_printf(&out, "%s", command->details);
    buf_puts(&out, "\nOptions:\n");
    opt_put_help(&out, command->options, command->noptions);
    opt_put_help(&out, files, n);
    opt_put_help(&out, command->more_options, command->nmore_options);
    opt_put_help(&out, common_options, COMMON_OPTIONS);
    buf_puts(&out, exit_help);
    fputs(buf_cstr(&out), stdout);
    buf_free(&out);
    return CTL_OK;
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    return NULL;
}

/* The command with its words; those that are files become resources first. */
static int run_with(const struct command *command, const struct opt_words *words)
{
    struct path_names names = {0};
    struct opt_words resources = {0};

    if (!path_settings_are_used(command->files == FILES_ALWAYS))
        return CTL_BAD_REQUEST;
    if (command->files != FILES_AS_WORDS || !path_wanted())
        return command->main(&ctl, words);
    int status = path_words(&names, words, false, &resources);
    if (status == CTL_OK)
        status = command->main(&ctl, &resources);
    path_words_free(&resources);
    path_names_free(&names);
    return status;
}

static void take_variable(const char **into, const char *variable)
{
    const char *value = getenv(variable);
    if (!*into && value && *value)
        *into = value;
}

/* What is not given on the command line comes from the environment. */
static void take_environment(void)
{
    take_variable(&ctl.tls.ca_file, "PGLOCKCTL_TLS_CA");
    take_variable(&ctl.tls.cert_file, "PGLOCKCTL_TLS_CERT");
    take_variable(&ctl.tls.key_file, "PGLOCKCTL_TLS_KEY");
    take_variable(&ctl.tls.server_name, "PGLOCKCTL_TLS_NAME");
    if (!ctl.connect) {
        ctl.connect = getenv("PGLOCKCTL_CONNECT");
        ctl.connect_from_env = ctl.connect != NULL;
    }
    const char *name = getenv("PGLOCKCTL_NAME");
    if (!ctl.name && name && *name)
        ctl.name = name;
    if (!ctl.key_file)
        ctl.key_file = getenv("PGLOCKCTL_KEY_FILE");
}

/* Options of the command's own go before those of the same name for all. */
static int run_command(const struct command *command, int argc, char **argv)
{
    size_t nfiles;
    const struct opt *files = file_options(command, &nfiles);
    const struct opt *tables[] = {command->options, files, command->more_options, common_options};
    const size_t sizes[] = {command->noptions, nfiles, command->nmore_options, COMMON_OPTIONS};
    struct opt_words words;
    struct buf err = {0};

    bool parsed = opt_parse(argc, argv, false, tables, sizes, 4, &words, &err);
    if (!parsed)
        ctl_error("%s (see pglockctl %s --help)", buf_cstr(&err), command->name);
    buf_free(&err);
    if (ctl.help)
        return print_command_help(command);
    if (!parsed)
        return CTL_BAD_REQUEST;
    take_environment();
    return run_with(command, &words);
}

static int dispatch(int argc, char **argv)
{
    const struct opt *tables[] = {common_options, main_options};
    const size_t sizes[] = {COMMON_OPTIONS, 1};
    struct opt_words words;
    struct buf err = {0};

    bool parsed = opt_parse(argc - 1, argv + 1, true, tables, sizes, 2, &words, &err);
    if (!parsed)
        ctl_error("%s (see pglockctl --help)", buf_cstr(&err));
    buf_free(&err);
    if (!parsed)
        return CTL_BAD_REQUEST;
    if (ctl.version)
        return printf("pglockctl %s\n", PACKAGE_VERSION) < 0;
    if (words.nwords == 0)
        return ctl.help ? print_help() : ctl_usage_error("no command (see pglockctl --help)");
    const struct command *command = find_command(words.words[0]);
    if (!command)
        return ctl_usage_error("there is no command %s (see pglockctl --help)", words.words[0]);
    return run_command(command, (int)words.nwords - 1, words.words + 1);
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    int status = dispatch(argc, argv);
    /* A full disk or a closed pipe must not look like success. */
    if (fflush(stdout) != 0 || ferror(stdout)) {
        ctl_error("cannot write the output");
        return status ? status : 74;
    }
    return status;
}
