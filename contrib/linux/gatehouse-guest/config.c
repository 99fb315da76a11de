// SPDX-License-Identifier: GPL-2.0-only
/*
 * Config space accessors. A function without a node, or refused, does not
 * exist. What a register does comes from seal.c and bridge.c; the PCI core
 * serialises calls with pci_lock and lets only aligned ones through.
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

/* A bridge shows no BAR, and has its windows where others have BARs. */
static bool gh_is_bar(const struct gh_function *fn, int where)
{
	return fn->mode != GH_BRIDGE && where >= PCI_BASE_ADDRESS_0 &&
	       where < PCI_CARDBUS_CIS;
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
	if (gh_is_bar(fn, where) && fn->bar_latched[gh_bar_of(where)])
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

	if (gh_is_bar(fn, where))
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

const struct pci_ecam_ops gh_ecam_ops = {
	.init = gh_ecam_init,
	.pci_ops = {
		.map_bus = pci_ecam_map_bus,
		.read = gh_config_read,
		.write = gh_config_write,
	},
};
