#include <cjson/cJSON.h>

#include "base/json.h"
#include "base/log.h"
#include "fuzz.h"
#include "wire/utf8.h"

/*
 * What a client sends as owner or note comes back in JSON and may stand in the log: whatever the
 * bytes are, JSON stays one value on one line that says the same, and the log one word of a line.
 */

static void check_one_line(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        FUZZ_PROMISE((unsigned char)p[i] >= 0x20 && p[i] != 0x7f);
}

int fuzz_note(const uint8_t *data, size_t size)
{
    char *copy = fuzz_copy(data, size);
    struct str note = {copy, size};
    struct buf out = {0};
    struct json j = json_to(&out);
    json_begin_object(&j);
    json_put_string(&j, "note", note);
    json_put_int(&j, "token", (INT64_C(1) << 53) - 1);
    json_end_object(&j);
    check_one_line(out.data, out.len);
    FUZZ_PROMISE(utf8_valid(buf_str(&out)));
    cJSON *back = cJSON_ParseWithOpts(buf_cstr(&out), NULL, 1);
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(back, "note");
    FUZZ_PROMISE(cJSON_IsString(item));
    FUZZ_PROMISE(cJSON_GetArraySize(back) == 2);
    if (size == 0 || (utf8_valid(note) && memchr(copy, '\0', size) == NULL))
        FUZZ_PROMISE(str_is(note, item->valuestring));
    cJSON_Delete(back);
    const char *word = log_quote(note);
    check_one_line(word, strlen(word));
    buf_free(&out);
    free(copy);
    return 0;
}
