// SPDX-License-Identifier: GPL-2.0-only
/*
 * Event log and evidence as files. Good nodes first; then each rule is broken
 * once, for one of the two, and exactly that file must be absent.
 */
#include "check.h"

/* As much more of the kernel as log.c needs. */
#define SZ_16M		0x1000000
#define MEMREMAP_WB	1
#define pr_warn(...)	do { num_warn++; pr_err(__VA_ARGS__); } while (0)
#define of_node_put(np)	((void)(np))
struct resource { u64 start, end; };
struct attribute { const char *name; int mode; };
struct bin_attribute { struct attribute attr; size_t size; void *private; };
#define BIN_ATTR_SIMPLE_ADMIN_RO(n) \
	struct bin_attribute bin_attr_##n = { .attr = { .name = #n, .mode = 0400 } }
struct kobject { bool there; };

static int num_warn;
static struct kobject firmware, dir, *firmware_kobj = &firmware;
static struct device_node memory, log_node, evidence_node;
static struct bin_attribute *files[4];
static int num_files, num_mapped;
static bool in_realm, no_memory, no_map, no_file;
static u64 ram_from, ram_to;

static struct kobject *kobject_create_and_add(const char *name, struct kobject *parent)
{
	if (no_memory || strcmp(name, "gatehouse") || parent != &firmware)
		return NULL;
	dir.there = true;
	return &dir;
}

static void kobject_put(struct kobject *kobj)
{
	kobj->there = false;
}

static struct device_node *of_find_node_by_path(const char *path)
{
	return strcmp(path, "/reserved-memory") ? NULL : &memory;
}

static struct device_node *of_get_compatible_child(struct device_node *np, const char *compatible)
{
	struct device_node **child;
	const char *v;

	for (child = np->child; *child; child++)
		if (!of_property_read_string(*child, "compatible", &v) && !strcmp(v, compatible))
			return *child;
	return NULL;
}

static int of_address_to_resource(struct device_node *np, int i, struct resource *res)
{
	u64 size;

	if (of_property_read_u64_index(np, "reg", 2 * i, &res->start) ||
	    of_property_read_u64_index(np, "reg", 2 * i + 1, &size))
		return -EINVAL;
	res->end = res->start + size - 1;
	return 0;
}

static void *memremap(u64 base, u64 size, int flags)
{
	if (no_map || flags != MEMREMAP_WB)
		return NULL;
	num_mapped++;
	return (void *)base;
}

static void memunmap(void *bytes)
{
	num_mapped--;
}

static int sysfs_create_bin_file(struct kobject *kobj, struct bin_attribute *file)
{
	if (no_file || !kobj->there)
		return -ENOMEM;
	files[num_files++] = file;
	return 0;
}

#define GATEHOUSE_MEMREMAP_PRIVATE
#include "../log.c"

bool gh_in_realm(void)
{
	return in_realm;
}

bool gh_is_ram(phys_addr_t base, phys_addr_t end)
{
	return !((base | end) & 4095) && ram_from <= base && base < end && end <= ram_to;
}

#define LOG		0x48000000U
#define LOG_SIZE	0x1234U
#define EVIDENCE	0x150000000ULL	/* above 4 GiB */
#define EVIDENCE_SIZE	0x3000U

static void bytes(struct device_node *np, const char *name, const void *data, int len)
{
	struct property *p = of_find(np, name);
	int i;

	for (i = 0; !p; i++)
		if (!np->props[i].name)
			p = &np->props[i];
	p->name = name;
	p->len = len;
	memcpy(p->data, data, len);
}

static void numbers(struct device_node *np, const char *name, int n, u64 a, u64 b)
{
	u64 v[2] = { __builtin_bswap64(a), __builtin_bswap64(b) };

	bytes(np, name, v, 8 * n);
}

static void region(struct device_node *np, const char *compatible, u64 base, u64 size)
{
	bool is_log = np == &log_node;

	memset(np, 0, sizeof(*np));
	bytes(np, "compatible", compatible, strlen(compatible) + 1);
	bytes(np, "no-map", "", 0);
	numbers(np, "reg", 2, base, round_up(size, SZ_4K));
	numbers(np, is_log ? "log-base" : "evidence-base", 1, base, 0);
	numbers(np, is_log ? "log-size" : "evidence-size", 1, size, 0);
}

