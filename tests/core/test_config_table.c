/* The config binding on a table with every kind of field: what is read, what is written back, and every refusal. */
#include "core_check.h"
#include "core/config.h"

#include <stdlib.h>
#include <string.h>

typedef struct settings {
    int64_t steps, seed;
    double rate, weight;
    bool fused;
    char *name, *out;
    int shape;
    ls_int_list layers;
    ls_double_list weights;
    ls_string_list files;
} settings;

enum { SHAPE_EXP, SHAPE_UNIFORM, SHAPE_LINEAR };

static const char *const shapes[] = {"exp", "uniform", "linear", NULL};

static const ls_field table[] = {
    {"steps", LS_FIELD_INT, offsetof(settings, steps), 1, 1e12, NULL, "100", "how many"},
    {"seed", LS_FIELD_INT, offsetof(settings, seed), 0, 0, NULL, "0", "any number"},
    {"layer_dropout.rate", LS_FIELD_DOUBLE, offsetof(settings, rate), 0, 1, NULL, "0.1", "p_max"},
    {"layer_dropout.shape", LS_FIELD_CHOICE, offsetof(settings, shape), 0, 0, shapes, "exp", "D(l)"},
    {"data.name", LS_FIELD_STRING, offsetof(settings, name), 0, 0, NULL, NULL, "what it is called"},
    {"data.files", LS_FIELD_STRINGS, offsetof(settings, files), 0, 0, NULL, "", "token files"},
    {"exit.layers", LS_FIELD_INTS, offsetof(settings, layers), 0, 99, NULL, "all", "which may exit"},
    {"exit.deep.weight", LS_FIELD_DOUBLE, offsetof(settings, weight), 0, 1e300, NULL, "3e-5", "how much"},
    {"exit.weights", LS_FIELD_DOUBLES, offsetof(settings, weights), 0, 10, NULL, "", "one an exit"},
    {"fused", LS_FIELD_BOOL, offsetof(settings, fused), 0, 0, NULL, "false", "at once"},
    {"data.out", LS_FIELD_STRING, offsetof(settings, out), 0, 0, NULL, "", "where to"},
};

enum { FIELDS = sizeof table / sizeof table[0] };

static ls_status read_text(settings *out, const char *text)
{
    memset(out, 0xA5, sizeof *out); /* nothing in it may be taken for a pointer */
    return ls_config_read_text(out, table, FIELDS, text, "c.yaml", NULL, 0);
}

static ls_status read_override(settings *out, const char *override)
{
    memset(out, 0xA5, sizeof *out);
    return ls_config_read(out, table, FIELDS, NULL, (const char *const[]){"data.name=x", override}, 2);
}

static void presets_fill_what_is_not_given(void **state)
{
    (void)state;
    settings got;
    CHECK_OK(read_text(&got, "data: {name: x}"));
    assert_true(got.steps == 100 && got.seed == 0 && got.rate == 0.1 && got.weight == 3e-5 && !got.fused);
    assert_int_equal(got.shape, SHAPE_EXP);
    assert_string_equal(got.name, "x");
    assert_null(got.out);
    assert_true(got.layers.all);
    assert_int_equal(got.weights.count, 0);
    assert_int_equal(got.files.count, 0);
    assert_string_equal(ls_config_place("data.name"), "c.yaml:1");
    assert_string_equal(ls_config_place("steps"), "default");
    ls_config_free(&got, table, FIELDS);
    assert_null(got.name);
    ls_config_free(&got, table, FIELDS);
}

static const char full[] = "# all of it\n"
                           "steps: 1_000\n"
                           "seed: -9223372036854775808\n"
                           "fused: Yes\n"
                           "layer_dropout:\n"
                           "  rate: 2e-1\n"
                           "  shape: 'uniform'\n"
                           "\n"
                           "data:\n"
                           "  name: \"a \\\"b\\\": #c\\n\"\n"
                           "  files:\n"
                           "    - one.h5\n"
                           "    - \"2\"\n"
                           "  out: runs/1\n"
                           "exit:\n"
                           "  layers: [1, 3, 5]\n"
                           "  deep: {weight: 0.30000000000000004}\n"
                           "  weights: [1, .5, 3e-5]\n";

