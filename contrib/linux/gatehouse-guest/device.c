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
static char *split_bar_drivers[8] = { "nvme", "igb", "igbvf" };
static int num_split_bar_drivers = 3;
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

static bool gh_mixed_bar(const struct gh_function *fn)
{
	unsigned int i;

	for (i = 0; i < fn->num_msix; i++)
		if (fn->msix[i].count <
		    fn->bars[fn->msix[i].bar].size / SZ_4K)
			return true;
	return false;
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
	char text[320] = "";
	u64 bad = 0;
	int i, n = 0;

	for (i = 0; i < PCI_STD_NUM_BARS; i++) {
		const struct gh_bar *bar = &fn->bars[i];
		u64 private;

		if (!bar->size)
			continue;
		n += scnprintf(text + n, sizeof(text) - n,
			       ", bar%d 0x%llx size 0x%llx", i, bar->addr,
			       bar->size);
		if (fn->mode != GH_RUN)
			continue;
		private = gh_private_pages(fn, i, &bad);
		n += scnprintf(text + n, sizeof(text) - n,
			       " private pages %llu, msi-x pages %llu",
			       private, bar->size / SZ_4K - private);
	}
	pr_info("%s: mode %s%s\n", pci_name(pdev),
		fn->mode == GH_RUN ? "run, private DMA" : "shared, bounced DMA",
		text);
}

/*
 * A notifier cannot veto: leave a driver no registers, config space or DMA.
 * Needed again at each bind, where dma_configure has put a mask back. Lasts
 * until the next boot.
 */
static void gh_stop(struct pci_dev *pdev, struct gh_function *fn)
{
	gh_close(fn);
	fn->trusted = false;
	gh_release(pdev);
	pdev->dev.dma_mask = NULL;
	pdev->dev.coherent_dma_mask = 0;
}

/*
 * All resets are hidden or dropped, so none must be tried: one that "worked"
 * would leave driver and device at odds.
 */
static void gh_forbid_resets(struct pci_dev *pdev)
{
	memset(pdev->reset_methods, 0, sizeof(pdev->reset_methods));
	pdev->dev_flags |= PCI_DEV_FLAGS_NO_BUS_RESET;
}

/* DMA as the mode says, and nobody else's ops? */
static bool gh_set_dma(struct pci_dev *pdev, const struct gh_function *fn)
{
	return fn->mode == GH_RUN ? gh_dma_give(&pdev->dev) :
				    gh_dma_bounced(&pdev->dev);
}

/* Again at each bind: the RMM's nonces last, so that no unlock was missed. */
static bool gh_check(struct pci_dev *pdev, const struct gh_function *fn)
{
	const char *name = pci_name(pdev);

	return gh_check_ids(pdev, fn) && gh_check_resources(pdev, fn) &&
	       gh_check_ripas(fn, name) &&
	       (fn->mode == GH_SHARED || gh_vdev_ok(fn, name));
}

static void gh_added(struct pci_dev *pdev, struct gh_function *fn)
{
	fn->trusted = false;
	gh_forbid_resets(pdev);
	if (fn->refused)
		pr_err("%s: refused before: needs a new boot\n", pci_name(pdev));
	else if (pdev->dev.of_node != fn->np)
		pr_err("%s: refused: bound to another node\n", pci_name(pdev));
	else if (gh_check(pdev, fn) && gh_claim(pdev, fn))
		fn->trusted = gh_set_dma(pdev, fn);

	if (fn->trusted)
		gh_report(pdev, fn);
	else
		gh_stop(pdev, fn);
}

static void gh_bridge_added(struct pci_dev *pdev, struct gh_function *fn)
{
	gh_forbid_resets(pdev);
	if (pdev->dev.of_node != fn->np) {
		pr_err("%s: refused: bound to another node\n", pci_name(pdev));
		return;		/* no window: nothing behind it can be claimed */
	}
	gh_claim_windows(pdev, fn);
}

/* After dma_configure, before the driver's probe. */
static void gh_binding(struct pci_dev *pdev, struct gh_function *fn)
{
	const char *driver = pdev->dev.driver ? pdev->dev.driver->name : "?";
	const char *name = pci_name(pdev);

	if (!fn->trusted)
		pr_err("%s: driver %s stopped: the function was refused\n",
		       name, driver);
	else if (!gh_set_dma(pdev, fn) || pdev->dev.dma_range_map ||
		 !dev_is_dma_coherent(&pdev->dev))
		pr_err("%s: driver %s stopped: something replaced the DMA of mode %s\n",
		       name, driver, fn->mode == GH_RUN ? "run" : "shared");
	else if (gh_mixed_bar(fn) && !gh_maps_apart(driver))
		pr_err("%s: driver %s stopped: not in split_bar_drivers, it could map registers through the shared alias\n",
		       name, driver);
	else if (gh_check(pdev, fn))
		return;
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

	if (action == BUS_NOTIFY_ADD_DEVICE && fn->mode == GH_BRIDGE)
		gh_bridge_added(pdev, fn);
	else if (action == BUS_NOTIFY_ADD_DEVICE)
		gh_added(pdev, fn);
	else if (action == BUS_NOTIFY_BIND_DRIVER && fn->mode != GH_BRIDGE)
		gh_binding(pdev, fn);
	return NOTIFY_DONE;
}

static struct notifier_block gh_notifier = {
	.notifier_call = gh_notify,
};

/*
 * The next kernel finds no live attested device: its DMA is closed, and the registers'
 * pages are no longer RIPAS DEV, so that the checks above fail there.
 */
void gh_give_up(struct gh_host *host)
{
	struct gh_function *fn;
	int i;

	list_for_each_entry(fn, &host->functions, list) {
		if (fn->mode != GH_RUN)
			continue;
		gh_close(fn);
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
