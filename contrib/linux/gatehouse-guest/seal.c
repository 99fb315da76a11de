// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sealed config space: which register is answered from the node, which
 * write is dropped and what passes to the (host emulated) config space. The
 * table is in docs/handoff.md; bridge.c has the registers of bridges.
 *
 * The host is asked for each register at most once, when the bridge is bound;
 * what decides anything here is the value that the kernel will see. Each
 * register belongs to one capability at most. A register that no capability
 * claims reads as 0.
 *
 * FLR, PM and AF are hidden and not only filtered: Linux would otherwise
 * believe that a reset or a D-state change took place. EA is hidden because it
 * would let the host choose BAR addresses; the MSI-X table is frozen because
 * the host could otherwise aim the kernel's table writes at private registers.
 *
 * What passes to a function in RUN must be harmless in any TDI state, whatever
 * the VMM does with it: PCIe TDISP makes a reset, D3, a BAR, a cleared enable
 * bit, extended tags, phantom functions and MSI-X control (when it was locked)
 * an ERROR.
 */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include <linux/sizes.h>

#include "gatehouse.h"

struct gh_reg *gh_reg(struct gh_function *fn, u32 off)
{
	return &fn->regs[off / 4];
}

/*
 * Claims and freezes [off, off + len), both multiples of four: the only place
 * that reads the host's config space. Nothing is claimed twice, and nothing at
 * or above @limit.
 */
int gh_take(struct gh_function *fn, u32 off, u32 len, u32 limit)
{
	struct gh_reg *r;

	if (off + len > limit) {
		gh_refuse(fn->np, "host shows a capability up to 0x%x, limit 0x%x",
			  off + len, limit);
		return -ENODEV;
	}
	for (; len; off += 4, len -= 4) {
		r = gh_reg(fn, off);
		if (r->taken) {
			gh_refuse(fn->np, "host shows overlapping capabilities at 0x%x",
				  off);
			return -ENODEV;
		}
		r->taken = true;
		r->value = gh_raw_read(fn, off, 4);
	}
	return 0;
}

/* Claims what follows the first register of a standard capability. */
int gh_take_cap(struct gh_function *fn, u32 pos, u32 len)
{
	return gh_take(fn, pos + 4, len - 4, PCI_CFG_SPACE_SIZE);
}

static int gh_take_ext_cap(struct gh_function *fn, u32 pos, u32 len)
{
	return gh_take(fn, pos + 4, len - 4, PCI_CFG_SPACE_EXP_SIZE);
}

/* Reads come from the host, writes pass. */
static void gh_open(struct gh_function *fn, u32 off, u32 len)
{
	for (; len; off += 4, len -= 4) {
		gh_reg(fn, off)->live = ~0U;
		gh_reg(fn, off)->pass = ~0U;
	}
}

int gh_same(struct gh_function *fn, const char *what, u32 off, u32 mask,
	    u32 node)
{
	u32 host = gh_reg(fn, off)->value & mask;

	if (host == node)
		return 0;
	gh_refuse(fn->np, "host shows %s 0x%08x, the node 0x%08x", what, host,
		  node);
	return -ENODEV;
}

/* The host must show the same function as the tree, or something is mixed up. */
static int gh_compare(struct gh_function *fn)
{
	char name[] = "bar0";
	int i, ret;

	ret = gh_same(fn, "id", PCI_VENDOR_ID, ~0U,
		      fn->device << 16 | fn->vendor) ?:
	      gh_same(fn, "class", PCI_CLASS_REVISION, ~0U,
		      fn->class << 8 | fn->revision) ?:
	      gh_same(fn, "subsystem", PCI_SUBSYSTEM_VENDOR_ID, ~0U,
		      fn->subdevice << 16 | fn->subvendor) ?:
	      gh_same(fn, "header type", PCI_CACHE_LINE_SIZE,
		      PCI_HEADER_TYPE_MASK << 16, PCI_HEADER_TYPE_NORMAL << 16);
	for (i = 0; !ret && i < PCI_STD_NUM_BARS; i++) {
		name[3] = '0' + i;
		if (fn->bar_sizing[i])
			ret = gh_same(fn, name, PCI_BASE_ADDRESS_0 + 4 * i, ~0U,
				      fn->bar_value[i]);
	}
	return ret;
}

