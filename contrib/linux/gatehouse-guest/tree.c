// SPDX-License-Identifier: GPL-2.0-only
/*
 * The nodes below the host bridge's: functions, and the bridges on the way to
 * them. What is refused here stays absent until the next boot, and so does
 * everything behind a refused bridge.
 */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include <linux/pci-ecam.h>

#include "gatehouse.h"

struct gh_function *gh_find(struct gh_host *host, unsigned int bus,
			    unsigned int devfn)
{
	struct gh_function *fn;

	list_for_each_entry(fn, &host->functions, list)
		if (fn->bus == bus && fn->devfn == devfn)
			return fn;
	return NULL;
}

/* Refuses for good. Its DMA is closed, if it has any. */
void gh_close(struct gh_function *fn)
{
	if (!fn->refused && fn->has_vdev)
		gh_vdev_close(fn);
	fn->refused = true;
}

/* Bus numbers nest, and bridges of one bus share none. */
static int gh_check_numbers(struct gh_host *host, struct gh_function *fn,
			    unsigned int last)
{
	struct gh_function *other;

	if (fn->secondary <= fn->bus || fn->secondary > fn->subordinate ||
	    fn->subordinate > last)
		goto bad;
	list_for_each_entry(other, &host->functions, list)
		if (other->mode == GH_BRIDGE && other->bus == fn->bus &&
		    other->secondary <= fn->subordinate &&
		    fn->secondary <= other->subordinate)
			goto bad;
	return 0;
bad:
	gh_refuse(fn->np, "bus numbers %u to %u do not fit", fn->secondary,
		  fn->subordinate);
	return -EINVAL;
}

/* Is the node where its numbers say? */
static int gh_check_place(struct gh_host *host, struct pci_config_window *cfg,
			  struct gh_function *fn)
{
	struct gh_function *above = fn->above;
	unsigned int bus = above ? above->secondary : cfg->busr.start;
	unsigned int last = above ? above->subordinate : cfg->busr.end;

	if (fn->bus != bus) {
		gh_refuse(fn->np, "it says bus %u and is on bus %u", fn->bus, bus);
		return -EINVAL;
	}
	if (gh_find(host, fn->bus, fn->devfn)) {
		gh_refuse(fn->np, "a second node for this function");
		return -EINVAL;
	}
	return fn->mode == GH_BRIDGE ? gh_check_numbers(host, fn, last) : 0;
}

/* Depth first, so that a bridge comes before what is behind it. */
static int gh_add_children(struct gh_host *host, struct pci_config_window *cfg,
			   struct device_node *parent,
			   struct gh_function *above, unsigned int depth)
{
	for_each_child_of_node_scoped(parent, np) {
		struct gh_function *fn;
		int ret;

		fn = devm_kzalloc(host->dev, sizeof(*fn), GFP_KERNEL);
		if (!fn)
			return -ENOMEM;
		fn->np = of_node_get(np);
		fn->above = above;
		if (gh_node_parse(fn) || gh_check_place(host, cfg, fn))
			gh_close(fn);
		fn->cfg = cfg->win +
			  PCIE_ECAM_OFFSET(fn->bus - cfg->busr.start, fn->devfn, 0);
		list_add_tail(&fn->list, &host->functions);
		if (fn->mode != GH_BRIDGE)
			continue;
		if (depth == GH_MAX_DEPTH) {
			gh_refuse(np, "more than %u bridges deep", GH_MAX_DEPTH);
			gh_close(fn);
			continue;
		}
		ret = gh_add_children(host, cfg, np, fn, depth + 1);
		if (ret)
			return ret;
	}
	return 0;
}

static void gh_mark_multifunction(struct gh_host *host)
{
	struct gh_function *fn, *other;

	list_for_each_entry(fn, &host->functions, list)
		list_for_each_entry(other, &host->functions, list)
			if (fn != other && fn->bus == other->bus &&
			    PCI_SLOT(fn->devfn) == PCI_SLOT(other->devfn))
				fn->multifunction = true;
}

int gh_ecam_init(struct pci_config_window *cfg)
{
	struct gh_function *fn;
	struct gh_host *host;
	int ret;

	host = devm_kzalloc(cfg->parent, sizeof(*host), GFP_KERNEL);
	if (!host)
		return -ENOMEM;
	host->dev = cfg->parent;
	INIT_LIST_HEAD(&host->functions);

	ret = gh_add_children(host, cfg, cfg->parent->of_node, NULL, 0);
	if (ret)
		return ret;
	gh_mark_multifunction(host);
	list_for_each_entry(fn, &host->functions, list) {
		if (fn->refused)
			continue;
		if (fn->mode == GH_PIN) {
			/* what was pinned is for a kernel that locks it again */
			pr_info("%pOF: mode pin, hidden: this module locks no device\n",
				fn->np);
			gh_close(fn);
			continue;
		}
		if (fn->above && fn->above->refused) {
			gh_refuse(fn->np, "the bridge above was refused");
			gh_close(fn);
		} else if (gh_seal(fn)) {
			gh_close(fn);
		}
	}
	cfg->priv = host;
	return 0;
}
