/* The words of the command line as words of the protocol. */

#include <stdlib.h>
#include <string.h>

#include "base/xalloc.h"
#include "pglockctl/ctl.h"

/* One JSON string from the first byte to the last. */
static bool is_quoted(const char *s)
{
    if (*s++ != '"')
        return false;
    for (; *s && *s != '"'; s++) {
        if ((unsigned char)*s < 0x20)
            return false;
        if (*s == '\\' && !*++s)
            return false;
    }
    return s[0] == '"' && s[1] == '\0';
}

/* The length of KEY in KEY=VALUE, or 0 for any other word. */
static size_t key_length(const char *s)
{
    size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");
    bool letter_first = strspn(s, "0123456789_-") == 0;
    return letter_first && s[n] == '=' ? n : 0;
}

bool ctl_is_pair(const char *word)
{
    return key_length(word) > 0;
}

static void put_value(struct buf *line, const char *value)
{
    if (is_quoted(value)) {
        buf_puts(line, value);
        return;
    }
    char *quoted = pglockd_quote(value);
    buf_puts(line, quoted ? quoted : "\"\"");
    free(quoted);
}

void ctl_put_line(struct buf *line, const char *verb, const struct opt_words *words)
{
    buf_puts(line, verb);
    /* Arguments come before the first key=value word; the order among each kind stays. */
    for (size_t i = 0; i < words->nwords; i++)
        if (key_length(words->words[i]) == 0) {
            buf_putc(line, ' ');
            put_value(line, words->words[i]);
        }
    for (size_t i = 0; i < words->nrest; i++) {
        char *quoted = pglockd_quote(words->rest[i]);
        buf_printf(line, " %s", quoted ? quoted : "\"\"");
        free(quoted);
    }
    for (size_t i = 0; i < words->nwords; i++) {
        size_t n = key_length(words->words[i]);
        if (n > 0) {
            buf_printf(line, " %.*s=", (int)n, words->words[i]);
            put_value(line, words->words[i] + n + 1);
        }
    }
}

const char *ctl_only_argument(const struct opt_words *words)
{
    const char *found = words->nrest > 0 ? words->rest[0] : NULL;
    size_t n = words->nrest;
    for (size_t i = 0; i < words->nwords; i++)
        if (key_length(words->words[i]) == 0) {
            found = words->words[i];
            n++;
        }
    return n == 1 ? found : NULL;
}

const char *ctl_word_value(const struct opt_words *words, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < words->nwords; i++) {
        size_t n = key_length(words->words[i]);
        if (n > 0 && n == strlen(key) && strncasecmp(words->words[i], key, n) == 0)
            value = words->words[i] + n + 1;
    }
    return value;
}
