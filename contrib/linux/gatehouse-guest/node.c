// SPDX-License-Identifier: GPL-2.0-only
/*
 * The node contract, version 1: reads a function's node. The tree was made
 * and measured by the firmware; checks here catch mistakes, not attacks.
 */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include <linux/log2.h>
#include <linux/sizes.h>

#include "gatehouse.h"

/* phys.hi of the PCI bus binding */
#define PHYS_SPACE(hi)		(((hi) >> 24) & 0x3)
#define PHYS_SPACE_MEM32	2
#define PHYS_SPACE_MEM64	3
#define PHYS_PREFETCH		BIT(30)
#define PHYS_BDF(hi)		(((hi) >> 8) & 0xffff)
#define PHYS_REG(hi)		((hi) & 0xff)

static int gh_read_ids(struct gh_function *fn)
{
	static const char * const names[] = {
		"vendor-id", "device-id", "subsystem-vendor-id",
		"subsystem-id", "revision-id", "class-code",
	};
	u32 v[ARRAY_SIZE(names)];
	int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		u32 limit = i < 4 ? 0xffff : i == 4 ? 0xff : 0xffffff;

		if (of_property_read_u32(fn->np, names[i], &v[i]) ||
		    v[i] > limit) {
			gh_refuse(fn->np, "bad or missing %s", names[i]);
			return -EINVAL;
		}
	}
	fn->vendor = v[0];
	fn->device = v[1];
	fn->subvendor = v[2];
	fn->subdevice = v[3];
	fn->revision = v[4];
	fn->class = v[5];
	return 0;
}

static int gh_read_bar(struct gh_function *fn, const u32 *cell)
{
	u64 addr = (u64)cell[1] << 32 | cell[2];
	u64 size = (u64)cell[3] << 32 | cell[4];
	bool wide = PHYS_SPACE(cell[0]) == PHYS_SPACE_MEM64;
	u32 reg = PHYS_REG(cell[0]);
	unsigned int i = (reg - PCI_BASE_ADDRESS_0) / 4;
	struct gh_bar *bar;
	u64 sizing;

	if (PHYS_BDF(cell[0]) != (fn->bus << 8 | fn->devfn) ||
	    (!wide && PHYS_SPACE(cell[0]) != PHYS_SPACE_MEM32) ||
	    reg < PCI_BASE_ADDRESS_0 || reg > PCI_BASE_ADDRESS_5 || reg & 3 ||
	    (wide && reg == PCI_BASE_ADDRESS_5))
		return -EINVAL;
	if (size < SZ_4K || !is_power_of_2(size) || !addr ||
	    addr & (size - 1) || addr + size - 1 < addr ||
	    (!wide && addr + size - 1 > U32_MAX))
		return -EINVAL;
	/* not twice, and not inside another 64-bit BAR */
	if (fn->bar_value[i] || fn->bar_sizing[i] ||
	    (wide && (fn->bar_value[i + 1] || fn->bar_sizing[i + 1])))
		return -EINVAL;

	bar = &fn->bars[i];
	bar->addr = addr;
	bar->size = size;
	bar->flags = PCI_BASE_ADDRESS_SPACE_MEMORY;
	if (wide)
		bar->flags |= PCI_BASE_ADDRESS_MEM_TYPE_64;
	if (cell[0] & PHYS_PREFETCH)
		bar->flags |= PCI_BASE_ADDRESS_MEM_PREFETCH;

	sizing = ~(size - 1);
	fn->bar_value[i] = lower_32_bits(addr) | bar->flags;
	fn->bar_sizing[i] = lower_32_bits(sizing) | bar->flags;
	if (wide) {
		fn->bar_value[i + 1] = upper_32_bits(addr);
		fn->bar_sizing[i + 1] = upper_32_bits(sizing);
	}
	return 0;
}

static int gh_read_bars(struct gh_function *fn)
{
	const char *name = "assigned-addresses";
	int n = of_property_count_u32_elems(fn->np, name);
	u32 cell[5];
	int i, j;

	if (n <= 0 || n % ARRAY_SIZE(cell)) {
		gh_refuse(fn->np, "bad or missing %s", name);
		return -EINVAL;
	}
	for (i = 0; i < n; i += ARRAY_SIZE(cell)) {
		for (j = 0; j < ARRAY_SIZE(cell); j++)
			if (of_property_read_u32_index(fn->np, name, i + j,
						       &cell[j]))
				return -EINVAL;
		if (gh_read_bar(fn, cell)) {
			gh_refuse(fn->np, "bad entry %d in %s",
				  i / (int)ARRAY_SIZE(cell), name);
			return -EINVAL;
		}
	}
	return 0;
}

static int gh_read_msix(struct gh_function *fn)
{
	const char *name = "gatehouse,msix-pages";
	int n = of_property_count_u32_elems(fn->np, name);
	int i;

	if (!of_property_present(fn->np, name) || n == -ENODATA)
		return 0;	/* absent or empty: no MSI-X pages */
	if (n < 0 || n % 3 || n / 3 > GH_MAX_MSIX)
		goto bad;
	for (i = 0; i < n / 3; i++) {
		struct gh_msix_run *run = &fn->msix[i];

		if (of_property_read_u32_index(fn->np, name, 3 * i,
					       &run->bar) ||
		    of_property_read_u32_index(fn->np, name, 3 * i + 1,
					       &run->first) ||
		    of_property_read_u32_index(fn->np, name, 3 * i + 2,
					       &run->count))
			goto bad;
		if (run->bar >= PCI_STD_NUM_BARS || !run->count ||
		    (u64)run->first + run->count >
		    fn->bars[run->bar].size / SZ_4K)
			goto bad;
		fn->num_msix++;
	}
	return 0;
bad:
	gh_refuse(fn->np, "bad %s", name);
	return -EINVAL;
}

static int gh_read_vdev(struct gh_function *fn)
{
	const char *name = "gatehouse,nonces";
	int i;

	if (of_property_read_u64(fn->np, "gatehouse,vdev-id", &fn->vdev) ||
	    of_property_count_u64_elems(fn->np, name) != ARRAY_SIZE(fn->nonces))
		goto bad;
	for (i = 0; i < ARRAY_SIZE(fn->nonces); i++)
		if (of_property_read_u64_index(fn->np, name, i,
					       &fn->nonces[i]))
			goto bad;
	return 0;
bad:
	gh_refuse(fn->np, "bad or missing gatehouse,vdev-id or %s", name);
	return -EINVAL;
}

bool gh_page_is_msix(const struct gh_function *fn, unsigned int bar, u64 page)
{
	unsigned int i;

	for (i = 0; i < fn->num_msix; i++) {
		const struct gh_msix_run *run = &fn->msix[i];

		if (run->bar == bar && page >= run->first &&
		    page - run->first < run->count)
			return true;
	}
	return false;
}

int gh_node_parse(struct gh_function *fn)
{
	const char *mode;
	u32 hi;

	if (of_property_read_string(fn->np, "gatehouse,mode", &mode) ||
	    strcmp(mode, "run")) {
		gh_refuse(fn->np, "this module knows only mode \"run\"");
		return -EINVAL;
	}
	if (of_property_read_u32_index(fn->np, "reg", 0, &hi) ||
	    hi & 0xff0000ff) {
		gh_refuse(fn->np, "bad or missing reg");
		return -EINVAL;
	}
	fn->bus = PHYS_BDF(hi) >> 8;
	fn->devfn = PHYS_BDF(hi) & 0xff;
	return gh_read_vdev(fn) ?: gh_read_ids(fn) ?: gh_read_bars(fn) ?:
	       gh_read_msix(fn);
}