static void check_full(const settings *got)
{
    assert_true(got->steps == 1000 && got->seed == INT64_MIN && got->fused);
    assert_true(got->rate == 0.2 && got->weight == 0.30000000000000004);
    assert_int_equal(got->shape, SHAPE_UNIFORM);
    assert_string_equal(got->name, "a \"b\": #c\n");
    assert_string_equal(got->out, "runs/1");
    assert_int_equal(got->files.count, 2);
    assert_string_equal(got->files.values[0], "one.h5");
    assert_string_equal(got->files.values[1], "2");
    assert_int_equal(got->layers.count, 3);
    assert_false(got->layers.all || got->layers.slice);
    assert_true(got->layers.values[0] == 1 && got->layers.values[1] == 3 && got->layers.values[2] == 5);
    assert_int_equal(got->weights.count, 3);
    assert_true(got->weights.values[1] == 0.5 && got->weights.values[2] == 3e-5);
}

static void a_file_is_read(void **state)
{
    (void)state;
    settings got;
    check_write_file("full.yaml", full);
    CHECK_OK(ls_config_read(&got, table, FIELDS, "full.yaml", NULL, 0));
    check_full(&got);
    assert_string_equal(ls_config_place("layer_dropout.rate"), "full.yaml:6");
    assert_string_equal(ls_config_place("data.files"), "full.yaml:11");
    ls_config_free(&got, table, FIELDS);
}

static void what_is_written_reads_back(void **state)
{
    (void)state;
    settings got, again;
    CHECK_OK(read_text(&got, full));
    char *written = ls_config_write_text(&got, table, FIELDS);
    CHECK_OK(read_text(&again, written));
    check_full(&again);
    char *twice = ls_config_write_text(&again, table, FIELDS);
    assert_string_equal(twice, written);
    assert_string_equal(written, "steps: 1000\n"
                                 "seed: -9223372036854775808\n"
                                 "layer_dropout:\n"
                                 "  rate: 0.2\n"
                                 "  shape: uniform\n"
                                 "data:\n"
                                 "  name: \"a \\\"b\\\": #c\\x0A\"\n"
                                 "  files: [one.h5, \"2\"]\n"
                                 "  out: runs/1\n"
                                 "exit:\n"
                                 "  layers: [1, 3, 5]\n"
                                 "  deep:\n"
                                 "    weight: 0.30000000000000004\n"
                                 "  weights: [1, 0.5, 3e-05]\n"
                                 "fused: true\n");
    free(written);
    free(twice);
    ls_config_free(&got, table, FIELDS);
    ls_config_free(&again, table, FIELDS);
}

/* Strings that YAML would take for something else, or that need escapes. */
static void any_string_reads_back(void **state)
{
    (void)state;
    static const char *const strings[] = {
        "",      "null", "~",   "yes", "1e3",  "-",    "- a",   "a: b", "a #b", "[x]",
        "{x}",   "*x",   "&x",  "!x",  "%x",   "@x",   "`x`",   "|",    ">",    "'q'",
        "\"q\"", "a\\b", "\t",  " a ", "a\nb", "\x01", "\x7f",  "...",  "---",  "\xc3\xa9\xf0\x9f\x98\x80",
        ".5",    "0x1f", "a,b", "?x",  "a:",   ":a",   "12:30", "on",   "n",    "/tmp/a_b-c.h5"};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++) {
        settings got, again;
        CHECK_OK(read_text(&got, "data: {name: x, files: [y]}"));
        free(got.name);
        free(got.files.values[0]);
        got.name = strdup(strings[i]);
        got.files.values[0] = strdup(strings[i]);
        char *written = ls_config_write_text(&got, table, FIELDS);
        CHECK_OK(read_text(&again, written));
        assert_string_equal(again.name, strings[i]);
        assert_string_equal(again.files.values[0], strings[i]);
        free(written);
        ls_config_free(&got, table, FIELDS);
        ls_config_free(&again, table, FIELDS);
    }
}

static void any_double_reads_back(void **state)
{
    (void)state;
    static const double numbers[] = {0, 1, 0.1, 1e-308, 5e-324, 1.0 / 3, 1e300, 123456789, 0.30000000000000004, 3e-5};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        settings got, again;
        CHECK_OK(read_text(&got, "data: {name: x}"));
        got.weight = numbers[i];
        char *written = ls_config_write_text(&got, table, FIELDS);
        CHECK_OK(read_text(&again, written));
        assert_memory_equal(&again.weight, &numbers[i], sizeof numbers[i]);
        free(written);
        ls_config_free(&got, table, FIELDS);
        ls_config_free(&again, table, FIELDS);
    }
}

