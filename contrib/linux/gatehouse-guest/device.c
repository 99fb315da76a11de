// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens when one of our functions appears and when a driver binds:
 * compare what the kernel made of it with the node, look at every page's
 * RIPAS, then give private DMA. A function that fails is never usable.
 */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include <linux/dma-map-ops.h>
#include <linux/module.h>
#include <linux/sizes.h>

#include "gatehouse.h"

/*
 * The kernel maps a whole ioremap() request through the shared alias as soon as
 * one page of it is RIPAS EMPTY. MSI-X pages are, so a driver that maps a BAR
 * with both kinds in one piece would talk to the host instead of the device.
 * Only drivers known to map the registers apart from the MSI-X pages may have
 * such a BAR.
 */
static char *split_bar_drivers[8] = { "nvme" };
static int num_split_bar_drivers = 1;
module_param_array(split_bar_drivers, charp, &num_split_bar_drivers, 0444);
MODULE_PARM_DESC(split_bar_drivers,
		 "drivers that never map registers and MSI-X pages in one piece");

static bool gh_maps_apart(const char *driver)
{
	int i;

	for (i = 0; i < num_split_bar_drivers; i++)
		if (!strcmp(driver, split_bar_drivers[i]))
			return true;
	return false;
}

/*
 * Pages of the BAR that the node does not call MSI-X. When one of them is not
 * RIPAS DEV: 0, and *bad is an address.
 */
static u64 gh_private_pages(const struct gh_function *fn, int i, u64 *bad)
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

static bool gh_check_ripas(const struct gh_function *fn, const char *name)
{
	u64 bad = 0;
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		if (!fn->bars[i].size)
			continue;
		gh_private_pages(fn, i, &bad);
		if (bad) {
			pr_err("%s: refused: bar%d pages from 0x%llx are not all RIPAS DEV\n",
			       name, i, bad);
			return false;
		}
	}
	return true;
}

static bool gh_mixed_bar(const struct gh_function *fn)
{
	unsigned int i;

	for (i = 0; i < fn->num_msix; i++)
		if (fn->msix[i].count <
		    fn->bars[fn->msix[i].bar].size / SZ_4K)
			return true;
	return false;
}

/* Every resource of the function is one of the node's BARs, and the reverse. */
static bool gh_check_resources(struct pci_dev *pdev,
			       const struct gh_function *fn)
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

static bool gh_check_ids(struct pci_dev *pdev, const struct gh_function *fn)
{
	if (pdev->vendor == fn->vendor && pdev->device == fn->device &&
	    pdev->subsystem_vendor == fn->subvendor &&
	    pdev->subsystem_device == fn->subdevice &&
	    pdev->revision == fn->revision && pdev->class == fn->class)
		return true;
	pr_err("%s: refused: ids %04x:%04x %04x:%04x class %06x are not the node's\n",
	       pci_name(pdev), pdev->vendor, pdev->device,
	       pdev->subsystem_vendor, pdev->subsystem_device, pdev->class);
	return false;
}

static void gh_report(struct pci_dev *pdev, const struct gh_function *fn)
{
	char text[320];
	u64 bad = 0;
	int i, n = 0;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		const struct gh_bar *bar = &fn->bars[i];
		u64 private;

		if (!bar->size)
			continue;
		private = gh_private_pages(fn, i, &bad);
		n += scnprintf(text + n, sizeof(text) - n,
			       ", bar%d 0x%llx size 0x%llx private pages %llu, msi-x pages %llu",
			       i, bar->addr, bar->size, private,
			       bar->size / SZ_4K - private);
	}
	pr_info("%s: mode run, private DMA%s\n", pci_name(pdev), text);
}

/* The addresses are part of what the device locked: pin and claim them. */
static bool gh_claim(struct pci_dev *pdev, const struct gh_function *fn)
{
	int i;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		struct resource *res = &pdev->resource[i];

		if (!fn->bars[i].size)
			continue;
		res->flags |= IORESOURCE_PCI_FIXED;
		if (!res->parent && pci_claim_resource(pdev, i)) {
			pr_err("%s: refused: bar%d %pR is not free in the bridge's ranges\n",
			       pci_name(pdev), i, res);
			return false;
		}
	}
	return true;
}

