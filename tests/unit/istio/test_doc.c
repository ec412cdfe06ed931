/* ctrl/istio/doc.c: types as Kubernetes reads them, places, limits, and every refusal with its line and column. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct doc_file *read_text(const char *text, struct istio_diags *diags)
{
	istio_diags_init(diags);
	return istio_doc_read("test.yaml", text, strlen(text), (struct istio_pos){1, 1}, diags);
}

static void test_scalars_have_the_types_that_kubernetes_gives_them(void **state)
{
	static const struct {
		const char *text;
		enum doc_type type;
		bool flag;
	} cases[] = {{"yes", DOC_BOOL, true}, {"y", DOC_BOOL, true}, {"on", DOC_BOOL, true}, {"True", DOC_BOOL, true}, {"n", DOC_BOOL, false},
		     {"off", DOC_BOOL, false}, {"'yes'", DOC_STRING, false}, {"yess", DOC_STRING, false}, {"80", DOC_INT, false}, {"'80'", DOC_STRING, false},
		     {"0x1F", DOC_INT, false}, {"1_000", DOC_INT, false}, {"-7", DOC_INT, false}, {"0o17", DOC_INT, false}, {"0b101", DOC_INT, false},
		     {"1.5", DOC_FLOAT, false}, {"1e3", DOC_FLOAT, false}, {".inf", DOC_FLOAT, false}, {"0.3s", DOC_STRING, false}, {"~", DOC_NULL, false},
		     {"null", DOC_NULL, false}, {"", DOC_NULL, false}, {"1.2.3.4", DOC_STRING, false}, {"2020-01-01", DOC_STRING, false}, {"-", DOC_STRING,
				     false},
		     {"!!str 80", DOC_STRING, false}, {"!!float 80", DOC_INT, false}, {"0x", DOC_STRING, false}, {".", DOC_STRING, false}};
	struct istio_diags diags;
	char text[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(text, sizeof(text), "k: %s\n", strcmp(cases[i].text, "-") == 0 ? "'-'" : cases[i].text);
		struct doc_file *f = read_text(text, &diags);
		assert_non_null(f);
		const struct doc_node *v = istio_doc_find(f->documents[0], "k");
		assert_non_null(v);
		if (v->type != cases[i].type)
			fail_msg("%s is %s", cases[i].text, istio_doc_type_name(v->type));
		assert_int_equal(v->flag, cases[i].flag);
		istio_doc_put_ref(f);
		istio_diags_fini(&diags);
	}
	(void)state;
}

static void test_a_bare_y_is_a_boolean_as_a_key_too(void **state)
{
	struct istio_diags diags;
	struct doc_file *f = read_text("y: 1\n'y': 2\n80: 3\n", &diags);

	assert_string_equal(istio_doc_find(f->documents[0], "true")->text, "1");
	assert_string_equal(istio_doc_find(f->documents[0], "y")->text, "2");
	assert_string_equal(istio_doc_find(f->documents[0], "80")->text, "3");
	istio_doc_put_ref(f);
	istio_diags_fini(&diags);
	(void)state;
}

static void test_every_node_knows_its_line_and_column(void **state)
{
	struct istio_diags diags;
	struct doc_file *f = read_text("a:\n  - b: 1\n    c: [x, y]\n---\nd: |\n  text\n", &diags);

	assert_int_equal(f->n_documents, 2);
	const struct doc_node *item = istio_doc_find(f->documents[0], "a")->children[0];
	assert_int_equal(item->at.line, 2);
	assert_int_equal(item->at.column, 5);
	const struct doc_node *y = istio_doc_find(item, "c")->children[1];
	assert_int_equal(y->at.line, 3);
	assert_int_equal(y->at.column, 12);
	const struct doc_node *d = istio_doc_find(f->documents[1], "d");
	assert_int_equal(d->at.line, 5);
	assert_int_equal(d->literal_column, 3);
	assert_string_equal(d->text, "text\n");
	istio_doc_put_ref(f);
	istio_diags_fini(&diags);
	(void)state;
}

static void test_json_is_read_too(void **state)
{
	struct istio_diags diags;
	struct doc_file *f = read_text("{\"a\": {\"b\": [1, true, null, \"\\u00e9\"]}}", &diags);

	assert_non_null(f);
	const struct doc_node *b = istio_doc_find(istio_doc_find(f->documents[0], "a"), "b");
	assert_int_equal(b->n_children, 4);
	assert_int_equal(b->children[0]->type, DOC_INT);
	assert_string_equal(b->children[3]->text, "\xc3\xa9");
	istio_doc_put_ref(f);
	istio_diags_fini(&diags);
	(void)state;
}

static void test_aliases_share_and_merge_keys_give_way(void **state)
{
	struct istio_diags diags;
	struct doc_file *f = read_text("base: &b {x: 1, w: 2}\nuse: {<<: *b, w: 3}\nsame: *b\nmany: {<<: [*b, {z: 4}]}\n", &diags);

	assert_non_null(f);
	const struct doc_node *top = f->documents[0];
	assert_string_equal(istio_doc_find(istio_doc_find(top, "use"), "x")->text, "1");
	assert_string_equal(istio_doc_find(istio_doc_find(top, "use"), "w")->text, "3");
	assert_ptr_equal(istio_doc_find(top, "same"), istio_doc_find(top, "base"));
	assert_string_equal(istio_doc_find(istio_doc_find(top, "many"), "z")->text, "4");
	istio_doc_put_ref(f);
	istio_diags_fini(&diags);
	(void)state;
}

static void test_a_second_key_of_one_name_is_an_error_and_the_first_stays(void **state)
{
	struct istio_diags diags;
	struct doc_file *f = read_text("a: 1\nb: 2\na: 3\n", &diags);

	assert_non_null(f);
	assert_string_equal(istio_doc_find(f->documents[0], "a")->text, "1");
	assert_int_equal(diags.n, 1);
	assert_string_equal(diags.list[0].code, "HF0004");
	assert_int_equal(diags.list[0].at.line, 3);
	assert_int_equal(diags.list[0].at.column, 1);
	istio_doc_put_ref(f);
	istio_diags_fini(&diags);
	(void)state;
}

static void assert_refused(const char *text, const char *code, uint32_t line, uint32_t column, const char *part)
{
	struct istio_diags diags;
	struct doc_file *f = read_text(text, &diags);

	if (f)
		fail_msg("%s is read", text);
	assert_int_equal(diags.n_errors, 1);
	assert_string_equal(diags.list[0].code, code);
	if (diags.list[0].at.line != line || diags.list[0].at.column != column || !strstr(diags.list[0].text, part))
		fail_msg("%u:%u: %s", diags.list[0].at.line, diags.list[0].at.column, diags.list[0].text);
	istio_diags_fini(&diags);
}

static void test_what_is_not_yaml_is_refused_with_its_place(void **state)
{
	assert_refused("a: [1, 2\nb: 3\n", "HF0002", 2, 2, "not YAML");
	assert_refused("a: {b: 1\n", "HF0002", 2, 1, "not YAML");
	assert_refused("a: 'x\n", "HF0002", 2, 1, "not YAML");
	assert_refused("a: *nobody\n", "HF0002", 1, 4, "no anchor");
	assert_refused("? [a]\n: b\n", "HF0002", 1, 3, "a map's key");
	assert_refused("a: !!int x\n", "HF0002", 1, 4, "a tag");
	assert_refused("a: !mine x\n", "HF0002", 1, 4, "a tag");
	assert_refused("a: \"x\\0y\"\n", "HF0002", 1, 4, "zero byte");
	assert_refused("a: \xff\n", "HF0002", 1, 1, "UTF-8");
	(void)state;
}

static void test_an_alias_that_holds_itself_is_no_anchor_yet(void **state)
{
	assert_refused("a: &a [*a]\n", "HF0002", 1, 8, "no anchor");
	(void)state;
}

static void test_an_alias_bomb_is_refused(void **state)
{
	char text[2048];
	size_t n = (size_t)snprintf(text, sizeof(text), "l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n");

	for (int i = 1; i < 9; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "l%d: &l%d [*l%d, *l%d, *l%d, *l%d, *l%d, *l%d, *l%d, *l%d, *l%d, *l%d]\n", i, i, i - 1,
				      i - 1, i - 1,
				      i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
	assert_refused(text, "HF0003", 4, 45, "aliases expand");
	(void)state;
}

static void test_nesting_has_a_bound(void **state)
{
	char text[300];

	for (size_t depth = ISTIO_DOC_DEPTH_MAX; depth <= ISTIO_DOC_DEPTH_MAX + 1; depth++) {
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		text[2 * depth] = 0;
		struct istio_diags diags;
		struct doc_file *f = read_text(text, &diags);
		assert_int_equal(f != NULL, depth == ISTIO_DOC_DEPTH_MAX);
		istio_doc_put_ref(f);
		istio_diags_fini(&diags);
	}
	(void)state;
}

/* A file of which only a part has been written so far: a tree, or one error; never a crash, and never something of a broken text. */
static void test_every_cut_of_a_file_is_read_or_refused(void **state)
{
	static const char text[] = "apiVersion: v1\nkind: X\nmetadata: {name: a, labels: &l {b: 'c'}}\nspec:\n  list: [1, \"two\", *l]\n  text: |\n    "
		"x\n---\n{}\n";

	for (size_t n = 0; n < sizeof(text); n++) {
		char *cut = calloc(1, n + 1);
		struct istio_diags diags;
		memcpy(cut, text, n);
		istio_diags_init(&diags);
		struct doc_file *f = istio_doc_read("test.yaml", cut, strlen(cut), (struct istio_pos){1, 1}, &diags);
		assert_int_equal(f == NULL, diags.n_errors == 1);
		istio_doc_put_ref(f);
		istio_diags_fini(&diags);
		free(cut);
	}
	(void)state;
}

