/* Line plots as SVG text, drawn by gnuplot. */
#ifndef LS_EVAL_PLOT_H
#define LS_EVAL_PLOT_H

#include "core/text.h"
#include "eval/run_metrics.h"

typedef struct ls_curve {
    char title[48];
    ls_series series;
    bool points; /* mark each point */
    int colour;  /* from 0; the same in two plots, the same colour */
} ls_curve;

typedef struct ls_plot {
    const char *name; /* unique in the page: letters only */
    const char *x_label, *y_label;
    const ls_curve *curves; /* [count] */
    int count;
} ls_plot;

/* malloc'ed "<svg ...>...</svg>"; NULL where gnuplot is missing or fails. */
char *ls_plot_svg(const ls_plot *plot);

#endif