static void refusals_name_key_and_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        /* unknown keys */
        {"data: {name: x}\n\nlayer_droput:\n  rate: 1\n",
         "c.yaml:3: unknown key 'layer_droput'; did you mean 'layer_dropout'?"},
        {"layer_dropout:\n  raet: 1\n",
         "c.yaml:2: unknown key 'layer_dropout.raet'; did you mean 'layer_dropout.rate'?"},
        {"rate: 1\n", "c.yaml:1: unknown key 'rate'; did you mean 'layer_dropout.rate'?"},
        {"raet: 1\n", "c.yaml:1: unknown key 'raet'; did you mean 'layer_dropout.rate'?"},
        {"nothing_like_it: 1\n", "c.yaml:1: unknown key 'nothing_like_it'"},
        {"steps:\n  sub: 1\n", "c.yaml:2: steps: needs a whole number, not a section"},
        {"<<: 1\n", "c.yaml:1: unknown key '<<'"},
        /* ranges */
        {"layer_dropout:\n  rate: 1.5\n", "c.yaml:2: layer_dropout.rate: 1.5 is not in [0, 1]"},
        {"layer_dropout:\n  rate: -1e-9\n", "c.yaml:2: layer_dropout.rate: -1e-9 is not in [0, 1]"},
        {"steps: 0", "c.yaml:1: steps: 0 is not in [1, 1000000000000]"},
        {"exit:\n  layers:\n  - 1\n  - 100\n", "c.yaml:4: exit.layers: 100 is not in [0, 99]"},
        {"exit: {layers: '5:101'}", "c.yaml:1: exit.layers: 5:101 is not in [0, 99]"},
        {"exit: {layers: 100::2}", "c.yaml:1: exit.layers: 100::2 is not in [0, 99]"},
        {"exit: {weights: [1, -2]}", "exit.weights: -2 is not in [0, 10]"},
        /* types */
        {"steps: many", "c.yaml:1: steps: 'many' is not a whole number"},
        {"steps: 1.5", "c.yaml:1: steps: '1.5' is not a whole number"},
        {"steps: \"5\"", "c.yaml:1: steps: the quoted text \"5\" is not a whole number"},
        {"steps: 0x10", "'0x10' is not a whole number"},
        {"steps: 12k", "'12k' is not a whole number"},
        {"steps: [5]", "steps: needs a whole number, not a list"},
        {"steps:", "steps: needs a whole number, but has no value"},
        {"seed: 9223372036854775808", "seed: 9223372036854775808 does not fit in 64 bits"},
        {"seed: 1e30", "seed: 1e30 does not fit in 64 bits"},
        {"layer_dropout: {rate: .nan}", "'.nan' is not a finite number"},
        {"layer_dropout: {rate: .inf}", "'.inf' is not a finite number"},
        {"layer_dropout: {rate: 1e999}", "'1e999' is not a finite number"},
        {"layer_dropout: {rate: true}", "'true' is not a finite number"},
        {"layer_dropout: 0.1", "c.yaml:1: layer_dropout: this is a section of keys, not a value"},
        {"layer_dropout: [rate]", "layer_dropout: this is a section of keys"},
        {"layer_dropout: {shape: lineal}",
         "layer_dropout.shape: 'lineal' is not one of exp, uniform, linear; did you mean 'linear'?"},
        {"layer_dropout: {shape: 3}", "layer_dropout.shape: '3' is not one of exp, uniform, linear"},
        {"layer_dropout: {shape: [exp]}", "layer_dropout.shape: needs a word, not a list"},
        {"fused: 1", "fused: '1' is not true or false"},
        {"fused: \"true\"", "fused: the quoted text \"true\" is not true or false"},
        {"data: {name: [x]}", "data.name: needs a text, not a list"},
        {"data: {name: null}", "data.name: needs a text, but has no value"},
        {"data: {files: {a: b}}", "data.files: needs a list, not a section"},
        {"data: {files: [a, [b]]}", "data.files: needs a text, not a list"},
        {"data: {files: [a, ~]}", "data.files: needs a text, but has no value"},
        {"exit: {layers: [1, two]}", "exit.layers: 'two' is not a whole number"},
        {"exit: {layers: some}", "exit.layers: 'some' is not a whole number"},
        {"exit: {layers: [all]}", "exit.layers: 'all' is not a whole number"},
        {"exit: {layers: '5:3'}", "exit.layers: '5:3' selects nothing"},
        {"exit: {layers: '0::0'}", "exit.layers: '0::0' is not start:stop:step"},
        {"exit: {layers: '-4::'}", "exit.layers: '-4::' is not start:stop:step"},
        {"exit: {layers: '1:2:3:4'}", "exit.layers: '1:2:3:4' is not start:stop:step"},
        {"exit: {layers: }", "exit.layers: needs a list, but has no value"},
        /* twice */
        {"steps: 1\nseed: 2\nsteps: 3\n", "c.yaml:3: steps: given twice, first on line 1"},
        {"exit: {}\nexit: {}\n", "c.yaml:2: exit: given twice, first on line 1"},
        {"layer_dropout: {rate: 0}\nlayer_dropout.rate: 1\n", "c.yaml:2: layer_dropout.rate: given twice"},
        /* what is no config */
        {"", "c.yaml: the file holds no settings"},
        {"# only a comment\n", "c.yaml: the file holds no settings"},
        {"\n- steps\n- 5\n", "c.yaml:2: expected settings as 'key: value'"},
        {"steps 5", "c.yaml:1: expected settings as 'key: value'"},
        {"steps: 1\nseed: [1, 2\n", "c.yaml:3: not valid YAML: did not find expected ',' or ']'"},
        {"a: b: c", "c.yaml:1: not valid YAML: mapping values are not allowed"},
        {"steps: 1\n\tseed: 2\n", "c.yaml:2: not valid YAML"},
        {"steps: 1\nseed: \xff\n", "c.yaml:2: not valid YAML: invalid leading UTF-8 octet"},
        {"steps: *nowhere", "c.yaml:1: not valid YAML: found undefined alias"},
        {"data: {name: x}\n---\nsteps: 1\n", "c.yaml:3: ---: a second document is not supported"},
        {"? [a]\n: b\n", "c.yaml:1: key: a key must be a plain name"},
        {"exit: &e\n  deep: *e\n", "c.yaml:2: unknown key 'exit.deep.deep'"},
        /* required */
        {"steps: 5", "c.yaml: data.name is missing (what it is called)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        settings got;
        CHECK_REFUSED(read_text(&got, cases[i].text), LS_BAD_INPUT, cases[i].sentence);
        assert_true(got.name == NULL && got.files.values == NULL && got.layers.values == NULL);
    }
}

