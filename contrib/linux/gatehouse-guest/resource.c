// SPDX-License-Identifier: GPL-2.0-only
/*
 * BARs and windows as the kernel keeps them: they must be the node's, they are
 * claimed where they are, and every page has the RIPAS of the node's mode.
 */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include <linux/ioport.h>
#include <linux/sizes.h>

#include "gatehouse.h"

/*
 * Pages of the BAR that the node does not call MSI-X. When one of them is not
 * RIPAS DEV: 0, and *bad is an address.
 */
u64 gh_private_pages(const struct gh_function *fn, int i, u64 *bad)
{
	const struct gh_bar *bar = &fn->bars[i];
	u64 pages = bar->size / SZ_4K;
	u64 page, start, count = 0;

	for (page = 0; page < pages; page++) {
		if (gh_page_is_msix(fn, i, page))
			continue;
		start = page;
		while (page < pages && !gh_page_is_msix(fn, i, page))
			page++;
		if (!gh_is_dev(bar->addr + start * SZ_4K,
			       bar->addr + page * SZ_4K)) {
			*bad = bar->addr + start * SZ_4K;
			return 0;
		}
		count += page - start;
	}
	return count;
}

/* A shared function's registers are shared, or ioremap() would mix them up. */
static bool gh_all_empty(const struct gh_bar *bar)
{
	return gh_is_empty(bar->addr, bar->addr + round_up(bar->size, SZ_4K));
}

bool gh_check_ripas(const struct gh_function *fn, const char *name)
{
	u64 bad = 0;
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		if (!fn->bars[i].size)
			continue;
		if (fn->mode == GH_SHARED && !gh_all_empty(&fn->bars[i]))
			bad = fn->bars[i].addr;
		else if (fn->mode == GH_RUN)
			gh_private_pages(fn, i, &bad);
		if (bad) {
			pr_err("%s: refused: bar%d pages from 0x%llx are not all RIPAS %s\n",
			       name, i, bad,
			       fn->mode == GH_RUN ? "DEV" : "EMPTY");
			return false;
		}
	}
	return true;
}

/* Every resource of the function is one of the node's BARs, and the reverse. */
bool gh_check_resources(struct pci_dev *pdev, const struct gh_function *fn)
{
	int i;

	for (i = 0; i < PCI_NUM_RESOURCES; i++) {
		const struct resource *res = &pdev->resource[i];
		u64 addr = 0, size = 0;

		if (i < PCI_STD_NUM_BARS) {
			addr = fn->bars[i].addr;
			size = fn->bars[i].size;
		}
		if (!size && !res->flags)
			continue;
		if (!size || !(res->flags & IORESOURCE_MEM) ||
		    res->flags & IORESOURCE_UNSET ||
		    res->start != addr || resource_size(res) != size) {
			pr_err("%s: refused: resource %d is %pR, the node says 0x%llx size 0x%llx\n",
			       pci_name(pdev), i, res, addr, size);
			return false;
		}
	}
	return true;
}

/*
 * The kernel puts no register that is not prefetchable into a prefetchable
 * window. Behind PCI Express ports that works (PCIe base specification,
 * implementation note on prefetchable windows), and the firmware did it.
 */
static bool gh_claim_any_window(struct pci_dev *pdev, struct resource *res)
{
	struct resource *window;

	pci_bus_for_each_resource(pdev->bus, window)
		if (window && window->flags & IORESOURCE_MEM &&
		    window->start <= res->start && window->end >= res->end &&
		    !request_resource(window, res))
			return true;
	return false;
}

/* The addresses are part of what the device locked: pin and claim them. */
bool gh_claim(struct pci_dev *pdev, const struct gh_function *fn)
{
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct resource *res = &pdev->resource[i];

		if (!fn->bars[i].size)
			continue;
		res->flags |= IORESOURCE_PCI_FIXED;
		if (!res->parent && !gh_claim_any_window(pdev, res)) {
			pr_err("%s: refused: bar%d %pR is not free in the bridge's windows\n",
			       pci_name(pdev), i, res);
			return false;
		}
	}
	return true;
}

static void gh_claim_window(struct pci_dev *pdev, int i,
			    const struct gh_window *window, unsigned long flags)
{
	struct resource *res = &pdev->resource[i];

	if (!window->last || res->parent)
		return;
	res->name = pci_name(pdev);
	res->start = window->start;
	res->end = window->last;
	res->flags = flags;
	/* Then nothing behind the bridge can be claimed, and is refused. */
	if (pci_claim_resource(pdev, i))
		pr_err("%s: window %pR is not free\n", pci_name(pdev), res);
}

/*
 * Before anything behind the bridge is looked at. The kernel would do it for
 * the whole tree, but only at boot and after all functions were added.
 */
void gh_claim_windows(struct pci_dev *pdev, const struct gh_function *fn)
{
	unsigned long prefetch = IORESOURCE_MEM | IORESOURCE_PREFETCH;

	if (upper_32_bits(fn->prefetch.last))
		prefetch |= IORESOURCE_MEM_64 | PCI_PREF_RANGE_TYPE_64;
	gh_claim_window(pdev, PCI_BRIDGE_MEM_WINDOW, &fn->memory,
			IORESOURCE_MEM);
	gh_claim_window(pdev, PCI_BRIDGE_PREF_MEM_WINDOW, &fn->prefetch,
			prefetch);
}

/* Leaves the function without registers, until the next boot. */
void gh_release(struct pci_dev *pdev)
{
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct resource *res = &pdev->resource[i];

		if (!res->flags)
			continue;
		if (res->parent)
			release_resource(res);
		res->end -= res->start;
		res->start = 0;
		res->flags |= IORESOURCE_UNSET | IORESOURCE_PCI_FIXED;
	}
}
