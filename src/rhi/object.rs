//! Fetching the objects that the host cached.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::buffer::Area;
use super::negotiate::MAX_OBJECT_SIZE;
use super::{Call, Client, RhiError, check};
use crate::abi::rhi as abi;
use crate::addr::VdevId;
use crate::conduit::OutOfMemory;
use crate::memory;
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

impl<P: Platform> Client<'_, P> {
    /// Copies the whole `object` of `vdev` into private memory, each shared byte read once.
    ///
    /// The bytes are the host's until their digest matched. Portable form: offset 0, room for all of it. The VCA has two
    /// numbers; where the host has nothing under the one, the other is tried.
    ///
    /// # Errors
    /// [`RhiError::ObjectSize`] for size 0 or above 1 MiB, [`RhiError::BadReply`] when the host claims to have copied
    /// nothing or more than there is room for, [`RhiError::Status`].
    pub fn read_object(&mut self, vdev: VdevId, object: Object) -> Result<Vec<u8>, RhiError> {
        let number = match object {
            Object::Vca => self.session.vca(),
            Object::Certificate => abi::OBJECT_CERTIFICATE,
            Object::Measurements => abi::OBJECT_MEASUREMENTS,
            Object::InterfaceReport => abi::OBJECT_INTERFACE_REPORT,
        };
        let first = self.read_numbered(vdev, object, number);
        if object != Object::Vca || !first.as_ref().is_err_and(is_not_there) {
            return first;
        }
        let other = other_vca(number);
        match self.read_numbered(vdev, object, other) {
            Ok(bytes) => {
                self.session.set_vca(other);
                Ok(bytes)
            }
            // No more than the first number: what that one answered tells as much.
            Err(error) if is_not_there(&error) => first,
            Err(error) => Err(error),
        }
    }

    /// Copies what the host has under the number of the VCA that [`Client::read_object`] did not take: a host of the
    /// other kind has another object there. Kept, and asked for first from now on, only if `is_vca` says so.
    ///
    /// Whatever keeps it from being read, the answer is `None`: the caller has the object under the first number.
    pub fn read_other_vca(&mut self, vdev: VdevId, is_vca: impl FnOnce(&[u8]) -> bool) -> Option<Vec<u8>> {
        let other = other_vca(self.session.vca());
        let bytes = self.read_numbered(vdev, Object::Vca, other).ok().filter(|bytes| is_vca(bytes))?;
        self.session.set_vca(other);
        Some(bytes)
    }

    fn read_numbered(&mut self, vdev: VdevId, object: Object, number: u64) -> Result<Vec<u8>, RhiError> {
        let [status, size, ..] = self.call(Call::DaObjectSize, [vdev.raw(), number, 0, 0, 0])?;
        check(Call::DaObjectSize, status)?;
        if size == 0 || size > MAX_OBJECT_SIZE {
            return Err(RhiError::ObjectSize { object, size });
        }
        let args = |buffer| [vdev.raw(), number, buffer, MAX_OBJECT_SIZE, 0];
        let [status, copied, ..] = self.call_with(Call::DaObjectRead, Area::Object, args)?;
        check(Call::DaObjectRead, status)?;
        // The object may have been refreshed since OBJECT_SIZE: what counts is what was copied, and its digest.
        if copied == 0 || copied > MAX_OBJECT_SIZE {
            return Err(RhiError::BadReply { call: Call::DaObjectRead, register: 1, value: copied });
        }
        let len = usize::try_from(copied).map_err(|_| OutOfMemory)?;
        let mut bytes = memory::reserve(len)?;
        bytes.resize(len, 0);
        self.session.read_object(self.platform, &mut bytes)?;
        Ok(bytes)
    }
}

/// Returns the other number of the VCA: Linux hosts have it under 4, the ACS and the RMM side under 0.
const fn other_vca(number: u64) -> u64 {
    match number {
        abi::OBJECT_VCA => abi::OBJECT_VCA_ACS,
        _ => abi::OBJECT_VCA,
    }
}

/// Tells whether the host has no object of that number, or none yet.
fn is_not_there(error: &RhiError) -> bool {
    use super::Status::{DataNotAvailable, InvalidObject, ObjectUnsupported};
    let RhiError::Status { call: Call::DaObjectSize, status } = error else { return false };
    matches!(status, DataNotAvailable | InvalidObject | ObjectUnsupported)
}