static void bounds_are_inclusive(void **state)
{
    (void)state;
    static const char *const good[] = {
        "layer_dropout: {rate: 0}", "layer_dropout: {rate: 1}", "steps: 1", "steps: 1e12",
        "exit: {layers: [0, 99]}",  "exit: {layers: '99:100'}"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        settings got;
        char text[100];
        (void)snprintf(text, sizeof text, "data: {name: x}\n%s\n", good[i]);
        CHECK_OK(read_text(&got, text));
        ls_config_free(&got, table, FIELDS);
    }
}

static void missing_files_are_refused(void **state)
{
    (void)state;
    settings got;
    CHECK_REFUSED(ls_config_read(&got, table, FIELDS, "no.yaml", NULL, 0), LS_IO, "cannot read no.yaml: No such file");
    assert_null(got.name);
    CHECK_REFUSED(ls_config_read(&got, table, FIELDS, NULL, NULL, 0), LS_BAD_INPUT,
                  "command line: data.name is missing");
}

static void empty_values_where_they_are_allowed(void **state)
{
    (void)state;
    settings got;
    CHECK_OK(read_text(&got, "data:\n  name: \"\"\n  out:\n  files: ~\nlayer_dropout:\nexit:\n  weights: []\n"));
    assert_string_equal(got.name, "");
    assert_null(got.out);
    assert_int_equal(got.files.count, 0);
    char *written = ls_config_write_text(&got, table, FIELDS);
    ls_config_free(&got, table, FIELDS);
    CHECK_OK(read_text(&got, written));
    assert_null(got.out);
    free(written);
    ls_config_free(&got, table, FIELDS);
}

