// SPDX-License-Identifier: GPL-2.0-only
/*
 * The node contract, version 1: reads the node of a function or a bridge. The
 * tree was made and measured by the firmware; checks here catch mistakes, not
 * attacks.
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
	static const struct {
		const char *name;
		u32 limit;
	} ids[] = {
		{ "vendor-id", 0xffff },
		{ "device-id", 0xffff },
		{ "revision-id", 0xff },
		{ "class-code", 0xffffff },
		{ "subsystem-vendor-id", 0xffff },	/* not of a bridge */
		{ "subsystem-id", 0xffff },
	};
	u32 v[ARRAY_SIZE(ids)] = { 0 };
	int n = fn->mode == GH_BRIDGE ? 4 : ARRAY_SIZE(ids);
	int i;

	for (i = 0; i < n; i++) {
		if (of_property_read_u32(fn->np, ids[i].name, &v[i]) ||
		    v[i] > ids[i].limit) {
			gh_refuse(fn->np, "bad or missing %s", ids[i].name);
			return -EINVAL;
		}
	}
	fn->vendor = v[0];
	fn->device = v[1];
	fn->revision = v[2];
	fn->class = v[3];
	fn->subvendor = v[4];
	fn->subdevice = v[5];
	return 0;
}

/* Cells [at, at + n) of a property. */
static int gh_read_cells(struct gh_function *fn, const char *name, int at,
			 u32 *cell, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (of_property_read_u32_index(fn->np, name, at + i, &cell[i]))
			return -EINVAL;
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
	/* a shared BAR may be smaller than its page */
	if (size < (fn->mode == GH_RUN ? SZ_4K : SZ_16) ||
	    !is_power_of_2(size) || !addr ||
	    addr & (max_t(u64, size, SZ_4K) - 1) || addr + size - 1 < addr ||
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
	int i;

	if (fn->mode == GH_SHARED && !of_property_present(fn->np, name))
		return 0;	/* no memory BAR */
	if (n <= 0 || n % ARRAY_SIZE(cell)) {
		gh_refuse(fn->np, "bad or missing %s", name);
		return -EINVAL;
	}
	for (i = 0; i < n; i += ARRAY_SIZE(cell)) {
		if (gh_read_cells(fn, name, i, cell, ARRAY_SIZE(cell)) ||
		    gh_read_bar(fn, cell)) {
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

	if (!of_property_present(fn->np, name) || !n || n == -ENODATA)
		return 0;	/* absent or empty: no MSI-X pages */
	if (n < 0 || n % 3 || n / 3 > GH_MAX_MSIX || fn->mode != GH_RUN)
		goto bad;
	for (i = 0; i < n / 3; i++) {
		struct gh_msix_run *run = &fn->msix[i];
		u32 cell[3];

		if (gh_read_cells(fn, name, 3 * i, cell, 3))
			goto bad;
		run->bar = cell[0];
		run->first = cell[1];
		run->count = cell[2];
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

	if (of_property_read_u64(fn->np, "gatehouse,vdev-id", &fn->vdev))
		goto bad;
	fn->has_vdev = true;
	if (of_property_count_u64_elems(fn->np, name) != ARRAY_SIZE(fn->nonces))
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

/* One entry of a bridge's ranges: child address, parent address, size. */
static int gh_read_range(struct gh_function *fn, const u32 *cell)
{
	u64 start = (u64)cell[1] << 32 | cell[2];
	u64 size = (u64)cell[6] << 32 | cell[7];
	struct gh_window *window;

	if (cell[0] == 0x02000000)
		window = &fn->memory;
	else if (cell[0] == 0x42000000 || cell[0] == 0x43000000)
		window = &fn->prefetch;
	else
		return -EINVAL;
	if (memcmp(cell, cell + 3, 3 * sizeof(*cell)) || window->last ||
	    !start || !size || (start | size) & (SZ_1M - 1) ||
	    start + size - 1 < start)
		return -EINVAL;
	if (PHYS_SPACE(cell[0]) == PHYS_SPACE_MEM32 &&
	    start + size - 1 > U32_MAX)
		return -EINVAL;
	window->start = start;
	window->last = start + size - 1;
	return 0;
}

static int gh_read_ranges(struct gh_function *fn)
{
	const char *name = "ranges";
	int n = of_property_count_u32_elems(fn->np, name);
	u32 cell[8];
	int i;

	if (!of_property_present(fn->np, name))
		return 0;	/* no window: nothing behind it has a BAR */
	if (n <= 0 || n % ARRAY_SIZE(cell))
		goto bad;
	for (i = 0; i < n; i += ARRAY_SIZE(cell))
		if (gh_read_cells(fn, name, i, cell, ARRAY_SIZE(cell)) ||
		    gh_read_range(fn, cell))
			goto bad;
	return 0;
bad:
	gh_refuse(fn->np, "bad %s", name);
	return -EINVAL;
}

static int gh_read_bridge(struct gh_function *fn)
{
	u32 cell[2];

	if (fn->class >> 8 != PCI_CLASS_BRIDGE_PCI) {
		gh_refuse(fn->np, "class %06x is not a bridge's", fn->class);
		return -EINVAL;
	}
	if (gh_read_cells(fn, "bus-range", 0, cell, 2) || cell[0] > 0xff ||
	    cell[1] > 0xff) {
		gh_refuse(fn->np, "bad or missing bus-range");
		return -EINVAL;
	}
	fn->secondary = cell[0];
	fn->subordinate = cell[1];
	return gh_read_ranges(fn);
}

/* The only place where the mode is decided: it is the tree's word. */
static int gh_read_mode(struct gh_function *fn)
{
	const char *mode;

	if (!of_property_present(fn->np, "gatehouse,mode")) {
		fn->mode = GH_BRIDGE;
		if (of_node_is_type(fn->np, "pci"))
			return 0;
		gh_refuse(fn->np, "neither a function nor a bridge");
		return -EINVAL;
	}
	if (!of_property_read_string(fn->np, "gatehouse,mode", &mode)) {
		if (!strcmp(mode, "run")) {
			fn->mode = GH_RUN;
			return gh_read_vdev(fn);
		}
		if (!strcmp(mode, "shared")) {
			fn->mode = GH_SHARED;
			return 0;
		}
		if (!strcmp(mode, "pin")) {
			fn->mode = GH_PIN;
			return 0;
		}
	}
	/* not a bridge, so nothing below it is looked at */
	fn->mode = GH_SHARED;
	gh_refuse(fn->np,
		  "this module knows the modes \"run\", \"shared\" and \"pin\"");
	return -EINVAL;
}

int gh_node_parse(struct gh_function *fn)
{
	int ret = gh_read_mode(fn);
	u32 hi;

	if (ret)
		return ret;
	if (of_property_read_u32_index(fn->np, "reg", 0, &hi) ||
	    hi & 0xff0000ff) {
		gh_refuse(fn->np, "bad or missing reg");
		return -EINVAL;
	}
	fn->bus = PHYS_BDF(hi) >> 8;
	fn->devfn = PHYS_BDF(hi) & 0xff;
	if (fn->mode == GH_PIN)
		return 0;	/* only its place counts: nothing of it is shown */
	ret = gh_read_ids(fn);
	if (ret)
		return ret;
	if (fn->mode == GH_BRIDGE)
		return gh_read_bridge(fn);
	return gh_read_bars(fn) ?: gh_read_msix(fn);
}