static void test_diagnostics_are_printed_and_sorted(void **state)
{
	struct istio_diags d;
	char line[200];

	istio_diags_init(&d);
	istio_diags_add(&d, ISTIO_WARNING, "W", "b.yaml", (struct istio_pos){2, 1}, "", "", "second");
	istio_diags_add(&d, ISTIO_ERROR, "E", "a.yaml", (struct istio_pos){10, 3}, "Kind/ns/n", "spec.x", "not %d", 7);
	istio_diags_add(&d, ISTIO_ERROR, "E", "b.yaml", (struct istio_pos){2, 1}, "", "", "first");
	istio_diags_sort(&d);
	int n = istio_diag_format(&d.list[0], line, sizeof(line));
	assert_int_equal(n, (int)strlen(line));
	assert_string_equal(line, "a.yaml:10:3: error: Kind/ns/n: spec.x: not 7 [E]");
	assert_string_equal(d.list[1].text, "first");
	assert_int_equal(d.n_errors, 2);
	assert_int_equal(d.n_warnings, 1);
	for (unsigned int i = 0; i < ISTIO_DIAGS_MAX; i++)
		istio_diags_add(&d, ISTIO_INFO, "I", "c", (struct istio_pos){0}, "", "", "x");
	assert_int_equal(d.n, ISTIO_DIAGS_MAX);
	assert_int_equal(d.n_dropped, 3);
	istio_diags_fini(&d);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scalars_have_the_types_that_kubernetes_gives_them),
		cmocka_unit_test(test_a_bare_y_is_a_boolean_as_a_key_too),
		cmocka_unit_test(test_every_node_knows_its_line_and_column),
		cmocka_unit_test(test_json_is_read_too),
		cmocka_unit_test(test_aliases_share_and_merge_keys_give_way),
		cmocka_unit_test(test_a_second_key_of_one_name_is_an_error_and_the_first_stays),
		cmocka_unit_test(test_what_is_not_yaml_is_refused_with_its_place),
		cmocka_unit_test(test_an_alias_that_holds_itself_is_no_anchor_yet),
		cmocka_unit_test(test_an_alias_bomb_is_refused),
		cmocka_unit_test(test_nesting_has_a_bound),
		cmocka_unit_test(test_every_cut_of_a_file_is_read_or_refused),
		cmocka_unit_test(test_diagnostics_are_printed_and_sorted),
	};
	return cmocka_run_group_tests_name("istio.doc", tests, NULL, NULL);
}