/*
 * Memory decode cannot be switched off. Nor can bus mastering in mode run: the
 * lock would be lost. In mode shared it can, which stops the device.
 */
static void gh_seal_command(struct gh_function *fn, bool has_list)
{
	const u32 list = PCI_STATUS_CAP_LIST << 16;
	u32 ones = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	u32 command = PCI_COMMAND_INTX_DISABLE | PCI_COMMAND_SERR |
		      PCI_COMMAND_PARITY;
	struct gh_reg *r = gh_reg(fn, PCI_COMMAND);

	if (fn->mode == GH_SHARED) {
		ones = PCI_COMMAND_MEMORY;
		command |= PCI_COMMAND_MASTER;
	}
	r->value = ones | (has_list ? list : 0);
	r->live = ~(ones | list);
	r->pass = command | 0xffff0000;
	r->keep = 0xffff & ~(command | ones);
	r->ones = ones;
}

/* Ids and class stay: they were compared with the node's. */
static int gh_seal_header(struct gh_function *fn, u32 *cap)
{
	const u32 list = PCI_STATUS_CAP_LIST << 16;
	struct gh_reg *r;
	int i, ret;

	ret = gh_take(fn, 0, PCI_STD_HEADER_SIZEOF, PCI_STD_HEADER_SIZEOF) ?:
	      gh_compare(fn);
	if (ret)
		return ret;

	r = gh_reg(fn, PCI_CAPABILITY_LIST);
	r->value &= gh_reg(fn, PCI_COMMAND)->value & list ? 0xfc : 0;
	*cap = r->value;
	gh_seal_command(fn, *cap);

	r = gh_reg(fn, PCI_CACHE_LINE_SIZE);
	r->value &= 0xffff;
	if (fn->multifunction)
		r->value |= PCI_HEADER_TYPE_MFD << 16;

	r = gh_reg(fn, PCI_INTERRUPT_LINE);
	if ((r->value >> 8 & 0xff) > 4)		/* INTD */
		r->value &= ~0xff00;

	for (i = 0; i < PCI_STD_NUM_BARS; i++)
		gh_reg(fn, PCI_BASE_ADDRESS_0 + 4 * i)->value = fn->bar_value[i];
	gh_reg(fn, PCI_CARDBUS_CIS)->value = 0;
	gh_reg(fn, PCI_ROM_ADDRESS)->value = 0;
	gh_reg(fn, PCI_CAPABILITY_LIST + 4)->value = 0;
	return 0;
}

/*
 * The MSI-X table or PBA: [off, off + len) of BAR bir in MSI-X pages only? In
 * mode shared every page of the function is shared.
 */
static bool gh_msix_area_ok(const struct gh_function *fn, u32 reg, u32 len)
{
	u32 bir = reg & PCI_MSIX_TABLE_BIR;
	u64 start = reg & PCI_MSIX_TABLE_OFFSET;
	u64 page;

	if (bir >= PCI_STD_NUM_BARS || start + len > fn->bars[bir].size)
		return false;
	if (fn->mode == GH_SHARED)
		return true;
	for (page = start / SZ_4K; page <= (start + len - 1) / SZ_4K; page++)
		if (!gh_page_is_msix(fn, bir, page))
			return false;
	return true;
}

