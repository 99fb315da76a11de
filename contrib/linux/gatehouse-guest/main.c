// SPDX-License-Identifier: GPL-2.0-only
/*
 * Platform driver for the PCI host bridge that Gatehouse hands over.
 *
 * The firmware gives the bridge a compatible of its own, so that nothing in a
 * stock kernel enumerates it: without this module there is no PCI device.
 * There is no module_exit: the bridge and its DMA ops stay for good.
 */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include <linux/device.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/of_address.h>
#include <linux/platform_device.h>

#include "gatehouse.h"

/* GPL export of drivers/pci/controller, prototype in a private header there. */
int pci_host_common_probe(struct platform_device *pdev);

/* The contract that node.c reads. */
static bool gh_handed_off(void)
{
	struct device_node *np = of_find_node_by_path("/chosen/gatehouse");
	bool ok = of_device_is_compatible(np, "gatehouse,handoff-v1");

	of_node_put(np);
	return ok;
}

static struct gh_host *gh_host_of(struct pci_host_bridge *bridge)
{
	struct pci_config_window *cfg = bridge ? bridge->sysdata : NULL;

	return cfg ? cfg->priv : NULL;
}

/*
 * The kernel looks for a device's other functions only when there is a function
 * 0, and for other devices not at all behind a port. The tree may have a root
 * port 1.1 without 1.0, or virtual functions without the physical one.
 */
static void gh_scan_rest(struct pci_host_bridge *bridge)
{
	struct gh_host *host = gh_host_of(bridge);
	struct gh_function *fn;

	if (!host)
		return;
	pci_lock_rescan_remove();
	list_for_each_entry(fn, &host->functions, list) {
		struct pci_bus *bus = pci_find_bus(pci_domain_nr(bridge->bus),
						   fn->bus);
		struct pci_dev *pdev;

		if (fn->refused || !bus)
			continue;
		pdev = pci_get_slot(bus, fn->devfn);
		if (pdev)
			pci_dev_put(pdev);
		else if (pci_scan_single_device(bus, fn->devfn))
			pci_rescan_bus(bus);
	}
	pci_unlock_rescan_remove();
}

static int gh_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	int ret;

	if (!gh_in_realm()) {
		dev_err(dev, "this kernel does not run in a realm: refusing to bind\n");
		return -ENODEV;
	}
	if (!gh_handed_off()) {
		dev_err(dev, "/chosen/gatehouse is not gatehouse,handoff-v1: refusing to bind\n");
		return -EINVAL;
	}
	if (!of_dma_is_coherent(dev->of_node)) {
		dev_err(dev, "the bridge is not dma-coherent: refusing to bind\n");
		return -EINVAL;
	}
	if (of_property_present(dev->of_node, "iommu-map") ||
	    of_property_present(dev->of_node, "dma-ranges")) {
		dev_err(dev, "iommu-map or dma-ranges on the bridge: refusing to bind\n");
		return -EINVAL;
	}
	ret = pci_host_common_probe(pdev);
	if (!ret)
		gh_scan_rest(platform_get_drvdata(pdev));
	return ret;
}

/*
 * Children were shut down before. A restart may be a kexec, and what was handed
 * to this kernel is not what the next one would find: take it back. (No config
 * write could: bus mastering cannot be cleared.)
 */
static void gh_shutdown(struct platform_device *pdev)
{
	struct gh_host *host = gh_host_of(platform_get_drvdata(pdev));

	if (host && system_state == SYSTEM_RESTART)
		gh_give_up(host);
}

static const struct of_device_id gh_of_match[] = {
	{ .compatible = "gatehouse,pci-host-ecam", .data = &gh_ecam_ops },
	{ }
};
MODULE_DEVICE_TABLE(of, gh_of_match);

static struct platform_driver gh_driver = {
	.driver = {
		.name = GH_NAME,
		.of_match_table = gh_of_match,
		.suppress_bind_attrs = true,
	},
	.probe = gh_probe,
	.shutdown = gh_shutdown,
};

static int __init gh_init(void)
{
	int ret;

#ifdef GATEHOUSE_TEST_NO_REALM
	pr_warn("TEST BUILD: no realm and no RIPAS is checked\n");
#endif
	ret = gh_device_init();
	if (ret)
		return ret;
	ret = platform_driver_register(&gh_driver);
	if (!ret)
		gh_log_init();
	return ret;
}
module_init(gh_init);

MODULE_DESCRIPTION("Gatehouse OS half: attested PCI functions with private DMA");
MODULE_LICENSE("GPL");