static void lists_in_short(void **state)
{
    (void)state;
    settings got;
    CHECK_OK(read_text(&got, "data: {name: x, files: one.h5}\nexit:\n  layers: 2:8:2\n  weights: 3\n"));
    assert_int_equal(got.files.count, 1);
    assert_string_equal(got.files.values[0], "one.h5");
    assert_true(got.layers.slice && got.layers.start == 2 && got.layers.stop == 8 && got.layers.step == 2);
    assert_true(got.weights.count == 1 && got.weights.values[0] == 3);
    ls_config_free(&got, table, FIELDS);
    CHECK_OK(read_text(&got, "data: {name: x}\nexit: {layers: 7}\n"));
    assert_true(got.layers.count == 1 && got.layers.values[0] == 7);
    ls_config_free(&got, table, FIELDS);
    static const struct {
        const char *text, *written;
        int64_t start, stop, step;
    } slices[] = {
        {"0::4", "0::4", 0, -1, 4}, {"'::'", "0::1", 0, -1, 1}, {":8", "0:8:1", 0, 8, 1}, {"'3:'", "3::1", 3, -1, 1}};
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        char text[200], line[100];
        (void)snprintf(text, sizeof text, "data: {name: x}\nexit:\n  layers: %s\n", slices[i].text);
        (void)snprintf(line, sizeof line, "  layers: %s\n", slices[i].written);
        for (int round = 0; round < 2; round++) {
            CHECK_OK(read_text(&got, text));
            assert_true(got.layers.slice && got.layers.start == slices[i].start && got.layers.stop == slices[i].stop &&
                        got.layers.step == slices[i].step);
            char *written = ls_config_write_text(&got, table, FIELDS);
            check_text_has(written, line);
            free(written);
            (void)snprintf(text, sizeof text, "data: {name: x}\nexit:\n%s", line);
            ls_config_free(&got, table, FIELDS);
        }
    }
}

static void overrides_win(void **state)
{
    (void)state;
    settings got;
    static const char *const overrides[] = {
        "steps=7",         "steps=8",           "exit.layers=[1, 2]",    "data.out=a: #b",
        "data.name=\"q\"", "exit={weights: 2}", "layer_dropout.rate=0.5"};
    check_write_file("c.yaml", "steps: 5\ndata: {name: x, out: y}\nseed: 3\n");
    CHECK_OK(ls_config_read(&got, table, FIELDS, "c.yaml", overrides, sizeof overrides / sizeof overrides[0]));
    assert_true(got.steps == 8 && got.seed == 3 && got.rate == 0.5);
    assert_true(got.layers.count == 2 && got.layers.values[1] == 2);
    assert_string_equal(got.out, "a: #b");
    assert_string_equal(got.name, "q");
    assert_true(got.weights.count == 1 && got.weights.values[0] == 2);
    assert_string_equal(ls_config_place("steps"), "command line");
    assert_string_equal(ls_config_place("seed"), "c.yaml:3");
    ls_config_free(&got, table, FIELDS);
    CHECK_OK(read_override(&got, "data.out="));
    assert_null(got.out);
    ls_config_free(&got, table, FIELDS);
}

static void wrong_overrides_are_refused(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"steps", "command line: 'steps' is not of the form key=value"},
        {"=5", "command line: '=5' is not of the form key=value"},
        {"stepps=5", "command line: unknown key 'stepps'; did you mean 'steps'?"},
        {"layer_dropot.rate=1", "did you mean 'layer_dropout.rate'?"},
        {"layer_dropout.rate=1.5", "command line: layer_dropout.rate: 1.5 is not in [0, 1]"},
        {"layer_dropout=1", "command line: layer_dropout: this is a section"},
        {"steps=", "command line: steps: needs a whole number, but has no value"},
        {"exit.layers=[1,", "command line: not valid YAML"},
        {"steps=5\n---\n6", "second document"},
        {"data.name=", "command line: data.name: needs a text, but has no value"},
        {"data.name=a\xff"
         "b",
         "command line: data.name: 'a\xff"
         "b' is not valid UTF-8"},
        {"exit.layers=1,2", "command line: exit.layers: '1,2' is not a list; write [1,2]"},
        {"exit.weights=0.5,1", "command line: exit.weights: '0.5,1' is not a list; write [0.5,1]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        settings got;
        CHECK_REFUSED(read_override(&got, cases[i][0]), LS_BAD_INPUT, cases[i][1]);
    }
}

static void a_wrong_preset_is_our_bug(void **state)
{
    (void)state;
    static const ls_field wrong[] = {{"a", LS_FIELD_INT, 0, 1, 5, NULL, "6", "beyond its own range"}};
    int64_t value;
    CHECK_REFUSED(ls_config_read(&value, wrong, 1, NULL, NULL, 0), LS_INTERNAL, "default: a: 6 is not in [1, 5]");
}