/*
 * A notifier cannot veto: leave a driver no registers, config space or DMA.
 * Needed again at each bind, where dma_configure has put a mask back. Lasts
 * until the next boot.
 */
static void gh_stop(struct pci_dev *pdev, struct gh_function *fn)
{
	int i;

	if (!fn->refused)
		gh_vdev_close(fn);
	fn->trusted = false;
	fn->refused = true;
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
	pdev->dev.dma_mask = NULL;
	pdev->dev.coherent_dma_mask = 0;
}

static void gh_added(struct pci_dev *pdev, struct gh_function *fn)
{
	fn->trusted = false;
	if (fn->refused)
		pr_err("%s: refused before: needs a new boot\n", pci_name(pdev));
	else if (pdev->dev.of_node != fn->np)
		pr_err("%s: refused: bound to another node\n", pci_name(pdev));
	else if (gh_check_ids(pdev, fn) && gh_check_resources(pdev, fn) &&
		 gh_check_ripas(fn, pci_name(pdev)) &&
		 gh_vdev_ok(fn, pci_name(pdev)) && gh_claim(pdev, fn))
		fn->trusted = true;

	if (!fn->trusted) {
		gh_stop(pdev, fn);
		return;
	}
	gh_dma_give(&pdev->dev);
	gh_report(pdev, fn);
}

/* After dma_configure, before the driver's probe. */
static void gh_binding(struct pci_dev *pdev, struct gh_function *fn)
{
	const char *driver = pdev->dev.driver ? pdev->dev.driver->name : "?";
	const char *name = pci_name(pdev);

	if (!fn->trusted) {
		pr_err("%s: driver %s stopped: the function was refused\n",
		       name, driver);
		goto stop;
	}
	if (!gh_dma_given(&pdev->dev) || !dev_is_dma_coherent(&pdev->dev) ||
	    pdev->dev.dma_range_map) {
		pr_err("%s: driver %s stopped: something replaced private DMA\n",
		       name, driver);
		goto stop;
	}
	if (gh_mixed_bar(fn) && !gh_maps_apart(driver)) {
		pr_err("%s: driver %s stopped: not in split_bar_drivers, it could map registers through the shared alias\n",
		       name, driver);
		goto stop;
	}
	/* the RMM's nonces last: equal, so no unlock happened while we looked */
	if (gh_check_ids(pdev, fn) && gh_check_resources(pdev, fn) &&
	    gh_check_ripas(fn, name) && gh_vdev_ok(fn, name))
		return;
stop:
	gh_stop(pdev, fn);
}

static int gh_notify(struct notifier_block *nb, unsigned long action,
		     void *data)
{
	struct pci_dev *pdev = to_pci_dev(data);
	struct pci_config_window *cfg;
	struct gh_function *fn;

	if (pdev->bus->ops != &gh_ecam_ops.pci_ops)
		return NOTIFY_DONE;
	cfg = pdev->bus->sysdata;
	fn = gh_find(cfg->priv, pdev->bus->number, pdev->devfn);
	if (!fn)
		return NOTIFY_DONE;

	if (action == BUS_NOTIFY_ADD_DEVICE)
		gh_added(pdev, fn);
	else if (action == BUS_NOTIFY_BIND_DRIVER)
		gh_binding(pdev, fn);
	return NOTIFY_DONE;
}

static struct notifier_block gh_notifier = {
	.notifier_call = gh_notify,
};

/*
 * The next kernel finds no live device: its DMA is closed, and the registers'
 * pages are no longer RIPAS DEV, so that the checks above fail there.
 */
void gh_give_up(struct gh_host *host)
{
	struct gh_function *fn;
	int i;

	list_for_each_entry(fn, &host->functions, list) {
		if (!fn->refused)
			gh_vdev_close(fn);
		fn->refused = true;
		for (i = 0; i < PCI_STD_NUM_BARS; i++) {
			const struct gh_bar *bar = &fn->bars[i];

			if (bar->size &&
			    !gh_make_empty(bar->addr, bar->addr + bar->size))
				pr_err("%pOF: the host keeps bar%d\n", fn->np, i);
		}
	}
}

int gh_device_init(void)
{
	return bus_register_notifier(&pci_bus_type, &gh_notifier);
}
