#include "data/record_samples.h"

#include "data/packing.h"

#include <stdlib.h>
#include <string.h>

struct ls_record_samples {
    const ls_token_file *file;
    ls_split split;
    int64_t T;
    int32_t *needs; /* [records] positions that each takes; 0: nothing of it is learnt */
    ls_packing packing;
    ls_loader_records about;
};

enum { TARGETS_AT_ONCE = 1 << 16 };

/* How many positions each record takes. */
static ls_status find_needs(ls_record_samples *self)
{
    uint8_t learnt[TARGETS_AT_ONCE];
    const int64_t *start = self->file->documents[self->split], total = self->file->token_count[self->split];
    int64_t record = 0;
    for (int64_t from = 0, count; from < total; from += count) {
        count = total - from < TARGETS_AT_ONCE ? total - from : TARGETS_AT_ONCE;
        LS_TRY(ls_token_file_read_targets(self->file, self->split, from, count, learnt));
        for (int64_t i = 0; i < count; i++) {
            while (from + i >= start[record + 1]) record++;
            const int64_t place = from + i - start[record];
            if (learnt[i] != 0 && place <= self->T) self->needs[record] = (int32_t)place;
        }
    }
    return LS_OK;
}

static void sum_up(ls_record_samples *self)
{
    const int64_t *start = self->file->documents[self->split];
    ls_loader_records *about = &self->about;
    about->records = self->file->document_count[self->split];
    for (int64_t i = 0; i < about->records; i++) {
        about->cut += start[i + 1] - start[i] > self->T + 1;
        about->left_out += self->needs[i] == 0;
        about->positions += self->needs[i];
    }
}

static ls_status create(ls_record_samples *self)
{
    const int64_t records = self->file->document_count[self->split];
    self->needs = calloc((size_t)records + 1, sizeof *self->needs);
    if (self->needs == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for %lld records", (long long)records);
    LS_TRY(find_needs(self));
    sum_up(self);
    LS_TRY(ls_packing_create(&self->packing, self->needs, records, self->T));
    self->about.samples = self->packing.bins;
    if (self->packing.bins > 0) return LS_OK;
    return LS_FAIL(LS_BAD_INPUT,
                   "%s: of the %lld records of the %s split none has anything to learn in its first %lld tokens",
                   self->file->path, (long long)records, self->split == LS_SPLIT_TRAIN ? "train" : "validation",
                   (long long)self->T + 1);
}

ls_status ls_record_samples_create(ls_record_samples **out, const ls_token_file *file, ls_split split, int64_t T)
{
    *out = NULL;
    ls_record_samples *self = calloc(1, sizeof *self);
    if (self == NULL) return LS_FAIL(LS_NO_MEMORY, "not enough memory for the records");
    *self = (ls_record_samples){.file = file, .split = split, .T = T};
    const ls_status status = create(self);
    if (status == LS_OK)
        *out = self;
    else
        ls_record_samples_destroy(self);
    return status;
}

void ls_record_samples_destroy(ls_record_samples *samples)
{
    if (samples == NULL) return;
    ls_packing_destroy(&samples->packing);
    free(samples->needs);
    free(samples);
}

const ls_loader_records *ls_record_samples_about(const ls_record_samples *samples) { return &samples->about; }

ls_status ls_record_samples_fill(const ls_record_samples *samples, int64_t number, const ls_samples *row,
                                 int32_t *tokens, uint8_t *learnt)
{
    const ls_packing *packing = &samples->packing;
    int64_t at = 0;
    for (int64_t p = packing->first[number]; p < packing->first[number + 1]; p++) {
        const int64_t record = packing->pieces[p], need = samples->needs[record];
        const int64_t start = samples->file->documents[samples->split][record];
        LS_TRY(ls_token_file_read(samples->file, samples->split, start, need + 1, tokens));
        LS_TRY(ls_token_file_read_targets(samples->file, samples->split, start, need + 1, learnt));
        for (int64_t i = 0; i < need; i++) {
            row->tokens[at + i] = tokens[i];
            row->targets[at + i] = learnt[i + 1] != 0 ? tokens[i + 1] : -1;
            row->first_key[at + i] = (int32_t)at;
            row->positions[at + i] = (int32_t)i;
        }
        at += need;
    }
    for (; at < samples->T; at++) {
        row->tokens[at] = 0;
        row->targets[at] = -1;
        row->first_key[at] = (int32_t)at;
        row->positions[at] = 0;
    }
    return LS_OK;
}
