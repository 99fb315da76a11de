//! RSI_VDEV_*: each row of the tables of `rsi.md` 5, and DMA.

mod common;

use common::*;
use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::final_state::TdiState;
use rmm_model::machine::{DmaGate, Leaf};
use rmm_model::scenario::*;
use rmm_model::sim::IoFault;

#[test]
fn without_da_everything_is_error_state_before_any_other_check() {
    let mut scenario = plain();
    scenario.realm.da = false;
    let mut rig = Rig::placed(&scenario);
    for fid in [RSI_VDEV_GET_INFO, RSI_VDEV_VALIDATE_MAPPING, RSI_VDEV_DMA_ENABLE, RSI_VDEV_DMA_DISABLE] {
        assert_eq!(rig.call(fid, &[0x999, 1, 0, 1, 0xFF])[0], RSI_ERROR_STATE);
    }
}

#[test]
fn an_unknown_vdev_is_error_input() {
    let (mut rig, _) = Rig::locked(&plain());
    for id in [0, 0x18, VDEV | 1 << 16, VDEV | 1 << 32] {
        for fid in [RSI_VDEV_GET_INFO, RSI_VDEV_VALIDATE_MAPPING, RSI_VDEV_DMA_ENABLE, RSI_VDEV_DMA_DISABLE] {
            assert_eq!(rig.call(fid, &[id, INFO, 0, 0])[0], RSI_ERROR_INPUT);
        }
    }
}

#[test]
fn get_info_checks_its_buffer_and_fills_512_bytes() {
    let (mut rig, _) = Rig::locked(&plain());
    for bad in [INFO + 8, INFO + 0x100, INFO | ALIAS, SHARED, BAR, 1 << 50] {
        assert_eq!(rig.call(RSI_VDEV_GET_INFO, &[VDEV, bad])[0], RSI_ERROR_INPUT, "{bad:#x}");
    }
    use rmm_model::machine::Machine;
    rig.m.write(INFO, &[0xEE; 0x400]);
    assert_eq!(rig.call(RSI_VDEV_GET_INFO, &[VDEV, INFO])[0], RSI_SUCCESS);
    let mut bytes = [0; 0x400];
    rig.m.read(INFO, &mut bytes);
    assert_eq!(bytes[0x1C0..0x200], [0; 0x40]);
    assert_eq!(bytes[0x200..], [0xEE; 0x200]);
    assert_eq!(rig.call(RSI_VDEV_GET_INFO, &[VDEV, INFO + 0x200])[0], RSI_SUCCESS);
}

#[test]
fn dialect_a2_has_layout_b_and_its_states() {
    let mut scenario = plain();
    scenario.dialect = Dialect::A2;
    let (mut rig, info) = Rig::locked(&scenario);
    assert_eq!((info.bytes[0x30], info.bytes[0x38]), (0x10, 2));
    for (kind, at) in [(4, 0x40), (1, 0x80), (2, 0x100), (3, 0x140)] {
        assert_eq!(info.bytes[at..at + 48], sha384(&rig.object(kind).unwrap())[..]);
    }
    assert_eq!(rig.device().counters.vdev_request_exits, 1);
}

#[test]
fn validate_checks_ranges_flags_nonces_and_state() {
    let (mut rig, info) = Rig::locked(&plain());
    let pa = rig.real_bar() + MRO;
    let nonces = info.nonces();
    for (base, top, pa) in [
        (BAR + 1, BAR + PAGE, pa),
        (BAR, BAR + 1, pa),
        (BAR, BAR, pa),
        (BAR + PAGE, BAR, pa),
        (BAR, BAR + PAGE, pa + 1),
        (BAR | ALIAS, (BAR + PAGE) | ALIAS, pa),
        (BAR, ALIAS + PAGE, pa),
    ] {
        assert_eq!(rig.try_validate(base, top, pa, nonces).0, RSI_ERROR_INPUT, "{base:#x} {top:#x} {pa:#x}");
    }
    let flags =
        rig.call(RSI_VDEV_VALIDATE_MAPPING, &[VDEV, BAR, BAR + PAGE, pa, 4, nonces[0], nonces[1], nonces[2]]);
    assert_eq!(flags[0], RSI_ERROR_INPUT);
    for stale in 0..3 {
        let mut wrong = nonces;
        wrong[stale] ^= 1;
        assert_eq!(rig.try_validate(BAR, BAR + PAGE, pa, wrong).0, RSI_ERROR_DEVICE);
    }
    rig.measure();
    assert_eq!(rig.try_validate(BAR, BAR + PAGE, pa, nonces).0, RSI_ERROR_DEVICE);
    let info = rig.info().unwrap();
    assert_eq!(rig.try_validate(BAR, BAR + PAGE, pa, info.nonces()), (RSI_SUCCESS, BAR + PAGE, RSI_ACCEPT));
}

