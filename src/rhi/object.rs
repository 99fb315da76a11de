//! Fetching the objects that the host cached.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::negotiate::MAX_OBJECT_SIZE;
use super::{Call, Client, RhiError, check};
use crate::abi::rhi as abi;
use crate::addr::VdevId;
use crate::conduit::OutOfMemory;
use crate::platform::Platform;
use alloc::vec::Vec;

/// The four objects of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    /// Negotiation data: the six messages of the SPDM connection.
    Vca,
    /// Certificate chain.
    Certificate,
    /// Measurement request and response.
    Measurements,
    /// TDISP interface report.
    InterfaceReport,
}

impl Object {
    const fn number(self) -> u64 {
        match self {
            Self::Vca => abi::OBJECT_VCA,
            Self::Certificate => abi::OBJECT_CERTIFICATE,
            Self::Measurements => abi::OBJECT_MEASUREMENTS,
            Self::InterfaceReport => abi::OBJECT_INTERFACE_REPORT,
        }
    }
}

impl<P: Platform> Client<'_, P> {
    /// Copies the whole `object` of `vdev` into private memory, each shared byte read once.
    ///
    /// The bytes are the host's until their digest matched. Portable form: offset 0, room for all of it.
    ///
    /// # Errors
    /// [`RhiError::ObjectSize`] for size 0 or above 1 MiB, [`RhiError::BadReply`] when the host claims to have copied
    /// nothing or more than there is room for, [`RhiError::Status`].
    pub fn read_object(&mut self, vdev: VdevId, object: Object) -> Result<Vec<u8>, RhiError> {
        let mut number = object.number();
        let [mut status, mut size, ..] = self.call(Call::DaObjectSize, [vdev.raw(), number, 0, 0, 0])?;
        // Linux hosts number the VCA 4, the ACS and the RMM side 0; the digest decides whether it is the right one.
        if object == Object::Vca && matches!(status, abi::DA_INVALID_OBJECT | abi::DA_OBJECT_UNSUPPORTED) {
            number = abi::OBJECT_VCA_ACS;
            [status, size, ..] = self.call(Call::DaObjectSize, [vdev.raw(), number, 0, 0, 0])?;
        }
        check(Call::DaObjectSize, status)?;
        if size == 0 || size > MAX_OBJECT_SIZE {
            return Err(RhiError::ObjectSize { object, size });
        }
        let args = [vdev.raw(), number, self.session.object_address()?, MAX_OBJECT_SIZE, 0];
        let [status, copied, ..] = self.call(Call::DaObjectRead, args)?;
        check(Call::DaObjectRead, status)?;
        // The object may have been refreshed since OBJECT_SIZE: what counts is what was copied, and its digest.
        if copied == 0 || copied > MAX_OBJECT_SIZE {
            return Err(RhiError::BadReply { call: Call::DaObjectRead, register: 1, value: copied });
        }
        let len = usize::try_from(copied).map_err(|_| OutOfMemory)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| OutOfMemory)?;
        bytes.resize(len, 0);
        self.session.read_object(self.platform, &mut bytes)?;
        Ok(bytes)
    }
}
