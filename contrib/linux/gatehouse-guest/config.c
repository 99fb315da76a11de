// SPDX-License-Identifier: GPL-2.0-only
/*
 * Config space accessors. A function without a node, or refused, does not
 * exist. What a register does comes from seal.c; the PCI core serialises calls
 * with pci_lock and lets only aligned ones through.
 */
#include <linux/io.h>
#include <linux/pci-ecam.h>

#include "gatehouse.h"

u32 gh_raw_read(const struct gh_function *fn, int where, int size)
{
	void __iomem *addr = fn->cfg + where;

	switch (size) {
	case 1:
		return readb(addr);
	case 2:
		return readw(addr);
	default:
		return readl(addr);
	}
}

static void gh_raw_write(const struct gh_function *fn, int where, int size,
			 u32 val)
{
	void __iomem *addr = fn->cfg + where;

	switch (size) {
	case 1:
		writeb(val, addr);
		break;
	case 2:
		writew(val, addr);
		break;
	default:
		writel(val, addr);
	}
}

struct gh_function *gh_find(struct gh_host *host, unsigned int bus,
			    unsigned int devfn)
{
	struct gh_function *fn;

	list_for_each_entry(fn, &host->functions, list)
		if (fn->bus == bus && fn->devfn == devfn)
			return fn;
	return NULL;
}

/* NULL: no such function, or beyond its registers. */
static struct gh_function *gh_of_bus(struct pci_bus *bus, unsigned int devfn,
				     int where)
{
	struct pci_config_window *cfg = bus->sysdata;
	struct gh_function *fn = gh_find(cfg->priv, bus->number, devfn);

	if (!fn || fn->refused || where < 0 || where >= PCI_CFG_SPACE_EXP_SIZE)
		return NULL;
	return fn;
}

static bool gh_is_bar(int where)
{
	return where >= PCI_BASE_ADDRESS_0 && where < PCI_CARDBUS_CIS;
}

static int gh_bar_of(int where)
{
	return (where - PCI_BASE_ADDRESS_0) / 4;
}

/* The bits of an access of @size at @where, within its dword. */
static u32 gh_lanes(int where, int size)
{
	return (u32)GENMASK(8 * size - 1, 0) << 8 * (where & 3);
}

static int gh_config_read(struct pci_bus *bus, unsigned int devfn, int where,
			  int size, u32 *val)
{
	struct gh_function *fn = gh_of_bus(bus, devfn, where);
	unsigned int shift = 8 * (where & 3);
	u32 lanes = gh_lanes(where, size);
	const struct gh_reg *reg;
	u32 value, host = 0;

	if (!fn) {
		PCI_SET_ERROR_RESPONSE(val);
		return PCIBIOS_DEVICE_NOT_FOUND;
	}
	reg = &fn->regs[where / 4];
	value = reg->value;
	if (gh_is_bar(where) && fn->bar_latched[gh_bar_of(where)])
		value = fn->bar_sizing[gh_bar_of(where)];
	if (lanes & reg->live)
		host = gh_raw_read(fn, where, size) << shift;
	value = (host & reg->live) | (value & ~reg->live);
	*val = (value & lanes) >> shift;
	return PCIBIOS_SUCCESSFUL;
}

static int gh_config_write(struct pci_bus *bus, unsigned int devfn, int where,
			   int size, u32 val)
{
	struct gh_function *fn = gh_of_bus(bus, devfn, where);
	unsigned int shift = 8 * (where & 3);
	u32 lanes = gh_lanes(where, size);
	const struct gh_reg *reg;
	u32 out;

	if (!fn)
		return PCIBIOS_DEVICE_NOT_FOUND;

	if (gh_is_bar(where))
		fn->bar_latched[gh_bar_of(where)] = size == 4 && val == ~0U;
	reg = &fn->regs[where / 4];
	if (!(reg->pass & lanes))
		return PCIBIOS_SUCCESSFUL;

	out = (val << shift & reg->pass) | reg->ones;
	if (reg->keep & lanes)
		out |= gh_raw_read(fn, where, size) << shift & reg->keep;
	gh_raw_write(fn, where, size, (out & lanes) >> shift);
	return PCIBIOS_SUCCESSFUL;
}

/* Reads one node; a function that is refused here stays absent. */
static int gh_add_function(struct gh_host *host, struct pci_config_window *cfg,
			   struct device_node *np)
{
	struct gh_function *fn;

	fn = devm_kzalloc(host->dev, sizeof(*fn), GFP_KERNEL);
	if (!fn)
		return -ENOMEM;
	fn->np = np;
	if (gh_node_parse(fn))
		return 0;
	if (fn->bus != cfg->busr.start) {
		gh_refuse(np, "functions behind a bridge are not supported yet");
		return 0;
	}
	if (gh_find(host, fn->bus, fn->devfn)) {
		gh_refuse(np, "a second node for this function");
		return 0;
	}
	fn->cfg = cfg->win + PCIE_ECAM_OFFSET(0, fn->devfn, 0);
	fn->np = of_node_get(np);
	list_add_tail(&fn->list, &host->functions);
	return 0;
}

static int gh_ecam_init(struct pci_config_window *cfg)
{
	struct gh_function *fn, *other, *next;
	struct gh_host *host;
	int ret;

	host = devm_kzalloc(cfg->parent, sizeof(*host), GFP_KERNEL);
	if (!host)
		return -ENOMEM;
	host->dev = cfg->parent;
	INIT_LIST_HEAD(&host->functions);

	for_each_child_of_node_scoped(cfg->parent->of_node, np) {
		if (!of_property_present(np, "gatehouse,mode"))
			continue;
		ret = gh_add_function(host, cfg, np);
		if (ret)
			return ret;
	}
	list_for_each_entry(fn, &host->functions, list)
		list_for_each_entry(other, &host->functions, list)
			if (fn != other && fn->bus == other->bus &&
			    PCI_SLOT(fn->devfn) == PCI_SLOT(other->devfn))
				fn->multifunction = true;
	list_for_each_entry_safe(fn, next, &host->functions, list)
		if (gh_seal(fn)) {
			gh_vdev_close(fn);
			list_del(&fn->list);
		}
	cfg->priv = host;
	return 0;
}

const struct pci_ecam_ops gh_ecam_ops = {
	.init = gh_ecam_init,
	.pci_ops = {
		.map_bus = pci_ecam_map_bus,
		.read = gh_config_read,
		.write = gh_config_write,
	},
};