static void good(const char *name)
{
	test = name;
	memset(&memory, 0, sizeof(memory));
	memory.child[0] = &evidence_node;
	memory.child[1] = &log_node;
	region(&log_node, "confidential-computing-event-log", LOG, LOG_SIZE);
	region(&evidence_node, "gatehouse,evidence", EVIDENCE, EVIDENCE_SIZE);
	dir.there = no_memory = no_map = no_file = false;
	in_realm = true;
	ram_from = LOG;
	ram_to = EVIDENCE + EVIDENCE_SIZE;
	num_files = num_mapped = num_warn = 0;
}

/* The files that are shown, with a line for each that is not. */
static bool shown(bool log, bool evidence)
{
	int i = 0;

	gh_log_init();
	CHECK(num_files == log + evidence, "%d files", num_files);
	CHECK(num_mapped == num_files, "%d are mapped", num_mapped);
	CHECK(dir.there == (log || evidence), "the directory");
	CHECK(num_warn == !log + !evidence, "%d lines", num_warn);
	if (log) {
		CHECK(files[i] == &bin_attr_event_log, "it is not the log");
		CHECK(files[i]->private == (void *)(u64)LOG && files[i]->size == LOG_SIZE, "bytes of the log");
		CHECK(files[i]->attr.mode == 0400, "mode of the log");
		i++;
	}
	if (evidence) {
		CHECK(files[i] == &bin_attr_evidence, "it is not the evidence");
		CHECK(files[i]->private == (void *)EVIDENCE && files[i]->size == EVIDENCE_SIZE,
		      "bytes of the evidence");
		CHECK(files[i]->attr.mode == 0400, "mode of the evidence");
	}
	return true;
}

static void good_nodes(void)
{
	good("both");
	shown(true, true);
	good("a reg with room behind the evidence");
	numbers(&evidence_node, "reg", 2, EVIDENCE, 0x2000000);
	numbers(&evidence_node, "evidence-size", 1, EVIDENCE_SIZE, 0);
	shown(true, true);
	good("no node of evidence");
	memory.child[0] = &log_node;
	memory.child[1] = NULL;
	shown(true, false);
	good("no node at all");
	memory.child[0] = NULL;
	shown(false, false);
}

static void bad_nodes(void)
{
	good("not no-map");
	of_find(&log_node, "no-map")->name = "map";
	shown(false, true);
	good("no reg");
	of_find(&log_node, "reg")->name = "ger";
	shown(false, true);
	good("no base");
	of_find(&log_node, "log-base")->name = "evidence-base";
	shown(false, true);
	good("a size of four bytes");
	of_find(&evidence_node, "evidence-size")->len = 4;
	shown(true, false);
	good("two sizes");
	numbers(&evidence_node, "evidence-size", 2, EVIDENCE_SIZE, EVIDENCE_SIZE);
	shown(true, false);
	good("empty");
	numbers(&log_node, "log-size", 1, 0, 0);
	shown(false, true);
	good("more than 16 MiB");
	numbers(&evidence_node, "reg", 2, EVIDENCE, 0x2000000);
	numbers(&evidence_node, "evidence-size", 1, 0x1000001, 0);
	ram_to = EVIDENCE + 0x2000000;
	shown(true, false);
	good("starts before its reg");
	numbers(&log_node, "log-base", 1, LOG - 1, 0);
	ram_from = 0;
	shown(false, true);
	good("starts behind its reg");
	numbers(&log_node, "log-base", 1, LOG + 0x2000, 0);
	shown(false, true);
	good("ends behind its reg");
	numbers(&log_node, "log-size", 1, 0x2001, 0);
	shown(false, true);
	good("wraps");
	numbers(&log_node, "log-base", 1, LOG + 1, 0);
	numbers(&log_node, "log-size", 1, -(u64)LOG, 0);
	shown(false, true);
}

static void bad_pages(void)
{
	good("the first page is not RAM");
	ram_from = LOG + 1;
	shown(false, true);
	good("the last page is not RAM");
	ram_to = EVIDENCE + EVIDENCE_SIZE - 1;
	shown(true, false);
}

static bool bad_luck(void)
{
	good("cannot be mapped");
	no_map = true;
	shown(false, false);
	good("no file");
	no_file = true;
	shown(false, false);
	good("no directory");
	no_memory = true;
	gh_log_init();
	CHECK(!num_files && !num_mapped && num_warn == 1, "%d lines", num_warn);
	good("no realm");
	in_realm = false;
	gh_log_init();
	CHECK(!num_files && !num_mapped && !dir.there && !num_warn, "%d lines", num_warn);
	return true;
}

int main(int argc, char **argv)
{
	verbose = argc > 1;
	good_nodes();
	bad_nodes();
	bad_pages();
	bad_luck();
	if (!failed)
		printf("event log and evidence: all tests passed\n");
	return failed != 0;
}
