#include "eval/plot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* Text within gnuplot's double quotes: no escapes, no markup. */
static void add_quoted(ls_text *script, const char *text)
{
    ls_text_add(script, "\"", 1);
    for (const char *c = text; *c != '\0'; c++)
        if (*c != '"' && *c != '\\' && *c != '\n') ls_text_add(script, c, 1);
    ls_text_add(script, "\"", 1);
}

static void write_script(ls_text *script, const ls_plot *plot)
{
    ls_text_addf(script,
                 "set terminal svg size 860,400 dynamic font 'sans-serif,13' name '%s' noenhanced\n"
                 "set key outside right top\nset grid back lc rgb '#dddddd'\nset border 3 lc rgb '#888888'\n"
                 "set tics nomirror\nset colorsequence podo\n",
                 plot->name);
    ls_text_addf(script, "set xlabel ");
    add_quoted(script, plot->x_label);
    ls_text_addf(script, "\nset ylabel ");
    add_quoted(script, plot->y_label);
    ls_text_addf(script, "\n");
    for (int c = 0; c < plot->count; c++) {
        const ls_series *series = &plot->curves[c].series;
        ls_text_addf(script, "$data%d << END\n", c);
        for (int64_t i = 0; i < series->count; i++)
            ls_text_addf(script, "%.9g %.9g\n", series->step[i], series->value[i]);
        ls_text_addf(script, "END\n");
    }
    for (int c = 0; c < plot->count; c++) {
        const ls_curve *curve = plot->curves + c;
        ls_text_addf(script, "%s$data%d using 1:2 with %s lw 1.6 lt %d title ", c == 0 ? "plot " : ", ", c,
                     curve->points || curve->series.count < 3 ? "linespoints pt 7 ps 0.4" : "lines", curve->colour + 1);
        add_quoted(script, curve->title);
    }
    ls_text_addf(script, "\n");
}

/* What the command prints, when it succeeds. */
static char *output_of(const char *command)
{
    FILE *pipe = popen(command, "re");
    if (pipe == NULL) return NULL;
    ls_text text = {0};
    char piece[8192];
    for (size_t got; (got = fread(piece, 1, sizeof piece, pipe)) > 0;) ls_text_add(&text, piece, got);
    if (pclose(pipe) == 0 && text.length > 0) return text.bytes;
    free(text.bytes);
    return NULL;
}

/* The drawing alone, without the XML declaration before it. */
static char *cut_svg(char *document)
{
    char *svg = NULL;
    const char *start = document == NULL ? NULL : strstr(document, "<svg");
    if (start != NULL && strstr(start, "</svg>") != NULL) svg = ls_text_copy(start, strlen(start));
    free(document);
    return svg;
}

/* The script lies in memory alone; gnuplot, a grandchild, inherits it. */
static int write_memory(const ls_text *script)
{
    const int file = memfd_create("layerskip-plot", 0);
    for (size_t done = 0; file >= 0 && done < script->length;) {
        const ssize_t count = write(file, script->bytes + done, script->length - done);
        if (count <= 0) {
            (void)close(file);
            return -1;
        }
        done += (size_t)count;
    }
    return file;
}

char *ls_plot_svg(const ls_plot *plot)
{
    ls_text script = {0};
    write_script(&script, plot);
    const int file = write_memory(&script);
    free(script.bytes);
    if (file < 0) return NULL;
    char *command = ls_text_format("gnuplot /proc/self/fd/%d 2>/dev/null", file);
    char *svg = cut_svg(output_of(command));
    free(command);
    (void)close(file);
    return svg;
}