#[test]
fn validate_wants_locked_or_run() {
    let mut scenario = plain();
    scenario.misbehaviour = vec![Misbehaviour::once(Lie::ErrorAfterRun)];
    let (mut rig, info) = Rig::locked(&scenario);
    let pa = rig.real_bar() + MRO;
    assert_eq!(rig.tdi(TDI_RUN), SUCCESS);
    assert_eq!(rig.info().unwrap().state, 3);
    // ERROR_INPUT, not ERROR_DEVICE.
    assert_eq!(rig.try_validate(BAR, BAR + PAGE, pa, info.nonces()).0, RSI_ERROR_INPUT);
    let (mut rig, info) = Rig::locked(&plain());
    assert_eq!(rig.tdi(TDI_RUN), SUCCESS);
    assert_eq!(rig.try_validate(BAR, BAR + PAGE, pa, info.nonces()), (RSI_SUCCESS, BAR + PAGE, RSI_ACCEPT));
    assert!(matches!(rig.leaf(BAR), Leaf::PrivateDevice { .. }));
}

#[test]
fn only_the_report_address_of_the_very_page_validates() {
    let (mut rig, info) = Rig::locked(&plain());
    let real = rig.real_bar();
    let nonces = info.nonces();
    // The guest's own address, the real address, the next page, and pages outside the BAR.
    for (base, pa) in
        [(BAR, BAR), (BAR, real), (BAR, real + MRO + PAGE), (BAR + BAR_LEN, real + MRO + BAR_LEN), (RAM, RAM)]
    {
        assert_eq!(rig.try_validate(base, base + PAGE, pa, nonces), (RSI_SUCCESS, base, RSI_REJECT));
    }
    // Past the BAR: the pages that fit, then REJECT.
    let past = rig.try_validate(BAR + 3 * PAGE, BAR + 5 * PAGE, real + MRO + 3 * PAGE, nonces);
    assert_eq!(past, (RSI_SUCCESS, BAR + 4 * PAGE, RSI_REJECT));
    // Coherent memory there is none.
    let coherent = rig.call(
        RSI_VDEV_VALIDATE_MAPPING,
        &[VDEV, BAR, BAR + PAGE, real + MRO, 1, nonces[0], nonces[1], nonces[2]],
    );
    assert_eq!(coherent[..3], [RSI_SUCCESS, BAR, RSI_REJECT]);
    // A page that is DEV already.
    rig.validate(BAR, BAR + PAGE, real + MRO, &info);
    assert_eq!(rig.try_validate(BAR, BAR + PAGE, real + MRO, nonces), (RSI_SUCCESS, BAR, RSI_REJECT));
}

#[test]
fn validation_comes_in_steps_and_may_stall() {
    let mut scenario = plain();
    (scenario.host.validate_step, scenario.host.validate_stalls) = (1, 2);
    let (mut rig, info) = Rig::locked(&scenario);
    let real = rig.real_bar();
    assert_eq!(rig.validate(BAR, BAR + 2 * PAGE, real + MRO, &info), 6);
    assert_eq!(rig.device().dev_ranges.iter().map(|range| range.len).sum::<u64>(), 2 * PAGE);
}

#[test]
fn private_pages_answer_in_run_only_and_their_alias_is_gone() {
    let (mut rig, info) = Rig::locked(&plain());
    let real = rig.real_bar();
    assert_eq!(rig.leaf(BAR), Leaf::SharedDevice { pa: real });
    assert_eq!(rig.m.io_read(&mut rig.model, BAR, 4), Err(IoFault::Sea));
    assert_eq!(rig.m.io_read(&mut rig.model, BAR | ALIAS, 4), Ok(0x0101_07FF));
    rig.validate(BAR, BAR + 2 * PAGE, real + MRO, &info);
    assert_eq!((rig.ripas_of(BAR), rig.ripas_of(BAR + 2 * PAGE)), (3, 0));
    assert_eq!(rig.leaf(BAR), Leaf::None);
    assert_eq!(rig.m.io_read(&mut rig.model, BAR, 4), Ok(0xFFFF_FFFF));
    rig.tdi(TDI_RUN);
    assert_eq!(rig.leaf(BAR + PAGE), Leaf::PrivateDevice { pa: real + PAGE });
    assert_eq!(rig.leaf(BAR + 2 * PAGE), Leaf::SharedDevice { pa: real + 2 * PAGE });
    assert_eq!(rig.m.io_read(&mut rig.model, BAR, 4), Ok(0x0101_07FF));
    assert_eq!(rig.m.fetch(&mut rig.model, BAR), Err(IoFault::Permission));
    rig.m.io_write(&mut rig.model, BAR + 0x14, 4, 1).unwrap();
    assert_eq!(rig.m.io_read(&mut rig.model, BAR + 0x1C, 4), Ok(1));
    assert_eq!(rig.device().tee_aliases, []);
    // DEV cannot become RAM, nor a buffer.
    assert_eq!(rig.call(RSI_IPA_STATE_SET, &[BAR, BAR + PAGE, 1, 1])[..3], [RSI_SUCCESS, BAR, RSI_ACCEPT]);
    assert_eq!(rig.call(RSI_REALM_CONFIG, &[BAR])[0], RSI_ERROR_INPUT);
    rig.ripas(BAR, BAR + 2 * PAGE, 0, 0);
    assert_eq!(rig.leaf(BAR), Leaf::SharedDevice { pa: real });
    assert_eq!(rig.device().dev_ranges, []);
    assert_eq!(rig.device().validated.len(), 1);
    assert_eq!(rig.device().tee_aliases.len(), 1);
    rig.is_clean();
}

