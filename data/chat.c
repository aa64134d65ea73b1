#include "data/chat.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const char *const ls_chat_names[] = {"none", "chatml", "llama3", NULL};

typedef struct chat_style {
    const char *begin, *middle, *end, *between;
    const char *special[3]; /* one token each */
    bool trims;
} chat_style;

static const chat_style styles[] = {
    [LS_CHAT_CHATML] = {.begin = "<|im_start|>",
                        .middle = "\n",
                        .end = "<|im_end|>",
                        .between = "\n",
                        .special = {"<|im_start|>", "<|im_end|>"}},
    [LS_CHAT_LLAMA3] = {.begin = "<|start_header_id|>",
                        .middle = "<|end_header_id|>\n\n",
                        .end = "<|eot_id|>",
                        .between = "",
                        .special = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
                        .trims = true},
};

/* *id: of the token that has just this text. */
static ls_status find_special(int32_t *id, const char *token, ls_chat chat, const ls_tokenizer *tokenizer)
{
    int32_t *ids;
    int64_t count;
    size_t length = 0;
    LS_TRY(ls_tokenizer_encode(tokenizer, token, strlen(token), &ids, &count));
    const char *text = count == 1 ? ls_tokenizer_token_text(tokenizer, ids[0], &length) : "";
    const bool one = length == strlen(token) && memcmp(text, token, length) == 0;
    *id = one ? ids[0] : -1;
    free(ids);
    if (one) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT, "--chat %s needs a tokenizer that has the token %s; this one has not",
                   ls_chat_names[chat], token);
}

ls_status ls_chat_check(ls_chat chat, const ls_tokenizer *tokenizer)
{
    int32_t id;
    for (int i = 0; i < 3 && styles[chat].special[i] != NULL; i++)
        LS_TRY(find_special(&id, styles[chat].special[i], chat, tokenizer));
    return LS_OK;
}

static bool is_blank(char character) { return character != '\0' && strchr(" \t\r\n\v\f", character) != NULL; }

const char *ls_chat_content(ls_chat chat, const char *content, size_t *length)
{
    while (styles[chat].trims && *length > 0 && is_blank(content[*length - 1])) --*length;
    while (styles[chat].trims && *length > 0 && is_blank(content[0])) content++, --*length;
    return content;
}

void ls_chat_open(ls_text *out, ls_chat chat, const char *role)
{
    ls_text_addf(out, "%s%s%s", styles[chat].begin, role, styles[chat].middle);
}

void ls_chat_close(ls_text *out, ls_chat chat) { ls_text_addf(out, "%s%s", styles[chat].end, styles[chat].between); }

const char *ls_chat_end(ls_chat chat) { return styles[chat].end; }

ls_status ls_chat_end_id(int32_t *id, ls_chat chat, const ls_tokenizer *tokenizer)
{
    return find_special(id, styles[chat].end, chat, tokenizer);
}

static void add_message(ls_text *out, ls_chat chat, const char *role, const char *content, size_t length)
{
    ls_chat_open(out, chat, role);
    content = ls_chat_content(chat, content, &length);
    ls_text_add(out, content, length);
    ls_chat_close(out, chat);
}

void ls_chat_ask(ls_text *out, ls_chat chat, const char *system, const char *user, size_t user_length)
{
    if (system != NULL) add_message(out, chat, "system", system, strlen(system));
    add_message(out, chat, "user", user, user_length);
    ls_chat_open(out, chat, "assistant");
}
