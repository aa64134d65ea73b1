/* Running a range of layers over the key/value cache: the seam all decoding modes share.
 *
 *   draft          = embed, layers [0,E), logits
 *   verify         = layers [E,L) on the saved hidden states, logits
 *   autoregressive = embed, layers [0,L), logits
 *
 * The cache is addressed by position: running rows at positions start.. writes their keys and values there, and later
 * rows attend to everything before them. Cropping is therefore only the caller's counter going back.
 * `hidden` and `logits` are the caller's, from ls_exec_allocate; `tokens` is ordinary memory. The calls do not wait for
 * the ops they issue; who wants the results downloads them.
 * For R <= 16 each row's result is bitwise independent of R (kernels/ops.h), so greedy speculation is lossless. */
#ifndef LS_MODEL_DECODE_H
#define LS_MODEL_DECODE_H

#include "model/model.h"

#define LS_DECODE_ROWS 16 /* rows that are computed bitwise independently of each other */

typedef struct ls_decode ls_decode;

/* capacity: positions in the cache (<= max_position_embeddings). max_rows: most rows of one call (prefill chunk). */
ls_status ls_decode_create(ls_decode **out, const ls_model *model, int64_t capacity, int64_t max_rows);
void ls_decode_destroy(ls_decode *decode);

/* hidden [R,C] fp32 = embedding of tokens [R]. */
ls_status ls_decode_embed(ls_decode *decode, float *hidden, const int32_t *tokens, int64_t R);
/* The same for tokens in the backend's memory, which the host need not know; the caller vouches for them. Any R. */
ls_status ls_decode_embed_there(ls_decode *decode, float *hidden, const int32_t *tokens, int64_t R);
/* Runs blocks first_layer <= l < last_layer over rows at positions start..start+R-1; hidden [R,C] in place. Positions
 * count from *base, in the backend's memory, where that is not NULL; the caller then vouches that they fit. */
ls_status ls_decode_layers(ls_decode *decode, float *hidden, int first_layer, int last_layer, const int32_t *base,
                           int64_t start, int64_t R);
/* logits [R,V] fp32 = head . final norm of hidden [R,C] (left as it is). */
ls_status ls_decode_logits(ls_decode *decode, float *logits, const float *hidden, int64_t R);

#endif