static int gh_seal_msix(struct gh_function *fn, u32 pos)
{
	struct gh_reg *r = gh_reg(fn, pos);
	u32 entries = (r->value >> 16 & PCI_MSIX_FLAGS_QSIZE) + 1;
	u32 table, pba;

	if (gh_take_cap(fn, pos, PCI_CAP_MSIX_SIZEOF))
		return -ENODEV;
	table = gh_reg(fn, pos + PCI_MSIX_TABLE)->value;
	pba = gh_reg(fn, pos + PCI_MSIX_PBA)->value;
	if (!gh_msix_area_ok(fn, table, entries * PCI_MSIX_ENTRY_SIZE) ||
	    !gh_msix_area_ok(fn, pba, DIV_ROUND_UP(entries, 64) * 8)) {
		gh_refuse(fn->np,
			  "host puts the MSI-X table (0x%x) or PBA (0x%x) outside the node's MSI-X pages",
			  table, pba);
		return -ENODEV;
	}
	r->live = (u32)(PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) << 16;
	r->pass = r->live;
	return 0;
}

static int gh_seal_msi(struct gh_function *fn, u32 pos)
{
	struct gh_reg *r = gh_reg(fn, pos);
	u32 flags = r->value >> 16;
	u32 len = 0x0c;

	if (flags & PCI_MSI_FLAGS_64BIT)
		len += 4;
	if (flags & PCI_MSI_FLAGS_MASKBIT)
		len += 8;
	if (gh_take_cap(fn, pos, len))
		return -ENODEV;
	r->live = (PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE) << 16;
	r->pass = r->live;
	gh_open(fn, pos + 4, len - 4);
	return 0;
}

static int gh_seal_pcie(struct gh_function *fn, u32 pos)
{
	u32 flags = gh_reg(fn, pos)->value >> 16;
	u32 type = (flags & PCI_EXP_FLAGS_TYPE) >> 4;
	bool second = (flags & PCI_EXP_FLAGS_VERS) >= 2;
	struct gh_reg *r;

	if (type != PCI_EXP_TYPE_ENDPOINT && type != PCI_EXP_TYPE_LEG_END &&
	    type != PCI_EXP_TYPE_RC_END) {
		gh_refuse(fn->np, "PCIe port type %u is not an endpoint", type);
		return -ENODEV;
	}
	if (gh_take_cap(fn, pos, second ? 0x3c : 0x14))
		return -ENODEV;

	gh_reg(fn, pos + PCI_EXP_DEVCAP)->value &= ~PCI_EXP_DEVCAP_FLR;

	r = gh_reg(fn, pos + PCI_EXP_DEVCTL);
	r->live = ~0U;
	r->pass = 0xffff0000 | PCI_EXP_DEVCTL_CERE | PCI_EXP_DEVCTL_NFERE |
		  PCI_EXP_DEVCTL_FERE | PCI_EXP_DEVCTL_URRE |
		  PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_READRQ;
	r->keep = PCI_EXP_DEVCTL_PAYLOAD | PCI_EXP_DEVCTL_EXT_TAG |
		  PCI_EXP_DEVCTL_PHANTOM | PCI_EXP_DEVCTL_AUX_PME |
		  PCI_EXP_DEVCTL_NOSNOOP_EN;
	/* the link is the host's: its state is shown, nothing is set */
	gh_reg(fn, pos + PCI_EXP_LNKCTL)->live = ~0U;
	if (second) {
		r = gh_reg(fn, pos + PCI_EXP_DEVCTL2);
		r->live = ~0U;
		r->pass = PCI_EXP_DEVCTL2_COMP_TIMEOUT |
			  PCI_EXP_DEVCTL2_COMP_TMOUT_DIS;
		r->keep = 0xffff & ~r->pass;
		gh_reg(fn, pos + PCI_EXP_LNKCTL2)->live = ~0U;
	}
	return 0;
}

