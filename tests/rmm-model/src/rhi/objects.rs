//! RHI_DA_OBJECT_SIZE and READ (`rhi.md` 4).

use alloc::vec::Vec;

use super::{Gprs, status, with};
use crate::abi::rhi::*;
use crate::machine::Machine;
use crate::model::Model;
use crate::scenario::{Lie, ObjectKind, ObjectRead, VcaTypes};

/// Linux's limit of an object.
const OBJECT_MAX: u64 = 16 << 20;

impl Model {
    /// The object of a type, or the status that refuses it.
    fn object(
        &mut self,
        index: usize,
        number: u64,
        m: &mut dyn Machine,
    ) -> Result<(ObjectKind, Vec<u8>), u64> {
        let kind = match (number, self.scenario.host.vca_types) {
            (OBJECT_VCA, VcaTypes::Both | VcaTypes::Acs)
            | (OBJECT_VCA_LINUX, VcaTypes::Both | VcaTypes::Linux) => ObjectKind::Vca,
            (OBJECT_VCA_LINUX, VcaTypes::Acs) => return Err(OBJECT_UNSUPPORTED),
            (OBJECT_CERTIFICATE, _) => ObjectKind::Certificate,
            (OBJECT_MEASUREMENTS, _) => ObjectKind::Measurements,
            (OBJECT_REPORT, _) => ObjectKind::Report,
            _ => return Err(INVALID_OBJECT),
        };
        let missing = self.lie(m, Some(index), |lie| *lie == Lie::ObjectMissing { object: kind });
        let device = &self.devices[index];
        let vdev = device.vdev.as_ref();
        let object = match kind {
            ObjectKind::Vca => device.vca.as_ref(),
            ObjectKind::Certificate => device.certificate.as_ref(),
            ObjectKind::Measurements => vdev.and_then(|vdev| vdev.measurements.as_ref()),
            ObjectKind::Report => vdev.and_then(|vdev| vdev.report.as_ref()),
        };
        match object {
            Some(object) if missing.is_none() => Ok((kind, object.clone())),
            _ => Err(DATA_NOT_AVAILABLE),
        }
    }

    /// OBJECT_SIZE.
    pub(super) fn object_size(&mut self, index: usize, number: u64, m: &mut dyn Machine) -> Gprs {
        let (kind, object) = match self.object(index, number, m) {
            Ok(found) => found,
            Err(refusal) => return status(refusal),
        };
        let lie = self.lie(m, Some(index), |lie| match lie {
            Lie::ObjectEmpty { object } | Lie::ObjectTooLarge { object } | Lie::ObjectSize { object, .. } => {
                *object == kind
            }
            _ => false,
        });
        let size = match lie {
            Some(Lie::ObjectEmpty { .. }) => 0,
            Some(Lie::ObjectTooLarge { .. }) => OBJECT_MAX + 1,
            Some(Lie::ObjectSize { size, .. }) => size,
            _ => object.len() as u64,
        };
        with(SUCCESS, size)
    }

    /// OBJECT_READ; `args` are type, buffer, max length, offset. Only the bytes copied must lie in shared pages.
    pub(super) fn object_read(&mut self, index: usize, args: [u64; 4], m: &mut dyn Machine) -> Gprs {
        let [number, buffer, max_len, offset] = args;
        let (kind, mut object) = match self.object(index, number, m) {
            Ok(found) => found,
            Err(refusal) => return status(refusal),
        };
        let len = object.len() as u64;
        let whole = self.scenario.host.object_read == ObjectRead::Whole;
        if offset >= len || (whole && (offset != 0 || max_len < len)) {
            return status(INVALID_OFFSET);
        }
        let mut count = max_len.min(len - offset);
        let Some(ipa) = self.host_buffer(buffer, count) else {
            return status(ACCESS_FAILED);
        };
        let flip = self.lie(m, Some(index), |lie| match lie {
            Lie::ObjectByte { object, offset: at, .. } => {
                *object == kind && (offset..offset + count).contains(&u64::from(*at))
            }
            _ => false,
        });
        if let Some(Lie::ObjectByte { offset: at, xor, .. }) = flip {
            object[at as usize] ^= xor;
        }
        let short =
            self.lie(m, Some(index), |lie| matches!(lie, Lie::ShortRead { object, .. } if *object == kind));
        if let Some(Lie::ShortRead { by, .. }) = short {
            count = count.saturating_sub(u64::from(by));
        }
        m.write(ipa, &object[offset as usize..(offset + count) as usize]);
        if self.lie(m, Some(index), |lie| *lie == Lie::LongRead { object: kind }).is_some() {
            count = max_len.wrapping_add(1);
        }
        with(SUCCESS, count)
    }
}