/* Every prefix of a good file, and every byte of it replaced: read or refused, never harmed. */
static void damaged_text_does_no_harm(void **state)
{
    (void)state;
    char *text = strdup(full);
    assert_non_null(text);
    const size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        static const char odd[] = {'\0', ':', '[', '}', '*', '\n', '\t', '"', (char)0xff, '9'};
        for (size_t j = 0; j < sizeof odd; j++) {
            settings got;
            const char kept = text[i];
            text[i] = odd[j];
            ls_error_clear();
            if (read_text(&got, text) == LS_OK)
                ls_config_free(&got, table, FIELDS);
            else
                assert_true(ls_error_text()[0] != '\0');
            text[i] = kept;
        }
    }
    ls_error_clear();
    free(text);
}

static void resolves_int_lists(void **state)
{
    (void)state;
    settings got;
    static const struct {
        const char *text, *members, *refusal;
    } cases[] = {
        {"all", "11111", NULL},
        {"[]", "00000", NULL},
        {"[0, 4, 2]", "10101", NULL},
        {"'1::2'", "01010", NULL},
        {"'1:4'", "01110", NULL},
        {"'0:5'", "11111", NULL},
        {"[5]", NULL, "c.yaml:3: exit.layers: 5 is not in [0, 4]"},
        {"[1, 1]", NULL, "c.yaml:3: exit.layers: 1 is listed twice"},
        {"'5::1'", NULL, "c.yaml:3: exit.layers: 5 is not in [0, 4]"},
        {"'0:6'", NULL, "c.yaml:3: exit.layers: 5 is not in [0, 4]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[100];
        bool member[5];
        (void)snprintf(text, sizeof text, "data: {name: x}\nexit:\n  layers: %s\n", cases[i].text);
        CHECK_OK(read_text(&got, text));
        if (cases[i].refusal != NULL) {
            CHECK_REFUSED(ls_int_list_resolve(&got.layers, 5, member, "exit.layers"), LS_BAD_INPUT, cases[i].refusal);
        } else {
            CHECK_OK(ls_int_list_resolve(&got.layers, 5, member, "exit.layers"));
            for (int j = 0; j < 5; j++) assert_int_equal(member[j], cases[i].members[j] == '1');
        }
        ls_config_free(&got, table, FIELDS);
    }
    const ls_int_list negative = {.values = (int64_t[]){-1}, .count = 1};
    bool member[5];
    CHECK_REFUSED(ls_int_list_resolve(&negative, 5, member, "exit.layers"), LS_BAD_INPUT, "-1 is not in [0, 4]");
}

static void the_reference_tells_every_field(void **state)
{
    (void)state;
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    assert_non_null(file);
    ls_config_print_reference(file, table, FIELDS);
    assert_int_equal(fclose(file), 0);
    for (int i = 0; i < FIELDS; i++) {
        check_text_has(text, table[i].path);
        check_text_has(text, table[i].help);
    }
    check_text_has(text, "layer_dropout.rate\n    number in [0, 1]; default: 0.1\n    p_max\n\n");
    check_text_has(text, "one of exp, uniform, linear; default: exp");
    check_text_has(text, "data.name\n    text; required\n");
    check_text_has(text, "seed\n    whole number; default: 0\n");
    check_text_has(text, "data.files\n    list of texts; default: none\n");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets_fill_what_is_not_given),
        cmocka_unit_test(a_file_is_read),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(any_string_reads_back),
        cmocka_unit_test(any_double_reads_back),
        cmocka_unit_test(refusals_name_key_and_line),
        cmocka_unit_test(bounds_are_inclusive),
        cmocka_unit_test(missing_files_are_refused),
        cmocka_unit_test(empty_values_where_they_are_allowed),
        cmocka_unit_test(lists_in_short),
        cmocka_unit_test(overrides_win),
        cmocka_unit_test(wrong_overrides_are_refused),
        cmocka_unit_test(a_wrong_preset_is_our_bug),
        cmocka_unit_test(damaged_text_does_no_harm),
        cmocka_unit_test(resolves_int_lists),
        cmocka_unit_test(the_reference_tells_every_field),
    };
    return cmocka_run_group_tests(tests, check_enter_scratch, check_leave_scratch);
}
