/* RE2 behind a C face, see regex.h. The one C++ file of the data plane: no exception and no C++ type leaves it.
 *
 * The options are those of Envoy's matcher (RE2::Quiet: UTF-8, no logging), so that a pattern means here what it means there, with two
 * differences: a memory bound of ours, and case folding where asked for. RE2 needs time linear in the text whatever the pattern is; when its lazy
 * DFA outgrows the bound it starts over or falls back to its NFA, slower and still linear. */
#include "dataplane/core/regex.h"

#include <re2/filtered_re2.h>
#include <re2/re2.h>

#include <cstring>
#include <new>
#include <string>
#include <vector>

#include "dataplane/core/error.h"

struct foil_regex {
	re2::RE2 program;

	foil_regex(const re2::StringPiece &pattern, const re2::RE2::Options &options) : program(pattern, options)
	{
	}
};

static re2::StringPiece piece(struct foil_slice s)
{
	return re2::StringPiece(s.data ? s.data : "", s.n_bytes);
}

static struct foil_regex *compile(struct foil_slice pattern, bool ignore_case)
{
	re2::RE2::Options options;

	options.set_log_errors(false);
	options.set_max_mem(FOIL_REGEX_MEM_BYTES);
	options.set_case_sensitive(!ignore_case);
	return new (std::nothrow) foil_regex(piece(pattern), options);
}

struct foil_regex *foil_regex_new(struct foil_slice pattern, bool ignore_case, struct foil_error *err)
{
	try {
		struct foil_regex *re = compile(pattern, ignore_case);

		if (re && re->program.ok())
			return re;
		if (re)
			(void)foil_error_set(err, -1, "'%.*s' is not a regular expression that RE2 takes: %s",
				(int)(pattern.n_bytes > 200 ? 200 : pattern.n_bytes),
					     pattern.data ? pattern.data : "", re->program.error().c_str());
		else
			(void)foil_error_set(err, -1, "no memory for a regular expression");
		delete re;
	} catch (...) { /* std::bad_alloc, std::length_error */
		(void)foil_error_set(err, -1, "no memory for a regular expression of %u bytes", pattern.n_bytes);
	}
	return nullptr;
}

void foil_regex_free(struct foil_regex *re)
{
	delete re;
}

bool foil_regex_full_match(const struct foil_regex *re, struct foil_slice text)
{
	try {
		return re->program.Match(piece(text), 0, text.n_bytes, re2::RE2::ANCHOR_BOTH, nullptr, 0);
	} catch (...) { /* no memory for the lazy DFA: no match is the safe answer of a matcher that cannot say */
		return false;
	}
}

bool foil_regex_search(const struct foil_regex *re, struct foil_slice text, uint32_t from, struct foil_slice groups[FOIL_REGEX_GROUPS_MAX])
{
	re2::StringPiece found[FOIL_REGEX_GROUPS_MAX];
	int n = 1 + re->program.NumberOfCapturingGroups();

	if (from > text.n_bytes)
		return false;
	if (n > (int)FOIL_REGEX_GROUPS_MAX)
		n = (int)FOIL_REGEX_GROUPS_MAX;
	try {
		if (!re->program.Match(piece(text), from, text.n_bytes, re2::RE2::UNANCHORED, found, n))
			return false;
	} catch (...) {
		return false;
	}
	for (int i = 0; i < (int)FOIL_REGEX_GROUPS_MAX; i++)
		groups[i] = foil_slice_of(i < n ? found[i].data() : nullptr, i < n && found[i].data() ? found[i].size() : 0);
	return true;
}

/* RE2 gives its texts in lower case by Unicode's rules, under which U+212A is a k. Where nothing but ASCII can stand for ASCII, folding it is enough:
 * no flags (case folding is one), no byte above, no escape that could name a character from there. */
static bool is_plain(struct foil_slice pattern)
{
	for (uint32_t i = 0; i < pattern.n_bytes; i++) {
		char c = pattern.data[i], next = i + 1 < pattern.n_bytes ? pattern.data[i + 1] : '\0';
		if ((uint8_t)c >= 0x80)
			return false;
		if (c == '(' && next == '?' && !(i + 2 < pattern.n_bytes && pattern.data[i + 2] == ':'))
			return false;
		if (c != '\\')
			continue;
		if (((next >= '0' && next <= '9') || (next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z')) && !strchr("dDwWsSbBAz", next))
			return false;
		i++;
	}
	return true;
}

static bool may_match(const re2::FilteredRE2 &filter, size_t n_atoms, size_t without)
{
	std::vector<int> found, potential;

	for (size_t i = 0; i < n_atoms; i++)
		if (i != without)
			found.push_back((int)i);
	filter.AllPotentials(found, &potential);
	return !potential.empty();
}

static void literal_set(struct foil_regex_literal *l, const std::string &text)
{
	size_t n = text.size() < FOIL_REGEX_LITERAL_BYTES_MAX ? text.size() : FOIL_REGEX_LITERAL_BYTES_MAX;

	l->n_bytes = (uint8_t)n;
	memcpy(l->text, text.data() + (text.size() - n), n); /* of a long one the end: paths begin alike */
}

/* One text that every match has, the longest; else all of them, if a match has one at least. */
static uint32_t choose(const re2::FilteredRE2 &filter, const std::vector<std::string> &atoms, struct foil_regex_literal *out)
{
	size_t n = atoms.size(), best = n;

	for (size_t i = 0; i < n; i++)
		if ((best == n || atoms[i].size() > atoms[best].size()) && !may_match(filter, n, i))
			best = i;
	if (best < n) {
		literal_set(&out[0], atoms[best]);
		return 1;
	}
	std::vector<int> none, potential;
	filter.AllPotentials(none, &potential);
	if (!potential.empty())
		return 0;
	for (size_t i = 0; i < n; i++)
		literal_set(&out[i], atoms[i]);
	return (uint32_t)n;
}

uint32_t foil_regex_literals(struct foil_slice pattern, struct foil_regex_literal out[FOIL_REGEX_LITERALS_MAX])
{
	if (!is_plain(pattern))
		return 0;
	try {
		re2::FilteredRE2 filter(FOIL_REGEX_LITERAL_BYTES_MIN);
		re2::RE2::Options options;
		std::vector<std::string> atoms;
		int id;

		options.set_log_errors(false);
		options.set_max_mem(FOIL_REGEX_MEM_BYTES);
		if (filter.Add(piece(pattern), options, &id) != re2::RE2::NoError)
			return 0;
		filter.Compile(&atoms);
		return atoms.empty() || atoms.size() > FOIL_REGEX_LITERALS_MAX ? 0 : choose(filter, atoms, out);
	} catch (...) { /* no memory: no help for the index */
		return 0;
	}
}