/* Its first register is claimed. */
static int gh_seal_cap(struct gh_function *fn, u32 pos)
{
	struct gh_reg *r = gh_reg(fn, pos);
	u32 len;

	if (fn->mode == GH_BRIDGE) {
		if ((r->value & 0xff) == PCI_CAP_ID_EXP)
			return gh_seal_port(fn, pos);
		r->value &= 0xff00;
		return 0;
	}
	switch (r->value & 0xff) {
	case PCI_CAP_ID_MSIX:
		return gh_seal_msix(fn, pos);
	case PCI_CAP_ID_MSI:
		return gh_seal_msi(fn, pos);
	case PCI_CAP_ID_EXP:
		return gh_seal_pcie(fn, pos);
	case PCI_CAP_ID_VNDR:
		len = round_up(r->value >> 16 & 0xff, 4);
		return len > 4 ? gh_take_cap(fn, pos, len) : 0;
	case PCI_CAP_ID_VPD:
		if (gh_take_cap(fn, pos, 8))
			return -ENODEV;
		/* to be read only: the bit that starts a write is dropped */
		r->live = 0xffff0000;
		r->pass = PCI_VPD_ADDR_MASK << 16;
		gh_reg(fn, pos + PCI_VPD_DATA)->live = ~0U;
		return 0;
	default:
		r->value &= 0xff00;
		return 0;
	}
}

static int gh_seal_ext_cap(struct gh_function *fn, u32 pos)
{
	struct gh_reg *r = gh_reg(fn, pos);

	switch (PCI_EXT_CAP_ID(r->value)) {
	case PCI_EXT_CAP_ID_DSN:
		return gh_take_ext_cap(fn, pos, PCI_EXT_CAP_DSN_SIZEOF);
	case PCI_EXT_CAP_ID_ERR:
		if (gh_take_ext_cap(fn, pos, PCI_ERR_ROOT_COMMAND))
			return -ENODEV;
		gh_open(fn, pos + 4, PCI_ERR_ROOT_COMMAND - 4);
		/* above are sizes of the header log */
		r = gh_reg(fn, pos + PCI_ERR_CAP);
		r->value &= 0x1ff;
		r->live = PCI_ERR_CAP_ECRC_GENE | PCI_ERR_CAP_ECRC_CHKE;
		r->pass = r->live;
		return 0;
	default:
		r->value &= 0xffff0000;
		return 0;
	}
}

static int gh_seal_ext_caps(struct gh_function *fn)
{
	u32 pos = PCI_CFG_SPACE_SIZE;
	u32 next;

	do {
		struct gh_reg *r = gh_reg(fn, pos);

		if (gh_take(fn, pos, 4, PCI_CFG_SPACE_EXP_SIZE))
			return -ENODEV;
		if (!r->value || r->value == ~0U) {
			r->value = 0;
			return 0;
		}
		r->value &= ~(3U << 20);	/* reserved bits of the link */
		next = PCI_EXT_CAP_NEXT(r->value);
		if (gh_seal_ext_cap(fn, pos))
			return -ENODEV;
		pos = next;
	} while (pos >= PCI_CFG_SPACE_SIZE);
	if (!pos)
		return 0;
	gh_refuse(fn->np, "host links an extended capability at 0x%x", pos);
	return -ENODEV;
}

/* The capability list from @pos on. */
int gh_seal_caps(struct gh_function *fn, u32 pos)
{
	bool pcie = false;
	u32 next;

	while (pos) {
		struct gh_reg *r = gh_reg(fn, pos);

		if (gh_take(fn, pos, 4, PCI_CFG_SPACE_SIZE))
			return -ENODEV;
		r->value &= ~0x300U;		/* reserved bits of the link */
		next = r->value >> 8 & 0xfc;
		pcie |= (r->value & 0xff) == PCI_CAP_ID_EXP;
		if (gh_seal_cap(fn, pos))
			return -ENODEV;
		pos = next;
	}
	if (fn->mode != GH_BRIDGE)
		return pcie ? gh_seal_ext_caps(fn) : 0;
	if (pcie)
		return 0;	/* none of its extended capabilities is shown */
	gh_refuse(fn->np, "the bridge is not a PCI Express port");
	return -ENODEV;
}

/* On error the reason is told already. */
int gh_seal(struct gh_function *fn)
{
	u32 cap = 0;

	if (fn->mode == GH_BRIDGE)
		return gh_seal_bridge(fn);
	return gh_seal_header(fn, &cap) ?: gh_seal_caps(fn, cap);
}
