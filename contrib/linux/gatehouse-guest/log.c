// SPDX-License-Identifier: GPL-2.0-only
/*
 * The event log and the raw evidence that the firmware left in reserved memory,
 * as files for who is asked for evidence: /sys/firmware/gatehouse/event_log and
 * evidence. With and without a bridge of ours. What cannot be shown is absent,
 * and a line in the log says why; the module works without it.
 *
 * The nodes are the firmware's, so checks of numbers catch mistakes. The pages
 * are asked of the RMM: pages that are not private would be the host's words.
 */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include <linux/io.h>
#include <linux/kobject.h>
#include <linux/of_address.h>
#include <linux/sizes.h>
#include <linux/sysfs.h>

#include "gatehouse.h"

#define GH_MAX_REGION	SZ_16M

static BIN_ATTR_SIMPLE_ADMIN_RO(event_log);
static BIN_ATTR_SIMPLE_ADMIN_RO(evidence);

static const struct gh_region {
	struct bin_attribute *file;
	const char *compatible;
	const char *base;
	const char *size;
} gh_regions[] = {
	{ &bin_attr_event_log, "confidential-computing-event-log",
	  "log-base", "log-size" },
	{ &bin_attr_evidence, "gatehouse,evidence",
	  "evidence-base", "evidence-size" },
};

/*
 * The first realm kernels took only RIPAS DEV for private in memremap(), and
 * gave the unprotected alias of anything else. Kbuild looks into the header.
 */
static bool gh_maps_private(void)
{
#if defined(GATEHOUSE_MEMREMAP_PRIVATE) || defined(GATEHOUSE_TEST_NO_REALM)
	return true;
#else
	return false;
#endif
}

static bool gh_read_number(const struct device_node *np, const char *name,
			   u64 *v)
{
	return of_property_count_u64_elems(np, name) == 1 &&
	       !of_property_read_u64(np, name, v);
}

/* Why these bytes cannot be shown, or NULL. */
static const char *gh_region_read(struct device_node *np,
				  const struct gh_region *region, u64 *base,
				  u64 *size)
{
	struct resource res;

	if (!of_property_present(np, "no-map"))
		return "not no-map";
	if (of_address_to_resource(np, 0, &res))
		return "bad or missing reg";
	if (!gh_read_number(np, region->base, base) ||
	    !gh_read_number(np, region->size, size))
		return "bad or missing base or size";
	if (!*size || *size > GH_MAX_REGION)
		return "empty, or more than 16 MiB";
	if (*base < res.start || *base > res.end ||
	    *size - 1 > res.end - *base)
		return "not inside its reg";
	if (!gh_is_ram(round_down(*base, SZ_4K), round_up(*base + *size, SZ_4K)))
		return "not RIPAS RAM";
	return NULL;
}

static bool gh_region_show(struct kobject *dir, const struct gh_region *region,
			   struct device_node *memory)
{
	struct bin_attribute *file = region->file;
	struct device_node *np = of_get_compatible_child(memory,
							 region->compatible);
	u64 base = 0, size = 0;
	const char *why;
	void *bytes = NULL;

	if (!np)
		why = "no node";
	else if (!gh_maps_private())
		why = "this kernel would map it shared";
	else
		why = gh_region_read(np, region, &base, &size);
	of_node_put(np);
	if (!why) {
		bytes = memremap(base, size, MEMREMAP_WB);
		if (!bytes)
			why = "cannot be mapped";
	}
	if (!why) {
		file->private = bytes;
		file->size = size;
		if (sysfs_create_bin_file(dir, file))
			why = "no file";
	}
	if (why) {
		if (bytes)
			memunmap(bytes);
		pr_warn("%s is absent: %s\n", file->attr.name, why);
		return false;
	}
	pr_info("%s: %zu bytes\n", file->attr.name, file->size);
	return true;
}

/* There is no way back: the files stay, as the module does. */
void gh_log_init(void)
{
	struct device_node *memory;
	struct kobject *dir;
	unsigned int shown = 0;
	int i;

	if (!gh_in_realm())
		return;
	dir = kobject_create_and_add("gatehouse", firmware_kobj);
	if (!dir) {
		pr_warn("no /sys/firmware/gatehouse\n");
		return;
	}
	memory = of_find_node_by_path("/reserved-memory");
	for (i = 0; i < ARRAY_SIZE(gh_regions); i++)
		shown += gh_region_show(dir, &gh_regions[i], memory);
	of_node_put(memory);
	if (!shown)
		kobject_put(dir);
}
