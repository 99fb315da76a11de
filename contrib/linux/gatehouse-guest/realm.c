// SPDX-License-Identifier: GPL-2.0-only
/* What the RMM is asked for. Its answers are believed, the host's are not. */
#define pr_fmt(fmt) "gatehouse-guest " fmt

#include "gatehouse.h"

#ifndef GATEHOUSE_TEST_NO_REALM

#include <linux/arm-smccc.h>
#include <linux/gfp.h>
#include <asm/rsi.h>

#define RSI_VDEV_GET_INFO	SMC_RSI_FID(0x19D)
#define RSI_VDEV_DMA_DISABLE	SMC_RSI_FID(0x1A4)

/* The answer of RSI_VDEV_GET_INFO, in a page of our own. */
#define INFO_NONCES		0x18	/* lock, measurement, report */
#define INFO_REPORT_FORMAT	0x30
#define REPORT_FORMAT_TDISP	1
#define INFO_STATE		0x40
#define STATE_STARTED		2

#define GH_MAX_INCOMPLETE	64
#define GH_MAX_STALLS		64

bool gh_in_realm(void)
{
	return is_realm_world();
}

/* Every granule of [base, end)? The RMM may report a range in several steps. */
static bool gh_is(phys_addr_t base, phys_addr_t end, enum ripas want)
{
	while (base < end) {
		enum ripas ripas = RSI_RIPAS_DESTROYED;
		phys_addr_t top = 0;

		if (rsi_ipa_state_get(base, end, &ripas, &top) != RSI_SUCCESS ||
		    ripas != want || top <= base)
			return false;
		base = top;
	}
	return true;
}

/* Stricter than arm64_rsi_is_protected(), which also takes RAM and DESTROYED. */
bool gh_is_dev(phys_addr_t base, phys_addr_t end)
{
	return gh_is(base, end, RSI_RIPAS_DEV);
}

bool gh_is_empty(phys_addr_t base, phys_addr_t end)
{
	return gh_is(base, end, RSI_RIPAS_EMPTY);
}

bool gh_is_ram(phys_addr_t base, phys_addr_t end)
{
	return gh_is(base, end, RSI_RIPAS_RAM);
}

/* The host has a say in this one: it may refuse or work in steps. */
bool gh_make_empty(phys_addr_t base, phys_addr_t end)
{
	unsigned int stalls = 0;

	while (base < end) {
		phys_addr_t top = 0;

		if (rsi_set_addr_range_state(base, end, RSI_RIPAS_EMPTY,
					     RSI_CHANGE_DESTROYED, &top) ||
		    top < base || top > end)
			return false;
		if (top == base && ++stalls > GH_MAX_STALLS)
			return false;
		base = top;
	}
	return true;
}

static unsigned long gh_vdev_call(u32 fid, u64 vdev, phys_addr_t buffer)
{
	struct arm_smccc_res res;
	int i;

	for (i = 0; i < GH_MAX_INCOMPLETE; i++) {
		arm_smccc_smc(fid, vdev, buffer, 0, 0, 0, 0, 0, &res);
		if (res.a0 != RSI_INCOMPLETE)
			break;
	}
	return res.a0;
}

/* Still in RUN, and still under the nonces of the accepted evidence? */
bool gh_vdev_ok(const struct gh_function *fn, const char *name)
{
	u8 *info = (u8 *)get_zeroed_page(GFP_KERNEL);
	const u64 *nonces = (u64 *)(info + INFO_NONCES);
	unsigned long status;
	bool ok = false;

	if (!info) {
		pr_err("%s: refused: no memory to ask for its state\n", name);
		return false;
	}
	status = gh_vdev_call(RSI_VDEV_GET_INFO, fn->vdev, virt_to_phys(info));
	barrier();		/* the RMM wrote the page */
	if (status != RSI_SUCCESS)
		pr_err("%s: refused: RSI_VDEV_GET_INFO of vdev 0x%llx: %lu\n",
		       name, fn->vdev, status);
	else if (info[INFO_REPORT_FORMAT] != REPORT_FORMAT_TDISP)
		pr_err("%s: refused: report format %u is not TDISP\n", name,
		       info[INFO_REPORT_FORMAT]);
	else if (info[INFO_STATE] != STATE_STARTED)
		pr_err("%s: refused: state %u is not STARTED\n", name,
		       info[INFO_STATE]);
	else if (memcmp(nonces, fn->nonces, sizeof(fn->nonces)))
		pr_err("%s: refused: nonces 0x%llx 0x%llx 0x%llx, the node 0x%llx 0x%llx 0x%llx\n",
		       name, nonces[0], nonces[1], nonces[2], fn->nonces[0],
		       fn->nonces[1], fn->nonces[2]);
	else
		ok = true;
	free_page((unsigned long)info);
	return ok;
}

/* From now on the device reaches no memory of the realm. Allowed in any state. */
void gh_vdev_close(const struct gh_function *fn)
{
	unsigned long status = gh_vdev_call(RSI_VDEV_DMA_DISABLE, fn->vdev, 0);

	if (status != RSI_SUCCESS)
		pr_err("%pOF: RSI_VDEV_DMA_DISABLE of vdev 0x%llx: %lu\n",
		       fn->np, fn->vdev, status);
}

#endif /* !GATEHOUSE_TEST_NO_REALM */