#[test]
fn dma_enable_checks_flags_plane_nonces_and_state() {
    let (mut rig, info) = Rig::locked(&plain());
    assert_eq!(rig.dma_enable(&info), RSI_ERROR_DEVICE);
    assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
    rig.tdi(TDI_RUN);
    let [lock, measurement, report] = info.nonces();
    for (flags, plane) in [(2, 0), (0, 1)] {
        let regs = rig.call(RSI_VDEV_DMA_ENABLE, &[VDEV, flags, plane, lock, measurement, report]);
        assert_eq!(regs[0], RSI_ERROR_INPUT);
    }
    for stale in 0..3 {
        let mut wrong = info.nonces();
        wrong[stale] ^= 1;
        let regs = rig.call(RSI_VDEV_DMA_ENABLE, &[VDEV, 0, 0, wrong[0], wrong[1], wrong[2]]);
        assert_eq!(regs[0], RSI_ERROR_DEVICE);
    }
    assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
    // Five arguments, as an older dialect has them.
    assert_eq!(rig.call(RSI_VDEV_DMA_ENABLE, &[VDEV, 0, lock, measurement, report])[0], RSI_ERROR_INPUT);
    assert_eq!(rig.dma_enable(&info), RSI_SUCCESS);
    assert_eq!(rig.dma_enable(&info), RSI_SUCCESS);
    assert_eq!(rig.m.gate(NVME), DmaGate::PrivateOnly);
    assert!(rig.m.dma_reaches(NVME, RAM));
    assert!(!rig.m.dma_reaches(NVME, SHARED) && !rig.m.dma_reaches(NVME, SHARED | ALIAS));
    assert!(!rig.m.dma_reaches(NVME, RAM | ALIAS));
    rig.is_clean();
}

#[test]
fn dma_ends_with_disable_and_with_unlock() {
    let (mut rig, info) = Rig::running(&plain());
    assert_eq!(rig.dma_enable(&info), RSI_SUCCESS);
    assert_eq!(rig.call(RSI_VDEV_DMA_DISABLE, &[VDEV])[0], RSI_SUCCESS);
    assert_eq!(rig.call(RSI_VDEV_DMA_DISABLE, &[VDEV])[0], RSI_SUCCESS);
    assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
    assert_eq!(rig.dma_enable(&info), RSI_SUCCESS);
    rig.ripas(BAR, BAR + BAR_LEN, 0, 0);
    assert_eq!(rig.tdi(TDI_CONFIG_UNLOCKED), SUCCESS);
    assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
    assert_eq!(rig.device().state, TdiState::Unlocked);
    rig.is_clean();
}

#[test]
fn an_ignored_dma_enable_says_success_and_leaves_the_gate_shut() {
    let mut scenario = plain();
    scenario.device[0].dma_enable = DmaEnable::Ignored;
    let (mut rig, info) = Rig::running(&scenario);
    assert_eq!(rig.dma_enable(&info), RSI_SUCCESS);
    assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
}

#[test]
fn an_unlocked_device_can_bounce_while_it_is_bus_master() {
    let mut scenario = plain();
    scenario.device[0].unlocked_dma = UnlockedDma::Shared;
    let mut rig = Rig::new(&scenario);
    assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
    rig.place();
    assert!(rig.m.dma_reaches(NVME, SHARED | ALIAS) && !rig.m.dma_reaches(NVME, RAM));
    rig.tdi(TDI_CONFIG_LOCKED);
    assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
}

#[test]
fn a_tdi_error_shuts_dma_at_once_and_is_noticed_at_the_next_exchange() {
    let scenario = once(Lie::TdiError { before: RsiCall::VdevDmaEnable });
    let (mut rig, info) = Rig::running(&scenario);
    assert_eq!(rig.dma_enable(&info), RSI_SUCCESS);
    assert_eq!((rig.device().state, rig.device().rmm_state), (TdiState::Error, Some(TdiState::Run)));
    assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
    assert_eq!(rig.m.io_read(&mut rig.model, BAR, 4), Ok(0xFFFF_FFFF));
    assert_eq!(rig.info().unwrap().state, 2);
    rig.measure();
    assert_eq!(rig.info().unwrap().state, 3);
    assert_eq!(rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV])[0], DEVICE);
    assert_eq!(rig.tdi(TDI_RUN), DEVICE);
    rig.ripas(BAR, BAR + BAR_LEN, 0, 0);
    assert_eq!(rig.tdi(TDI_CONFIG_UNLOCKED), SUCCESS);
    rig.is_clean();
}
