#include "data/record.h"

#include "core/text.h"
#include "data/template.h"

#include <stdlib.h>
#include <string.h>

ls_status ls_record_check(const ls_record_format *format, const ls_tokenizer *tokenizer)
{
    if (format->chat != LS_CHAT_NONE) return ls_chat_check(format->chat, tokenizer);
    LS_TRY(ls_template_check(format->prompt, "--prompt"));
    return ls_template_check(format->completion, "--completion");
}

/* A record under construction. */
typedef struct builder {
    const ls_tokenizer *tokenizer;
    ls_record *out;
} builder;

/* Appends a text; `learnt`: it is to be learnt, and stands behind what is there already. */
static ls_status append(const builder *b, const char *text, size_t length, bool learnt)
{
    ls_record *out = b->out;
    int32_t *ids = NULL;
    int64_t count = 0;
    if (length == 0) return LS_OK;
    LS_TRY(learnt && out->count > 0 ? ls_tokenizer_encode_behind(b->tokenizer, text, length, &ids, &count)
                                    : ls_tokenizer_encode(b->tokenizer, text, length, &ids, &count));
    const size_t total = (size_t)(out->count + count);
    out->ids = ls_text_memory(out->ids, total * sizeof *out->ids);
    out->targets = ls_text_memory(out->targets, total);
    if (count > 0) memcpy(out->ids + out->count, ids, (size_t)count * sizeof *ids);
    memset(out->targets + out->count, learnt ? 1 : 0, (size_t)count);
    out->count = (int64_t)total;
    out->bytes += length;
    free(ids);
    return LS_OK;
}

static ls_status encode_pair(const builder *b, const ls_record_format *format, const cJSON *object)
{
    const char *const templates[2] = {format->prompt, format->completion};
    for (int part = 0; part < 2; part++) {
        char *text;
        size_t length;
        LS_TRY(ls_template_fill(templates[part], object, &text, &length));
        const ls_status status = append(b, text, length, part == 1);
        free(text);
        LS_TRY(status);
    }
    return LS_OK;
}

static ls_status read_message(const cJSON *message, int number, const char **role, const char **content)
{
    *role = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "role"));
    *content = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(message, "content"));
    if (*role != NULL && *content != NULL) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT, "message %d has no string \"%s\"", number, *role == NULL ? "role" : "content");
}

/* Number of the assistant's last message, counted from 1. */
static ls_status find_last(int *last, const cJSON *messages)
{
    const cJSON *message;
    int number = 0;
    *last = 0;
    if (!cJSON_IsArray(messages)) return LS_FAIL(LS_BAD_INPUT, "there is no list \"messages\"");
    cJSON_ArrayForEach(message, messages)
    {
        const char *role, *content;
        LS_TRY(read_message(message, ++number, &role, &content));
        if (strcmp(role, "assistant") == 0) *last = number;
    }
    return *last > 0 ? LS_OK : LS_FAIL(LS_BAD_INPUT, "none of the messages is the assistant's");
}

/* `given` gathers what stands before the next text that is to be learnt, and is encoded as one text: so the special
 * tokens and what lies between them come out as they do in a prompt. The token that ends an answer begins the next. */
static ls_status encode_message(const builder *b, ls_chat chat, const cJSON *message, ls_text *given)
{
    const char *role, *content;
    LS_TRY(read_message(message, 0, &role, &content));
    size_t length = strlen(content);
    content = ls_chat_content(chat, content, &length);
    ls_chat_open(given, chat, role);
    if (strcmp(role, "assistant") != 0) {
        ls_text_add(given, content, length);
        ls_chat_close(given, chat);
        return LS_OK;
    }
    const int64_t first = b->out->count;
    LS_TRY(append(b, given->bytes, given->length, false));
    if (first > 0) b->out->targets[first] = 1;
    LS_TRY(append(b, content, length, true));
    given->length = 0;
    ls_chat_close(given, chat);
    return LS_OK;
}

static ls_status encode_chat(const builder *b, ls_chat chat, const cJSON *object)
{
    const cJSON *messages = cJSON_GetObjectItemCaseSensitive(object, "messages");
    int last;
    LS_TRY(find_last(&last, messages));
    ls_text given = {0};
    ls_status status = LS_OK;
    const cJSON *message = messages->child;
    for (int number = 1; number <= last && status == LS_OK; number++, message = message->next)
        status = encode_message(b, chat, message, &given);
    free(given.bytes);
    return status == LS_OK ? append(b, ls_chat_end(chat), strlen(ls_chat_end(chat)), true) : status;
}

ls_status ls_record_encode(ls_record *out, const ls_record_format *format, const ls_tokenizer *tokenizer,
                           const cJSON *object)
{
    *out = (ls_record){0};
    const builder b = {tokenizer, out};
    const ls_status status =
        format->chat == LS_CHAT_NONE ? encode_pair(&b, format, object) : encode_chat(&b, format->chat, object);
    if (status != LS_OK) {
        free(out->ids);
        free(out->targets);
        *out = (ls_record){0};
        return status;
    }
    if (format->train_on_prompt && out->count > 0) memset(out->targets, 1, (size_t)out->count);
    return LS_OK;
}
