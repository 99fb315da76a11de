// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sealed config space of a bridge (type 1 header). The kernel needs it to
 * number buses and to place resources, and both are settled: all registers are
 * frozen, from the node where it says something, and no write reaches the host.
 *
 * The PCI Express capability is shown without slot, link management and root
 * registers, and nothing else is shown: no hot plug, AER, DPC, PME, ACS, LTR,
 * PM, MSI. A port service that Linux started would work on frozen registers.
 */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include <linux/sizes.h>

#include "gatehouse.h"

static u32 gh_bus_numbers(const struct gh_function *fn)
{
	return fn->bus | fn->secondary << 8 | fn->subordinate << 16;
}

/* Base and limit as the low registers of a window hold them: bits 31:20. */
static u32 gh_window_low(const struct gh_window *window, u32 type)
{
	u32 base = window->start >> 16 & 0xfff0;
	u32 limit = window->last >> 16 & 0xfff0;

	return base | type | (limit | type) << 16;
}

/* A closed window has its base above its limit. */
#define GH_CLOSED	0x0000fff0
#define GH_IO_CLOSED	0x000000f0

static void gh_seal_windows(struct gh_function *fn)
{
	const struct gh_window *window = &fn->memory;
	u32 type;

	gh_reg(fn, PCI_IO_BASE)->value = GH_IO_CLOSED;
	gh_reg(fn, PCI_IO_BASE_UPPER16)->value = 0;
	gh_reg(fn, PCI_MEMORY_BASE)->value =
		window->last ? gh_window_low(window, 0) : GH_CLOSED;

	window = &fn->prefetch;
	type = upper_32_bits(window->last) ? PCI_PREF_RANGE_TYPE_64 :
					     PCI_PREF_RANGE_TYPE_32;
	gh_reg(fn, PCI_PREF_MEMORY_BASE)->value =
		window->last ? gh_window_low(window, type) : GH_CLOSED;
	gh_reg(fn, PCI_PREF_BASE_UPPER32)->value = upper_32_bits(window->start);
	gh_reg(fn, PCI_PREF_LIMIT_UPPER32)->value = upper_32_bits(window->last);
}

int gh_seal_bridge(struct gh_function *fn)
{
	const u32 list = PCI_STATUS_CAP_LIST << 16;
	u32 type = PCI_HEADER_TYPE_BRIDGE << 16;
	struct gh_reg *cap;
	int ret;

	ret = gh_take(fn, 0, PCI_STD_HEADER_SIZEOF, PCI_STD_HEADER_SIZEOF) ?:
	      gh_same(fn, "id", PCI_VENDOR_ID, ~0U,
		      fn->device << 16 | fn->vendor) ?:
	      gh_same(fn, "class", PCI_CLASS_REVISION, ~0U,
		      fn->class << 8 | fn->revision) ?:
	      gh_same(fn, "header type", PCI_CACHE_LINE_SIZE,
		      PCI_HEADER_TYPE_MASK << 16, type) ?:
	      gh_same(fn, "bus numbers", PCI_PRIMARY_BUS, 0xffffff,
		      gh_bus_numbers(fn));
	if (ret)
		return ret;

	cap = gh_reg(fn, PCI_CAPABILITY_LIST);
	cap->value &= gh_reg(fn, PCI_COMMAND)->value & list ? 0xfc : 0;
	gh_reg(fn, PCI_COMMAND)->value = PCI_COMMAND_MEMORY |
					 PCI_COMMAND_MASTER | list;
	if (fn->multifunction)
		type |= PCI_HEADER_TYPE_MFD << 16;
	gh_reg(fn, PCI_CACHE_LINE_SIZE)->value = type;
	gh_reg(fn, PCI_BASE_ADDRESS_0)->value = 0;
	gh_reg(fn, PCI_BASE_ADDRESS_1)->value = 0;
	gh_reg(fn, PCI_PRIMARY_BUS)->value = gh_bus_numbers(fn);
	gh_seal_windows(fn);
	gh_reg(fn, PCI_ROM_ADDRESS1)->value = 0;
	gh_reg(fn, PCI_INTERRUPT_LINE)->value = 0;	/* and bridge control */
	return gh_seal_caps(fn, cap->value);
}

/* What may be where: root port, then upstream and downstream in turn. */
static bool gh_port_fits(const struct gh_function *fn)
{
	if (!fn->above)
		return fn->port == PCI_EXP_TYPE_ROOT_PORT;
	if (fn->above->port == PCI_EXP_TYPE_UPSTREAM)
		return fn->port == PCI_EXP_TYPE_DOWNSTREAM;
	return fn->port == PCI_EXP_TYPE_UPSTREAM;
}

/* Its first register is claimed. */
int gh_seal_port(struct gh_function *fn, u32 pos)
{
	struct gh_reg *r = gh_reg(fn, pos);
	u32 flags = r->value >> 16;
	u32 off;

	fn->port = (flags & PCI_EXP_FLAGS_TYPE) >> 4;
	if (!gh_port_fits(fn) || (flags & PCI_EXP_FLAGS_VERS) < 2) {
		gh_refuse(fn->np, "PCIe port type %u version %u does not belong here",
			  fn->port, flags & PCI_EXP_FLAGS_VERS);
		return -ENODEV;
	}
	if (gh_take_cap(fn, pos, 0x3c))
		return -ENODEV;

	/* no slot, no interrupt */
	r->value &= 0xff00 | (PCI_EXP_FLAGS_VERS | PCI_EXP_FLAGS_TYPE) << 16 |
		    PCI_CAP_ID_EXP;
	gh_reg(fn, pos + PCI_EXP_DEVCAP)->value &= ~PCI_EXP_DEVCAP_FLR;
	gh_reg(fn, pos + PCI_EXP_DEVCTL)->value &= 0xffff;
	gh_reg(fn, pos + PCI_EXP_LNKCAP)->value &=
		~(PCI_EXP_LNKCAP_ASPMS | PCI_EXP_LNKCAP_CLKPM |
		  PCI_EXP_LNKCAP_SDERC | PCI_EXP_LNKCAP_DLLLARC |
		  PCI_EXP_LNKCAP_LBNC);
	gh_reg(fn, pos + PCI_EXP_LNKCTL)->value &=
		(u32)(PCI_EXP_LNKSTA_CLS | PCI_EXP_LNKSTA_NLW) << 16;
	/* slot and root; then device 2; link 2 but its capabilities; slot 2 */
	for (off = PCI_EXP_SLTCAP; off < PCI_EXP_LNKCAP2; off += 4)
		gh_reg(fn, pos + off)->value = 0;
	for (off = PCI_EXP_LNKCTL2; off < 0x3c; off += 4)
		gh_reg(fn, pos + off)->value = 0;
	return 0;
}
