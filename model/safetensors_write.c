/* The header of a safetensors file that is written, see safetensors.h. */
#include "model/safetensors.h"

#include "core/text.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

static const char *const format_names[] = {"F32", "F16", "BF16"};

uint64_t ls_safetensors_entry_bytes(const ls_safetensor_entry *entry)
{
    return (uint64_t)entry->rows * (uint64_t)(entry->cols == 0 ? 1 : entry->cols) * ls_stored_type_size(entry->type);
}

static int in_file_order(const void *a, const void *b)
{
    const ls_safetensor_entry *one = a, *two = b;
    const size_t wide = ls_stored_type_size(one->type), other = ls_stored_type_size(two->type);
    if (wide != other) return wide > other ? -1 : 1;
    if (one->type != two->type) return one->type == LS_STORED_BF16 ? -1 : 1;
    return strcmp(one->name, two->name);
}

void ls_safetensors_sort(ls_safetensor_entry *entries, int64_t count)
{
    if (count > 1) qsort(entries, (size_t)count, sizeof *entries, in_file_order);
}

char *ls_safetensors_header(const ls_safetensor_entry *entries, int64_t count, size_t *length)
{
    ls_text text = {0};
    uint64_t at = 0, header;
    ls_text_add(&text, "\0\0\0\0\0\0\0\0", sizeof header);
    ls_text_addf(&text, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t i = 0; i < count; i++) {
        const ls_safetensor_entry *entry = &entries[i];
        const uint64_t end = at + ls_safetensors_entry_bytes(entry);
        ls_text_addf(&text, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", entry->name, format_names[entry->type],
                     (long long)entry->rows);
        if (entry->cols > 0) ls_text_addf(&text, ",%lld", (long long)entry->cols);
        ls_text_addf(&text, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)at, (unsigned long long)end);
        at = end;
    }
    ls_text_addf(&text, "}");
    while (text.length % 8 != 0) ls_text_addf(&text, " ");
    header = htole64(text.length - sizeof header);
    memcpy(text.bytes, &header, sizeof header);
    *length = text.length;
    return text.bytes;
}
